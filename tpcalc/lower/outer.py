"""Outer products: ``x_i y_j`` that a weight ``W_ijk`` contracts over both axes is no vector of free entries.

What changes it is a change of ``x`` or of ``y``: a vector along one axis, while the other factor stays what it was.
So law 2 holds for the matrix from that axis to ``k`` that ``W`` and the other factor make, whose sum over the other
axis is a central limit: ``K_i/2 + max(K_j/2, K_j - R/2)``, which is law 2 with the other axis among the rest.
``einsum("bi,bj,ijk->bk")``, ``nn.Bilinear``, features of second degree.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from tpcalc.algebra.order import ZERO, Order
from tpcalc.rules.structures import Contract, Product, Scale, Structure, View, operands


class Outer:
    """Which values are outer products, and of axes of which growths.  Mutable while a program is lowered."""

    def __init__(self, growths: Mapping[Any, Order], from_inputs: Collection[int]) -> None:
        self.growths, self.data = growths, set[Any](from_inputs)
        self.axes: dict[Any, tuple[Order, Order]] = {}

    def counted(self, s: Structure) -> Structure:
        """A contraction of an outer product with a weight."""
        if isinstance(s, Contract):
            if s.y not in self.data and s.K == sum(self.axes.get(s.x, (ZERO,)), ZERO) > 0:
                return replace(s, rest_y=s.rest_y + min(self.axes[s.x]), sizes=None)
            if s.x not in self.data and s.K == sum(self.axes.get(s.y, (ZERO,)), ZERO) > 0:
                return replace(s, rest_x=s.rest_x + min(self.axes[s.y]), sizes=None)
        return s

    def note(self, out: int, s: Structure) -> None:
        """Remember the growths of the axes that only one of two factors has, where each has some."""
        if not self.data.isdisjoint(operands(s)):
            self.data.add(out)
        if isinstance(s, (View, Scale)) and s.x in self.axes and self.growths[out] == self.growths[s.x]:
            self.axes[out] = self.axes[s.x]
        elif isinstance(s, Product) or (isinstance(s, Contract) and s.K == 0):
            own = self.growths[out] - self.growths[s.y], self.growths[out] - self.growths[s.x]
            if min(own) > 0 and s.x in self.data and s.y in self.data:
                self.axes[out] = own
