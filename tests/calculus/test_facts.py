"""What facts say of themselves, and what several laws share, by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tpcalc.algebra.fan import generic
from tpcalc.algebra.form import Compass
from tpcalc.algebra.order import HALF, MINUS_INFINITY, ONE, ZERO
from tpcalc.algebra.scales import Scale
from tpcalc.algebra.size import Size
from tpcalc.calculus.alignment import FULL
from tpcalc.calculus.facts import (
    Fact,
    Given,
    constant,
    fixed,
    function_of,
    given_operand,
    made_here,
    mean_of_product,
    mixes,
    modulated,
    on_change,
    own_of_product,
    shares,
    spread,
)
from tpcalc.lower.lowered import Lowered
from tpcalc.rules.structures import Contract, Sizes

OO, QUARTER, EIGHTH, TWO = MINUS_INFINITY, Fraction(1, 4), Fraction(1, 8), ONE * 2


@pytest.mark.parametrize(
    "fresh, own, here, update", [(None, None, -HALF, -HALF), (ZERO, ZERO, -HALF, ZERO), (-ONE, -TWO, -ONE, -TWO)]
)
def test_parts_of_a_change(fresh, own, here, update):
    """What this period makes is a part of the change, and so no more than that."""
    fact = Fact(ZERO, ONE, -HALF, fresh=fresh, own=own)
    assert (fact.made_here, fact.update) == (here, update)


def test_a_constant_is_what_neither_weights_nor_inputs_enter():
    assert constant(ZERO).is_constant
    for entering in ({"weight": 1}, {"depends": 1}, {"apart": 1}, {"data": True}):
        assert not constant(ZERO)._replace(**entering).is_constant


def test_a_constant_shifts_every_order_and_nothing_else():
    fact = Fact(-ONE, -HALF, -QUARTER, 1, 1, 2, 4, True, True, 8, -TWO, 16, -ONE * 3, True, -ONE * 4, -ONE * 5)
    assert fact.shifted(ONE) == Fact(
        ZERO, HALF, HALF + QUARTER, 1, 1, 2, 4, True, True, 8, -ONE, 16, -TWO, True, -ONE * 3, -ONE * 4
    )
    bare = Fact(-ONE, -HALF, -QUARTER).shifted(ONE)
    assert (bare.deviation, bare.own, bare.fresh, bare.mean) == (None, None, None, OO)


def test_numbers_that_act_as_a_weight():
    assert fixed(-HALF, 0b100, True) == Fact(-HALF, -HALF, OO, 0b100, 0b100, 0, 0b100)
    assert fixed(-HALF, 0b100, False) == Fact(-HALF, -HALF, OO, 0b100, 0, 0b100, 0b100)
    assert fixed(-HALF, 0, True) == Fact(-HALF, -HALF, OO, mean=-HALF)
    assert fixed(OO, 0b100, True) == Fact(OO, OO, OO)  # zeros are no weight


def test_the_fresh_part_of_a_result():
    stream, made = Fact(ZERO, ZERO, ZERO, fresh=OO), Fact(ZERO, ZERO, -HALF)
    assert made_here((made, ONE), (made, ZERO)) is None
    assert made_here((stream, ONE), (made, QUARTER)) == -QUARTER
    assert made_here((stream, ONE), (made, -QUARTER)) == -HALF - QUARTER


@pytest.mark.parametrize(
    "mean, rest, shared",
    [
        (ZERO, ZERO, True),  # all of it
        (ZERO, -ONE, True),  # ... over whatever is picked
        (-QUARTER, ZERO, False),
        (-QUARTER, HALF, False),  # as large as what the entries add up to
        (-QUARTER, Fraction(5, 8), True),
        (-QUARTER, ONE, True),
        (OO, ONE, False),
    ],
)
def test_a_mean_is_seen_where_the_entries_cancel_to_less(mean, rest, shared):
    assert shares(Fact(-HALF, ONE, ONE, 1, 1, 0, 1, mean=mean - HALF), rest) == shared


def of(x: Fact, change=-HALF, parity="none", smooth=False, init=-QUARTER) -> Fact:
    return function_of(x, init, ZERO, change, parity, -TWO, smooth)


MOVING = Fact(-ONE, ONE, -ONE, 0b11, 0b01, 0b10, 0b11)


def test_what_a_function_keeps():
    row = MOVING._replace(coarse=True, apart=4)
    assert of(row) == Fact(
        -QUARTER, ZERO, -HALF, 0b11, 0, 0b11, 0b11, deviation=-TWO, apart=4, mean=-QUARTER, coarse=True
    )
    assert of(row._replace(data=True)) == Fact(
        -QUARTER, ZERO, -HALF, 0b11, 0, 0b11, data=True, deviation=-TWO, apart=4, coarse=True
    )


def test_parts_of_a_change_grow_as_the_change_does():
    """From n^-1 to n^-1/2: by n^1/2.  A fresh part is no more than the change."""
    assert of(MOVING._replace(fresh=-TWO)).fresh == -TWO + HALF
    assert of(MOVING._replace(fresh=ZERO)).fresh == -HALF
    assert of(MOVING._replace(own=-TWO)).own == -TWO + HALF
    assert of(MOVING._replace(own=-TWO, data=True)).own is None
    still = MOVING._replace(change=OO, fresh=-TWO, own=OO)
    assert (of(still, OO).fresh, of(still, OO).own) == (None, OO)
    assert (of(MOVING).fresh, of(MOVING).own) == (None, None)


@pytest.mark.parametrize(
    "x, parity, smooth, init, mean",
    [
        # an odd function passes it on, as far as it makes the entries larger
        (MOVING._replace(mean=-TWO), "odd", True, -QUARTER, -TWO + ONE - QUARTER),
        (MOVING, "odd", True, -QUARTER, OO),
        # x + x^2: the mean of either
        (MOVING._replace(mean=-Fraction(3, 2)), "none", True, -QUARTER, -Fraction(3, 2)),
        (MOVING, "none", True, -QUARTER, -TWO),
        (MOVING._replace(mean=ZERO), "none", True, -QUARTER, -QUARTER),
        # f(0), or as large as the entries
        (MOVING, "none", False, -QUARTER, -QUARTER),
        (MOVING._replace(init=ZERO), "none", True, -QUARTER, -QUARTER),
        (MOVING._replace(init=ZERO), "even", True, -QUARTER, -QUARTER),
        # of zero, and zero itself
        (MOVING._replace(init=OO), "odd", True, -QUARTER, -QUARTER),
        (MOVING, "odd", True, OO, OO),
    ],
)
def test_the_mean_of_a_function(x, parity, smooth, init, mean):
    assert of(x, parity=parity, smooth=smooth, init=init).mean == mean


# -- products --------------------------------------------------------------------------------------

MATRIX = Fact(-HALF, ONE, -ONE, 1, 1, 0, 0b11)
NUMBER = Fact(-QUARTER, -EIGHTH, -TWO, data=True, coarse=True)


def test_a_weight_times_a_number_of_the_data_for_many_entries_is_still_random():
    assert modulated(MATRIX, NUMBER) == 0b11
    for w, by in (
        (MATRIX._replace(weight=0), NUMBER),
        (MATRIX._replace(data=True), NUMBER),
        (MATRIX._replace(coarse=True), NUMBER),
        (MATRIX, NUMBER._replace(data=False)),
        (MATRIX, NUMBER._replace(weight=1)),
        (MATRIX, NUMBER._replace(coarse=False)),
    ):
        assert modulated(w, by) == 0


@pytest.mark.parametrize(
    "x_coarse, y_coarse, own",
    [
        (False, True, -ONE - EIGHTH),  # the numbers move its init along
        (True, False, -TWO + ONE),
        (True, True, -TWO + ONE),  # of like factors each moves the other
        (False, False, -TWO + ONE),
    ],
)
def test_what_is_its_own_of_the_change_of_a_product(x_coarse, y_coarse, own):
    x, y = MATRIX._replace(coarse=x_coarse), NUMBER._replace(coarse=y_coarse)
    assert own_of_product(x, y) == own_of_product(y, x) == own


def test_the_larger_own_part_counts():
    x, y = MATRIX._replace(own=-ONE * 3), MATRIX._replace(trained=ZERO)
    assert own_of_product(x, y) == own_of_product(y, x) == ZERO


MEANT = MATRIX._replace(mean=-ONE * 3)


@pytest.mark.parametrize(
    "x, y, mean",
    [
        (MEANT, MEANT._replace(depends=2, mean=-ONE), -ONE * 4),  # independent: the product of means
        (MEANT, NUMBER, -ONE * 3 - QUARTER),
        (MEANT, NUMBER._replace(coarse=False), -ONE * 3 - QUARTER),
        (MEANT, NUMBER._replace(data=False), -ONE * 3 - QUARTER),
        (MEANT, MEANT, -ONE),  # a square
        (MEANT, MEANT._replace(coarse=True), -ONE * 3 - HALF),
        (MATRIX, MEANT._replace(depends=2), OO),
    ],
)
def test_the_mean_of_a_product(x, y, mean):
    assert mean_of_product(x, y, False) == mean_of_product(y, x, False) == mean
    assert mean_of_product(x, y, True) is OO


def test_what_a_mean_sums_up_of_a_value():
    """A weight of ones on a value: K/2 where its signs cancel, else K."""
    ones, signs = Fact(-HALF, -HALF, OO, 1, 1, 0, 1, mean=-HALF, deviation=-TWO), Fact(ZERO, ZERO, ZERO, 2, 2)
    assert spread(FULL, ONE, ONE, ones, signs) == HALF
    assert spread(FULL, ONE, ONE, ones, signs._replace(odd=0)) == ONE


@pytest.mark.parametrize("mean, grows", [(-HALF - QUARTER, HALF + QUARTER), (-TWO, HALF - EIGHTH), (OO, HALF)])
def test_a_mean_adds_up_whatever_it_meets(mean, grows):
    """Of entries whose rest is n^1/8 less than the size: the larger of what the rest and the mean make."""
    w = Fact(-HALF, ONE, ONE, 1, 1, 0, 1, deviation=-HALF - EIGHTH, mean=mean)
    assert on_change(FULL, ONE, ONE, w) == grows


# -- matrices --------------------------------------------------------------------------------------


def test_matrices_are_mixed_by_numbers_over_few():
    """sum_b c_b V_b: over finitely many, of more than a vector each, by what has no other axis."""
    assert mixes(Contract(0, 1, ZERO, TWO, ZERO)) == 0
    assert mixes(Contract(0, 1, ZERO, ZERO, TWO)) == 1
    for K, rest_x, rest_y in (
        (ONE, TWO, ZERO),
        (HALF, ZERO, TWO),
        (ZERO, TWO, ONE),
        (ZERO, ONE, ZERO),
        (ZERO, ONE, TWO),
    ):
        assert mixes(Contract(0, 1, K, rest_x, rest_y)) is None
    assert mixes(Contract(0, 1, ZERO, ONE + QUARTER, ZERO)) == 0


COMPASS = Compass([Scale("width"), Scale("ffn")], generic(2))
WIDTH, FFN = COMPASS.unit(0), COMPASS.unit(1)


@pytest.mark.parametrize(
    "axes, matrices",
    [
        ((WIDTH, FFN), True),
        ((WIDTH,), False),
        ((WIDTH, ZERO), False),  # a few vectors
        ((WIDTH + FFN,), False),  # the entries of all heads: a vector
        ((WIDTH * 2,), True),  # a matrix in one row
    ],
)
def test_what_a_matrix_is_in_several_scales(axes, matrices):
    sizes = Sizes((), rest_x=tuple((Size([(axis, 1)]), 1) for axis in axes))
    assert mixes(Contract(0, 1, ZERO, sum(axes, ZERO), ZERO, sizes=sizes)) == (0 if matrices else None)


@pytest.mark.parametrize("swap", [False, True])
def test_given_numbers_and_the_value_that_they_meet(swap):
    numbers, met = fixed(ZERO, 0b100, True), Fact(ZERO, ZERO, ZERO, data=True)
    lowered = Lowered(None, (), 0, (), fixed=0b100)
    s = Contract(0, 1, ONE, TWO, HALF) if swap else Contract(0, 1, ONE, HALF, TWO)

    def found(weight: Fact, other: Fact):
        return given_operand(s, {0: other, 1: weight} if swap else {0: weight, 1: other}, lowered)

    assert found(numbers, met) == Given(numbers, 0 if swap else 1, ONE, HALF)
    assert found(numbers, MATRIX) is None  # two weights
    assert found(MATRIX, met) is None  # one that trains
    assert found(met, met) is None
    assert found(numbers._replace(gathered=True), MATRIX._replace(gathered=True)) is None  # two values
