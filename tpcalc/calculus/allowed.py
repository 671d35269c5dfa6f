"""By how much an operand may change: each law, read backwards and solved for the change of its operands.

The init is given and fixed.  A little more would change the result by more than it may.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

from tpcalc.algebra.order import MINUS_INFINITY, ONE, ZERO, Order, max_order
from tpcalc.calculus.alignment import Alignment
from tpcalc.calculus.facts import Facts, on_change, roles
from tpcalc.calculus.limits import NORM, STREAM, limits
from tpcalc.calculus.reading import Id, Reading, back
from tpcalc.lower.lowered import Lowered
from tpcalc.rules import structures as st
from tpcalc.rules.structures import Atom


class Allowance:
    """The state of one pass: ``most`` is value -> the largest order by which it may change, where that is limited."""

    def __init__(self, facts: Facts, alignment: Alignment) -> None:
        self.facts = facts
        self.alignment = alignment
        self.most: dict[int, Order] = {}

    def asked_of(self, atom: Atom) -> tuple[Optional[Order], ...]:
        return (self.most.get(atom.out),)

    def limit(self, vid: Id, order: Order) -> None:
        self.most[vid] = min(order, self.most.get(vid, order))

    def past(self, vid: Id, most: Order, met: Order) -> None:
        """What is multiplied by something of order ``met``."""
        if met is not MINUS_INFINITY:
            self.limit(vid, most - met)

    def relative(self, vid: Id, most: Order) -> None:
        """What counts relative to its size at init."""
        init = self.facts[vid].init
        if init is not MINUS_INFINITY:
            self.limit(vid, init + most)


ALLOWED: Reading[Callable[[Any, Any, Allowance, Atom], None]] = Reading("allowed", "by how much may an operand change?")

ALLOWED.silent(st.Known, why="it has no operand")
ALLOWED.silent(st.Discrete, st.Slope, why="no gradient passes: no update makes it change")


@ALLOWED.law(st.View, st.Centre, st.Guard, st.Gather, st.LinearLike)
def passes(s: Any, most: Order, state: Allowance, atom: Atom) -> None:
    state.limit(s.x, most)


@ALLOWED.law(st.Bounded, st.Exp)
def bounded(s: Any, most: Order, state: Allowance, atom: Atom) -> None:
    if most < ZERO:
        state.limit(s.x, most)


@ALLOWED.law(st.Softmax)
def softmax(s: st.Softmax, most: Order, state: Allowance, atom: Atom) -> None:
    if s.log:
        state.limit(s.x, most)
    elif most + s.growth < ZERO:
        state.limit(s.x, most + s.growth)


@ALLOWED.law(st.Log)
def logarithm(s: st.Log, most: Order, state: Allowance, atom: Atom) -> None:
    if most < ZERO:
        state.relative(s.x, most)


@ALLOWED.law(st.Normalise, unasked=True)
def normalise(s: st.Normalise, most: Optional[Order], state: Allowance, atom: Atom) -> None:
    """More than its own size is no update but another value."""
    state.relative(s.x, ZERO if most is None else min(most - s.shift, ZERO))


@ALLOWED.law(st.Scale)
def scale(s: st.Scale, most: Order, state: Allowance, atom: Atom) -> None:
    state.past(s.x, most, s.order)


@ALLOWED.law(st.Sum)
def total(s: st.Sum, most: Order, state: Allowance, atom: Atom) -> None:
    for x in s.xs:
        state.limit(x, most)


@ALLOWED.law(st.Reduce, st.Repeat)
def reduce(s: Any, most: Order, state: Allowance, atom: Atom) -> None:
    state.limit(s.x, most - state.alignment.values(s.K))


@ALLOWED.law(st.Power)
def power(s: st.Power, most: Order, state: Allowance, atom: Atom) -> None:
    """The mean-value law; what starts at zero changes by as much as it becomes."""
    init = state.facts[s.x].init
    if s.k == ONE:
        state.limit(s.x, most)
    elif init is not MINUS_INFINITY:
        state.limit(s.x, min(most - (s.k - 1) * init, init))
    elif s.k > 0:
        state.limit(s.x, most / s.k)


@ALLOWED.law(st.Product)
def product(s: st.Product, most: Order, state: Allowance, atom: Atom) -> None:
    for x, y in ((s.x, s.y), (s.y, s.x)):
        state.past(x, most, state.facts[y].trained)


@ALLOWED.law(st.Contract)
def contract(s: st.Contract, most: Order, state: Allowance, atom: Atom) -> None:
    facts = state.facts
    x_weight, y_weight = roles(s, facts[s.x], facts[s.y])
    for x, y, other_weight, rest in ((s.x, s.y, y_weight, s.rest_y), (s.y, s.x, x_weight, s.rest_x)):
        if other_weight and facts[y].init is not MINUS_INFINITY:  # law 2, of two weights with what the other one leaves
            moved = facts[y].change + state.alignment.weight_change(s.K) if x_weight and y_weight else MINUS_INFINITY
            by_init = facts[y].init + on_change(state.alignment, s.K, rest, facts[y])
            state.past(x, most, max_order(by_init, moved))
        else:  # laws 3 and 4
            state.past(x, most, facts[y].trained + state.alignment.values(s.K))


ALLOWED.complete()


def allowed_changes(lowered: Lowered, facts: Facts, alignment: Alignment) -> dict[int, Order]:
    """Value id -> the largest order by which it may change; a value that nothing limits is left out."""
    state = Allowance(facts, alignment)
    for limit in limits(lowered, facts, but=(NORM, STREAM)):
        state.limit(limit.value, ZERO)
    back(ALLOWED, lowered, state)
    return state.most


__all__ = ["ALLOWED", "Allowance", "allowed_changes"]
