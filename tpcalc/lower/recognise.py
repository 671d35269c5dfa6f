"""Homogeneity, centring and spectral norms, recognised whatever ops wrote them.

Every value remembers the last value that it is homogeneous in, and to which degree: what
:mod:`~tpcalc.lower.factors` finds norms by.  A value less its own mean becomes
:class:`~tpcalc.rules.structures.Centre`.  What is computed twice is one base.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

from tpcalc.algebra.order import MINUS_INFINITY, ONE, ZERO, Order
from tpcalc.program.ir import Program, Value
from tpcalc.rules.axes import Axes
from tpcalc.rules.structures import (
    Centre,
    Contract,
    Discrete,
    Exp,
    Gather,
    Guard,
    Known,
    LinearLike,
    Normalise,
    Operand,
    Power,
    Product,
    Reduce,
    Scale,
    Softmax,
    Structure,
    Sum,
    View,
    operands,
    with_operands,
)


class Homogeneity(NamedTuple):
    """``value = n^shift * base^degree`` in order, exactly homogeneous in ``base``.

    ``measured``: the value whose powers it was made of, between which and ``base`` only constants stand.
    """

    base: Operand
    degree: Order
    shift: Order
    measured: Optional[Operand] = None


class Recogniser:
    """What is known of the values so far.  Mutable while a program is lowered.

    ``means``: mean -> the value whose entries it averages.  ``arranged``: value -> the one whose entries it has.
    ``units``: vectors of a known size -> the value that they are a multiple of (None: of none), and that size.
    ``made``: value -> its structure.  ``same``: value -> the first one with the same entries, arranged or made anew.
    ``whole``: value -> the one that it is joined into with others.
    """

    def __init__(self, program: Program, values: Mapping[int, Value]) -> None:
        self.weights = program.weight_of_value
        self.values = values
        self.homogeneity: dict[Operand, Homogeneity] = {}
        self.means: dict[Any, int] = {}
        self.arranged: dict[Operand, int] = {}
        self.made: dict[Operand, Structure] = {}
        self.same: dict[Operand, Operand] = {}
        self.first: dict[Structure, Operand] = {}
        self.whole: dict[Operand, Operand] = {}
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
        self.made[out] = s
        if isinstance(s, View):
            self.same[out] = self.same.get(s.x, s.x)
        elif not isinstance(s, (Known, Discrete, Gather)):  # these hold more than their operands tell
            same = [self.same.get(x, x) for x in operands(s)]
            if isinstance(s, Product) or (isinstance(s, Sum) and s.how == "sum"):
                same.sort()
            self.same[out] = self.first.setdefault(with_operands(s, tuple(same)), out)
        if isinstance(s, Normalise):
            self.units[out] = (self.of(s.x).base, s.shift)
        elif isinstance(s, (View, Sum)) and len(xs := operands(s)) == 1 and xs[0] in self.units:
            self.units[out] = self.units[xs[0]]
        if homogeneity is not None:
            self.homogeneity[out] = homogeneity
        elif isinstance(s, Sum) and s.how == "choice":
            for x in s.xs:
                self.whole.setdefault(self.of(x).base, out)

    def centred(self, s: Sum) -> Structure:
        """``x`` less a mean of ``x``, which takes what all entries share whatever its axes are.  A sum with the same
        operands does not, nor does a multiple: only what is surely centred is."""
        if s.how == "difference" and len(s.xs) == 2:
            x, y = s.xs
            for value, mean in ((x, y), (y, x)):
                if self.means.get(mean) == self.arranged.get(value, value):
                    return Centre(value)
        return s

    def weighed(self, s: Exp) -> Structure:
        """``exp(x - logsumexp(x))`` is a softmax: each of n entries is one part of a total of 1.  With a multiple of
        either it is none.
        """
        difference = self.arranged.get(s.x, s.x)
        x = self.made.get(difference)
        if isinstance(x, Sum) and x.how == "difference" and len(x.xs) == 2:
            value, log = (self.arranged.get(one, one) for one in x.xs)
            total = self.made.get(log)
            if (
                isinstance(total, LinearLike)
                and total.total is not None
                and self.arranged.get(total.x, total.x) == value
            ):
                return Softmax(x.xs[0], total.total)
        return s

    def spectral(self, s: Contract) -> Optional[tuple[Operand, Order]]:
        """A weight and the order by which the size of ``W v`` and ``u (W v)`` exceeds it, with a vector kept for it (a
        buffer, or ``W u`` normalised): the spectral norm of W, by law 2.

        The vector is aligned with W, so each is of a size proportional to that of W.
        """
        sides: Any = ((s.x, s.y, s.rest_x), (s.y, s.x, s.rest_y))
        for w, v, rest in sides:
            if v not in self.units or v not in self.values or len(self.values[v].shape) != 1:
                continue
            h, (base, order) = self.of(w), self.units[v]
            if h.base in self.weights and h.degree == 1 and base in (None, h.base):
                return w, (max(s.K / 2, s.K - rest / 2) if h.shift == 0 else s.K) + order
        return None

    def of(self, vid: Operand) -> Homogeneity:
        return self.homogeneity.get(vid) or Homogeneity(self.same.get(vid, vid), ONE, ZERO)

    def homogeneous(self, s: Structure) -> Optional[Homogeneity]:
        """In what the result of a structure is homogeneous; None where in nothing but itself."""
        if isinstance(s, (View, Guard)):
            return self.of(s.x)
        if isinstance(s, Centre):
            return self.centred_base(s.x)
        if isinstance(s, Scale):
            h = self.of(s.x)
            return None if s.order is MINUS_INFINITY else h._replace(shift=h.shift + s.order)
        if isinstance(s, Power):
            h = self.of(s.x)
            measured = s.x if h.measured is None else h.measured
            return Homogeneity(h.base, h.degree * s.k, h.shift * s.k, measured)
        if isinstance(s, Reduce):
            h = self.of(s.x)
            return h._replace(shift=h.shift + s.K)
        if isinstance(s, Sum):
            hs = [self.of(x) for x in s.xs if not self.stands_in(x, s.how)]
            if len({h.degree for h in hs}) == 1:
                first = hs[0]._replace(shift=max(h.shift for h in hs))
                if len({h.base for h in hs}) == 1:
                    if s.how == "difference" and any(self.is_squared_mean(x) for x in s.xs):
                        return first._replace(base=self.centred_base(first.base).base)
                    return first
                if len(wholes := {self.whole.get(h.base) for h in hs}) == 1 and None not in wholes:
                    whole: Any = wholes.pop()
                    return first._replace(base=whole, measured=whole if first.measured is not None else None)
        if isinstance(s, (Product, Contract)):
            x, y = self.of(s.x), self.of(s.y)
            if x.base == y.base and x.degree + y.degree != 0:
                growth = s.K if isinstance(s, Contract) else ZERO
                measured = s.x if x.measured is None else x.measured
                return Homogeneity(x.base, x.degree + y.degree, x.shift + y.shift + growth, measured)
        return None

    def centred_base(self, x: Operand) -> Homogeneity:
        """What is left beside a mean is a base of its own: it may be far smaller."""
        h = self.of(x)
        if h.degree == 1:
            return h._replace(base=Centre(h.base))
        return Homogeneity(Centre(self.same.get(x, x)), ONE, ZERO)

    def is_squared_mean(self, x: Operand) -> bool:
        """Whether it is ``m^2``, as in the variance ``mean(x^2) - m^2``."""
        made = self.made.get(x)
        return isinstance(made, Power) and made.k == 2 and made.x in self.means

    def stands_in(self, x: Operand, how: str) -> bool:
        """Whether a summand is zero, or a number that a choice puts in the place of what is not to be divided by."""
        made = self.made.get(self.same.get(x, x))
        return isinstance(made, Known) and (made.order is MINUS_INFINITY or (how == "choice" and made.uniform))
