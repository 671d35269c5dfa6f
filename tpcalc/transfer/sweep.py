"""``transfer``: the learning rate swept at several sizes, under standard parametrization and under the derived rules.

What TP5 shows in its figure 1: does the optimum of the smallest model serve the largest?
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any, Optional, Union

from tpcalc.algebra.scales import place_of, scales_text
from tpcalc.errors import TpcalcError
from tpcalc.optimizers import Recipe, UpdateLaw
from tpcalc.trace.target import factory_of, name_of
from tpcalc.transfer.cost import Cost, flops
from tpcalc.transfer.jobs import Done, Executor, Here, Job, Ledger, Memory, work
from tpcalc.transfer.result import DERIVED, STANDARD, TUNED, UNSCALED, Advice, Curve, Transfer, mean_error
from tpcalc.transfer.run import Base, Trainer, trainer
from tpcalc.transfer.sizes import Sizes
from tpcalc.transfer.training import Outcome, Train
from tpcalc.transfer.tuned import Constants

__all__ = ["Sweep", "Sweeping", "along", "check_moves", "rates_between", "transfer"]

#: Constants of a module that advice tries at the base.
TRIED = (0.25, 4.0)


def transfer(
    factory: Union[str, Callable[..., Any]],
    scales: Mapping[str, Sequence[int]],
    lr: tuple[float, float] = (1e-4, 1e-1),
    points: int = 7,
    steps: int = 200,
    seeds: int = 3,
    train: Optional[Train] = None,
    optimizer: Union[str, UpdateLaw, Recipe, Callable[..., Any]] = "adamw",
    *,
    weight_decay: float = 0.0,
    eps: float = 1e-8,
    constants: Optional[Constants] = None,
    depth_alpha: Any = 1,
    device: str = "cpu",
    ledger: Optional[Ledger] = None,
    executor: Optional[Callable[[Callable[[Job], Outcome]], Executor]] = None,
    told: Callable[[int, int], None] = lambda done, known: None,
) -> Transfer:
    """Train at every size, learning rate and seed, and say where the optimum is and how it drifts.

    ``scales``: ``{"width": (64, 128, 256)}``; scales with several values grow together, so each has as many, and one
    value keeps a scale where it is.  The first is the base.  ``lr``: the ends of ``points`` rates, evenly spaced in the
    logarithm.  ``train(model, optimizer, context)`` trains for ``context.steps`` steps and gives the loss to be judged
    by (:class:`~tpcalc.transfer.training.Context`).  ``constants`` of modules (of a recipe) add two parametrizations:
    ``tuned``, with the derived powers, and its twin ``unscaled``, without.  ``ledger``, ``executor``: where runs are
    noted and run; by default here.  Where the derived rules lose at the largest size, each module's constants are tried
    at the base, for advice.

    Raises TpcalcError where an argument is wrong, the model can't be traced or trained, or every run diverges.
    """
    sweep = Sweep.of(scales, lr, points, steps, seeds, weight_decay, eps, constants)
    return Sweeping(sweep, trainer(factory_of(factory), optimizer, train, device), depth_alpha).result(
        ledger or Memory(), executor, told
    )


class Sweeping:
    """A sweep that is about to be done.  Raises what :func:`transfer` raises, but for what runs raise."""

    def __init__(self, sweep: Sweep, how: Trainer, depth_alpha: Any = 1) -> None:
        self.sweep, self.how, self.depth_alpha = sweep, how, depth_alpha
        self.sizes = Sizes(how.factory, sweep.places[0], sweep.places[1:], how.how, depth_alpha)
        self.sizes.check(sweep.constants)

    @property
    def asked(self) -> dict[str, Any]:
        """What the runs are of: with another of these they do not go together."""
        return {**asdict(self.sweep), **self.how.asked, "depth_alpha": str(self.depth_alpha)}

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """Of what varies."""
        return {"lr": (self.sweep.rates[0], self.sweep.rates[-1])}

    def run(self) -> Callable[[Job], Outcome]:
        """What does a job."""
        return self.sizes.runner(self.how)

    def result(
        self,
        ledger: Ledger,
        executor: Optional[Callable[[Callable[[Job], Outcome]], Executor]] = None,
        told: Callable[[int, int], None] = lambda done, known: None,
        wait: Callable[[], None] = lambda: None,
    ) -> Transfer:
        """Do what is left of the sweep, and compare."""
        sweep, factory = self.sweep, self.how.factory
        plan = partial(sweep.jobs, modules=self.sizes.modules)
        done = work(plan, ledger, (executor or Here)(self.run()), told, wait)
        notes = [*self.sizes.notes]
        cost = None
        try:
            small, large = (flops(factory, place_of(sweep.places[end])) for end in (0, -1))
            cost = Cost.of(small, large, sweep.taken, sweep.steps)
        except TpcalcError as error:
            notes.append(f"the cost can't be counted: {error}")
        name = name_of(factory)
        curves = tuple(sweep.curves(done))
        advice = sweep.advice(done)
        return Transfer(name, self.how.how.name, curves, sweep.steps, sweep.seeds, cost, advice, tuple(notes))


def along(scales: Mapping[str, Sequence[int]]) -> tuple[dict[str, int], ...]:
    """The sizes: scales of several values grow together, those of one stay.

    Raises TpcalcError where they have different numbers of values, do not grow, or none moves.
    """
    for name, values in scales.items():
        if not isinstance(values, Sequence) or not values:
            raise TpcalcError(f"the scale {name} has the values {values!r}; give one or more, as (64, 128, 256)")
    moving = {name: tuple(values) for name, values in scales.items() if len(values) > 1}
    if not moving:
        raise TpcalcError("no scale moves; give one of them two or more values, as width=64,128,256")
    counts = {len(values) for values in moving.values()}
    if len(counts) > 1:
        told = " and ".join(f"{name} {len(values)}" for name, values in moving.items())
        raise TpcalcError(f"scales that grow together have as many values each, and here {told}; give as many, or one")
    for name, values in moving.items():
        if list(values) != sorted(set(values)):
            raise TpcalcError(
                f"{name}={','.join(map(str, values))} does not grow; give ascending values, the base first"
            )
    (count,) = counts
    return tuple(
        {name: values[index if len(values) > 1 else 0] for name, values in scales.items()} for index in range(count)
    )


def rates_between(lr: tuple[float, float], points: int) -> tuple[float, ...]:
    """``points`` learning rates, evenly spaced in the logarithm.  Raises TpcalcError where they can't be."""
    low, high = lr
    if not (0 < low < high < math.inf):
        raise TpcalcError(
            f"learning rates {low:g}:{high:g} are no range; give two positive ones, the smaller first, as 1e-4:1e-1"
        )
    if points < 3:
        raise TpcalcError(f"{points} learning rates show no optimum; give three points or more")
    step = math.log(high / low) / (points - 1)
    rates = tuple(float(f"{low * math.exp(step * i):.6g}") for i in range(points))
    if len(set(rates)) < points:
        raise TpcalcError(f"learning rates {low:g}:{high:g} are too near for {points} points; give ends apart")
    return rates


