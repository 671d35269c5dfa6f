"""The result of a sweep: the loss against the learning rate at each size, under each parametrization."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Optional

from tpcalc.show import Shown
from tpcalc.transfer.cost import Cost
from tpcalc.transfer.optimum import Optimum, optimum_of

__all__ = [
    "DERIVED", "PARAMETRIZATIONS", "STANDARD", "TUNED", "UNSCALED", "Advice", "Behind", "Curve", "Ending", "Transfer",
]  # fmt: skip

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

    @property
    def loss(self) -> float:
        """Mean at the best rate that was tried; infinite where every one has a run that diverged."""
        return self.means[self.best]

    @cached_property
    def optimum(self) -> Optional[Optimum]:
        """None where every rate has a run that diverged."""
        return optimum_of(self.rates, self.losses) if math.isfinite(self.loss) else None

    @property
    def diverged(self) -> int:
        """How many runs did."""
        return sum(not math.isfinite(loss) for own in self.losses for loss in own)

    def by_seed(self, rate: float) -> tuple[float, ...]:
        """Losses at a rate that was tried."""
        return tuple(own[self.rates.index(rate)] for own in self.losses)

    def at(self, rate: float) -> tuple[float, float]:
        """Mean loss over seeds at a rate that was tried, and its standard error (0 of one seed)."""
        return mean_error(self.by_seed(rate))


@dataclass(frozen=True)
class Ending:
    """At the largest size: the loss and its standard error with ``rate``, the best of those tried at the smallest size
    (``carried``), and with ``best_rate``, the best of those tried there (``best``).  Infinite where runs diverged."""

    rate: float
    carried: float
    carried_error: float
    best_rate: float
    best: float
    best_error: float


@dataclass(frozen=True)
class Behind:
    """How much more loss ``ours`` has, at the largest size with the rate of the smallest, than ``other`` at its own
    best.  ``error``: standard error of the difference, seed by seed, as a seed has the same data in both (0 of one);
    of two means where they had different numbers of seeds."""

    ours: str
    other: str
    difference: float
    error: float

    @property
    def no_worse(self) -> bool:
        """Within one standard error."""
        return self.difference <= self.error


@dataclass(frozen=True)
class Advice:
    """What would help at the base: the constant of a module's ``kind`` that lowers the loss there most.

    ``loss``: there, with it; ``before``: without; ``error``: standard error of the difference, seed by seed (0 of
    one)."""

    module: str
    kind: str
    factor: float
    loss: float
    before: float
    error: float = 0.0


@dataclass(frozen=True, repr=False)
class Transfer(Shown):
    """``curves``: by size, the smallest first, and there by parametrization.  ``steps``, ``seeds``: of each run.

    ``cost``: of the sweep at the smallest size, as a share of one run at the largest; None where it can't be counted.
    ``advice``: where the derived rules lose against the standard ones at the largest size, best first."""

    name: str
    optimizer: str
    curves: tuple[Curve, ...]
    steps: int
    seeds: int
    cost: Optional[Cost]
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

    def find(self, parametrization: str, scales: Mapping[str, int]) -> Optional[Curve]:
        """The curve of one parametrization at one size, where there is one."""
        wanted = (parametrization, scales)
        return next((curve for curve in self.curves if (curve.parametrization, curve.scales) == wanted), None)

    def curve(self, parametrization: str, scales: Mapping[str, int]) -> Curve:
        """Raises KeyError where it was not run."""
        found = self.find(parametrization, scales)
        if found is None:
            raise KeyError(f"{parametrization} at {dict(scales)}")
        return found

    def _ends(self, parametrization: str) -> Optional[tuple[Curve, Curve]]:
        """At the smallest size and at the largest."""
        first, last = (self.find(parametrization, place) for place in (self.places[0], self.places[-1]))
        return None if first is None or last is None else (first, last)

    def _optima(self, parametrization: str) -> Optional[tuple[Optimum, Optimum]]:
        ends = self._ends(parametrization)
        first, last = (None, None) if ends is None else (ends[0].optimum, ends[1].optimum)
        return None if first is None or last is None else (first, last)

    def drift(self, parametrization: str) -> Optional[float]:
        """log2 of the optimum at the largest size over that at the smallest; None where one of them is not there."""
        optima = self._optima(parametrization)
        return None if optima is None else math.log2(optima[1].rate / optima[0].rate)

    def drifts_within(self, parametrization: str, most: float) -> bool:
        """Whether the drift is known to be at most ``most`` in size: not where an optimum is at an end of the grid, as
        that is only a bound."""
        optima, drift = self._optima(parametrization), self.drift(parametrization)
        return optima is not None and not any(own.edge for own in optima) and abs(drift or 0.0) <= most

    def drift_error(self, parametrization: str) -> Optional[float]:
        """Standard error of the drift over seeds; None of one seed, too."""
        optima = self._optima(parametrization)
        if optima is None or optima[0].error is None or optima[1].error is None:
            return None
        return math.hypot(optima[0].error, optima[1].error)

    def ending(self, parametrization: str) -> Optional[Ending]:
        """None where it was not run at both ends, or the rate of the smallest size was not tried at the largest."""
        ends = self._ends(parametrization)
        if ends is None or not math.isfinite(ends[0].loss):
            return None
        first, last = ends
        rate, best = first.rates[first.best], last.rates[last.best]
        return Ending(rate, *last.at(rate), best, *last.at(best)) if rate in last.rates else None

    def behind(self, ours: str = DERIVED, other: str = STANDARD) -> Optional[Behind]:
        """None where one of them is not there."""
        ending, theirs = self.ending(ours), self.find(other, self.places[-1])
        if ending is None or theirs is None:
            return None
        if not math.isfinite(theirs.loss):  # both may be infinite
            difference = math.inf if math.isinf(ending.carried) else -math.inf
            return Behind(ours, other, difference, 0.0)
        carried = self.curve(ours, self.places[-1]).by_seed(ending.rate)
        best = theirs.by_seed(theirs.rates[theirs.best])
        if len(carried) == len(best):
            return Behind(ours, other, *mean_error([own - their for own, their in zip(carried, best)]))
        mean, error = mean_error(best)
        return Behind(ours, other, ending.carried - mean, math.hypot(ending.carried_error, error))


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """With its standard error: 0 of one value, and of infinite ones."""
    mean, count = sum(values) / len(values), len(values)
    if count == 1 or not math.isfinite(mean):
        return mean, 0.0
    return mean, math.sqrt(sum((x - mean) ** 2 for x in values) / (count - 1) / count)
