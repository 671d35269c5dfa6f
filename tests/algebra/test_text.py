"""Powers of the width as text."""

from __future__ import annotations

from fractions import Fraction

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from tpcalc.algebra.order import MINUS_INFINITY, Order
from tpcalc.algebra.text import power_text, term_text

TABLE = {
    "-oo": ("0", "0", "0", "0"),
    "0": ("1", "1", "n^0", "1"),
    "1": ("n", "n", "n^1", "n"),
    "2": ("n^2", "n^2", "n^2", "n^{2}"),
    "1/2": ("n^1/2", "n^(1/2)", "n^(1/2)", "n^{1/2}"),
    "-1": ("n^-1", "n^(-1)", "n^(-1)", "n^{-1}"),
    "-3/2": ("n^-3/2", "n^(-3/2)", "n^(-3/2)", "n^{-3/2}"),
}


@pytest.mark.parametrize("exponent", TABLE)
def test_styles(exponent):
    texts = tuple(power_text(Order(exponent), style=style) for style in ("plain", "brackets", "full", "latex"))
    assert texts == TABLE[exponent]
    if exponent != "-oo":
        assert power_text(Fraction(exponent)) == texts[0]
        assert power_text(Order(exponent), "L", "full") == texts[2].replace("n", "L")


def test_names_are_names_in_latex():
    """An underscore begins an index in a formula, and two of them are an error."""
    assert power_text(Order("-1/2"), "num_kv_heads", "latex") == r"\mathit{num\_kv\_heads}^{-1/2}"
    assert power_text(Order(1), "groups", "latex") == r"\mathit{groups}" and power_text(Order(1), "d", "latex") == "d"
    assert power_text(Order("-1/2"), "kv_heads") == "kv_heads^-1/2"


def test_plain_is_the_default():
    assert power_text(Order("-1/2")) == "n^-1/2" and power_text(MINUS_INFINITY) == "0" and power_text(1, "d") == "d"


rationals = st.fractions(min_value=-3, max_value=3, max_denominator=4)


@settings(max_examples=60, deadline=None)
@given(rationals.filter(bool), rationals)
def test_terms_read_back(coefficient, power):
    n = sympy.Symbol("n", positive=True)
    text = term_text(coefficient, Order(power))
    value = sympy.sympify(text.replace("^", "**"), {"n": n}, rational=True)
    assert sympy.simplify(value - sympy.Rational(coefficient) * n ** sympy.Rational(power)) == 0
