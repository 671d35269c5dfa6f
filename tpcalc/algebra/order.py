"""Exact exponent algebra (max-plus).

The *order* of a quantity ``x`` is the exponent ``e`` in "rms coordinate of x = Theta(n^e)".
Orders are exact rationals (:class:`fractions.Fraction`), and the order of zero is
:data:`MINUS_INFINITY`.  A sum of terms has the max of their orders, a product the sum of them:
orders form the max-plus semiring ``(Q + {-oo}, max, +)``.

No float is ever an order: ``order(0.5)`` is refused, write ``order("1/2")``.
"""

from __future__ import annotations

from fractions import Fraction
from functools import total_ordering
from typing import Union


@total_ordering
class _MinusInfinity:
    """The order of zero: neutral for max, absorbing for +.  One instance, :data:`MINUS_INFINITY`."""

    __slots__ = ()

    def __add__(self, other: object) -> "_MinusInfinity":
        return self

    __radd__ = __add__
    __sub__ = __add__

    def __mul__(self, factor: object) -> "_MinusInfinity":
        if factor <= 0:  # type: ignore[operator]
            raise ZeroDivisionError("a zero value has no non-positive power")
        return self

    __rmul__ = __mul__
    __truediv__ = __mul__

    def __eq__(self, other: object) -> bool:
        return other is self

    def __lt__(self, other: object) -> bool:
        return other is not self

    def __hash__(self) -> int:
        return hash("-oo")

    def __repr__(self) -> str:
        return "-oo"

    def __reduce__(self) -> str:
        return "MINUS_INFINITY"


MINUS_INFINITY = _MinusInfinity()

#: An exact exponent: a rational, or minus infinity for the order of zero.
Order = Union[Fraction, _MinusInfinity]

ZERO = Fraction(0)
HALF = Fraction(1, 2)
ONE = Fraction(1)


def order(value: "int | str | Fraction | _MinusInfinity") -> Order:
    """Read an order from an int, a Fraction or text such as ``"1/2"``, ``"-1"``, ``"-oo"``.

    Raises TypeError for a float: exponents are exact.
    """
    if value is MINUS_INFINITY or value == "-oo":
        return MINUS_INFINITY
    if isinstance(value, float):
        raise TypeError(f"an order is an exact rational, not the float {value!r}; write it as text such as '1/2'")
    return Fraction(value)  # type: ignore[arg-type]


def order_text(value: Order) -> str:
    """``"1/2"``, ``"0"``, ``"-1"`` or ``"-oo"``: the form used in JSON and tables."""
    return str(value)


def max_order(*values: Order) -> Order:
    """The order of a sum of terms that do not cancel; of no terms: minus infinity."""
    best: Order = MINUS_INFINITY
    for value in values:
        if value > best:
            best = value
    return best
