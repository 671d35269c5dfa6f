"""Normalisers, centring and spectral norms, recognised whatever ops wrote them.

A normaliser written as ``x * rsqrt(mean(x^2) + eps)`` is seen by homogeneity: every value remembers the last value
it is homogeneous in, and to which degree.  A product of degree zero no longer depends on the scale of that base:
it becomes :class:`~tpcalc.rules.structures.Normalise`.  A value less its own mean becomes
:class:`~tpcalc.rules.structures.Centre`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Optional

from tpcalc.algebra.order import MINUS_INFINITY, ONE, ZERO, Order
from tpcalc.program.ir import Program, Value
from tpcalc.rules.axes import Axes
from tpcalc.rules.structures import (
    Centre,
    Contract,
    Guard,
    Normalise,
    Operand,
    Power,
    Product,
    Reduce,
    Scale,
    Structure,
    Sum,
    View,
    operands,
)


@dataclass(frozen=True, slots=True)
class Homogeneity:
    """``value = n^shift * base^degree`` in order, exactly homogeneous in ``base``."""

    base: Operand
    degree: Order
    shift: Order


class Recogniser:
    """What is known of the values so far.  Mutable while a program is lowered.

    ``means``: mean -> the value whose entries it averages.  ``arranged``: value -> the one whose entries it has.
    ``units``: vectors of a known size -> the value that they are a multiple of (None: of none), and that size.
    """

    def __init__(self, program: Program, values: Mapping[int, Value]) -> None:
        self.weights = program.weight_of_value
        self.values = values
        self.homogeneity: dict[Operand, Homogeneity] = {}
        self.means: dict[int, int] = {}
        self.arranged: dict[Operand, int] = {}
        self.units: dict[Operand, tuple[Optional[Operand], Order]] = {
            vid: (None, value.magnitude.order)
            for vid, value in program.values.items()
            if value.kind == "buffer" and value.magnitude is not None
        }

    def see(self, axes: Axes, x: int, outs: tuple[Optional[int], ...]) -> None:
        """Note what is a mean of what, and what has the entries of what."""
        out = outs[axes.mean or 0]
        if out is None:
            return
        if axes.mean is not None:
            self.means[out] = self.arranged.get(x, x)
        else:
            self.arranged[out] = self.arranged.get(x, x)
            if x in self.means:
                self.means[out] = self.means[x]

    def note(self, out: int, s: Structure, homogeneity: Optional[Homogeneity]) -> None:
        """Remember the structure of a value."""
        if isinstance(s, Normalise):
            self.units[out] = (self.of(s.x).base, s.shift)
        elif isinstance(s, (View, Sum)) and len(xs := operands(s)) == 1 and xs[0] in self.units:
            self.units[out] = self.units[xs[0]]
        if homogeneity is not None:
            self.homogeneity[out] = homogeneity

    def centred(self, s: Sum) -> Structure:
        """``x`` less a mean of ``x``, which takes what all entries share whatever its axes are.  A sum with the same
        operands does not, nor does a multiple: only what is surely centred is."""
        if s.how == "difference" and len(s.xs) == 2:
            x, y = s.xs
            for value, mean in ((x, y), (y, x)):
                if isinstance(mean, int) and self.means.get(mean) == self.arranged.get(value, value):
                    return Centre(value)
        return s

    def spectral(self, s: Contract) -> Optional[tuple[Operand, Order]]:
        """A weight and the order by which the size of ``W v`` and ``u (W v)`` exceeds it, with a vector kept for it (a
        buffer, or ``W u`` normalised): the spectral norm of W, by law 2.

        The vector is aligned with W, so each is of a size proportional to that of W.
        """
        for w, v, rest in ((s.x, s.y, s.rest_x), (s.y, s.x, s.rest_y)):
            if v not in self.units or not isinstance(v, int) or v not in self.values or len(self.values[v].shape) != 1:
                continue
            h, (base, order) = self.of(w), self.units[v]
            if h.base in self.weights and h.degree == 1 and base in (None, h.base):
                return w, (max(s.K / 2, s.K - rest / 2) if h.shift == 0 else s.K) + order
        return None

    def of(self, vid: Operand) -> Homogeneity:
        return self.homogeneity.get(vid) or Homogeneity(vid, ONE, ZERO)

    def recognise(self, s: Structure) -> tuple[Structure, "Homogeneity | None"]:
        """The structure (a normaliser where a product has degree zero) and its homogeneity."""
        if isinstance(s, (View, Centre, Guard)):
            return s, self.of(s.x)
        if isinstance(s, Scale):
            h = self.of(s.x)
            return s, None if s.order is MINUS_INFINITY else replace(h, shift=h.shift + s.order)
        if isinstance(s, Power):
            h = self.of(s.x)
            return s, Homogeneity(h.base, h.degree * s.k, h.shift * s.k)
        if isinstance(s, Reduce):
            h = self.of(s.x)
            return s, replace(h, shift=h.shift + s.K)
        if isinstance(s, Sum) and len(s.xs) > 1:
            hs = [self.of(x) for x in s.xs]
            if all(h.base == hs[0].base and h.degree == hs[0].degree for h in hs[1:]):
                return s, replace(hs[0], shift=max(h.shift for h in hs))
        if isinstance(s, Sum) and len(s.xs) == 2:
            # sqrt(mean(x^2)) + eps with eps as a tensor of known order is a guard only when eps is small: left as a sum
            return s, None
        if isinstance(s, Product):
            x, y = self.of(s.x), self.of(s.y)
            if x.base == y.base:
                degree, shift = x.degree + y.degree, x.shift + y.shift
                if degree == 0:
                    return Normalise(s.x if x.degree > 0 else s.y, shift), None
                return s, Homogeneity(x.base, degree, shift)
        return s, None
