"""What is computed twice is one value: rules do not depend on whether code kept it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

import tpcalc
from tests.support.models import Net, entry, normal, points, readout
from tpcalc.errors import DeriveError
from tpcalc.lower.copies import without_copies
from tpcalc.program.repeat import Loop, Repeats
from tpcalc.rules import REGISTRY

WIDTHS = (64, 128, 256)


def inner_step(s, h, again):
    (g,) = torch.autograd.grad(s.o(torch.tanh(h @ s.w)).square().mean(), [s.w], create_graph=True)
    return torch.tanh(again() @ (s.w - g))


def of_first_order(s, h, again):
    (g,) = torch.autograd.grad(s.o(torch.tanh(h @ s.w)).square().mean(), [s.w])
    return torch.tanh(again() @ (s.w - g))


def on_an_activation(s, h, again):
    (g,) = torch.autograd.grad(s.o(torch.tanh(h @ s.w)).square().mean(), [h], create_graph=True)
    return torch.tanh(again() @ s.w) * torch.tanh((g * again()).sum(-1, keepdim=True))


def behind_detach(s, h, again):
    (g,) = torch.autograd.grad(s.o(torch.tanh(h @ s.w)).square().mean(), [s.w])
    return torch.tanh(again().detach().clone() @ (s.w - g)) + torch.tanh(h @ s.w)


#: What is made of features, of which ``again()`` gives a copy.
USES: dict[str, Callable] = {
    "inner step": inner_step,
    "inner step of first order": of_first_order,
    "gradient of an activation": on_an_activation,
    "behind detach": behind_detach,
}
FEATURES = {
    "relu": lambda s, x: torch.relu(s.i(x)),
    "linear": lambda s, x: s.i(x),
    "gelu": lambda s, x: F.gelu(s.i(x)),
    "a view": lambda s, x: torch.relu(s.i(x.detach())).view(x.shape[0], -1),
}


def factory(use: Callable, features: Callable, twice: bool) -> Callable:
    def made(n: int):
        def run(s, x):
            h = features(s, x)
            return s.o(use(s, h, lambda: features(s, x) if twice else h))

        return Net(run, i=entry(n), w=normal(n, n), o=readout(n, bias=False)), points()

    return made


def rules(made: Callable):
    program = tpcalc.trace(made, WIDTHS)
    try:
        found = tpcalc.derive(program)
    except DeriveError as error:
        return str(error)
    return {name: (rule.b, rule.c, rule.gradient) for name, rule in found.items()}, len(found.sites)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("use", USES)
def test_rules_do_not_depend_on_what_code_keeps(use, features):
    once, twice = (rules(factory(USES[use], FEATURES[features], again)) for again in (False, True))
    assert once == twice
    if use.startswith("inner"):
        assert once[1] == 0 and [once[0]["w"][:2], once[0]["o.weight"][:2]] == [(Fraction(1, 2), 1), (1, 1)]


def trained(n: int, seed: int) -> list[float]:
    """Rms of what an inner step changes after training by the derived rules, and of the change of what it leaves."""
    torch.manual_seed(seed)
    a, b, c = torch.randn(n, 24) / 24**0.5, torch.randn(n, n) / n**0.5, torch.randn(4, n) / n
    x, t = torch.randn(4, 24), torch.randn(4, 4)
    groups = [{"params": [p.requires_grad_()], "lr": 0.02 / k} for p, k in zip((a, b, c), (1, n, n))]
    adam = torch.optim.Adam(groups, eps=1e-30, betas=(0.0, 0.0))

    def net():
        z = torch.relu(x @ a.T) @ b.T
        (g,) = torch.autograd.grad((torch.tanh(z) @ c.T - t).square().mean() * 8, b, create_graph=True)
        return z, torch.relu(x @ a.T) @ (b - g).T

    before = net()[1].detach()
    for _ in range(4):
        adam.zero_grad()
        (torch.tanh(net()[1]) @ c.T - t).square().mean().backward()
        adam.step()
    z, left = (v.detach() for v in net())
    return [v.square().mean().sqrt().item() for v in (left - z, left - before)]


def test_no_site_is_needed():
    """n = 64 to 1024, 4 seeds: what the step changes +0.02, the change of what it leaves +0.03; linear -0.02, -0.03."""
    widths = (64, 128, 256, 512)
    sizes = [np.mean([trained(n, seed) for seed in range(3)], axis=0) for n in widths]
    assert np.polyfit(np.log(widths), np.log(sizes), 1)[0] == pytest.approx([0, 0], abs=0.12)


def reads(program) -> list[tuple[str, list[bool]]]:
    """Of each op: which of its operands are not what the trace says."""
    pairs = zip(program.nodes, without_copies(program, REGISTRY).nodes)
    return [(before.short_op, [x != y for x, y in zip(before.refs, after.refs)]) for before, after in pairs]


def moved(make: Callable) -> set[str]:
    """The ops that read something else."""
    program = tpcalc.trace(lambda n: (Net(make, i=entry(n), w=normal(n, n), o=readout(n)), points()), WIDTHS)
    return {op for op, changed in reads(program) if any(changed)}


def test_what_is_no_copy():
    """Numbers that are drawn anew, what was written to, other constants, other operands."""
    assert "cosh" in moved(lambda s, x: s.o(torch.sinh(s.i(x)) + torch.cosh(s.i(x))))
    drawn = moved(lambda s, x: s.o(torch.sinh(F.dropout(s.i(x))) + torch.cosh(F.dropout(s.i(x)))))
    assert "cosh" not in drawn and "mul" in drawn
    assert "cosh" not in moved(lambda s, x: s.o(torch.sinh(torch.rand_like(s.i(x))) + torch.rand_like(s.i(x)).cosh()))

    def written(s, x):
        h = s.i(x)
        y = h + 1
        h.mul_(2)
        return s.o(torch.sinh(y) + torch.cosh(h + 1))

    assert "cosh" not in moved(written)
    assert "cosh" not in moved(lambda s, x: s.o((s.i(x) * 2).sinh() + (s.i(x + 1) * 2).cosh()))
    assert "cosh" not in moved(lambda s, x: s.o((s.i(x) * 2).sinh() + (s.i(x) * 3).cosh()))


def test_a_period_of_a_stack_stands_for_itself():
    """Of two periods that compute the same, each keeps its own."""

    def twice(s, x):
        return s.o(torch.sinh(s.i(x)) + torch.cosh(s.i(x)))

    program = tpcalc.trace(lambda n: (Net(twice, i=entry(n), o=readout(n)), points()), WIDTHS)
    second = next(node.index for node in program.nodes if node.short_op == "cosh") - 2
    loop = Loop("depth", second - 3, 3, second + 3)
    assert any(any(changed) for _, changed in reads(program))
    assert not any(any(changed) for _, changed in reads(replace(program, repeats=Repeats((loop,)))))


def test_recomputed_in_the_backward_pass():
    """A checkpoint's second forward pass is the first one; gradients are those of ops of their own."""

    def make(keep: bool):
        def made(n: int):
            def run(s, x):
                def block(h):
                    return torch.relu(h @ s.w)

                h = torch.relu(s.i(x))
                return s.o(block(h) if keep else checkpoint(block, h, use_reentrant=False))

            return Net(run, i=entry(n), w=normal(n, n), o=readout(n)), points()

        return made

    assert rules(make(True)) == rules(make(False))
