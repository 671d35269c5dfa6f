"""Powers and multiples of the width as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Literal

from tpcalc.algebra.form import Form
from tpcalc.algebra.order import MINUS_INFINITY, Exact, order_text
from tpcalc.algebra.scales import Scale

#: ``plain``: ``n^-1/2`` (tables).  ``brackets``: ``n^(-1/2)`` (formulas).  ``full``: in brackets, and exponents 0 and 1
#: are written, too: ``n^1`` (sentences).  ``latex``: ``n^{-1/2}``.
Style = Literal["plain", "brackets", "full", "latex"]


def power_text(exponent: Exact, symbol: str = "n", style: Style = "plain") -> str:
    """A power of the width; ``1`` and ``n`` for the exponents 0 and 1, ``0`` for the order of zero."""
    if exponent is MINUS_INFINITY:
        return "0"
    if isinstance(exponent, Form):
        return product_text(exponent.compass.scales, exponent.coordinates, style)
    if style == "latex" and len(symbol) > 1:  # a name, no product of letters
        symbol = r"\mathit{%s}" % symbol.replace("_", r"\_")
    if style != "full" and exponent in (0, 1):
        return symbol if exponent else "1"
    text = str(exponent)
    if style == "latex":
        return f"{symbol}^{{{text}}}"
    return f"{symbol}^({text})" if style != "plain" and not text.isdecimal() else f"{symbol}^{text}"


def product_text(scales: Sequence[Scale], exponents: Sequence[Fraction], style: Style = "plain") -> str:
    """Powers of several scales, those to the power 0 left out; ``1`` where that is all."""
    return powers_text({scale.symbol: x for scale, x in zip(scales, exponents)}, style)


def powers_text(powers: Mapping[str, Fraction], style: Style = "plain") -> str:
    """The same by symbol."""
    parts = [power_text(x, symbol, style) for symbol, x in powers.items() if x]
    return ("*" if style == "brackets" else " ").join(parts) or "1"


def exponent_text(order: Exact) -> str:
    """An order in a sentence: an exponent of the width, ``1/2``; of several scales their powers, ``n^1/2 L^-1``."""
    return power_text(order) if isinstance(order, Form) else order_text(order)


def size_text(order: Exact) -> str:
    """A size of this order: ``n^1/2``, or ``n^1/2 L^-1``."""
    return power_text(order) if isinstance(order, Form) else f"n^{order_text(order)}"


def added_text(order: Exact) -> str:
    """What an order is raised by: ``+ 1/2``, or ``times n^1/2`` where orders are shown as powers."""
    return f"times {power_text(order)}" if isinstance(order, Form) else f"+ {order_text(order)}"


def term_text(coefficient: Fraction, power: Exact) -> str:
    """``43*n/16``: a rational multiple of a power of n."""
    if power == 0:
        return str(coefficient)
    numerator = "" if coefficient.numerator == 1 else f"{coefficient.numerator}*"
    denominator = "" if coefficient.denominator == 1 else f"/{coefficient.denominator}"
    return f"{numerator}{power_text(power, style='brackets')}{denominator}"
