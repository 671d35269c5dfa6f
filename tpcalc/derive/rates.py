"""From effective orders to what an optimizer is told: learning rate, weight decay and epsilon, by its update law."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple, Optional

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order
from tpcalc.calculus.facts import Fact
from tpcalc.calculus.weights import Moment, at_init, gradient_order, growths, trained, weight_view
from tpcalc.derive.solve import Need, Solution
from tpcalc.lower.lowered import Leaf
from tpcalc.optimizers import UpdateLaw, WeightView, finite
from tpcalc.program.ir import Weight

#: The blocks of one weight that an output depends on, with their needs.
Needs = list[tuple[Leaf, Need]]


class Rates(NamedTuple):
    """Of one parameter: lr ~ n^-c, weight decay ~ n^weight_decay, eps ~ n^eps (None: there is none)."""

    c: Order
    weight_decay: Order
    eps: Optional[Order]


def rates(solution: Solution, weight: Weight, law: UpdateLaw, a: Order) -> Rates:
    """The rates of ``weight`` behind a multiplier ``n^-a``.

    One parameter has one of each: the largest learning rate that keeps every block within its budget, and the smallest
    epsilon and decay.  An epsilon below the gradient does no harm, one above it freezes the block, as does decay.  So
    where a few rows have larger gradients than the others, epsilon is that of the others.
    """
    found, facts = solution.needs_of(weight), solution.applied
    c = safe_rate(law, moments(solution, facts, found), a)
    seen = [weight_view(solution.lowered, leaf, facts, need.A).at(a) for leaf, need in found]
    decay = min((law.decay.exponent(view, c) for view in seen), default=ZERO)
    if law.eps is None:
        return Rates(c, decay, None)
    whole = WeightView(gradient_order(weight.grad, facts, trained), ZERO, growths(weight))
    seen += [
        weight_view(solution.lowered, replace(leaf, grad=leaf.bulk), facts, need.A).at(a)
        for leaf, need in found
        if leaf.bulk is not None
    ]
    least = min(seen, key=lambda view: finite(view.gradient), default=whole.at(a))
    return Rates(c, decay, finite(law.eps.exponent(least)))


def views(
    solution: Solution, facts: Mapping[int, Fact], found: Needs, moment: Moment = trained
) -> list[tuple[Need, WeightView]]:
    """What the law sees of each block that has a gradient; a weight is as large as the largest of its blocks."""
    size = min((need.A for _, need in found), default=ZERO)
    pairs = [(need, weight_view(solution.lowered, leaf, facts, size, moment)) for leaf, need in found]
    alive = [pair for pair in pairs if pair[1].gradient is not MINUS_INFINITY]
    return alive or ([] if moment is at_init else pairs)


def moments(solution: Solution, facts: Mapping[int, Fact], found: Needs) -> list[tuple[Need, WeightView]]:
    """What the law sees of each block, after training and at init.

    At init gradients and inputs may be smaller than later, which some laws (K-FAC) turn into larger updates.
    """
    return [*views(solution, facts, found), *views(solution, facts, found, at_init)]


def safe_rate(law: UpdateLaw, seen: Iterable[tuple[Need, WeightView]], a: Order = ZERO) -> Order:
    """The learning rate, ~ n^-c, that keeps each need with what the law has ``seen`` of it, under multiplier n^-a.

    A relative law's rate never grows: an update larger than the weight would make it, and so the next update, grow
    without end.
    """
    c = max((law.c(need.C, view.at(a), a) for need, view in seen), default=-a)
    return max(c, ZERO) if law.relative else c
