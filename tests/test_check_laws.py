"""Corners of the laws that no model above reaches, found by ``benchmarks/mutate.py``."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tpcalc.order import HALF, MINUS_INFINITY, ONE, ZERO
from tpcalc.propagate import FULL, LAWS, Fact, WeightOrders, weight_fact
from tpcalc.rules.structures import (
    Bounded,
    Contract,
    Discrete,
    Exp,
    Guard,
    LinearLike,
    Log,
    Normalise,
    Power,
    Product,
    Reduce,
    Scale,
    Softmax,
    Structure,
    Sum,
)


def law(structure: Structure, *facts: Fact) -> Fact:
    """The law of a structure whose operands are numbered from 0."""
    return LAWS[type(structure)](structure, dict(enumerate(facts)), FULL)


ORDERS = [MINUS_INFINITY, -ONE, ZERO, HALF]


@pytest.mark.parametrize("init", ORDERS)
@pytest.mark.parametrize("trained", ORDERS)
def test_a_guard_stands_for_zero_only(init, trained):
    fact = law(Guard(0), Fact(init, trained, MINUS_INFINITY, 1, data=True))
    assert fact.init == (ZERO if init is MINUS_INFINITY else init)
    assert fact.trained == (ZERO if trained is MINUS_INFINITY else trained)


def weight(bit: int) -> Fact:
    return weight_fact(bit, WeightOrders(HALF, ONE))


def test_a_sum_of_weights_is_a_weight_and_with_data_is_not():
    value = Fact(ZERO, ZERO, ZERO, 0b100, 0b100, 0, 0, False, True)
    assert law(Sum((0, 1)), weight(0), weight(1)).weight == 0b11
    assert law(Sum((0, 1)), weight(0), value).weight == 0
    assert law(Sum((0, 1)), weight(0), Fact(MINUS_INFINITY, MINUS_INFINITY, MINUS_INFINITY)).weight == 0b1


def test_a_sum_keeps_a_parity_that_all_share():
    odd, even, mixed = (Fact(ZERO, ZERO, ZERO, 1, o, m, 0, False, True) for o, m in ((1, 0), (0, 0), (0, 1)))
    assert (law(Sum((0, 1)), odd, odd).odd, law(Sum((0, 1)), odd, odd).mixed) == (1, 0)
    assert (law(Sum((0, 1)), even, even).odd, law(Sum((0, 1)), even, even).mixed) == (0, 0)
    for pair in ((odd, even), (odd, mixed), (even, mixed)):
        assert (law(Sum((0, 1)), *pair).odd, law(Sum((0, 1)), *pair).mixed) == (0, 1)
    still = Fact(MINUS_INFINITY, ZERO, ZERO, 1, 0, 1, 0, False, True)  # zero at init, without parity after
    assert (law(Sum((0, 1)), odd, still).odd, law(Sum((0, 1)), odd, still).mixed) == (0, 1)


def test_orders_of_a_sum():
    small = Fact(Fraction(-1), Fraction(-1), Fraction(-2))
    large = Fact(HALF, ONE, ONE)
    assert law(Sum((0, 1)), small, large)[:3] == (HALF, ONE, ONE)
    assert law(Sum(()))[:3] == (MINUS_INFINITY,) * 3


def value(bits: int = 0, odd: int = 0) -> Fact:
    return Fact(ZERO, ZERO, ZERO, bits, odd, 0, 0, False, True)


def test_two_weights_meet():
    """B A of two adapters is again a random weight; of one with itself all terms add up."""
    contract = Contract(0, 1, ONE, ONE, ONE)
    merged = law(contract, weight(0), weight(1))
    assert merged.init == -ONE + HALF and merged.weight == 0b11 and merged.depends == 0b11
    assert law(contract, weight(0), weight(0)).init == -ONE + ONE
    assert law(contract, weight(0), value()).weight == 0
    assert law(contract, value(), weight(0)).weight == 0


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("rest, spread", [(ONE, HALF), (ZERO, ONE), (HALF, Fraction(3, 4)), (Fraction(2), HALF)])
def test_a_weight_meets_a_value_that_depends_on_it(swap, rest, spread):
    def meet(other: Fact) -> Fact:
        return (
            law(Contract(1, 0, ONE, ZERO, rest), weight(0), other)
            if swap
            else law(Contract(0, 1, ONE, rest, ZERO), weight(0), other)
        )

    assert meet(value(0b1)).init == -HALF + spread  # law 2
    assert meet(value(0b10)).init == -HALF + HALF  # law 1
    moved = meet(value(0b10)._replace(change=Fraction(3), trained=Fraction(3)))
    assert moved.change == Fraction(3) - HALF + spread and moved.trained == moved.change
    assert meet(value(0b10)._replace(change=MINUS_INFINITY)).change == -ONE + ONE  # law 3


@pytest.mark.parametrize("odd, spread", [(0b1, HALF), (0, ONE)])
def test_two_values_meet(odd, spread):
    met = law(Contract(0, 1, ONE, ONE, ONE), value(0b1, odd), value(0b10))
    assert met.init == spread and met.change == ONE and met.data
    assert met.depends == 0b11 and met.odd == odd


# -- one value in, one value out: orders as a table ------------------------------------------------

SMALL = Fact(-ONE, -HALF, -HALF, 0b11, 0b01, 0b10, 0, False, True)
"""Starts at n^-1, ends at n^-1/2; odd in weight 0, without parity in weight 1."""
LARGE = Fact(HALF, ONE, ONE, 0b11, 0b01, 0b10, 0, False, True)
PLAIN = Fact(ZERO, ZERO, -ONE, 0b11, 0b01, 0b10, 0, False, True)
STILL = Fact(ZERO, ZERO, MINUS_INFINITY, 0b1, 0b1, 0, 0, False, True)
ABSENT = Fact(MINUS_INFINITY, ZERO, ZERO, 0b1, 0b1, 0, 0, False, True)
OO = MINUS_INFINITY

TABLE = [
    (Scale(0, HALF), SMALL, (-HALF, ZERO, ZERO)),
    (Scale(0, OO), SMALL, (OO, OO, OO)),
    (Reduce(0, ONE), PLAIN, (HALF, HALF, ZERO)),
    (Reduce(0, ONE), PLAIN._replace(odd=0), (ONE, ONE, ZERO)),
    (Reduce(0, ONE), SMALL, (-HALF, HALF, HALF)),
    (Power(0, Fraction(2)), PLAIN, (ZERO, ZERO, -ONE)),
    (Power(0, Fraction(2)), LARGE._replace(change=ZERO), (ONE, Fraction(2), HALF)),
    (Power(0, Fraction(2)), LARGE, (ONE, Fraction(2), Fraction(2))),
    (Power(0, -ONE), SMALL, (ONE, HALF, ONE)),
    (Power(0, ONE), LARGE, (HALF, ONE, ONE)),
    (Power(0, Fraction(2)), STILL, (ZERO, ZERO, OO)),
    (Power(0, Fraction(2)), ABSENT, (OO, ZERO, ZERO)),
    (Power(0, -ONE), ABSENT, (ZERO, ZERO, ZERO)),
    (LinearLike(0), SMALL, (-ONE, -HALF, -HALF)),
    (LinearLike(0, True), SMALL, (ZERO, ZERO, -HALF)),
    (LinearLike(0, True), LARGE, (HALF, ONE, ONE)),
    (Bounded(0, True), SMALL, (-ONE, -HALF, -HALF)),
    (Bounded(0, True), LARGE, (ZERO, ZERO, ZERO)),
    (Bounded(0, False), SMALL, (ZERO, ZERO, -HALF)),
    (Bounded(0, False), LARGE, (ZERO, ZERO, ZERO)),
    (Exp(0), SMALL, (ZERO, ZERO, -HALF)),
    (Exp(0), LARGE, (ZERO, ZERO, ZERO)),
    (Log(0), SMALL, (ZERO, ZERO, ZERO)),
    (Log(0), PLAIN, (ZERO, ZERO, -ONE)),
    (Log(0), LARGE._replace(change=ZERO), (ZERO, ZERO, -HALF)),
    (Log(0), STILL, (ZERO, ZERO, OO)),
    (Softmax(0, ONE), PLAIN, (-ONE, -ONE, Fraction(-2))),
    (Softmax(0, ONE), LARGE, (-ONE, -ONE, -ONE)),
    (Softmax(0, ONE, log=True), LARGE, (HALF, ONE, ONE)),
    (Softmax(0, ONE, log=True), SMALL, (ZERO, ZERO, -HALF)),
    (Normalise(0, ZERO), SMALL, (ZERO, ZERO, ZERO)),
    (Normalise(0, -HALF), PLAIN, (-HALF, -HALF, Fraction(-3, 2))),
    (Normalise(0, ZERO), LARGE._replace(change=ZERO), (ZERO, ZERO, -HALF)),
    (Normalise(0, ZERO), STILL, (ZERO, ZERO, OO)),
    (Normalise(0, HALF), ABSENT, (OO, HALF, HALF)),
    (Discrete((0,)), PLAIN, (ZERO, ZERO, -ONE)),
    (Discrete((0,)), LARGE, (ZERO, ZERO, ZERO)),
    (Discrete((0,)), LARGE._replace(change=ZERO), (ZERO, ZERO, -HALF)),
    (Discrete((0,)), ABSENT, (ZERO, ZERO, ZERO)),
    (Discrete((0,)), STILL, (ZERO, ZERO, OO)),
]


@pytest.mark.parametrize("structure, fact, orders", TABLE)
def test_orders(structure, fact, orders):
    assert law(structure, fact)[:3] == orders


@pytest.mark.parametrize(
    "structure, odd, mixed",
    [
        (Power(0, ONE, "odd"), 0b01, 0b10),
        (Power(0, ONE, "even"), 0, 0b10),
        (Power(0, ONE), 0, 0b11),
        (Discrete((0,)), 0, 0b11),
        (Bounded(0, True, "odd"), 0b01, 0b10),
        (Exp(0), 0, 0b11),
    ],
)
def test_parity_of_functions(structure, odd, mixed):
    fact = law(structure, PLAIN)
    assert (fact.depends, fact.odd, fact.mixed, fact.data) == (0b11, odd, mixed, True)


@pytest.mark.parametrize("structure", [Exp(0), Softmax(0, ONE), Bounded(0, False)])
def test_a_function_of_what_vanishes_is_a_constant(structure):
    assert law(structure, SMALL).depends == 0 and law(structure, PLAIN).depends == 0b11


def test_discrete_functions_of_several_values():
    other = Fact(ZERO, ZERO, -HALF, 0b100, 0b100, 0, 0, False, False)
    fact = law(Discrete((0, 1)), PLAIN, other)
    assert (fact.depends, fact.mixed, fact.change, fact.data) == (0b111, 0b111, -HALF, True)


def test_products():
    fact = law(Product(0, 1), SMALL, LARGE)
    assert fact[:3] == (-HALF, HALF, max(-HALF + ONE, -ONE + ONE))
    assert law(Product(0, 1), LARGE, SMALL).change == max(ONE - HALF, HALF - HALF)
    assert law(Product(0, 1), STILL, LARGE).change == ONE and law(Product(0, 1), LARGE, STILL).change == ONE
    assert (fact.depends, fact.odd, fact.mixed) == (0b11, 0, 0b10)
    mask = Fact(ZERO, ZERO, MINUS_INFINITY)
    assert law(Product(0, 1), weight(0), mask).weight == 0b1 == law(Product(0, 1), mask, weight(0)).weight
    assert law(Product(0, 1), weight(0), PLAIN).weight == 0 == law(Product(0, 1), PLAIN, weight(0)).weight


def test_norms_of_weights_are_weights():
    assert law(Normalise(0, ZERO), weight(0)).weight == 0b1 and law(Normalise(0, ZERO), PLAIN).weight == 0


@pytest.mark.parametrize(
    "alignment, on_change, on_update", [("full", HALF, ONE), ("none", HALF, HALF), ("omega", HALF, ONE)]
)
def test_alignments(alignment, on_change, on_update):
    from tpcalc.propagate import ALIGNMENTS

    assumed = ALIGNMENTS[alignment]
    assert assumed.initial_on_change(ONE, ONE) == on_change
    assert assumed.weight_change(ONE) == assumed.values(ONE) == on_update


def test_a_change_larger_than_the_init_counts():
    fact = weight_fact(2, WeightOrders(ONE, HALF))
    assert fact[:3] == (-ONE, -HALF, -HALF) and fact.depends == fact.odd == fact.weight == 0b100
    gain = weight_fact(1, WeightOrders(None, None, random=False))
    assert gain[:3] == (OO, OO, OO) and (gain.odd, gain.mixed, gain.weight) == (0, 0b10, 0b10)


def test_what_remains_of_a_contraction():
    contract = Contract(0, 1, ONE, ONE, ONE)
    held = law(contract, weight_fact(0, WeightOrders(HALF, None)), STILL._replace(depends=0b10))
    assert held[:3] == (ZERO, ZERO, OO)  # nothing moves: what there was remains
    fades = Fact(ONE, ZERO, ONE, 0b10, 0b10, 0, 0, False, True)
    assert law(contract, weight(0), fades).trained == ZERO == law(contract, fades, weight(0)).trained
    assert law(Reduce(0, ONE), fades._replace(odd=0)).trained == ONE
    lopsided = Contract(0, 1, ONE, ONE, ZERO)
    assert law(lopsided, weight(0), fades).trained == ZERO
    assert law(contract, PLAIN, LARGE).change == ONE + ONE
    fast = weight_fact(0, WeightOrders(Fraction(2), Fraction(-1)))
    moving = Fact(OO, ZERO, ZERO, 0, 0, 0, 0, False, True)
    assert law(Contract(0, 1, ONE, ONE, ONE), fast, moving).change == ONE + ONE


def test_more_orders():
    assert law(Power(0, Fraction(3)), LARGE._replace(change=ZERO)).change == ONE
    assert law(Normalise(0, ZERO), Fact(ZERO, OO, ZERO))[1] is OO
    assert law(Log(0), ABSENT).change == ZERO == law(Log(0), Fact(OO, ZERO, ZERO, data=True)).change
    assert law(Discrete((0, 1)), PLAIN._replace(change=-HALF), PLAIN).change == -HALF
    assert law(Product(0, 1), PLAIN, PLAIN._replace(odd=0b10, mixed=0b01)).mixed == 0b11
    assert law(Product(0, 1), PLAIN, PLAIN._replace(odd=0b10, mixed=0b01)).odd == 0
    assert weight_fact(0, WeightOrders(HALF, ONE)).trained == -HALF
    assert weight_fact(0, WeightOrders(HALF, ONE, random=False)).trained == -HALF
    assert weight_fact(0, WeightOrders(ONE, HALF, random=False)).trained == -HALF


@pytest.mark.parametrize("K", [HALF, ONE, Fraction(2)])
def test_alignment_counts_growth(K):
    from tpcalc.propagate import NONE, OMEGA

    assert OMEGA.initial_on_change(K, ZERO) == K / 2 and OMEGA.weight_change(K) == K and NONE.values(K) == K / 2
