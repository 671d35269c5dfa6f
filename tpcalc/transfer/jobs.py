"""Jobs: what one run is asked for, and how many of them are done once each, by one process or several.

A plan says which jobs there are, given what has come of others.  It is a function of those outcomes alone, and a run
of its job alone, so that one process, several, or a cluster come to the same end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Optional, Protocol

from tpcalc.transfer.run import Base
from tpcalc.transfer.training import Outcome

__all__ = ["Claim", "Done", "Executor", "Here", "Job", "Ledger", "Memory", "Plan", "work"]


@dataclass(frozen=True)
class Job:
    """``numbers``: hyperparameters as at the base, by name: ``lr``, ``weight_decay``, ``eps``, and constants of modules
    such as ``embedding.lr``.  ``scales``: where, by name.  Equal jobs have equal outcomes."""

    parametrization: str
    scales: tuple[tuple[str, int], ...]
    numbers: tuple[tuple[str, float], ...]
    steps: int
    seed: int

    @staticmethod
    def of(parametrization: str, scales: Mapping[str, int], numbers: Mapping[str, float], steps: int, seed: int) -> Job:
        return Job(parametrization, tuple(scales.items()), tuple(sorted(numbers.items())), steps, seed)

    @cached_property
    def key(self) -> str:
        return json.dumps(asdict(self))

    @property
    def base(self) -> Base:
        return Base(**{name: number for name, number in self.numbers if "." not in name})

    @property
    def constants(self) -> dict[str, dict[str, float]]:
        """Selector -> kind -> constant, of the numbers that have a selector."""
        found: dict[str, dict[str, float]] = {}
        for name, number in self.numbers:
            selector, dot, kind = name.rpartition(".")
            if dot:
                found.setdefault(selector, {})[kind] = number
        return found


Done = Mapping[Job, Outcome]
#: All jobs that can be known from what is done, in order.
Plan = Callable[[Done], Sequence[Job]]


class Claim(Protocol):
    """A job that is this process's to do."""

    job: Job

    def tell(self, outcome: Outcome) -> None: ...

    def drop(self) -> None: ...


class Ledger(Protocol):
    """What is done, and who does what."""

    def done(self) -> Done: ...

    def claim(self, jobs: Sequence[Job]) -> Optional[Claim]:
        """One of the jobs that nobody does or has done; None where there is none."""


class Executor(Protocol):
    """Where jobs are run: ``slots`` at once."""

    @property
    def slots(self) -> int: ...

    def start(self, job: Job) -> Any: ...

    def finish(self, running: Sequence[Any]) -> tuple[Any, Outcome]:
        """Wait for one of what was started."""


@dataclass
class _Noted:
    ledger: Memory
    job: Job

    def tell(self, outcome: Outcome) -> None:
        self.ledger.outcomes[self.job] = outcome
        self.ledger.taken.discard(self.job)

    def drop(self) -> None:
        self.ledger.taken.discard(self.job)


class Memory:
    """The ledger of one process."""

    def __init__(self) -> None:
        self.outcomes: dict[Job, Outcome] = {}
        self.taken: set[Job] = set()

    def done(self) -> Done:
        return self.outcomes

    def claim(self, jobs: Sequence[Job]) -> Optional[Claim]:
        free = next((job for job in jobs if job not in self.outcomes and job not in self.taken), None)
        if free is None:
            return None
        self.taken.add(free)
        return _Noted(self, free)


@dataclass(frozen=True)
class Here:
    """One job after the other, in this process."""

    run: Callable[[Job], Outcome]
    slots: int = 1

    def start(self, job: Job) -> Any:
        return job

    def finish(self, running: Sequence[Any]) -> tuple[Any, Outcome]:
        return running[0], self.run(running[0])


def work(
    plan: Plan,
    ledger: Ledger,
    executor: Executor,
    told: Callable[[int, int], None] = lambda done, known: None,
    wait: Callable[[], None] = lambda: None,
) -> dict[Job, Outcome]:
    """Do all jobs of a plan that others do not do, until every one is done.

    ``told``: how many are done, and of how many that are known so far.  ``wait``: called where all that is left is
    others'.  Claims that are not done when this is left are given back.
    """
    claims: list[Claim] = []
    running: dict[Any, Claim] = {}
    try:
        while True:
            done = ledger.done()
            jobs = plan(done)
            left = [job for job in jobs if job not in done]
            told(len(jobs) - len(left), len(jobs))
            if not left:
                return {job: done[job] for job in jobs}
            while len(running) < executor.slots and (claim := ledger.claim(left)) is not None:
                claims.append(claim)
                running[executor.start(claim.job)] = claim
            if running:
                finished, outcome = executor.finish(list(running))
                claim = running.pop(finished)
                claim.tell(outcome)
                claims.remove(claim)
            else:
                wait()
    finally:
        for claim in claims:
            claim.drop()
