"""Which sums over a growing axis cancel (law 4): traced predictions against measured slopes.

Each case sums n terms made of two values ``h`` and ``y`` (two input layers) and of weights, all of order 0.  What
shares one sign along the axis adds up, whatever weight flips it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import tpcalc
from tests.support.models import Net
from tpcalc.algebra.order import HALF, ONE, ZERO
from tpcalc.calculus.facts import Fact, WeightOrders
from tpcalc.calculus.laws import propagate
from tpcalc.lower.flatten import lower
from tpcalc.program.ir import Program
from tpcalc.rules.structures import Gather, Product, Sum, View

WIDTHS = (64, 256, 1024)
SEEDS = 40
TOLERANCE = 0.15
BATCH, FEATURES, ROWS = 6, 5, 11
F = Fraction

#: Std n^-A of each weight: ``h = x w``, ``y = x v``; ``z``, ``t`` hidden layers; ``r`` reads a number; ``c`` is one
#: head's matrix.
A = {"w": ZERO, "v": ZERO, "z": HALF, "t": HALF, "r": ZERO, "c": ZERO, "e": ZERO}


def weights(n: int, named: Collection[str]) -> dict[str, nn.Parameter]:
    """Large ones only where they are ``named``: to draw them takes longest."""
    root = round(n**0.5)
    shapes = {
        "w": (FEATURES, n),
        "v": (FEATURES, n),
        "z": (n, n),
        "t": (n, n),
        "r": (n,),
        "c": (root, root),
        "e": (ROWS, n),
    }
    shapes = {name: shape for name, shape in shapes.items() if shape != (n, n) or name in named}
    return {name: nn.Parameter(torch.randn(shape) * n ** -float(A[name])) for name, shape in shapes.items()}


def factory(terms: Callable) -> Callable:
    def build(n: int):
        def run(s, x):
            s.root, s.samples = round(n**0.5), torch.linspace(-1, 2, FEATURES * n).reshape(n, FEATURES)
            s.index = torch.arange(n) % ROWS
            return terms(s, x @ s.w, x @ s.v)

        return Net(run, **weights(n, terms.__code__.co_names)), (
            torch.randn(BATCH, FEATURES, generator=torch.Generator().manual_seed(0)),
        )

    return build


def heads(s, x):
    """sqrt(n) heads of sqrt(n) entries."""
    return x.view(BATCH, s.root, s.root)


def number(s, x):
    """One number of order n^1/2 for each sample."""
    return (x @ s.r)[:, None]


#: Name -> (the sum, its order).
SUMS: dict[str, tuple[Callable, Fraction]] = {
    "signs of two weights": (lambda s, h, y: (h * y).sum(-1), HALF),
    "no signs": (lambda s, h, y: (h.relu() * y.relu()).sum(-1), ONE),
    "a vector's signs": (lambda s, h, y: (s.r * y * y).sum(-1), HALF),
    "signs of a later layer": (lambda s, h, y: ((h @ s.z) * h.relu()).sum(-1), HALF),
    "signs of an earlier layer": (lambda s, h, y: ((h @ s.z) * (y.relu() @ s.z)).sum(-1), HALF),
    "signs made even": (lambda s, h, y: ((h @ s.z) * (h @ s.z)).sum(-1), ONE),
    "signs of two layers at once": (lambda s, h, y: ((h @ (s.z @ s.t)) * y.relu()).sum(-1), HALF),
    "signs of a unit vector": (lambda s, h, y: nn.functional.normalize(h, dim=-1).sum(-1), ZERO),
    # one number for all terms: it has no sign of its own
    "one sign for all": (lambda s, h, y: (number(s, y) * h * h).sum(-1), HALF + ONE),
    "one sign beside signs": (lambda s, h, y: (number(s, y) * h).sum(-1), HALF + HALF),
    "one sign beside the same signs": (lambda s, h, y: (number(s, h) * h).sum(-1), HALF + HALF),
    "one sign, signs of what made it": (lambda s, h, y: (number(s, y) * s.r).sum(-1), HALF + HALF),
    "one sign, made positive": (lambda s, h, y: (number(s, y).abs() * h).sum(-1), HALF + HALF),
    "one sign added": (lambda s, h, y: ((number(s, y) + h) * h.relu()).sum(-1), HALF + ONE),
    "one number of a vector": (lambda s, h, y: (s.r[:1] * y * y).sum(-1), ONE),
    "one number repeated": (lambda s, h, y: number(s, y).expand(-1, h.shape[1]).sum(-1), HALF + ONE),
    "one sign through a layer": (
        lambda s, h, y: ((number(s, y) * h.relu()) @ s.z * (h.relu() @ s.z)).sum(-1),
        HALF + ONE,
    ),
    # rows of a layer that has a mean share a number, the sum of the value; others mix its signs anew
    "signs through a layer": (lambda s, h, y: (h @ s.z).sum(-1), HALF),
    "signs through a positive layer": (lambda s, h, y: (h @ s.z.abs()).sum(-1), ONE),
    "signs through a squared layer": (lambda s, h, y: (h @ s.z**2).sum(-1), HALF),
    "signs through two positive layers": (lambda s, h, y: ((h @ s.z.abs()) @ s.z.abs().t()).mean(-1), HALF),
    "the mean beside signs": (lambda s, h, y: (h.mean(-1, keepdim=True) * h).sum(-1), ZERO),
    # along one of two growing axes
    "signs within heads": (lambda s, h, y: (heads(s, h) * heads(s, y)).sum(-1), F(1, 4)),
    "one sign a head": (
        lambda s, h, y: ((heads(s, h) * s.c).sum(-1, keepdim=True) * heads(s, y) ** 2).sum(-1),
        F(3, 4),
    ),
    "signs of a contraction": (lambda s, h, y: torch.einsum("bi,bj->bj", h, y.relu()).mean(-1), HALF),
    "signs along the other axis": (
        lambda s, h, y: (h[:, None] * y.relu()[:, :, None]).sum(1).square().mean(-1),
        ONE * 2,
    ),
    "signs of a matrix of values": (
        lambda s, h, y: ((h.t() @ y) * h[0, :, None].relu()).sum(0).square().mean(-1),
        ONE * 2,
    ),
    "signs of what meets it": (
        lambda s, h, y: (h[:, None] @ (h.t() @ y).expand(BATCH, -1, -1)).square().mean((-1, -2)),
        ONE * 2,
    ),
    # samples that grow in number share the signs of the weight that they meet
    "samples": (lambda s, h, y: (s.samples @ s.w).sum(0), ONE),
    "rows looked up again and again": (lambda s, h, y: s.e[s.index].sum(0), ONE),
    "positions of a convolution": (
        lambda s, h, y: nn.functional.conv1d(s.samples.t()[None], s.w.t()[:, :, None]).sum(-1),
        ONE,
    ),
}


#: Name -> (the sum, a bound of its order, its order).  Which of several growing axes signs run along is not kept.
BOUNDS: dict[str, tuple[Callable, Fraction, Fraction]] = {
    "signs of an outer product": (lambda s, h, y: (h[:, :, None] * y.relu()[:, None]).sum(1).mean(-1), ONE, HALF),
    "signs of heads": (
        lambda s, h, y: ((heads(s, h) * s.c).sum(-1, keepdim=True) * heads(s, y) ** 2).sum((1, 2)),
        F(5, 4),
        ONE,
    ),
    "signs of a growing sample": (lambda s, h, y: (s.samples @ s.w).sum(1).mean(0), ONE, HALF),
}


def predicted(program: Program) -> Fact:
    orders = {weight.name: WeightOrders(A[weight.name], None) for weight in program.weights}
    return propagate(lower(program), orders, backward=False)[program.outputs[0][1]]


def measured(build: Callable) -> float:
    sizes = []
    for n in WIDTHS:
        runs = []
        for seed in range(SEEDS if n < 1000 else SEEDS // 2):
            torch.manual_seed(seed)
            net, inputs = build(n)
            with torch.no_grad():
                runs.append(net(*inputs).square().mean().sqrt().item())
        sizes.append(np.mean(runs))
    return np.polyfit(np.log(WIDTHS), np.log(sizes), 1)[0]


@pytest.mark.parametrize("name", SUMS)
def test_sums_cancel_where_the_law_says(name):
    terms, order = SUMS[name]
    assert predicted(tpcalc.trace(factory(terms), WIDTHS)).init == order
    assert measured(factory(terms)) == pytest.approx(float(order), abs=TOLERANCE)


@pytest.mark.parametrize("name", BOUNDS)
def test_sums_that_cancel_more_than_the_law_says(name):
    terms, bound, order = BOUNDS[name]
    assert predicted(tpcalc.trace(factory(terms), WIDTHS)).init == bound
    assert measured(factory(terms)) == pytest.approx(float(order), abs=TOLERANCE)


def test_what_is_repeated_is_a_view_of_its_own():
    """Broadcasting along growing axes is made explicit; along finite ones, and of numbers, it repeats no sign."""

    def structures(terms) -> list:
        lowered = lower(tpcalc.trace(factory(terms), WIDTHS))
        return [atom.structure for atom in lowered.atoms[: lowered.forward]]

    def repeated(terms) -> int:
        return sum(isinstance(s, (View, Gather)) and s.repeated for s in structures(terms))

    assert repeated(lambda s, h, y: h * y + s.r + number(s, y)) == 0
    assert repeated(lambda s, h, y: h[:, None] * y[:, :, None]) == 2
    assert repeated(lambda s, h, y: s.samples[:, :1] + h[:1]) == 2
    assert repeated(lambda s, h, y: h[:, None].expand(-1, h.shape[1], -1)) == 1
    assert repeated(lambda s, h, y: h[:, None].expand(-1, 3, -1)) == 0
    assert repeated(lambda s, h, y: number(s, h).expand(-1, h.shape[1])) == 1
    assert repeated(lambda s, h, y: s.e[s.index]) == 1 and repeated(lambda s, h, y: s.e[s.index[:3]]) == 0
    assert {Sum, Product} <= {type(s) for s in structures(lambda s, h, y: h[:, None] * y[:, :, None] + h[:, None])}


def test_the_axes_of_parts_of_an_op_are_known():
    """What softmax's backward sums over a growing axis is a number of each row."""
    lowered = lower(tpcalc.trace(factory(lambda s, h, y: ((h @ s.z).softmax(-1) * y).sum(-1)), WIDTHS))
    program = lowered.program
    (backward,) = (node for node in program.nodes if "softmax_backward" in node.op)
    parts = {atom.out: atom.structure for atom in lowered.atoms if atom.node == backward.index}
    finite = {type(parts[vid]).__name__ for vid in parts if vid in lowered.finite}
    growing = {type(parts[vid]).__name__ for vid in parts if vid not in lowered.finite}
    assert (finite, growing) == ({"Reduce"}, {"Product", "Sum"})
