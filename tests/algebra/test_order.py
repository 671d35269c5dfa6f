"""The max-plus semiring of orders."""

from __future__ import annotations

import copy
import operator
import pickle
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpcalc.algebra.order import (
    HALF,
    MINUS_INFINITY,
    ONE,
    ZERO,
    Order,
    fraction,
    max_order,
    min_order,
    order,
    order_text,
)

fractions = st.fractions(min_value=-8, max_value=8, max_denominator=12)
rationals = fractions.map(Order)
orders = st.one_of(st.just(MINUS_INFINITY), rationals)
#: What an order is calculated with.
exact = st.one_of(fractions, st.integers(-8, 8))
OPERATIONS = (operator.add, operator.sub, operator.mul, operator.truediv)
COMPARISONS = (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)


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


@given(orders, orders, st.fractions(min_value=0, max_value=4, max_denominator=12))
def test_powers_keep_the_order(x, y, k):
    if k:
        assert max_order(x, y) * k is max_order(x * k, y * k) and (x + y) * k is x * k + y * k


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


# -- one object a value ------------------------------------------------------------------------------


@given(orders, orders)
def test_equal_orders_are_one_object(x, y):
    assert (x == y) == (x is y) == (str(x) == str(y))
    assert Order(x) is x is Order(str(x)) and x + y is y + x and ZERO + x is x
    for copied in (pickle.loads(pickle.dumps(x)), copy.copy(x), copy.deepcopy(x)):
        assert copied is x


def test_an_order_cannot_be_changed():
    for name in ("numerator", "_hash", "colour"):
        with pytest.raises(AttributeError, match="an order can't be changed"):
            setattr(HALF, name, 3)


# -- agreement with plain numbers --------------------------------------------------------------------


@given(fractions, exact)
def test_a_finite_order_calculates_as_its_fraction(x, y):
    """Beside an Order, a Fraction and an int, on either side; asked twice, from memory."""
    for operation in OPERATIONS:
        if operation is operator.truediv and (x == 0 or y == 0):
            continue
        for _ in range(2):
            for a, b in ((Order(x), Order(y)), (Order(x), y), (x, Order(y)), (Order(y), x), (y, Order(x))):
                result = operation(a, b)
                assert result is Order(operation(Fraction(a), Fraction(b))) and isinstance(result, Order)
    assert -Order(x) is Order(-x) and abs(Order(x)) is Order(abs(x)) and bool(Order(x)) == bool(x)


@given(fractions, exact)
def test_a_finite_order_compares_as_its_fraction(x, y):
    for compare in COMPARISONS:
        assert compare(Order(x), Order(y)) == compare(Order(x), y) == compare(x, Order(y)) == compare(x, y)
    assert hash(Order(x)) == hash(x) and {Order(x): 1}[x] == 1 == {x: 1}[Order(x)]
    assert max(Order(x), y) == max(x, y) == max_order(Order(x), Order(y))
    assert min(Order(x), y) == min(x, y) == min_order(Order(x), Order(y)) and min_order(Order(x)) == x


@given(fractions)
def test_minus_infinity_compares_with_plain_numbers(x):
    assert MINUS_INFINITY < x and not x < MINUS_INFINITY and x > MINUS_INFINITY and MINUS_INFINITY not in (x, Order(x))
    assert x + MINUS_INFINITY is MINUS_INFINITY is MINUS_INFINITY + x


@given(fractions)
def test_a_finite_order_is_a_number_again(x):
    for number in (Fraction(Order(x)), fraction(Order(x)), fraction(x)):
        assert number == x and type(number) is Fraction
    assert float(Order(x)) == float(x) and round(Order(x)) == round(x) and str(Order(x)) == str(x)
    assert isinstance(MINUS_INFINITY, Order) and isinstance(Order(x), Order)


@pytest.mark.parametrize("to_number", [Fraction, fraction, float, round])
def test_the_order_of_zero_is_no_number(to_number):
    with pytest.raises(TypeError, match="no number|Rational"):
        to_number(MINUS_INFINITY)


@pytest.mark.parametrize("operation", [lambda x: x - MINUS_INFINITY, lambda x: x / MINUS_INFINITY])
@pytest.mark.parametrize("x", [ONE, Fraction(1, 2), 1])
def test_nothing_is_divided_by_zero(operation, x):
    with pytest.raises(TypeError, match="minus infinity, is no number"):
        operation(x)


@pytest.mark.parametrize("x", [HALF, MINUS_INFINITY])
@pytest.mark.parametrize("other", [0.5, 1.0, float("inf"), "1", None])
def test_orders_meet_exact_numbers_only(x, other):
    for operation in (*OPERATIONS, operator.lt, operator.le, operator.gt, operator.ge):
        for a, b in ((x, other), (other, x)):
            with pytest.raises(TypeError):
                operation(a, b)
    assert x != other
