"""How much the update of one operand, a weight or what is made of it, moves the result of an op that it enters.

The others stand still; what the op makes of its size is :mod:`~tpcalc.calculus.laws`' question.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tpcalc.algebra.order import Order, max_order
from tpcalc.calculus.facts import Alignment, Facts
from tpcalc.calculus.reading import Id, Reading
from tpcalc.rules.structures import (
    Bounded,
    Centre,
    Contract,
    Discrete,
    Exp,
    Gather,
    Guard,
    Known,
    LinearLike,
    Log,
    Normalise,
    Power,
    Product,
    Reduce,
    Scale,
    Slope,
    Softmax,
    Sum,
    View,
)

EFFECTS: Reading[Callable[[Any, Id, Order, Facts, Alignment], Order]] = Reading(
    "effects", "how much does the update of one operand move the result?"
)

EFFECTS.silent(Known, why="it has no operand")


@EFFECTS.law(View, Gather, Guard, Centre, Sum, Reduce, Power, LinearLike, Bounded, Slope, Exp, Log, Softmax, Discrete)
def as_much(s: Any, vid: Id, change: Order, facts: Facts, alignment: Alignment) -> Order:
    """As long as weights are of order 0 where a function takes them, as they are in a stable net."""
    return change


@EFFECTS.law(Scale)
def scale(s: Scale, vid: Id, change: Order, facts: Facts, alignment: Alignment) -> Order:
    return change + s.order


@EFFECTS.law(Product)
def product(s: Product, vid: Id, change: Order, facts: Facts, alignment: Alignment) -> Order:
    return change + facts[s.y if s.x == vid else s.x].trained


@EFFECTS.law(Contract)
def contract(s: Contract, vid: Id, change: Order, facts: Facts, alignment: Alignment) -> Order:
    """Law 3."""
    return change + alignment.weight_change(s.K) + facts[s.y if s.x == vid else s.x].trained


@EFFECTS.law(Normalise)
def normalise(s: Normalise, vid: Id, change: Order, facts: Facts, alignment: Alignment) -> Order:
    return s.shift + change - max_order(facts[vid].init, facts[vid].trained)


EFFECTS.complete()

__all__ = ["EFFECTS"]