def check_moves(losses: Sequence[Sequence[float]]) -> None:
    """``losses``: of each seed, for different hyperparameters.  Raises TpcalcError where these make no difference."""
    if all(len(own) > 1 and len(set(own)) == 1 and math.isfinite(own[0]) for own in losses):
        raise TpcalcError(
            f"the loss is {losses[0][0]:.4g} whatever the learning rate: the loop does not train with the optimizer it "
            f"is given, or returns a loss from before its first step; mend the loop, or give more steps"
        )


@dataclass(frozen=True)
class Sweep:
    """What is run: every size, rate and seed, under each parametrization."""

    places: tuple[dict[str, int], ...]
    rates: tuple[float, ...]
    steps: int
    seeds: int
    weight_decay: float
    eps: float
    constants: Constants

    @staticmethod
    def of(
        scales: Mapping[str, Sequence[int]],
        lr: tuple[float, float],
        points: int,
        steps: int,
        seeds: int,
        weight_decay: float = 0.0,
        eps: float = 1e-8,
        constants: Optional[Constants] = None,
    ) -> Sweep:
        """Raises TpcalcError where an argument is wrong."""
        if steps < 1 or seeds < 1:
            raise TpcalcError("a sweep needs one step and one seed or more")
        Base(lr[0], weight_decay, eps).check()
        return Sweep(along(scales), rates_between(lr, points), steps, seeds, weight_decay, eps, constants or {})

    @property
    def parametrizations(self) -> tuple[str, ...]:
        return (STANDARD, DERIVED, TUNED, UNSCALED) if self.constants else (STANDARD, DERIVED)

    def job(self, name: str, place: Mapping[str, int], rate: float, seed: int, extra: Constants) -> Job:
        """At the base multipliers are 1, and the derived rules what the code has."""
        alike = {DERIVED: STANDARD, UNSCALED: TUNED}
        name = alike.get(name, name) if place == self.places[0] else name
        numbers = {"lr": rate, "weight_decay": self.weight_decay, "eps": self.eps}
        for selector, own in extra.items():
            numbers.update({f"{selector}.{kind}": number for kind, number in own.items()})
        return Job.of(name, place, numbers, self.steps, seed)

    def row(self, name: str, place: Mapping[str, int]) -> list[list[Job]]:
        """The jobs of one curve: of each seed, at each rate."""
        extra = self.constants if name in (TUNED, UNSCALED) else {}
        return [[self.job(name, place, rate, seed, extra) for rate in self.rates] for seed in range(self.seeds)]

    @cached_property
    def grid(self) -> dict[Job, None]:
        """The jobs of all curves, each once, small sizes first."""
        curves = ((name, place) for place in self.places for name in self.parametrizations)
        return dict.fromkeys(job for curve in curves for seed in self.row(*curve) for job in seed)

    def jobs(self, done: Done, modules: Mapping[str, frozenset[str]]) -> list[Job]:
        """All of the sweep, small sizes first; then those for advice, where the derived rules lose.

        Raises TpcalcError where every run of the code's own parametrization diverged at the base, or the rate makes no
        difference there.
        """
        base = [job for seed in self.row(STANDARD, self.places[0]) for job in seed]
        if all(job in done and math.isinf(done[job].loss) for job in base):
            raise TpcalcError(
                f"every run at {scales_text(self.places[0])} diverged, at the learning rates "
                f"{self.rates[0]:g}:{self.rates[-1]:g}; try smaller ones, or mend the loop"
            )
        if all(job in done for job in base):
            check_moves([[done[job].loss for job in seed] for seed in self.row(STANDARD, self.places[0])])
        found = [*self.grid]
        if all(job in done for job in found) and self.loses(done):
            found += self.trials(done, sorted(set().union(*modules.values())))
        return found

    def loses(self, done: Done) -> bool:
        """Whether at the largest size the derived rules are worse than the standard ones, each at its best."""
        ends = (self.curve(name, self.places[-1], done) for name in (DERIVED, STANDARD))
        derived, standard = (curve.at(curve.rates[curve.best]) for curve in ends)
        return derived[0] > standard[0] + max(derived[1], standard[1])

    def trials(self, done: Done, modules: Sequence[str]) -> list[Job]:
        """One constant of one module each, at the base and its best rate."""
        rate = self._best(done)
        tried = ((module, kind, factor) for module in modules for kind in ("lr", "init") for factor in TRIED)
        return [
            self.job(TUNED, self.places[0], rate, seed, {module: {kind: factor}})
            for module, kind, factor in tried
            for seed in range(self.seeds)
        ]

    def _best(self, done: Done) -> float:
        curve = self.curve(STANDARD, self.places[0], done)
        return curve.rates[curve.best]

    def curve(self, name: str, place: Mapping[str, int], done: Done) -> Curve:
        losses = tuple(tuple(done[job].loss for job in seed) for seed in self.row(name, place))
        return Curve(name, place, self.rates, losses)

    def curves(self, done: Done) -> list[Curve]:
        return [self.curve(name, place, done) for place in self.places for name in self.parametrizations]

    def advice(self, done: Done) -> tuple[Advice, ...]:
        """The constants that lower the loss at the base by more than chance, the best of each module first."""
        tried = [job for job in done if job not in self.grid]
        if not tried:
            return ()
        before = self.curve(STANDARD, self.places[0], done).by_seed(self._best(done))
        found: dict[tuple[str, str, float], list[tuple[float, float]]] = {}
        for job in tried:
            ((module, own),) = job.constants.items()
            ((kind, factor),) = own.items()
            found.setdefault((module, kind, factor), []).append((done[job].loss, before[job.seed]))
        best: dict[str, Advice] = {}
        for (module, kind, factor), pairs in sorted(found.items(), key=lambda one: sum(loss for loss, _ in one[1])):
            gain, error = mean_error([without - loss for loss, without in pairs])
            if gain > error:
                without = sum(without for _, without in pairs) / len(pairs)
                best.setdefault(module, Advice(module, kind, factor, without - gain, without, error))
        return tuple(best.values())

    @property
    def taken(self) -> int:
        """Steps at the base of one tuning of the learning rate there: what has to be done in place of a sweep at the
        target."""
        return len(self.rates) * self.seeds * self.steps
