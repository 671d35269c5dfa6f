"""Products of rational powers (more in tests/scaling/test_scaling.py)."""

from __future__ import annotations

import math
from fractions import Fraction

import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from tpcalc.algebra.order import Order
from tpcalc.algebra.roots import power_product

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
