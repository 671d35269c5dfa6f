"""How much the update of one operand, a weight or what is made of it, moves the result of an op that it enters.

The others stand still; what the op makes of its size is :mod:`~tpcalc.calculus.laws`' question.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tpcalc.algebra.order import Order, max_order
from tpcalc.calculus.alignment import Alignment
from tpcalc.calculus.facts import Facts
from tpcalc.calculus.reading import Id, Reading
from tpcalc.rules import structures as st

EFFECTS: Reading[Callable[[Any, Id, Order, Facts, Alignment], Order]] = Reading(
    "effects", "how much does the update of one operand move the result?"
)

EFFECTS.silent(st.Known, why="it has no operand")


@EFFECTS.law(
    st.View,
    st.Gather,
    st.Guard,
    st.Centre,
    st.Sum,
    st.Reduce,
    st.Power,
    st.LinearLike,
    st.Bounded,
    st.Slope,
    st.Exp,
    st.Log,
    st.Softmax,
    st.Discrete,
)
def as_much(s: Any, vid: Id, change: Order, facts: Facts, alignment: Alignment) -> Order:
    """As long as weights are of order 0 where a function takes them, as they are in a stable net."""
    return change


@EFFECTS.law(st.Scale)
def scale(s: st.Scale, vid: Id, change: Order, facts: Facts, alignment: Alignment) -> Order:
    return change + s.order


@EFFECTS.law(st.Repeat)
def repeat(s: st.Repeat, vid: Id, change: Order, facts: Facts, alignment: Alignment) -> Order:
    """The updates of all periods together."""
    return change + alignment.values(s.K)


@EFFECTS.law(st.Product)
def product(s: st.Product, vid: Id, change: Order, facts: Facts, alignment: Alignment) -> Order:
    return change + facts[s.y if s.x == vid else s.x].trained


@EFFECTS.law(st.Contract)
def contract(s: st.Contract, vid: Id, change: Order, facts: Facts, alignment: Alignment) -> Order:
    """Law 3."""
    return change + alignment.weight_change(s.K) + facts[s.y if s.x == vid else s.x].trained


@EFFECTS.law(st.Normalise)
def normalise(s: st.Normalise, vid: Id, change: Order, facts: Facts, alignment: Alignment) -> Order:
    return s.shift + change - max_order(facts[vid].init, facts[vid].trained)


EFFECTS.complete()

__all__ = ["EFFECTS"]
