"""Corners of the laws that no model above reaches, found by ``benchmarks/mutate.py``."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tpcalc.order import HALF, MINUS_INFINITY, ONE, ZERO
from tpcalc.propagate import FULL, LAWS, Fact, WeightOrders, weight_fact
from tpcalc.rules.structures import Contract, Guard, Structure, Sum


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
