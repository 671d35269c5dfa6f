"""What is asked of a weight beside its value: axes, randomness, orders, and what an update law sees of it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from tests.dynamics.test_training import FEW, GRAD1, GRAD2, HIDDEN, N, X, two_layers
from tpcalc.algebra.order import MINUS_INFINITY, ZERO
from tpcalc.calculus.facts import Fact, WeightOrders
from tpcalc.calculus.weights import (
    at_init,
    at_largest,
    entries,
    gradient_order,
    growths,
    is_random,
    on_outputs,
    trained,
    weight_orders,
    weight_view,
)
from tpcalc.optimizers import WeightView
from tpcalc.program.ir import InitLaw, Weight

OO = MINUS_INFINITY
H, ONE = Fraction(1, 2), Fraction(1)
SMALLER_LATER, LARGER_LATER = Fact(H, ZERO, H), Fact(ZERO, H, H)


def test_axes():
    weight = Weight("W", 0, (N, FEW, N))
    assert growths(weight) == (1, 0, 1) and entries(weight) == 2
    assert growths(two_layers().leaves[1]) == (0, 1)
    assert growths(Weight("number", 0, ())) == () and entries(Weight("number", 0, ())) == 0


@pytest.mark.parametrize(
    "kinds, shape, random",
    [
        ((), (N, N), True),  # unknown: a matrix
        ((), (N,), False),  # unknown: a gain or bias
        (("random",), (N,), True),
        (("constant",), (N, N), False),
        (("unknown", "constant"), (N, N), False),  # the first that says
        (("unknown",), (N,), False),
        (("unknown",), (N, N), True),
        (("unknown", "random"), (N,), True),
        (("random", "constant"), (N,), True),
    ],
)
def test_what_the_init_call_says(kinds, shape, random):
    init = tuple((64 << i, InitLaw(kind)) for i, kind in enumerate(kinds))
    assert is_random(Weight("W", 0, shape, init=init)) is random


def test_orders():
    matrix, gain = Weight("W", 0, (N, N)), Weight("g", 0, (N,))
    assert weight_orders(matrix, H, ONE) == WeightOrders(H, ONE, True)
    assert weight_orders(gain, None, ONE) == WeightOrders(None, ONE, False)
    assert weight_orders(replace(matrix, trainable=False), H, ONE) == WeightOrders(H, None, True)
    assert weight_orders(matrix, H, None, random=False) == WeightOrders(H, None, False)
    assert weight_orders(gain, H, ONE, random=True) == WeightOrders(H, ONE, True)


@pytest.mark.parametrize(
    "moment, earlier, later",
    [(at_init, H, ZERO), (trained, ZERO, H), (at_largest, H, H)],
    ids=["init", "trained", "both"],
)
def test_moments(moment, earlier, later):
    facts = {0: SMALLER_LATER, 1: LARGER_LATER}
    assert (gradient_order(0, facts, moment), gradient_order(1, facts, moment)) == (earlier, later)
    assert gradient_order(None, facts, moment) is OO


def test_a_gradient_is_as_large_as_it_ever_was():
    facts = {0: SMALLER_LATER, 1: LARGER_LATER}
    assert gradient_order(0, facts) == H == gradient_order(1, facts)
    assert gradient_order(None, facts) is OO


def test_what_an_update_law_sees():
    """Of the second layer: its gradient, the features that it contracts; the size is told."""
    lowered, facts = two_layers(), {GRAD2: SMALLER_LATER, HIDDEN: LARGER_LATER, GRAD1: SMALLER_LATER, X: LARGER_LATER}
    first, last = lowered.leaves
    assert weight_view(lowered, last, facts, ONE) == WeightView(ZERO, ONE, (ZERO, ONE), ONE, H)
    assert weight_view(lowered, last, facts, ONE, at_init) == WeightView(H, ONE, (ZERO, ONE), ONE, ZERO)
    assert weight_view(lowered, last, facts, ZERO, at_largest, zero=True) == WeightView(H, ZERO, (0, 1), ONE, H, True)
    assert weight_view(lowered, first, facts, H) == WeightView(ZERO, H, (ONE, ZERO), ZERO, H)


def test_a_block_is_seen_with_its_own_gradient_and_the_axes_of_the_whole():
    lowered = two_layers()
    block = replace(lowered.leaves[1], name="last[0]", shape=(FEW, FEW), grad=None)
    view = weight_view(lowered, block, {HIDDEN: LARGER_LATER}, ONE)
    assert view.gradient is OO and view.axes == (0, 1)


def test_a_weight_that_meets_no_value_has_inputs_of_order_0():
    lowered = replace(two_layers(), atoms=(), forward=0)
    assert weight_view(lowered, lowered.leaves[1], {GRAD2: LARGER_LATER}, ONE).inputs == ZERO


def test_what_an_update_does_to_the_outputs():
    """<gradient, update> over all entries of all periods; of a gradient that is no sum over the batch, by its slope."""
    leaf = replace(two_layers().leaves[1], copies=H)
    facts = {GRAD2: SMALLER_LATER, GRAD1: Fact(ONE * 3, ZERO, ZERO)}
    assert on_outputs(leaf, facts, -ONE / 4) == H - ONE / 4 + ONE + H
    sloped = replace(leaf, weight=replace(leaf.weight, slope=GRAD1))
    assert on_outputs(sloped, facts, -ONE / 4) == 3 - ONE / 4 + ONE + H
    assert on_outputs(replace(leaf, few=H), facts, -ONE / 4) == H - ONE / 4 + ONE  # of ever fewer among its entries
