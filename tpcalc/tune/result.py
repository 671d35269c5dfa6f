"""The result of a search: the hyperparameters of the base, and what they become at the target."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Optional

from tpcalc.algebra.scales import scales_of
from tpcalc.scaling.result import Scaling
from tpcalc.show import Shown
from tpcalc.transfer.cost import Cost
from tpcalc.transfer.jobs import Done, Job
from tpcalc.transfer.run import Base
from tpcalc.tune.plan import Search

__all__ = ["Tuned"]

#: Betas that torch's optimizers have unless they are told others.
AVERAGES: dict[str, dict[str, Any]] = {
    "adam": {"betas": (0.9, 0.999)},
    "adamw": {"betas": (0.9, 0.999)},
    "rmsprop": {"alpha": 0.99},
}


@dataclass(frozen=True, repr=False)
class Tuned(Shown):
    """``best``: the job whose numbers were taken.  ``scaling``: multipliers from the base to the target, with the
    constants of modules in them.  ``cost``: of all runs, as a share of one run of ``cost.steps`` steps at the target.
    """

    name: str
    optimizer: str
    search: Search
    done: Done
    best: Job
    scaling: Scaling
    cost: Cost
    notes: tuple[str, ...] = ()

    @property
    def base(self) -> Base:
        """The plain hyperparameters at the base."""
        return self.best.base

    @property
    def given(self) -> dict[str, Any]:
        """What ``param_groups`` is given at the target: the plain hyperparameters, and the averages of torch's own
        optimizers, by which runs are made, where an assumed rule changes them."""
        moved = (self.scaling.assumed or {}).get("laws", {})
        averages = (AVERAGES.get(law, {}) for law, own in moved.items() if own["one_minus_beta"]["factor"] != 1)
        return {**vars(self.base), **{key: value for own in averages for key, value in own.items()}}

    @property
    def constants(self) -> dict[str, dict[str, float]]:
        """Of modules."""
        return self.best.constants

    @property
    def loss(self) -> float:
        return self.done[self.best].loss

    @cached_property
    def jobs(self) -> tuple[Job, ...]:
        """All runs, in the order of the plan."""
        return tuple(self.search.jobs(self.done))

    @property
    def before(self) -> Optional[float]:
        """The least loss of the model as it is, all constants 1, in short runs; None where all of them diverged."""
        found = [self.done[job].loss for job in self.search.first if math.isfinite(self.done[job].loss)]
        return min(found, default=None)

    @property
    def as_it_is(self) -> bool:
        """Whether :attr:`before` is of all constants 1, and not of the ends of ranges that leave them out."""
        own = (number for job in self.search.first for name, number in job.numbers if "." in name)
        return all(number == 1 for number in own)

    @property
    def after(self) -> float:
        """The least loss in short runs, to compare with :attr:`before`."""
        return min(self.done[job].loss for job in self.jobs if job.steps == self.search.runs.short)

    @property
    def ends(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """The base and the target, by name."""
        return scales_of(self.scaling.base), scales_of(self.scaling.target)
