"""The plan of a search: many short runs, of which the best few go on longer.

A run of few steps costs little and tells most of what is to be known, so most of the budget goes there, and what is
left to a decision between the best at more steps (successive halving: Jamieson and Talwalkar 2016).  Every run ends
its own schedule, so that it is no cut-off of a longer one.  The rate that is best tends to fall with the steps, so the
decision is also between rates.

The plan follows from outcomes alone, a generation from all of those before it, and so does not depend on how many
processes do it, or in which order they finish.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tpcalc.errors import TpcalcError
from tpcalc.transfer.jobs import Done, Job
from tpcalc.transfer.result import TUNED
from tpcalc.transfer.sweep import check_moves
from tpcalc.tune.propose import propose
from tpcalc.tune.space import Space

__all__ = ["Schedule", "Search", "schedule"]

#: Of the budget, what the short runs have.
SHORT = 0.65
#: What a short run has of the steps, longest first, and how many of them are worth more than their length.
FRACTIONS, ENOUGH = (1 / 4, 1 / 8, 1 / 16), 16
#: A run of the decision is so many times longer.
LONGER = (4, 2)
#: The fewest short runs that are a search.
FEWEST = 3
#: Generations: the fewest runs of one, and into how many those of a large search fall.
GENERATION, GENERATIONS = 4, 8
#: Factors of the learning rate in the decision.
RATES = (1.0, 0.5)


@dataclass(frozen=True)
class Schedule:
    """``trials`` runs of ``short`` steps, then ``finals`` of ``long`` ones."""

    trials: int
    short: int
    finals: int
    long: int

    @property
    def taken(self) -> int:
        """Steps of all runs together."""
        return self.trials * self.short + self.finals * self.long


def schedule(budget: float, steps: int, trials: int | None = None) -> Schedule:
    """``budget``: in runs of ``steps`` steps.  ``trials``: how many short runs, where that is not left to the budget.

    Raises TpcalcError where it pays for no search.
    """
    if trials is not None and trials < FEWEST:
        raise TpcalcError(f"--trials {trials} is no search; give {FEWEST} or more")
    fraction = next((f for f in FRACTIONS if SHORT * budget / f >= (trials or ENOUGH)), FRACTIONS[-1])
    short = max(1, round(fraction * steps))
    count = trials or int(SHORT * budget * steps / short)
    if count < FEWEST:
        raise TpcalcError(
            f"the budget pays for {budget:.2g} runs of {steps} steps at the base, which is no search; give a smaller "
            f"base, a larger --share, more --target-steps, or --trials"
        )
    left = budget * steps - count * short
    for longer in LONGER:
        long = min(steps, longer * short)
        if left >= long:
            return Schedule(count, short, min(int(left / long), count), long)
    return (
        Schedule(count, short, 0, short) if trials is None else Schedule(count, short, 1, min(steps, LONGER[0] * short))
    )


@dataclass(frozen=True)
class Search:
    """At ``scales``, from ``seed``; ``sampler``: of :mod:`tpcalc.tune.propose`."""

    scales: Mapping[str, int]
    space: Space
    runs: Schedule
    seed: int = 0
    sampler: str = "tpe"

    def job(self, numbers: Mapping[str, float], steps: int) -> Job:
        return Job.of(TUNED, self.scales, numbers, steps, self.seed)

    @cached_property
    def first(self) -> list[Job]:
        """The model as it is, at learning rates across their range."""
        low, high = self.space.ranges["lr"]
        count = 1 if low == high else max(FEWEST, min(5, self.runs.trials // 4))
        rates = [low * (high / low) ** ((i + 0.5) / count) for i in range(count)]
        return list(dict.fromkeys(self.job(self.space.own(rate), self.runs.short) for rate in rates))[
            : self.runs.trials
        ]

    def jobs(self, done: Done) -> list[Job]:
        """All that is known of the search.  Raises TpcalcError where what is tried makes no difference."""
        found = list(self.first)
        while all(job in done for job in found):
            if self.runs.short > 1:  # after one step many a loop gives the loss from before it
                check_moves([[done[job].loss for job in found]])
            if len(found) >= self.runs.trials:
                return list(dict.fromkeys(found + self.finals(found, done)))
            losses = tuple(done[job].loss for job in found)
            if losses not in self._generations:  # what was found follows from them
                self._generations[losses] = self._next(found, losses)
            found += self._generations[losses]
        return found

    @cached_property
    def _generations(self) -> dict[tuple[float, ...], list[Job]]:
        """Losses of all short runs so far -> the next ones: proposals take as long as small runs do."""
        return {}

    def _next(self, found: Sequence[Job], losses: Sequence[float]) -> list[Job]:
        size = min(max(GENERATION, self.runs.trials // GENERATIONS), self.runs.trials - len(found))
        history = [(dict(job.numbers), loss) for job, loss in zip(found, losses, strict=True)]
        new = propose(self.space, history, size, self.seed * 100_003 + len(found), self.sampler)
        return [self.job(numbers, self.runs.short) for numbers in new]

    def finals(self, short: list[Job], done: Done) -> list[Job]:
        """The best at learning rates of their own, and half of these, for more steps; from the third place on also the
        model as it is, so that no recipe is worse than none."""
        ranked = sorted((job for job in short if math.isfinite(done[job].loss)), key=lambda job: done[job].loss)
        own = [job for job in ranked if job in self.first][:1]
        tried = [
            self.job(self.space.within({**dict(job.numbers), "lr": job.base.lr * rate}), self.runs.long)
            for job in (*ranked[:1], *own, *ranked[1:])
            for rate in RATES
        ]
        return list(dict.fromkeys(tried))[: self.runs.finals]

    def best(self, done: Done) -> Job:
        """Of the longest runs the one with the least loss.

        Raises TpcalcError where every run diverged, or what was tried makes no difference.
        """
        jobs = [job for job in self.jobs(done) if math.isfinite(done[job].loss)]
        if not jobs:
            low, high = self.space.ranges["lr"]
            raise TpcalcError(
                f"every run diverged at learning rates from {low:g} to {high:g}; give smaller ones, as "
                f"--space lr={low / 100:g}:{high / 100:g}"
            )
        longest = max(job.steps for job in jobs)
        last = [job for job in jobs if job.steps == longest]
        if longest > 1:
            check_moves([[done[job].loss for job in last]])
        return min(last, key=lambda job: done[job].loss)
