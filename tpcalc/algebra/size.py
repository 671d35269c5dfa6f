"""Sizes and constants as exact functions of the width ``n``.

A :class:`Size` is an axis length fitted over the traced widths: ``128``, ``4*n``, ``n/16 + 32``, or
a rounded one (``~8/3*n``: a feed-forward dimension rounded up to a multiple of 256) whose growth is
exact while its value at each width is kept as sampled.  A :class:`Scalar` is a float constant
``k * n^p + d``; its exponent ``p`` is an exact rational, ``k`` and ``d`` are plain numbers.

``growth`` is the exponent of the leading term: 1 for ``d_model``, 0 for a vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Optional

from tpcalc.algebra.order import MINUS_INFINITY, ONE, ZERO, Order
from tpcalc.errors import FitError


def _term_text(coefficient: Fraction, power: Fraction) -> str:
    if power == 0:
        return str(coefficient)
    base = "n" if power == 1 else f"n^({power})" if power.denominator != 1 or power < 0 else f"n^{power}"
    numerator = "" if coefficient.numerator == 1 else f"{coefficient.numerator}*"
    denominator = "" if coefficient.denominator == 1 else f"/{coefficient.denominator}"
    return f"{numerator}{base}{denominator}"


@dataclass(frozen=True)
class Size:
    """An axis length ``sum of k * n^p``.

    ``terms`` is ``((p, k), ...)`` with descending powers and nonzero coefficients.  When ``rounded``
    the single term holds the growth and an approximate coefficient (the text shows it after ``~``),
    and ``samples`` ``((width, length), ...)`` hold the true lengths.
    """

    terms: tuple[tuple[Fraction, Fraction], ...]
    rounded: bool = False
    samples: tuple[tuple[int, int], ...] = field(default=(), repr=False)

    @staticmethod
    def constant(value: int) -> "Size":
        return Size(((ZERO, Fraction(value)),) if value else ())

    @staticmethod
    def linear(coefficient: "int | Fraction" = 1, offset: "int | Fraction" = 0) -> "Size":
        """``coefficient * n + offset``."""
        terms = [(ONE, Fraction(coefficient))]
        if offset:
            terms.append((ZERO, Fraction(offset)))
        return Size(tuple(terms))

    @cached_property
    def growth(self) -> Fraction:
        """Exponent of the leading term; 0 for a constant."""
        return self.terms[0][0] if self.terms else ZERO

    @property
    def is_constant(self) -> bool:
        return all(power == 0 for power, _ in self.terms)

    @property
    def is_mixed(self) -> bool:
        """True for sizes such as ``n/16 + 32`` whose parts grow differently."""
        return len(self.terms) > 1

    def at(self, width: int) -> int:
        """The length at ``width``; for a rounded size only at a sampled width.

        Raises FitError where the value is not a whole number or was never sampled.
        """
        if self.rounded:
            for sampled, length in self.samples:
                if sampled == width:
                    return length
            raise FitError(
                f"the rounded size {self} is known only at widths {[w for w, _ in self.samples]}, not at {width}; "
                f"trace at that width too"
            )
        total = Fraction(0)
        for power, coefficient in self.terms:
            if power.denominator != 1:
                root = round(width ** (1 / power.denominator))
                if root**power.denominator != width:
                    raise FitError(f"size {self} is not a whole number at width {width}; choose another width")
                total += coefficient * Fraction(root) ** power.numerator
            else:
                total += coefficient * Fraction(width) ** power.numerator
        if total.denominator != 1:
            raise FitError(f"size {self} is not a whole number at width {width}; choose another width")
        return int(total)

    def __str__(self) -> str:
        if not self.terms:
            return "0"
        text = _term_text(self.terms[0][1], self.terms[0][0])
        for power, coefficient in self.terms[1:]:
            text += (" + " if coefficient > 0 else " - ") + _term_text(abs(coefficient), power)
        return f"~{text}" if self.rounded else text


@dataclass(frozen=True)
class Scalar:
    """A constant ``k * n^p + d`` met as a Python number or a zero-dimensional tensor.

    Only the exponent ``p`` must be exact; ``k`` and ``d`` stay floats.  ``Scalar.of(x)`` is a
    constant that does not depend on the width (``k = 0``).
    """

    k: float
    p: Fraction
    d: float = 0.0

    @staticmethod
    def of(value: float) -> "Scalar":
        return Scalar(0.0, ZERO, float(value))

    @property
    def order(self) -> Order:
        """Exponent of the leading term; minus infinity for the constant zero."""
        if self.k == 0:
            return ZERO if self.d else MINUS_INFINITY
        if self.d and self.p < 0:
            return ZERO
        return self.p

    def at(self, width: int) -> float:
        return self.k * float(width) ** float(self.p) + self.d

    def __str__(self) -> str:
        if self.k == 0:
            return f"{self.d:g}"
        power = "n" if self.p == 1 else f"n^{self.p}" if self.p.denominator == 1 and self.p > 0 else f"n^({self.p})"
        text = power if self.k == 1 else f"{self.k:g}*{power}"
        return text if not self.d else f"{text} {'+' if self.d > 0 else '-'} {abs(self.d):g}"


def size_sum(sizes: Sequence[Size]) -> Optional[Size]:
    """The exact sum; None when one of them is rounded."""
    terms: dict[Fraction, Fraction] = {}
    for size in sizes:
        if size.rounded:
            return None
        for power, coefficient in size.terms:
            terms[power] = terms.get(power, Fraction(0)) + coefficient
    return Size(tuple(sorted(((p, k) for p, k in terms.items() if k), reverse=True)))


def size_difference(a: Size, b: Size) -> Optional[Size]:
    """The exact difference; None when one of them is rounded."""
    return None if b.rounded else size_sum((a, Size(tuple((p, -k) for p, k in b.terms))))


def size_product(sizes: Sequence[Size]) -> Optional[Size]:
    """The exact product; None when one of them is rounded."""
    total: dict[Fraction, Fraction] = {Fraction(0): Fraction(1)}
    for size in sizes:
        if size.rounded:
            return None
        step: dict[Fraction, Fraction] = {}
        for p, k in total.items():
            for q, m in size.terms:
                step[p + q] = step.get(p + q, Fraction(0)) + k * m
        total = step
    return Size(tuple(sorted(((p, k) for p, k in total.items() if k), reverse=True)))


def size_quotient(size: Size, by: Size) -> Optional[Size]:
    """The exact quotient of a size by one with a single term; None where it is none."""
    if size.rounded or by.rounded or len(by.terms) != 1:
        return None
    (power, coefficient), terms = by.terms[0], []
    for p, k in size.terms:
        if p < power:
            return None
        terms.append((p - power, k / coefficient))
    return Size(tuple(terms))
