"""The result of a sweep: the loss against the learning rate at each size, under each parametrization."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Optional

from tpcalc.show import Shown
from tpcalc.transfer.cost import Cost
from tpcalc.transfer.optimum import Optimum, optimum_of

__all__ = ["DERIVED", "PARAMETRIZATIONS", "STANDARD", "TUNED", "UNSCALED", "Advice", "Curve", "Transfer"]

#: The code's own init and one learning rate; the multipliers of tpcalc; these with the constants of a recipe; those
#: constants alone.
STANDARD, DERIVED, TUNED, UNSCALED = PARAMETRIZATIONS = ("standard", "derived", "tuned", "unscaled")


@dataclass(frozen=True)
class Curve:
    """Losses of one ``parametrization`` at one size.  ``losses``: of each seed, at each of ``rates`` (as at the base,
    ascending); infinite where a run diverged."""

    parametrization: str
    scales: Mapping[str, int]
    rates: tuple[float, ...]
    losses: tuple[tuple[float, ...], ...]

    @cached_property
    def means(self) -> tuple[float, ...]:
        """At each rate, over the seeds."""
        return tuple(sum(losses) / len(losses) for losses in zip(*self.losses, strict=True))

    @property
    def best(self) -> int:
        """Index of the rate that is best on average."""
        return min(range(len(self.rates)), key=self.means.__getitem__)

    @cached_property
    def optimum(self) -> Optional[Optimum]:
        """None where every run diverged."""
        return optimum_of(self.rates, self.losses) if math.isfinite(self.means[self.best]) else None

    def at(self, rate: float) -> tuple[float, float]:
        """Mean loss over seeds at a rate that was tried, and its standard error (0 of one seed)."""
        losses = [own[self.rates.index(rate)] for own in self.losses]
        mean, count = sum(losses) / len(losses), len(losses)
        if count == 1 or not math.isfinite(mean):
            return mean, 0.0
        return mean, math.sqrt(sum((x - mean) ** 2 for x in losses) / (count - 1) / count)


@dataclass(frozen=True)
class Advice:
    """What would help at the base: the constant of a module's ``kind`` that lowers the loss there most.

    ``loss``: there, with it; ``before``: without."""

    module: str
    kind: str
    factor: float
    loss: float
    before: float


@dataclass(frozen=True)
class Transfer(Shown):
    """``curves``: by size, the smallest first, and there by parametrization.  ``steps``, ``seeds``: of each run.

    ``cost``: of the sweep at the smallest size, as a share of one run at the largest.  ``advice``: where the derived
    rules lose against the standard ones at the largest size, best first."""

    name: str
    optimizer: str
    curves: tuple[Curve, ...]
    steps: int
    seeds: int
    cost: Cost
    advice: tuple[Advice, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def places(self) -> tuple[Mapping[str, int], ...]:
        found: list[Mapping[str, int]] = []
        for curve in self.curves:
            if curve.scales not in found:
                found.append(curve.scales)
        return tuple(found)

    @property
    def parametrizations(self) -> tuple[str, ...]:
        return tuple(name for name in PARAMETRIZATIONS if any(c.parametrization == name for c in self.curves))

    def curve(self, parametrization: str, scales: Mapping[str, int]) -> Curve:
        return next(c for c in self.curves if (c.parametrization, c.scales) == (parametrization, scales))

    def drift(self, parametrization: str) -> Optional[float]:
        """log2 of the optimum at the largest size over that at the smallest; None where one of them is not there."""
        ends = [self.curve(parametrization, place).optimum for place in (self.places[0], self.places[-1])]
        return None if ends[0] is None or ends[1] is None else math.log2(ends[1].rate / ends[0].rate)
