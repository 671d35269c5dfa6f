"""Formulas as a browser is told them: the same numbers as their text."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from tpcalc.algebra.formula import Formula
from tpcalc.algebra.order import MINUS_INFINITY
from tpcalc.algebra.scales import Scale
from tpcalc.report.page.formulas import formula_row
from tpcalc.report.table.rows import Power

SCALES = (Scale("width"), Scale("ffn"), Scale("depth", depth=True))


def formula(*ways: list[tuple[str, str, str]]) -> Formula:
    return Formula(SCALES, tuple(tuple(tuple(map(Fraction, form)) for form in way) for way in ways))


def value(row, at: dict[str, float]) -> float:
    """Of a row, at a place."""

    def product(powers) -> float:
        return math.prod(at[symbol] ** float(Fraction(x)) for symbol, x in powers.items())

    return product(row.common) * max(min(map(product, way)) for way in row.ways)


@pytest.mark.parametrize(
    "exponent, common, at", [("-1/2", {"n": "-1/2"}, -0.5), ("0", {}, 0.0), ("1", {"n": "1"}, 1.0)]
)
def test_a_power(exponent, common, at):
    row = formula_row(Power("n", Fraction(exponent)))
    assert (row.common, row.at, row.ways) == (common, at, [[{}]])


def test_zero():
    row = formula_row(Power("n", MINUS_INFINITY))
    assert (row.at, row.text) == (None, "0")


@pytest.mark.parametrize(
    "found, at",
    [
        (formula([("-1/2", "0", "0"), ("0", "-1/2", "0")]), -0.5),
        (formula([("-1", "1/2", "0")], [("0", "-1/2", "-1")]), -0.5),
        (formula([("0", "0", "-1")]), -1.0),
        (formula([("1", "-1", "-1")]), 0.0),
        (formula([("-1", "1", "0"), ("1", "-1", "0")], [("0", "0", "0")]), 0.0),
    ],
)
def test_of_several_scales_the_numbers_are_those_of_the_formula(found, at):
    row = formula_row(Power("", found))
    assert row.text == found.text() and row.at == at
    for place in ({"n": 3.0, "f": 50.0, "L": 2.0}, {"n": 40.0, "f": 5.0, "L": 7.0}):
        wanted = float(found.expr.subs({symbol: place[symbol.name] for symbol in found.expr.free_symbols}))
        assert value(row, place) == pytest.approx(wanted)
