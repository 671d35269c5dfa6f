"""Exponents of the numbers that a setup gives: along the width, or over a star of places of several scales."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tpcalc.algebra.exponents import NEAR, SNAP, initial_size, is_flat, power, snapped
from tpcalc.algebra.form import Compass, coordinates
from tpcalc.algebra.order import MINUS_INFINITY, ONE, Order
from tpcalc.algebra.scales import Point, Scale, magnitude, ray
from tpcalc.algebra.size import Size, power_at
from tpcalc.errors import FitError

#: Place -> number.
Samples = Mapping[Any, float]

#: A hyperparameter is what its exponents say at the place where all scales have moved but for this; an init may settle
#: only asymptotically, and is off by less than half a power.
EXACT, ASYMPTOTIC = 1e-6, 0.5


class Numbers:
    """Exponents along the width: those of :mod:`tpcalc.algebra.exponents`."""

    unit: Order = ONE
    """That of the first scale."""

    def power(self, samples: Samples, what: str, shape: Sequence[Size] = ()) -> Order:
        """Of a hyperparameter; raises FitError where it follows no power."""
        return power(samples, what, shape)

    def initial(self, samples: Samples, what: str, shape: Sequence[Size] = ()) -> Order:
        """Of an initial size, which may settle only asymptotically; raises FitError."""
        return initial_size(samples, what, shape)

    def snapped(self, samples: Samples, what: str, near: float = SNAP) -> Order:
        """Of measured sizes; raises FitError where their slope is no multiple of 1/2."""
        return snapped(samples, what, near)

    def is_flat(self, samples: Samples) -> bool:
        """Whether a size that follows no power changes so little that it counts as order 0."""
        return is_flat(samples)

    def of(self, samples: Samples, one: Callable[[Mapping[int, float]], Order], what: str) -> Order:
        """What ``one`` finds along the width."""
        return one(samples)

    def growths(self, growths: Sequence[Order]) -> tuple[Order, ...]:
        """Growths of axes as plain numbers, for an optimizer that is run on small tensors."""
        return tuple(growths)


class StarNumbers(Numbers):
    """Exponents as forms of ``compass``; ``points``: the star at which the setup was built.

    Along each scale numbers are read as along the width, and what is found must hold where all scales have moved.
    """

    def __init__(self, compass: Compass, points: Sequence[Point]) -> None:
        self.compass, self.points = compass, tuple(points)
        self.unit = compass.unit(0)

    def power(self, samples: Samples, what: str, shape: Sequence[Size] = ()) -> Order:
        return self.of(samples, lambda along: power(along, what), what)

    def initial(self, samples: Samples, what: str, shape: Sequence[Size] = ()) -> Order:
        return self.of(samples, lambda along: initial_size(along, what), what, ASYMPTOTIC)

    def snapped(self, samples: Samples, what: str, near: float = SNAP) -> Order:
        return self.of(samples, lambda along: snapped(along, what, near), what, near)

    def is_flat(self, samples: Samples) -> bool:
        return all(is_flat(along) for along in self._rays(samples).values())

    def of(
        self,
        samples: Samples,
        one: Callable[[Mapping[int, float]], Order],
        what: str,
        near: float = EXACT,
    ) -> Order:
        try:
            found = [one(along) for along in self._rays(samples).values()]
        except FitError as error:
            raise self._refusal(samples, what) from error
        if any(order is MINUS_INFINITY for order in found):
            if any(samples.values()):
                raise self._refusal(samples, what)
            return MINUS_INFINITY
        form = self.compass.form(found)
        base, moved = self.points[0], self.points[-1]
        off = math.log(samples[moved] / samples[base]) - math.log(power_at(moved, form) / power_at(base, form))
        if abs(off) > near * math.log(magnitude(moved) / magnitude(base)):
            raise self._refusal(samples, what)
        return form

    def growths(self, growths: Sequence[Order]) -> tuple[Order, ...]:
        # a single scale is one of sizes; no tensor has an axis that grows with the depth
        return tuple(Order(coordinates(growth, len(self.compass.scales))[0]) for growth in growths)

    def _rays(self, samples: Samples) -> dict[Scale, dict[int, float]]:
        rays = {scale: ray(self.points, scale.name) for scale in self.compass.scales}
        return {scale: {value: samples[point] for value, point in along} for scale, along in rays.items()}

    def _refusal(self, samples: Samples, what: str) -> FitError:
        listed = "; ".join(f"{value:.6g} at {place}" for place, value in samples.items())
        names = [scale.name for scale in self.compass.scales]
        power = "power" if len(names) == 1 else "product of powers"
        return FitError(
            f"{what} is {listed}, which is no {power} of {' and '.join(names)}; check that the same rule applies to it "
            f"at every place, or choose other values"
        )


__all__ = ["NEAR", "Numbers", "StarNumbers"]
