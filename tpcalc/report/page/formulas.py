"""Powers and formulas of several scales as a browser is told them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from tpcalc.algebra.formula import Formula
from tpcalc.algebra.order import MINUS_INFINITY, fraction
from tpcalc.algebra.scales import Scale
from tpcalc.document.page import FormulaRow, Product
from tpcalc.report.table.rows import Power

__all__ = ["formula_row"]


def formula_row(power: Power) -> FormulaRow:
    """A cell of a scaling table."""
    exponent = power.exponent
    if isinstance(exponent, Formula):
        common, ways = exponent.factored()
        return FormulaRow(
            text=power.text(),
            at=float(exponent.alike),
            common=_product(exponent.scales, common),
            ways=[[_product(exponent.scales, form) for form in way] for way in ways],
        )
    if exponent is MINUS_INFINITY:
        return FormulaRow(text=power.text(), at=None)
    powers = {power.symbol: str(exponent)} if exponent else {}
    return FormulaRow(text=power.text(), at=float(fraction(exponent)), common=powers)


def _product(scales: Sequence[Scale], exponents: Sequence[Fraction]) -> Product:
    return {scale.symbol: str(x) for scale, x in zip(scales, exponents, strict=True) if x}
