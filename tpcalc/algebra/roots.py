"""Products of rational powers as floats, evaluated once: exact where the result is rational, else correctly rounded."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Context, Decimal
from fractions import Fraction
from typing import Optional

from tpcalc.algebra.order import HALF, ONE, Exact

#: A ratio of sizes and the exponent it enters with.
Factor = tuple[Fraction, Exact]

_DIGITS = Context(prec=60)


def power_product(factors: Iterable[Factor]) -> float:
    """The product of ``ratio ** exponent``; equal ratios with opposite exponents cancel exactly."""
    factors = list(factors)
    degree = math.lcm(*(exponent.denominator for _, exponent in factors))
    radicand = Fraction(1)
    for ratio, exponent in factors:
        radicand *= ratio ** (exponent * degree).numerator
    return _root(radicand, degree)


def _root(x: Fraction, degree: int) -> float:
    if degree == 1:
        return x.numerator / x.denominator
    top, bottom = _whole_root(x.numerator, degree), _whole_root(x.denominator, degree)
    if top is not None and bottom is not None:
        return top / bottom
    quotient = _DIGITS.divide(Decimal(x.numerator), Decimal(x.denominator))
    return float(_DIGITS.power(quotient, _DIGITS.divide(Decimal(1), Decimal(degree))))


def _whole_root(x: int, degree: int) -> Optional[int]:
    if x == 0:
        return 0
    low, high = 1, 1 << (x.bit_length() // degree + 1)
    while low < high:
        middle = (low + high) // 2
        if middle**degree < x:
            low = middle + 1
        else:
            high = middle
    return low if low**degree == x else None


def tidy(x: float) -> Factor:
    """A ratio of two computed stds as a factor: the root of a simple fraction where only the last digits differ."""
    square = Fraction(x * x).limit_denominator(1 << 16)
    if square > 0 and abs(_root(square, 2) - x) <= 4e-15 * x:
        return square, HALF
    return Fraction(x), ONE
