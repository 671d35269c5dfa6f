"""A weight that meets several values: one factor changes at a time, whichever way they are contracted."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import einsum, nn

import tpcalc
from tests.support import scaled
from tests.support.models import FEATURES, Net, entry, normal, points, readout

WIDTHS = (16, 64, 256)
H = Fraction(1, 2)

#: Two values ``p`` [b, i], ``q`` [b, j] and a weight [i, j, k], one mathematics in many words.
FORMS: dict[str, Callable] = {
    "outer product": lambda p, q, w: einsum("bi,bj,ijk->bk", p, q, w),
    "outer product, flat": lambda p, q, w: (p[:, :, None] * q[:, None, :]).flatten(1) @ w.flatten(0, 1),
    "one by one": lambda p, q, w: einsum("bi,ijk,bj->bk", p, w, q),
    "weight first": lambda p, q, w: einsum("ijk,bj,bi->bk", w, q, p),
    "products": lambda p, q, w: einsum("bj,bjk->bk", q, (p @ w.flatten(1)).view(-1, *w.shape[1:])),
    "product and sum": lambda p, q, w: (torch.tensordot(p, w, 1) * q[:, :, None]).sum(1),
    "product and mean": lambda p, q, w: (torch.tensordot(p, w, 1) * q[:, :, None]).mean(1) * q.shape[1],
    "batched": lambda p, q, w: torch.bmm(q[:, None], einsum("bi,ijk->bjk", p, w)).squeeze(1),
    "layer": lambda p, q, w: F.bilinear(p, q, w.permute(2, 0, 1)),
}


def factory(form: Callable, axes: Callable = lambda n: (n, n, n), end: str = "hidden", act: Callable = torch.tanh):
    def made(n: int):
        i, j, k = axes(n)

        def run(s, x):
            y = form(act(s.p(x)), act(s.q(x)), s.w)
            if end == "hidden":
                return s.o(torch.tanh(y))
            return F.cross_entropy(y, torch.tensor([2, 0, 1])) if end == "cross-entropy" else y

        return Net(run, p=entry(i), q=entry(j), w=normal(i, j, k), o=readout(k)), points()

    return made


def rules(made) -> dict:
    """b and c under Adam, epsilon (the gradient), under SGD c; of both entries and of the weight."""
    program = tpcalc.trace(made, WIDTHS)
    adam, sgd = tpcalc.derive(program), tpcalc.derive(program, "sgd")
    assert not adam.sites
    return {name: (adam[name].b, adam[name].c, -adam[name].eps, sgd[name].c) for name in ("w", "p.weight", "q.weight")}


def root(n: int) -> int:
    return round(n**0.5)


@pytest.mark.parametrize("act", [torch.tanh, lambda x: x], ids=["behind tanh", "linear"])
@pytest.mark.parametrize("name", FORMS)
def test_a_bilinear_layer_is_one_law_in_all_words(name, act):
    """Adam, n = 16 to 128, 6 seeds: effect of the change of p 0.00, of both at once -0.01 (std n^-1), of the update
    of w +0.01; gradients of w, p, q after five steps -0.99, -1.04, -0.95, by SGD -0.97, -0.98, -1.00."""
    found = rules(factory(FORMS[name], act=act))
    assert found == {"w": (1, 2, 1, 1), "p.weight": (0, 0, 1, -1), "q.weight": (0, 0, 1, -1)}


@pytest.mark.parametrize("end, gradient", [("leaves", 1), ("cross-entropy", 0)])
@pytest.mark.parametrize("name", FORMS)
def test_outputs_that_are_picked_do_not_count(name, end, gradient):
    found = rules(factory(FORMS[name], end=end))
    assert {w: orders[:3] for w, orders in found.items()} == {
        "w": (3 * H, 2, gradient),
        "p.weight": (0, 0, 1),
        "q.weight": (0, 0, 1),
    }


@pytest.mark.parametrize("name", FORMS)
def test_to_finitely_many_outputs(name):
    """Adam, n = 16 to 128, 8 seeds, std n^-3/2: effect of the change of p -0.12, gradients of p and q -0.99 (-1)."""
    found = rules(factory(FORMS[name], lambda n: (n, n, 4), "leaves"))
    assert found == {"w": (3 * H, 2, 0, 2), "p.weight": (0, 0, 1, -1), "q.weight": (0, 0, 1, -1)}


#: Growing axes of other lengths: std of the weight, that of law 2 for each factor alone in turn.
UNEVEN = {
    "few outputs": (lambda n: (n, n, root(n)), Fraction(5, 4)),
    "one long": (lambda n: (n, root(n), root(n)), 1),
    "the other long": (lambda n: (root(n), n, root(n)), 1),
    "many outputs": (lambda n: (root(n), root(n), n), H),
}


@pytest.mark.parametrize("case", UNEVEN)
@pytest.mark.parametrize("name", ["outer product", "one by one", "weight first", "product and sum", "layer"])
def test_of_axes_of_other_lengths_the_longest_decides(name, case):
    axes, init = UNEVEN[case]
    assert rules(factory(FORMS[name], axes))["w"][0] == init


def effect(n: int, seed: int, init: float) -> float:
    """Of the change of p by five steps of Adam, through the initial weight of [n, sqrt(n), sqrt(n)]."""
    torch.manual_seed(seed)
    k = root(n)
    p, q = torch.randn(n, 8) / 8**0.5, torch.randn(k, 8) / 8**0.5
    w, o = torch.randn(n, k, k) * n**-init, torch.randn(k, 1) / k
    x, t = torch.randn(16, 8), torch.randn(16, 1)
    before = p.clone()
    rates = (0.05, 0.05, 0.05 * n**-1.5, 0.05 / k)
    groups = [{"params": [v.requires_grad_()], "lr": rate} for v, rate in zip((p, q, w, o), rates)]
    initial = w.detach().clone()
    adam = torch.optim.Adam(groups, eps=1e-30, betas=(0.0, 0.0))
    for _ in range(5):
        y = einsum("bi,ijk,bj->bk", torch.tanh(x @ p.T), w, torch.tanh(x @ q.T))
        adam.zero_grad()
        (torch.tanh(y) @ o - t).square().mean().backward()
        adam.step()
    with torch.no_grad():
        moved = torch.tanh(x @ p.T) - torch.tanh(x @ before.T)
        return einsum("bi,ijk,bj->bk", moved, initial, torch.tanh(x @ q.T)).square().mean().sqrt().item()


@pytest.mark.parametrize("init, slope", [(1, 0), (0.75, 0.25)])
def test_the_longest_axis_measured(init, slope):
    """Law 2 step by step, which does not know of the first axis in the second step, would give n^-3/4."""
    widths = (16, 36, 64, 144, 324)
    sizes = [np.mean([effect(n, seed, init) for seed in range(6)]) for n in widths]
    assert np.polyfit(np.log(widths), np.log(sizes), 1)[0] == pytest.approx(slope, abs=0.12)


#: Three values and a weight [i, j, k, l].
THREE: dict[str, Callable] = {
    "outer product": lambda p, q, r, w: einsum("bi,bj,bk,ijkl->bl", p, q, r, w),
    "one by one": lambda p, q, r, w: einsum("bi,ijkl,bj,bk->bl", p, w, q, r),
    "product and sum": lambda p, q, r, w: (
        (einsum("bi,ijkl->bjkl", p, w) * q[:, :, None, None]).sum(1) * r[:, :, None]
    ).sum(1),
}


@pytest.mark.parametrize("name", THREE)
def test_three_factors(name):
    """Adam, n = 4 to 32, 12 seeds: effect of the change of p +0.02, of q -0.01 (std n^-3/2)."""

    def made(n: int):
        def run(s, x):
            return s.o(torch.tanh(THREE[name](*(torch.tanh(f(x)) for f in (s.p, s.q, s.r)), s.w)))

        return Net(run, p=entry(n), q=entry(n), r=entry(n), w=normal(n, n, n, n), o=readout(n)), points()

    program = tpcalc.trace(made, (4, 16, 64))
    adam = tpcalc.derive(program)
    assert (adam["w"].b, adam["w"].c) == (3 * H, 3) and not adam.sites
    assert [-adam[f"{name}.weight"].eps for name in "pqr"] == [1, 1, 1]


@pytest.mark.parametrize("bias", [True, False])
def test_a_matrix_made_by_a_layer_is_that_layer(bias):
    """A hypernetwork of a growing code; its bias is a hidden matrix.  Adam, n = 16 to 128, 8 seeds: effect of the
    change of the code +0.01, of what the matrix meets -0.01, of the updates -0.05; gradients of weight, bias, both
    entries -1.00, -0.95, -0.98, -1.02 (-1)."""

    def made(n: int):
        def run(s, x):
            matrix = s.h(torch.tanh(s.p(x))).view(-1, n, n)
            return s.o(torch.tanh(matrix @ torch.tanh(s.q(x))[:, :, None]).squeeze(-1))

        return Net(run, p=entry(n), q=entry(n), h=nn.Linear(n, n * n, bias=bias), o=readout(n)), points()

    found = tpcalc.derive(tpcalc.trace(made, WIDTHS))
    named = {"h.weight": (1, 2), **({"h.bias": (H, 1)} if bias else {})}
    assert {name: (found[name].b, found[name].c) for name in named} == named
    assert all(-found[name].eps == 1 for name in (*named, "p.weight", "q.weight")) and not found.sites


def gated(s, x):
    return torch.tanh(s.z(x))


#: Name -> a layer, its weights, and of each b, c, the order of its gradient, and c under SGD.
STRUCTURED: dict[str, tuple[Callable, Callable, dict]] = {
    "Kronecker product": (
        lambda s, h, x: h @ torch.kron(s.big, s.small),
        lambda n: {"big": normal(n // 8, n // 8), "small": normal(8, 8)},
        {"big": (H, 1, -1, 0), "small": (0, 0, 0, 0)},
    ),
    "the other way round": (  # the same, with n^1/2 of one factor in the other
        lambda s, h, x: h @ torch.kron(s.small, s.big),
        lambda n: {"big": normal(n // 8, n // 8), "small": normal(8, 8)},
        {"big": (0, H, -3 * H, -1), "small": (H, H, H, 1)},
    ),
    "by einsum": (
        lambda s, h, x: h @ einsum("ij,kl->ikjl", s.big, s.small).reshape(h.shape[1], -1),
        lambda n: {"big": normal(n // 8, n // 8), "small": normal(8, 8)},
        {"big": (H, 1, -1, 0), "small": (0, 0, 0, 0)},
    ),
    "applied one by one": (
        lambda s, h, x: (s.big.t() @ h.view(len(h), -1, 8) @ s.small).flatten(1),
        lambda n: {"big": normal(n // 8, n // 8), "small": normal(8, 8)},
        {"big": (H, 1, -1, 0), "small": (0, 0, 0, 0)},
    ),
    "mixed": (
        lambda s, h, x: h @ (s.mix[:, None, None] * s.many).sum(0),
        lambda n: {"mix": normal(6), "many": normal(6, n, n)},
        {"mix": (0, 0, 0, 0), "many": (H, 1, -1, 0)},
    ),
    "mixed by the inputs": (
        lambda s, h, x: einsum("bi,bij->bj", h, (gated(s, x)[:, :, None, None] * s.many).sum(1)),
        lambda n: {"z": nn.Linear(FEATURES, 6), "many": normal(6, n, n)},
        {"z.weight": (0, 0, 0, 0), "many": (H, 1, -1, 0)},
    ),
    "written out": (
        lambda s, h, x: (h[:, :, None] * (gated(s, x)[:, :, None, None] * s.many).sum(1)).sum(1),
        lambda n: {"z": nn.Linear(FEATURES, 6), "many": normal(6, n, n)},
        {"z.weight": (0, 0, 0, 0), "many": (H, 1, -1, 0)},
    ),
    "by a contraction": (
        lambda s, h, x: einsum("bi,bij->bj", h, einsum("bc,cij->bij", gated(s, x), s.many)),
        lambda n: {"z": nn.Linear(FEATURES, 6), "many": normal(6, n, n)},
        {"z.weight": (0, 0, 0, 0), "many": (H, 1, -1, 0)},
    ),
    "experts mixed": (
        lambda s, h, x: einsum("bi,bij->bj", h, (s.z(h).softmax(-1)[:, :, None, None] * s.many).sum(1)),
        lambda n: {"z": nn.Linear(n, 4), "many": normal(4, n, n)},
        {"z.weight": (1, 1, 0, 1), "many": (H, 1, -1, 0)},
    ),
    "gains of rows": (
        lambda s, h, x: h @ (s.gain[:, None] * s.one),
        lambda n: {"gain": nn.Parameter(torch.ones(n)), "one": normal(n, n)},
        {"gain": (0, 0, -1, -1), "one": (H, 1, -1, 0)},
    ),
    "gains of columns": (
        lambda s, h, x: h @ (s.gain * s.one),
        lambda n: {"gain": nn.Parameter(torch.ones(n)), "one": normal(n, n)},
        {"gain": (0, 0, -1, -1), "one": (H, 1, -1, 0)},
    ),
}


@pytest.mark.parametrize("name", STRUCTURED)
def test_gradients_of_what_structures_a_matrix(name):
    """A sum of products of an outer product (the gradient of the matrix) and a weight.  Adam by the rules, n = 64 to
    512, 6 seeds, after six steps: a small factor -0.07, -0.10 (0), numbers that mix -0.14 (0), a layer that makes them
    -0.18 (0), gains -0.98 (-1)."""
    layer, parts, expected = STRUCTURED[name]

    def made(n: int):
        def run(s, x):
            return s.o(torch.tanh(layer(s, torch.tanh(s.i(x)), x)))

        return Net(run, i=entry(n), o=readout(n), **parts(n)), points()

    program = tpcalc.trace(made, (64, 128, 256))
    adam, sgd = tpcalc.derive(program), tpcalc.derive(program, "sgd")
    assert not adam.sites
    assert {w: (adam[w].b, adam[w].c, adam[w].gradient, sgd[w].c) for w in expected} == expected


def gradients(n: int, seed: int, structure: str) -> list[float]:
    """Of the small factor of a Kronecker product, or of gains, after six steps of Adam by the rules; and the change of
    features by one step of SGD on it at the derived rate."""
    torch.manual_seed(seed)
    if structure == "factor":
        small, one = torch.randn(8, 8), torch.randn(n // 8, n // 8) / n**0.5
        rates, sgd = (1.0, 1 / n), 1.0
    else:
        small, one = torch.ones(n, 1), torch.randn(n, n) / n**0.5
        rates, sgd = (n**-0.5, 1 / n), float(n)
    a, o = torch.randn(n, 24) / 24**0.5, torch.randn(4, n) / n
    x, t = torch.randn(8, 24), torch.randn(8, 4)
    groups = [{"params": [p.requires_grad_()], "lr": 0.03 * r} for p, r in zip((a, o, small, one), (1, 1 / n, *rates))]
    adam = torch.optim.Adam(groups, eps=1e-30, betas=(0.0, 0.0))

    def matrix(factor):
        return torch.kron(one, factor) if structure == "factor" else factor * one

    for _ in range(7):
        h = torch.tanh(x @ a.T)
        loss = (torch.tanh(h @ matrix(small)) @ o.T - t).square().mean()
        adam.zero_grad()
        loss.backward()
        last = [p.detach().clone() for p in (small, small.grad, h)]
        adam.step()
    factor, gradient, h = last
    with torch.no_grad():
        moved = h @ (matrix(factor - sgd * gradient) - matrix(factor))
    return [v.square().mean().sqrt().item() for v in (gradient, moved)]


@pytest.mark.parametrize("structure, order", [("factor", 0), ("gains", -1)])
def test_gradients_measured(structure, order):
    widths = (64, 128, 256, 512)
    sizes = [np.mean([gradients(n, seed, structure) for seed in range(6)], axis=0) for n in widths]
    gradient, moved = np.polyfit(np.log(widths), np.log(sizes), 1)[0]
    assert gradient == pytest.approx(order, abs=0.2) and moved == pytest.approx(0, abs=0.25)


def test_a_sequence_that_grows_is_no_axis_of_the_weight():
    """Of what a weight made at each place the places may be what is summed: that is law 4."""

    def made(n: int, pooled: bool):
        def run(s, x):
            p, q = torch.tanh(s.p(x)), torch.tanh(s.q(x))
            y = einsum("ti,ijk->tjk", p, s.w)
            z = einsum("tjk,tj->jk", y, q) / n if pooled else einsum("tjk,tj->tk", y, q)
            return s.o(torch.tanh(z))

        x = torch.linspace(-1, 2, 8 * n).reshape(n, 8)
        return Net(run, p=entry(n), q=entry(n), w=normal(n, n, n), o=readout(n)), (x,)

    each, pooled = (tpcalc.derive(tpcalc.trace(lambda n, p=p: made(n, p), WIDTHS)) for p in (False, True))
    assert (each["w"].b, each["w"].c) == (1, 2)
    assert (pooled["w"].b, pooled["w"].c) == (H, 1)


def test_what_shares_all_axes_that_are_left_is_a_value():
    """Queries and keys share their heads: a sum of products of values, aligned by law 4."""

    def made(n: int):
        def run(s, x):
            q, k = einsum("bi,ihd->bhd", x, s.q), einsum("bi,ihd->bhd", x, s.k)
            return s.o(torch.tanh((q * torch.tanh(k)).sum(-1)))

        heads = (8, root(n), root(n))
        return Net(run, q=normal(*heads), k=normal(*heads), o=readout(root(n))), points()

    assert tpcalc.derive(tpcalc.trace(made, WIDTHS))["q"].b == H


def test_a_gain_is_no_outer_product():
    def made(n: int):
        def run(s, x):
            return s.o(torch.tanh((torch.tanh(s.i(x)) * s.g) @ s.w))

        return Net(run, i=entry(n), g=nn.Parameter(torch.ones(n)), w=normal(n, n), o=readout(n)), points()

    found = tpcalc.derive(tpcalc.trace(made, WIDTHS))
    assert (found["w"].b, found["w"].c) == (H, 1)


@pytest.mark.parametrize("optimizer", ("adamw", "sgd"))
def test_a_value_that_has_an_axis_of_the_weight_tells_its_rows_apart(optimizer):
    """Each head of keys meets its own rows of the query weight, and what both read meets all: along all sizes at once
    exponents are the sums of those along each."""

    def rules(*rays):
        def factory(n):
            sizes = (n if place in rays else size for place, size in enumerate((4, 3, 4)))
            return scaled.Attention(*sizes), (scaled.TOKENS,)

        return tpcalc.derive(tpcalc.trace(factory, (4, 8, 12)), optimizer)

    each, whole = [rules(ray) for ray in range(3)], rules(0, 1, 2)
    for name in ("q.weight", "k.weight", "v.weight", "o.weight"):
        for quantity in ("b", "c", "eps") if optimizer == "adamw" else ("b", "c"):
            assert getattr(whole[name], quantity) == sum(getattr(one[name], quantity) for one in each), (name, quantity)
