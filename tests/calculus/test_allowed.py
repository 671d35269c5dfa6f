"""By how much operands may change, by hand: single atoms of which the result may change by ``n^-1/2``."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest

from tpcalc.algebra.order import HALF, MINUS_INFINITY, ONE, ZERO
from tpcalc.calculus.alignment import FULL
from tpcalc.calculus.allowed import ALLOWED, Allowance, allowed_changes
from tpcalc.calculus.facts import Fact, WeightOrders, weight_fact
from tpcalc.lower.lowered import Lowered
from tpcalc.rules.structures import Atom, Contract, Normalise, Power, Scale, Structure

OO, QUARTER = MINUS_INFINITY, Fraction(1, 4)
X, Y, OUT = 0, 1, 2


def value(init=ZERO, trained=ZERO, change=ZERO) -> Fact:
    return Fact(init, trained, change, data=True)


def weight(A, C, bit: int = 0) -> Fact:
    return weight_fact(bit, WeightOrders(A, C))


def permitted(structure: Structure, *facts: Fact, most=-HALF) -> dict:
    state = Allowance(dict(enumerate(facts)), FULL)
    ALLOWED.pass_on(Atom(OUT, structure, 0), most, state)
    return state.most


def test_the_least_of_several_limits_holds():
    state = Allowance({}, FULL)
    for order in (ONE, ZERO, HALF):
        state.limit(X, order)
    assert state.most == {X: ZERO}


@pytest.mark.parametrize("most, shift, allowed", [(None, ZERO, ZERO), (HALF, ZERO, ZERO), (-HALF, ZERO, -HALF)])
@pytest.mark.parametrize("init", [ZERO, -QUARTER])
def test_a_norm_counts_changes_relative_to_the_size(most, shift, allowed, init):
    """And more than the size is another value, whatever the result may."""
    assert permitted(Normalise(X, shift), value(init), most=most) == {X: init + allowed}
    assert permitted(Normalise(X, -HALF), value(init), most=-ONE) == {X: init - HALF}


def test_what_starts_at_zero_has_no_size_to_be_relative_to():
    assert permitted(Normalise(X, ZERO), value(OO)) == {}


def test_a_first_power_passes_on_what_is_allowed():
    """Of another power no more than its own size is."""
    assert permitted(Power(X, ONE), value(), most=HALF) == {X: HALF}
    assert permitted(Power(X, ONE * 2), value(), most=HALF) == {X: ZERO}
    assert permitted(Power(X, ONE * 2), value(OO), most=HALF) == {X: QUARTER}


DOT = Contract(X, Y, ONE, ONE, ZERO)
BETWEEN = Contract(X, Y, ONE, ONE, ONE)


def test_a_value_meets_the_init_of_a_weight_and_an_update_meets_the_value():
    """Law 2 for the value, whatever the weight's update is: that is held by its own limit.  Laws 3 and 4 for it."""
    for C in (ONE, ZERO):
        found = permitted(DOT, weight(HALF, C), value(trained=QUARTER))
        assert found == {Y: -HALF + HALF - HALF, X: -HALF - ONE - QUARTER}
    swapped = Contract(X, Y, ONE, ZERO, ONE)
    assert permitted(swapped, value(trained=QUARTER), weight(HALF, ZERO)) == {X: -HALF, Y: -HALF - ONE - QUARTER}


def test_a_value_meets_the_update_of_a_weight_that_starts_at_zero():
    assert permitted(DOT, weight(None, ONE), value()) == {Y: -HALF, X: -HALF - ONE}


def test_of_two_weights_each_has_what_the_other_one_leaves():
    x, y = weight(HALF, QUARTER, 0), weight(ONE, HALF, 1)
    assert permitted(BETWEEN, x, y) == {X: -HALF - ONE + HALF, Y: -HALF - ONE + QUARTER}
    x, y = weight(HALF, ONE, 0), weight(ONE, ONE * 2, 1)
    assert permitted(BETWEEN, x, y) == {X: -HALF - HALF + ONE, Y: -HALF - HALF + HALF}


def test_nothing_limits_what_meets_zeros():
    assert permitted(DOT, weight(HALF, ONE), value(OO, OO, OO)) == {Y: -HALF}


def test_outputs_are_held_at_order_0_and_what_makes_them_follows():
    program: Any = SimpleNamespace(results=(OUT,))
    lowered = Lowered(program, (Atom(OUT, Scale(X, HALF), 0),), 1, ())
    assert allowed_changes(lowered, {X: value(), OUT: value()}, FULL) == {OUT: ZERO, X: -HALF}
