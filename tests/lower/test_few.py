"""Few of many: sums over n entries of which k are not zero count as k, forward and backward."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tpcalc
from tests.support.models import Net
from tpcalc.errors import DeriveError
from tpcalc.lower.flatten import lower

WIDTHS = (32, 64, 128)
POINTS = torch.linspace(-1, 1, 30).reshape(5, 6).sin()


class Dictionary(nn.Module):
    """Scores of n entries (``e``), a decoder of them (``d``), rows of a memory (``v``, ``b``)."""

    def __init__(self, n, of):
        super().__init__()
        self.i, self.e, self.d = nn.Linear(6, 8), nn.Linear(8, n), nn.Linear(n, 4)
        self.v, self.b, self.n, self.of = nn.Embedding(n, 4), nn.EmbeddingBag(n, 4, mode="sum"), n, of

    def forward(self, x):
        return self.of(self, self.e(torch.relu(self.i(x))))


def scattered(s, z):
    top, where = z.topk(3, -1)
    return s.d(torch.zeros_like(z).scatter_(-1, where, top.relu()))


def put(s, z):
    top, where = z.topk(3, -1)
    return s.d(torch.zeros(5, s.n).index_put((torch.arange(5).unsqueeze(1).expand(5, 3), where), top))


def masked(s, z):
    return s.d(z * torch.zeros_like(z).scatter(-1, z.topk(3, -1).indices, 1.0))


def one_hot(s, z):
    return s.d(F.one_hot(z.argmax(-1), s.n) * z)


def straight_through(s, z):
    z = z.softmax(-1)
    return s.d(z + (F.one_hot(z.argmax(-1), s.n) - z).detach())


def rows(s, z):
    top, where = z.topk(3, -1)
    return (top.softmax(-1).unsqueeze(-1) * s.v(where)).sum(1)


def bag(s, z):
    top, where = z.topk(3, -1)
    return s.b(where, per_sample_weights=top.softmax(-1))


def columns(s, z):
    top, where = z.topk(3, -1)
    return (top.unsqueeze(-1) * s.d.weight.t()[where]).sum(1)


def positive(s, z):
    return s.d(torch.zeros_like(z).masked_fill(z > 0, 1.0) * z)


def written(s, z):
    y = torch.zeros_like(z)
    y[z > 0] = 1.0
    return s.d(y * z)


FEW = {
    "scatter": (scattered, "d"),
    "index_put": (put, "d"),
    "mask": (masked, "d"),
    "one_hot": (one_hot, "d"),
    "straight through": (straight_through, "d"),
    "gumbel": (lambda s, z: s.d(F.gumbel_softmax(z, hard=True)), "d"),
    "rows": (rows, "v"),
    "bag": (bag, "b"),
    "columns": (columns, "d"),
}
ALL = {
    "relu": lambda s, z: s.d(z.relu()),
    "a mask of signs": positive,
    "written at a mask": written,
    "sorted": lambda s, z: s.d(torch.zeros_like(z).scatter(-1, z.argsort(-1), z)),
    "ones everywhere": lambda s, z: s.d(torch.zeros_like(z).scatter(-1, z.argsort(-1), 1.0) * z),
    "one number for many": lambda s, z: s.d(torch.where(z > 0, z[:, :1], torch.zeros_like(z))),
}


def rules(of, optimizer):
    program = tpcalc.trace(lambda n: (Dictionary(n, of), (POINTS,)), WIDTHS)
    return tpcalc.derive(program, optimizer)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("name", FEW)
def test_what_meets_few_entries_is_not_scaled_down(name, optimizer):
    of, weight = FEW[name]
    found = rules(of, optimizer)
    assert not found.sites
    rule = found[f"{weight}.weight"]
    assert (rule.b, rule.c) == (0, 0)


@pytest.mark.parametrize("name", ["scatter", "index_put", "mask", "one_hot", "rows", "bag", "columns"])
def test_what_flows_back_from_few_entries_is_not_summed_over_many(name):
    found = rules(FEW[name][0], "adamw")
    assert (found["e.weight"].eps, found["i.weight"].eps) == (0, 0)


@pytest.mark.parametrize("name", ALL)
def test_a_sum_over_all_entries_is_one(name):
    rule = rules(ALL[name], "adamw")["d.weight"]
    assert (rule.b, rule.c) == (1, 1)


class Codes(nn.Module):
    """A dense vector made from few of n rows, without a bias, and a hidden layer and a readout behind it."""

    def __init__(self, n, of):
        super().__init__()
        self.i, self.h, self.o = nn.Linear(6, n), nn.Linear(n, n, bias=False), nn.Linear(n, 5)
        self.codes, self.of = nn.Parameter(torch.randn(n, n)), of

    def forward(self, x):
        return self.o(torch.relu(self.h(self.of(self.i(x)) @ self.codes)))


@pytest.mark.parametrize(
    "of",
    [
        lambda z: F.gumbel_softmax(z, hard=True),
        lambda z: F.one_hot(z.argmax(-1), z.shape[-1]) * z,
        lambda z: torch.zeros_like(z).scatter(-1, z.topk(3, -1).indices, 1.0) * z,
    ],
    ids=["gumbel", "one_hot", "top-k"],
)
def test_what_few_rows_make_has_all_its_entries(of):
    """The rows sum over few entries, the layers behind over all n.  Measured with 0 for ``h``: slope +0.52."""
    found = tpcalc.derive(tpcalc.trace(lambda n: (Codes(n, of), (POINTS,)), WIDTHS), "adamw")
    exponents = {name: (found[name].b, found[name].c) for name in ("codes", "h.weight", "o.weight")}
    assert exponents == {"codes": (0, 0), "h.weight": (Fraction(1, 2), 1), "o.weight": (1, 1)}


# -- the largest few of a hidden layer -------------------------------------------------------------


class Winners(nn.Module):
    """A hidden layer (``e``) of whose outputs ``of`` leaves the largest few, and a layer behind them."""

    def __init__(self, n, of):
        super().__init__()
        self.i, self.e, self.d = nn.Linear(6, n), nn.Linear(n, n), nn.Linear(n, n)
        self.o, self.of = nn.Linear(n, 4), of

    def forward(self, x):
        return self.o(torch.tanh(self.d(self.of(self.e(torch.tanh(self.i(x)))))))


def places(z):
    return torch.zeros_like(z).scatter(-1, z.topk(3, -1).indices, 1.0)


def least(z):
    return z.topk(3, -1).values[..., -1:]


def put_back(z):
    top, where = z.topk(3, -1)
    return torch.zeros_like(z).scatter(-1, where, top)


LARGEST = {
    "scattered": put_back,
    "masked": lambda z: z * places(z),
    "rectified": lambda z: put_back(z.relu()),
    "chosen": lambda z: torch.where(places(z) > 0, z, torch.zeros_like(z)),
    "filled": lambda z: z.masked_fill(~places(z).bool(), 0.0),
    "threshold": lambda z: torch.where(z >= least(z), z, torch.zeros_like(z)),
    "threshold, other way round": lambda z: z.masked_fill(least(z) > z, 0.0),
    "threshold times": lambda z: z * (z >= least(z)),
    "threshold without a gradient": lambda z: z * (z >= least(z.detach())).float(),
    "by size": lambda z: z * (z.abs() >= least(z.abs())),
}
SHARES = {
    "a quarter": lambda z: z * (z >= z.topk(z.shape[-1] // 4, -1).values[..., -1:]),
    "above the mean": lambda z: z * (z >= z.mean(-1, keepdim=True)),
    "below the largest": lambda z: z * (z < least(z)),
    "positive": lambda z: z * (z > 0),
}


@pytest.mark.parametrize("name", LARGEST)
def test_rows_whose_outputs_win_are_rows_of_an_output(name):
    """With n^-1/2 for ``e`` the features' change, made of the rows that won, moves these by n^(+0.46) (1.0: +0.03)."""
    found = tpcalc.derive(tpcalc.trace(lambda n: (Winners(n, LARGEST[name]), (POINTS,)), WIDTHS))
    assert {w: (found[f"{w}.weight"].b, found[f"{w}.weight"].c) for w in "iedo"} == {
        "i": (0, 0), "e": (1, 1), "d": (0, 0), "o": (1, 1)
    }  # fmt: skip
    assert not found.sites


