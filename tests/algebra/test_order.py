"""The max-plus semiring of orders."""

from __future__ import annotations

import pickle
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, max_order, order, order_text

rationals = st.fractions(min_value=-8, max_value=8, max_denominator=12)
orders = st.one_of(st.just(MINUS_INFINITY), rationals)


@given(orders, orders, orders)
def test_max_is_a_commutative_idempotent_monoid(x, y, z):
    assert max_order(x, y) == max_order(y, x)
    assert max_order(max_order(x, y), z) == max_order(x, max_order(y, z)) == max_order(x, y, z)
    assert max_order(x, x) == x and max_order(x, MINUS_INFINITY) == x == max_order(x)


@given(orders, orders, orders)
def test_plus_is_a_commutative_monoid(x, y, z):
    assert x + y == y + x and (x + y) + z == x + (y + z) and x + ZERO == x == ZERO + x


@given(orders, orders, orders)
def test_plus_distributes_over_max(x, y, z):
    assert x + max_order(y, z) == max_order(x + y, x + z)


@given(orders)
def test_zero_annihilates(x):
    """The order of a product with zero is that of zero."""
    assert x + MINUS_INFINITY is MINUS_INFINITY and MINUS_INFINITY + x is MINUS_INFINITY
    assert MINUS_INFINITY - x is MINUS_INFINITY


@given(rationals, st.fractions(min_value=Fraction(1, 8), max_value=4))
def test_powers(x, k):
    """The order of |x|^k; a zero has only positive powers."""
    assert (MINUS_INFINITY * k) is MINUS_INFINITY is (k * MINUS_INFINITY)
    for power in (-k, Fraction(0)):
        with pytest.raises(ZeroDivisionError, match="no non-positive power"):
            MINUS_INFINITY * power


@given(orders, orders)
def test_the_order_is_total(x, y):
    assert (x < y) + (x == y) + (x > y) == 1
    assert (x <= y) == (not x > y) and (x >= y) == (not x < y)


@given(rationals)
def test_minus_infinity_is_below_everything(x):
    assert MINUS_INFINITY < x and x > MINUS_INFINITY and MINUS_INFINITY != x
    assert not MINUS_INFINITY < MINUS_INFINITY


@given(orders)
def test_text_reads_back(x):
    assert order(order_text(x)) == x == order(x)


def test_no_terms_have_the_order_of_zero():
    assert max_order() is MINUS_INFINITY


def test_one_minus_infinity():
    assert pickle.loads(pickle.dumps(MINUS_INFINITY)) is MINUS_INFINITY
    assert len({MINUS_INFINITY, order("-oo")}) == 1 and repr(MINUS_INFINITY) == "-oo"


@pytest.mark.parametrize("value", [0.5, 1.0, float("-inf"), float("nan")])
def test_floats_are_refused(value):
    with pytest.raises(TypeError, match="exact rational, not the float"):
        order(value)


@pytest.mark.parametrize(
    "text, value", [("1/2", Fraction(1, 2)), ("-3/4", Fraction(-3, 4)), ("0", 0), (2, 2), ("-oo", MINUS_INFINITY)]
)
def test_reading(text, value):
    assert order(text) == value


@pytest.mark.parametrize("text", ["half", "1/0", ""])
def test_nonsense_is_refused(text):
    with pytest.raises((ValueError, ZeroDivisionError)):
        order(text)
