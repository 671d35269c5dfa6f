"""Sizes written as functions of the width: exact, and whole or refused."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tpcalc.errors import TargetError
from tpcalc.trace.hf.formula import Formula, formula


@pytest.mark.parametrize(
    ("text", "values", "ratio"),
    [
        ("8/3*n", (32, 64), Fraction(8, 3)),
        ("n/6", (2, 4), Fraction(1, 6)),
        (" 2*n + 128", (152, 176), None),
        ("-n + 2*n*1.5", (24, 48), Fraction(2)),
        ("n", (12, 24), Fraction(1)),
    ],
)
def test_formulas_are_exact(text, values, ratio):
    found = formula(text)
    assert found is not None and (found.at(12, "x"), found.at(24, "x")) == values and found.ratio == ratio


@pytest.mark.parametrize("text", ["4", "relu", "[n, 2*n]", "none", "m*n", "n**2", "n()", "'n'", "", "n if n else 1"])
def test_what_is_no_formula(text):
    assert formula(text) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n/7", "x=n/7 would be 18.2857 at width 128; choose widths"),
        ("n - 128", "would be 0"),
        ("1/(n-128)", "divides by zero at width 128"),
    ],
)
def test_formulas_that_give_no_size(text, message):
    with pytest.raises(TargetError, match=message.replace("(", r"\(").replace(")", r"\)")):
        Formula(text).at(128, "x")
