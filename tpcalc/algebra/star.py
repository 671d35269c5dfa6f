"""Fits over the places at which a model is built: along one scale, the width, or over a star of several scales.

A star (:func:`tpcalc.algebra.scales.star`) moves each scale alone and then all of them at once.  Along each scale a
quantity is fitted as it is along the width; the fits are put together to a monomial ``k h^p d^q``, or for sizes to a
sum of up to three such monomials; that must hold at *every* place of the star, the one included where all scales have
moved.  What no form fits, or what two forms fit, is a FitError, never a guess.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import combinations, product
from typing import Any, Optional

from tpcalc.algebra.exponents import SNAP, initial_size, snapped
from tpcalc.algebra.fit import TOLERANCES, fit_scalar, fit_size, slope, solve
from tpcalc.algebra.form import Compass
from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order
from tpcalc.algebra.scales import Place, Point, magnitude, ray
from tpcalc.algebra.size import Scalar, Size, power_at
from tpcalc.errors import FitError

Lengths = Sequence[tuple[Any, int]]
Numbers = Sequence[tuple[Any, float]]

#: A size of several scales is a sum of at most so many monomials.
MOST_TERMS = 3
#: Where all scales move at once, a rounded size may be off what its growths say by this factor.
ROUNDED_OFF = 1.25


class Fits:
    """Fits along the width: those of :mod:`tpcalc.algebra.fit` and :mod:`tpcalc.algebra.exponents`."""

    def size(self, samples: Lengths, what: str = "size") -> Size:
        """The exact size; raises FitError."""
        return fit_size(samples, what)

    def scalar(self, samples: Numbers, what: str = "constant", rounding: float = 0.0) -> Scalar:
        """The constant, whose exponent is exact; raises FitError."""
        return fit_scalar(samples, what, rounding)

    def initial(self, samples: Numbers, what: str) -> Order:
        """The exponent of an initial size, which may settle only asymptotically; raises FitError."""
        return initial_size(dict(samples), what)

    def half(self, samples: Numbers, near: float = SNAP) -> Optional[Order]:
        """The multiple of 1/2 as which all the samples grow, each within what a slope off by ``near`` would give."""
        try:
            order = snapped(dict(samples), "a size", near)
        except FitError:
            return None
        if order is MINUS_INFINITY:
            return order
        rest = [math.log(size) - float(order) * math.log(width) for width, size in samples]
        return order if max(rest) - min(rest) <= near * math.log(samples[-1][0] / samples[0][0]) else None

    def rays(self, samples: Sequence[tuple[Any, Any]]) -> Iterator[list[tuple[int, Any]]]:
        """The samples along each scale, by its values."""
        yield list(samples)


#: Fits along the width.
WIDTH = Fits()


class StarFits(Fits):
    """Fits over several scales, as forms of ``compass``; ``points``: the star at which the model is built."""

    def __init__(self, compass: Compass, points: Sequence[Point]) -> None:
        self.compass, self.points = compass, tuple(points)

    def size(self, samples: Lengths, what: str = "size") -> Size:
        found = self._size(tuple(samples))
        if found is None:
            raise self._refusal(what, samples)
        return found

    def scalar(self, samples: Numbers, what: str = "constant", rounding: float = 0.0) -> Scalar:
        samples = tuple(samples)
        first = samples[0][1]
        if all(value == first for _, value in samples) or all(value != value for _, value in samples):
            return Scalar.of(first)
        found = self._scalar(samples, rounding)
        if found is None:
            raise self._refusal(what, samples)
        return found

    def initial(self, samples: Numbers, what: str) -> Order:
        found = self._along_all(samples, lambda along: initial_size(dict(along), what), 0.5)
        if found is None:
            raise self._refusal(what, samples)
        return found

    def half(self, samples: Numbers, near: float = SNAP) -> Optional[Order]:
        return self._along_all(samples, lambda along: super(StarFits, self).half(along, near), near)

    def rays(self, samples: Sequence[tuple[Any, Any]]) -> Iterator[list[tuple[int, Any]]]:
        known = dict(samples)
        for scale in self.compass.scales:
            along = [(x, known[p]) for x, p in ray(self.points, scale.name) if p in known]
            if len({x for x, _ in along}) > 1:
                yield along

    # -- sizes -----------------------------------------------------------------------------------------

    @lru_cache(maxsize=None)  # noqa: B019  (lives as long as its trace)
    def _size(self, samples: tuple[tuple[Point, int], ...]) -> Optional[Size]:
        first = samples[0][1]
        if all(value == first for _, value in samples):
            return Size.constant(first)
        try:
            fits = [fit_size(tuple(along)) for along in self._along(samples)]
        except FitError:
            return None
        if any(size.rounded for size in fits):
            return self._rounded(samples, fits)
        powers = [[*dict.fromkeys((*(p for p, _ in size.terms), ZERO))] for size in fits]
        candidates = [self.compass.form(p) for p in product(*powers)]
        for count in range(1, MOST_TERMS + 1):
            solved = ((some, solve(samples, some)) for some in combinations(candidates, count))
            found = [tuple(zip(some, k)) for some, k in solved if k is not None and all(k)]
            if found:
                return Size(sorted(found[0], reverse=True)) if len(found) == 1 else None
        return None

    def _rounded(self, samples: tuple[tuple[Point, int], ...], fits: Sequence[Size]) -> Optional[Size]:
        """A product of sizes, one of each scale, some of them rounded: known as sampled."""
        if any(len(size.terms) != 1 for size in fits):
            return None
        form = self.compass.form(size.growth for size in fits)
        (base, length), (moved, value) = samples[0], samples[-1]
        expected = length * power_at(moved, form) / power_at(base, form)
        if not 1 / ROUNDED_OFF < value / expected < ROUNDED_OFF:
            return None
        coefficient = Fraction(length / power_at(base, form)).limit_denominator(1000)
        return Size(((form, coefficient),), rounded=True, samples=samples)

    # -- floats ----------------------------------------------------------------------------------------

    def _scalar(self, samples: tuple[tuple[Point, float], ...], rounding: float) -> Optional[Scalar]:
        try:
            fits = [fit_scalar(tuple(along), rounding=rounding) for along in self._along(samples)]
        except FitError:
            return None
        moving = [index for index, fit in enumerate(fits) if fit.k != 0]
        form = self.compass.form(fit.p if fit.k != 0 else ZERO for fit in fits)
        base, value = samples[0]
        if len(moving) == 1:  # exact along its one scale, where it may also be the leading term alone of what it is
            fit = fits[moving[0]]
            found = Scalar(fit.k, form, fit.d)
            return found if self._same_where_all_move(samples, moving[0]) else None
        if any(fit.d for fit in fits if fit.k != 0) or not moving:
            return None
        found = Scalar(value / power_at(base, form), form)
        near = max(TOLERANCES[-1], rounding)
        return found if all(abs(found.at(p) - v) <= near * abs(v) for p, v in samples) else None

    def _same_where_all_move(self, samples: Sequence[tuple[Point, float]], index: int) -> bool:
        """Whether the place where all scales have moved shows what the one scale alone does."""
        known = dict(samples)
        base, moved = self.points[0], self.points[-1]
        alone = base.with_(**{base.names[index]: moved[index]})
        return alone not in known or moved not in known or math.isclose(known[alone], known[moved], rel_tol=1e-6)

    # -- exponents -------------------------------------------------------------------------------------

    def _along(self, samples: Sequence[tuple[Point, Any]]) -> Iterator[list[tuple[int, Any]]]:
        """The samples along every scale; one that a constant stands for, where a scale has a single value."""
        known = dict(samples)
        for scale in self.compass.scales:
            yield [(x, known[p]) for x, p in ray(self.points, scale.name) if p in known]

    def _along_all(
        self, samples: Numbers, one: Callable[[list[tuple[int, float]]], Optional[Order]], near: float
    ) -> Optional[Order]:
        """The form of the exponents that ``one`` finds along each scale, if it holds where all have moved."""
        found = []
        for along in self._along(samples):
            if len(along) < 2:
                found.append(ZERO)
                continue
            try:
                order = one(along)
            except FitError:
                return None
            if order is None or order is MINUS_INFINITY:
                return order
            found.append(order)
        form = self.compass.form(found)
        (base, value), (moved, there) = samples[0], samples[-1]
        if value <= 0 or there <= 0:
            return None
        off = math.log(there / value) - math.log(power_at(moved, form) / power_at(base, form))
        return form if abs(off) <= near * math.log(magnitude(moved) / magnitude(base)) else None

    def _refusal(self, what: str, samples: Numbers) -> FitError:
        values = "; ".join(f"{value:.9g} at {place}" for place, value in samples)
        names = " and ".join(scale.name for scale in self.compass.scales)
        return FitError(
            f"{what} is {values}: no sum of a few products of powers of {names}; choose values (larger, or all "
            f"multiples of one number) at which it is one, or make it one in the model"
        )


def steepest(norms: Sequence[tuple[Place, float]], fits: Fits) -> float:
    """The largest log-log slope along any scale."""
    found = [math.inf if along[0][1] <= 0 else slope(along[0], along[-1]) for along in fits.rays(norms)]
    return max(found, default=0.0)


def power_scalar(order: Order) -> Scalar:
    """A constant of which only the exponent is known."""
    if order is MINUS_INFINITY or order == ZERO:
        return Scalar.of(0.0 if order is MINUS_INFINITY else 1.0)
    return Scalar(1.0, order)


__all__ = ["WIDTH", "Fits", "StarFits", "power_scalar", "steepest"]
