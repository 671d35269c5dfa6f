"""Sizes written as functions of the width: exact, and whole or refused."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tpcalc.errors import TargetError
from tpcalc.trace.hf.formula import Formula, formula, place_text, product


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
    assert found is not None and tuple(found.at({"n": n}, "x") for n in (12, 24)) == values and found.ratio == ratio


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
        Formula(text).at({"n": 128}, "x")


def test_formulas_in_scales():
    found = formula("9*heads*head_dim/8", ("n", "heads", "head_dim"))
    assert found is not None and found.names == {"heads", "head_dim"} and found.ratio is None
    place = {"heads": 4, "head_dim": 16, "n": 72}
    assert found.at(place, "x") == 72 and formula("heads", ("n", "width")) is None
    with pytest.raises(TargetError, match="x=heads/8 would be 0.5 at heads=4, head_dim=16; choose sizes at which"):
        Formula("heads/8").at(place, "x")


def test_products_are_written_as_they_are_read():
    texts = [product(Fraction(9, 8), "heads", "d"), product(Fraction(1, 4), "n", over="heads"), product(Fraction(12))]
    assert list(map(str, texts)) == ["9*heads*d/8", "n/4/heads", "12"] and texts[2].names == set()
    assert texts[1].value({"n": 32, "heads": 2}) == 4


def test_places_in_sentences():
    assert place_text({"n": 8}) == place_text({"n": 8, "width": 8}) == "width 8"
    assert place_text({"width": 8, "depth": 2, "n": 8}) == "width=8, depth=2"
