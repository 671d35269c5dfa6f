"""Spectra: transforms over a growing axis.  The product of two is the spectrum of a convolution, a sum over that axis.

A product of entries would see of ``x^ k^`` no more than sizes; but frequency 0 holds the sums over all entries, where
those of the operands add up, as they do in a contraction.
"""

from __future__ import annotations

from tpcalc.algebra.order import ZERO, Order
from tpcalc.rules.structures import (
    Contract,
    Operand,
    Power,
    Product,
    Scale,
    Structure,
    Sum,
    View,
    operands,
    with_nested,
)


class Spectra:
    """Which values are spectra so far, and of axes of which growth.  Mutable while a program is lowered."""

    def __init__(self) -> None:
        self.mixed: dict[int, Order] = {}

    def seen(self, s: Structure) -> Structure:
        """A structure, its products of spectra as convolutions."""
        s = with_nested(s, self.seen)
        if isinstance(s, Product):
            K = min(self._over(s.x), self._over(s.y))
            return _convolved(s.x, s.y, K) if K > ZERO else s
        if isinstance(s, Power) and s.k == 2 and self._over(s.x) > ZERO:
            return _convolved(s.x, s.x, self._over(s.x))
        return s

    def note(self, out: int, s: Structure) -> None:
        over = self._over(s)
        if over > ZERO:
            self.mixed[out] = over

    def _over(self, s: Operand) -> Order:
        """Growth of the axes that a spectrum has mixed; a transform of one is none."""
        if isinstance(s, int):
            return self.mixed.get(s, ZERO)
        if isinstance(s, Scale) and s.mixes > ZERO:
            return ZERO if self._over(s.x) > ZERO else s.mixes
        if isinstance(s, (View, Scale, Sum, Product)) or (isinstance(s, Power) and s.k == 1):
            return max(map(self._over, operands(s)))
        # a convolution, scaled, is a spectrum still
        return max(map(self._over, operands(s))) if isinstance(s, Contract) and s.convolves else ZERO


def _convolved(x: Operand, y: Operand, K: Order) -> Structure:
    """The spectrum of the convolution; spectra are larger by ``K / 2`` than what they are of."""
    return Scale(Contract(Scale(x, -K / 2), Scale(y, -K / 2), K, K, K, convolves=True), K / 2)
