"""Products of rational powers, evaluated once."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from tpcalc.algebra.order import Order
from tpcalc.algebra.roots import power_product, tidy

ratios = st.fractions(min_value=Fraction(1, 50), max_value=50, max_denominator=50)
exponents = st.fractions(min_value=-2, max_value=2, max_denominator=4)
factors = st.lists(st.tuples(ratios, exponents), max_size=3)


@settings(max_examples=60, deadline=None)
@given(factors)
def test_correctly_rounded(found):
    """Against 40 digits: within one unit of the last place, and for exponents that are orders the same."""
    value = power_product(found)
    exact = sympy.Mul(*(sympy.Rational(ratio) ** sympy.Rational(exponent) for ratio, exponent in found)).evalf(40)
    assert abs(value - float(exact)) <= math.ulp(value)
    assert power_product([(ratio, Order(exponent)) for ratio, exponent in found]) == value


def test_powers_are_exact_where_they_are_rational():
    four, half = Fraction(4), Fraction(1, 2)
    assert power_product([(four, half)]) == 2.0 and power_product([(four, -half)]) == 0.5
    assert power_product([(Fraction(3), half), (Fraction(3), -half)]) == 1.0
    assert power_product([(Fraction(2), half), (Fraction(8), half)]) == 4.0
    assert power_product([(Fraction(1), Fraction(7, 12))]) == 1.0 and power_product([]) == 1.0
    assert power_product([(Fraction(3), half)]) == math.sqrt(3)


@given(st.fractions(min_value="1/1000", max_value=1000), st.fractions(min_value=-3, max_value=3, max_denominator=6))
def test_powers_are_close_to_floats_and_invert(ratio, exponent):
    value = power_product([(ratio, exponent)])
    assert value == pytest.approx(float(ratio) ** float(exponent), rel=1e-13)
    assert power_product([(ratio, exponent), (ratio, -exponent)]) == 1.0


@given(st.integers(1, 200), st.integers(1, 200))
def test_tidy_takes_off_the_last_digits_only(a, b):
    exact = math.sqrt(Fraction(a, b))
    assert tidy(exact * (1 + 2e-16)) == (Fraction(a, b), Fraction(1, 2))
    assert power_product([tidy(1.2345678901234567)]) == 1.2345678901234567