@pytest.mark.parametrize("name", SHARES)
def test_a_share_of_all_entries_is_no_few(name):
    found = tpcalc.derive(tpcalc.trace(lambda n: (Winners(n, SHARES[name]), (POINTS,)), WIDTHS))
    assert {w: (found[f"{w}.weight"].b, found[f"{w}.weight"].c) for w in "ed"} == {
        "e": (Fraction(1, 2), 1), "d": (Fraction(1, 2), 1)
    }  # fmt: skip


class Routed(nn.Module):
    """Two of n/4 experts, dense, with gates among zeros."""

    def __init__(self, n):
        super().__init__()
        self.i, self.r, self.o = nn.Linear(6, n), nn.Linear(n, n // 4), nn.Linear(n, 4)
        self.w = nn.Parameter(torch.randn(n // 4, n, n))

    def forward(self, x):
        h = torch.relu(self.i(x))
        z = self.r(h)
        top, where = z.topk(2, -1)
        gates = torch.zeros_like(z).scatter(-1, where, top.softmax(-1))
        return self.o((gates[..., None] * torch.einsum("bn,enm->bem", h, self.w).relu()).sum(1))


class Table(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.v, self.h, self.o = nn.Embedding(n, n), nn.Linear(n, n), nn.Linear(n, 4)

    def forward(self, x):
        return self.o(torch.relu(self.h(self.v(x))))


def samples(n):
    return torch.linspace(-1, 1, 6 * n).reshape(n, 6).sin()


#: Model, inputs -> weight -> by how much fewer entries than it has have a gradient, and of which order these are.
GRADIENTS = {
    "top-k": (lambda n: Winners(n, put_back), lambda n: POINTS, {"i": 0, "e": 1, "d": 1, "o": 0}),
    "top-k, n samples": (lambda n: Winners(n, put_back), samples, {"i": 0, "e": 0, "d": 0, "o": 0}),
    "rows read": (Table, lambda n: torch.arange(4), {"v": 1, "h": 0, "o": 0}),
    "all rows read": (Table, torch.arange, {"v": 0, "h": 0, "o": 0}),
    "experts": (Routed, lambda n: POINTS, {"i": 0, "r": 1, "w": 1, "o": 0}),
    "experts, n samples": (Routed, samples, {"i": 0, "r": 0, "w": 0, "o": 0}),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_how_few_entries_of_a_weight_have_a_gradient(name):
    """Counted in torch at init, beside what is said; n samples leave more than a few rows without."""
    of, inputs, expected = GRADIENTS[name]
    leaves = lower(tpcalc.trace(lambda n: (of(n), (inputs(n),)), WIDTHS)).leaves
    matrices = {leaf.name.removesuffix(".weight"): leaf for leaf in leaves if len(leaf.shape) > 1}
    assert {key: leaf.few for key, leaf in matrices.items()} == expected
    counts = {}
    for n in (32, 128):
        torch.manual_seed(0)
        net = of(n)
        F.cross_entropy(net(inputs(n)), torch.arange(inputs(n).shape[0]) % 4).backward()
        counts[n] = {key.removesuffix(".weight"): int((p.grad != 0).sum()) for key, p in net.named_parameters()}
    for key, leaf in matrices.items():
        slope = math.log(counts[128][key] / counts[32][key]) / math.log(4)
        order = float(sum(size.growth for size in leaf.shape) - leaf.few)
        assert order - 0.7 < slope < order + 0.4, key
        assert leaf.few > 0 or slope > order - 1 + 0.25, key


def test_experts_weighed_and_added_are_summed_over():
    """Of a product with gates among zeros the experts are summed over, and what is left has all its entries."""
    found = tpcalc.derive(tpcalc.trace(lambda n: (Routed(n), (POINTS,)), WIDTHS))
    assert {w: (found[w].b, found[w].c) for w in ("w", "r.weight", "o.weight")} == {
        "w": (Fraction(1, 2), 1), "r.weight": (1, 1), "o.weight": (1, 1)
    }  # fmt: skip


EXTREMES = {
    "max": lambda z: z.max(-1, keepdim=True).values,
    "amax": lambda z: z.amax(-1, keepdim=True),
    "amin": lambda z: z.amin(-1, keepdim=True),
    "aminmax": lambda z: z.aminmax(dim=-1, keepdim=True).max,
    "norm": lambda z: z.norm(float("inf"), -1, keepdim=True),
    "of all": lambda z: z.max() + z[:, :0].sum(-1, keepdim=True),
}


class Extreme(nn.Module):
    def __init__(self, n, of):
        super().__init__()
        self.i, self.h, self.of = nn.Linear(6, n), nn.Linear(n, n), of

    def forward(self, x):
        return self.of(self.h(torch.tanh(self.i(x)))) * torch.arange(4).cos()


@pytest.mark.parametrize("name", EXTREMES)
def test_an_extreme_entry_sends_its_gradient_to_few(name):
    """Whatever op finds it: torch writes some of these backward as a mask of what equals it, divided by its sum."""
    found = tpcalc.derive(tpcalc.trace(lambda n: (Extreme(n, EXTREMES[name]), (POINTS,)), WIDTHS), "sgd")
    rule = found["h.weight"]
    assert (rule.gradient, rule.b, rule.c) == (0, 1, 1)
    assert found["i.weight"].gradient == -1


#: What is done with the values z and their largest one, and whether the largest one's gradient is as the others'.
BESIDE = {
    "divided": (lambda z: z / z.abs().amax(-1, keepdim=True), False),
    "divided, found with its place": (lambda z: z / z.max(-1, keepdim=True).values, False),
    "divided, with a floor": (lambda z: z / z.abs().max(-1, keepdim=True).values.clamp(min=1e-9), False),
    "divided by its root": (lambda z: z * (z.abs().amax(-1, keepdim=True) + 1e-9).rsqrt(), False),
    "between the least and the largest": (
        lambda z: (z - z.amin(-1, keepdim=True)) / (z.amax(-1, keepdim=True) - z.amin(-1, keepdim=True)),
        False,
    ),
    "an infinite norm": (lambda z: F.normalize(z, p=float("inf"), dim=-1), False),
    "detached": (lambda z: z / z.abs().amax(-1, keepdim=True).detach(), True),
    "a softmax by hand": (lambda z: softmax_by_hand(z - z.amax(-1, keepdim=True)) * z.shape[-1], True),
    "a softmax, by max": (lambda z: softmax_by_hand(z - z.max(-1, keepdim=True)[0]) * z.shape[-1], True),
}


def softmax_by_hand(z):
    e = z.exp()
    return e / e.sum(-1, keepdim=True)


@pytest.mark.parametrize("name", BESIDE)
def test_what_the_largest_entry_does_to_all_comes_back_to_it(name):
    """The largest entry's row has a gradient of n^0 where the others are divided by it (the rest n^-1).  Under SGD,
    with the rate of the rest, its effect had a slope of +0.79, with its own theirs had -0.89.  A softmax does not
    change with it, and Adam does not mind."""
    run, even = BESIDE[name]

    def made(n: int):
        def forward(s, x):
            return s.o(run(s.h(torch.tanh(s.i(x)))))

        return Net(forward, i=nn.Linear(6, n), h=nn.Linear(n, n), o=nn.Linear(n, 4)), (POINTS,)

    program = tpcalc.trace(made, WIDTHS)
    rule = tpcalc.derive(program)["h.weight"]
    assert (rule.gradient, rule.c, rule.eps) == (-1, 1, -1)
    if even:
        assert tpcalc.derive(program, "sgd")["h.weight"].c == 0
        return
    for optimizer in ("sgd", "adamw+sgd"):
        with pytest.raises(DeriveError, match="divided or multiplied by their largest.* i.weight that suits both"):
            tpcalc.derive(program, optimizer)


def test_an_extreme_entry_trains_alike_at_all_widths():
    """SGD: with a gradient of n^-1 taken for its order 0, and so a rate n times larger, the update's effect on the
    largest entry had a slope of +0.86 to +2.76."""
    y = torch.arange(1.0, 6.0)[:, None] * torch.arange(4).cos()
    of, sizes = EXTREMES["norm"], {}
    for n in (64, 256, 1024):
        how = tpcalc.scale(lambda n: (Extreme(n, of), (POINTS,)), 64, n, "sgd")
        squares = 0.0
        for seed in range(3):
            torch.manual_seed(seed)
            net = Extreme(n, of)
            how.init_(net)
            opt = torch.optim.SGD(how.param_groups(net, lr=0.1), lr=0.1)
            start = net.h.weight.detach().clone()
            for _ in range(3):
                opt.zero_grad()
                F.mse_loss(net(POINTS), y).backward()
                opt.step()
            with torch.no_grad():
                x = torch.tanh(net.i(POINTS))
                won = net.h(x).abs().argmax(-1, keepdim=True)
                squares += (x @ (net.h.weight - start).t()).gather(-1, won).square().mean().item()
        sizes[n] = math.log(squares) / 2
    assert abs(sizes[1024] - sizes[64]) / math.log(16) < 0.25, sizes


MASKS = {
    "either of two": (lambda z: z * ((z == z.amax(-1, keepdim=True)) | (z == z.amin(-1, keepdim=True))), True),
    "one and positive": (lambda z: z * ((z == z.amax(-1, keepdim=True)) & (z > 0)), True),
    "one or positive": (lambda z: z * ((z == z.amax(-1, keepdim=True)) | (z > 0)), False),
    "all but one": (lambda z: z * (z != z.amax(-1, keepdim=True)), False),
    "equal to another's": (lambda z: z * (z == (z.cos() * 2).amax(-1, keepdim=True)), False),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_of_extreme_entries(name):
    of, few = MASKS[name]
    found = tpcalc.derive(tpcalc.trace(lambda n: (Winners(n, of), (POINTS,)), WIDTHS))
    assert (found["d.weight"].b, found["d.weight"].c) == ((0, 0) if few else (Fraction(1, 2), 1))


def test_winners_train_alike_at_all_widths():
    """Of the entries that win: what the layer's init makes of the features' change, and what its update makes."""
    sizes = {}
    for n in (64, 256, 1024):
        torch.manual_seed(0)
        net = Winners(n, put_back)
        scaling = None if n == 64 else tpcalc.scale(lambda n: (Winners(n, put_back), (POINTS,)), 64, n)
        groups = list(net.parameters())
        if scaling is not None:
            scaling.init_(net)
            groups = scaling.param_groups(net, lr=2**-6, eps=1e-12)
        optimizer = torch.optim.Adam(groups, lr=2**-6, eps=1e-12)
        before, start = torch.tanh(net.i(POINTS)).detach(), net.e.weight.detach().clone()
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(net(POINTS), torch.arange(5) % 4).backward()
            optimizer.step()
        with torch.no_grad():
            after = torch.tanh(net.i(POINTS))
            won = net.e(after).topk(3, -1).indices
            for name, moved in (("init", (after - before) @ start.t()), ("update", after @ (net.e.weight - start).t())):
                sizes[name, n] = moved.gather(-1, won).square().mean().sqrt().log().item()
    for name in ("init", "update"):
        assert abs(sizes[name, 1024] - sizes[name, 64]) / math.log(16) < 0.25, sizes
