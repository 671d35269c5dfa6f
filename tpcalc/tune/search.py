"""``tune``: search at the base, and give what is found for the target."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Optional, Union

from tpcalc.algebra.scales import place_of, scales_of, scales_text
from tpcalc.errors import TpcalcError
from tpcalc.horizon import Horizon, assume_run
from tpcalc.optimizers import Recipe, UpdateLaw
from tpcalc.scaling.compute import parameters
from tpcalc.trace.target import factory_of, name_of
from tpcalc.transfer.cost import Cost, flops
from tpcalc.transfer.jobs import Executor, Here, Job, Ledger, Memory, work
from tpcalc.transfer.run import Trainer, trainer
from tpcalc.transfer.sizes import Sizes
from tpcalc.transfer.training import Outcome, Train
from tpcalc.tune.plan import Search, schedule
from tpcalc.tune.propose import SAMPLERS, SEEDS
from tpcalc.tune.result import Tuned
from tpcalc.tune.space import Space, default_space, parse_space

__all__ = ["SHARE", "Tuning", "tune"]

#: Of the FLOPs of one target run, what tuning may cost: what it cost TP5 (section 7.3) for GPT-3 of 6.7B parameters.
SHARE = 0.07


def tune(
    factory: Union[str, Callable[..., Any]],
    base: Union[int, Mapping[str, int]],
    target: Union[int, Mapping[str, int]],
    train: Optional[Train] = None,
    space: Union[str, Space, None] = None,
    *,
    trials: Optional[int] = None,
    share: float = SHARE,
    steps: int = 200,
    target_steps: Optional[int] = None,
    optimizer: Union[str, UpdateLaw, Recipe, Callable[..., Any]] = "adamw",
    seed: int = 0,
    sampler: str = "tpe",
    depth_alpha: Any = 1,
    device: str = "cpu",
    batch: Optional[Sequence[float]] = None,
    tokens: Optional[Sequence[float]] = None,
    horizon: Optional[str] = None,
    horizon_exponent: Any = None,
    ledger: Optional[Ledger] = None,
    executor: Optional[Callable[[Callable[[Job], Outcome]], Executor]] = None,
    told: Callable[[int, int], None] = lambda done, known: None,
) -> Tuned:
    """Tune the model at ``base`` for a run at ``target`` (two widths, or scales by name) of ``target_steps`` steps.

    ``train(model, optimizer, context)`` is the user's loop (:class:`~tpcalc.transfer.training.Context`).  ``space``:
    what is searched (:func:`~tpcalc.tune.space.parse_space`); by default lr, and constants of lr and init for
    each module.  The longest run at the base has ``steps`` steps; ``trials`` runs are short ones, by default as many as
    ``share`` of the cost of the target run pays for.  ``ledger``, ``executor``: where runs are noted and run.
    ``batch``, ``tokens``, ``horizon``, ``horizon_exponent``: as of :func:`tpcalc.scale`, of a run of ``steps`` steps at
    the base; with them the target run has the steps that these come to.  Without ``tokens`` the length follows from
    ``steps`` and ``target_steps``.  A rule is applied from the length of the run in which the numbers were found, which
    is often a shorter one.  The loop takes its batches itself.

    Raises TpcalcError where an argument is wrong, the model can't be traced or trained, or every run diverges.
    """
    return Tuning.of(
        factory,
        base,
        target,
        train,
        space,
        trials,
        share,
        steps,
        target_steps,
        optimizer,
        seed,
        sampler,
        depth_alpha,
        device,
        batch=batch,
        tokens=tokens,
        horizon=horizon,
        horizon_exponent=horizon_exponent,
    ).result(ledger or Memory(), executor, told)


class Tuning:
    """A search that is about to be done."""

    def __init__(
        self,
        how: Trainer,
        sizes: Sizes,
        search: Search,
        target: Mapping[str, int],
        cost: Cost,
        steps: int,
        assumed: Optional[Horizon] = None,
    ) -> None:
        self.how, self.sizes, self.search, self.target, self.cost = how, sizes, search, target, cost
        self.steps, self.assumed = steps, assumed

    @staticmethod
    def of(
        factory: Union[str, Callable[..., Any]],
        base: Union[int, Mapping[str, int]],
        target: Union[int, Mapping[str, int]],
        train: Optional[Train],
        space: Union[str, Space, None],
        trials: Optional[int],
        share: float,
        steps: int,
        target_steps: Optional[int],
        optimizer: Union[str, UpdateLaw, Recipe, Callable[..., Any]],
        seed: int,
        sampler: str,
        depth_alpha: Any,
        device: str,
        traced: Optional[Mapping[str, Sequence[int]]] = None,
        batch: Any = None,
        tokens: Any = None,
        horizon: Optional[str] = None,
        horizon_exponent: Any = None,
    ) -> Tuning:
        """Raises what :func:`tune` raises, but for what runs raise."""
        ends = [scales_of(end) for end in (base, target)]
        if steps < 1 or (trials is not None and trials < 1) or (target_steps is not None and target_steps < 1):
            raise TpcalcError("a search needs one step and one trial or more")
        assumed = assume_run(horizon, batch, tokens, horizon_exponent, steps, target_steps)
        if ends[0] == ends[1] and (assumed is None or set(assumed.ratios) == {1}):
            raise TpcalcError(
                f"base and target are both at {scales_text(ends[0])}: there is nothing to carry; give a larger target"
            )
        if not 0 < share < math.inf:
            raise TpcalcError(f"a share of {share:g} of the target run is no budget; give a positive number, as 0.07")
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < SEEDS:
            raise TpcalcError(f"seed {seed!r} is none; give a whole number from 0 to {SEEDS - 1}")
        if sampler not in SAMPLERS:
            raise TpcalcError(f"sampler {sampler!r} is unknown; choose one of {', '.join(SAMPLERS)}")
        how = trainer(factory_of(factory), optimizer, train, device)
        length, larger = target_steps or steps, Fraction(1)
        if assumed is not None:
            assumed.check(how.how)
            assumed = assumed.at(*(parameters(how.factory, end) for end in ends))
            length, larger = _length(assumed, steps, target_steps), assumed.ratios[0]
        sizes = Sizes(how.factory, ends[0], ends[1:], how.how, depth_alpha, traced=traced)
        chosen = default_space(sizes, how.how)
        if space is not None:
            chosen = parse_space(space, chosen) if isinstance(space, str) else space
        sizes.check({selector: {} for selector in chosen.selectors})
        small, large = (flops(how.factory, place_of(end)) for end in ends)
        large = round(large * larger)
        runs = schedule(share * large * length / (small * steps), steps, trials)
        search = Search(sizes.base, chosen, runs, seed, sampler)
        return Tuning(how, sizes, search, ends[1], Cost.of(small, large, runs.taken, length), steps, assumed)

    @property
    def asked(self) -> dict[str, Any]:
        """What the runs are of: with another of these they do not go together."""
        return {
            **self.how.asked,
            "base": dict(self.search.scales),
            "space": {name: list(ends) for name, ends in self.search.space.ranges.items()},
            "steps": [self.search.runs.trials, self.search.runs.short, self.search.runs.finals, self.search.runs.long],
            "seed": self.search.seed,
            "sampler": self.search.sampler,
        }

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """Of what varies."""
        return {name: self.search.space.ranges[name] for name in self.search.space.free}

    def run(self) -> Callable[[Job], Outcome]:
        """What does a job."""
        return self.sizes.runner(self.how)

    def result(
        self,
        ledger: Ledger,
        executor: Optional[Callable[[Callable[[Job], Outcome]], Executor]] = None,
        told: Callable[[int, int], None] = lambda done, known: None,
        wait: Callable[[], None] = lambda: None,
    ) -> Tuned:
        """Do what is left of the search, and give what is found."""
        done = work(self.search.jobs, ledger, (executor or Here)(self.run()), told, wait)
        best = self.search.best(done)
        scaling = self.sizes.multipliers(best.parametrization, self.target, best.constants)
        if self.assumed is not None:
            scaling = scaling.under(self.assumed.found_in(best.steps, self.steps), self.how.how.by_name)
        name, notes = name_of(self.how.factory), self.sizes.notes
        return Tuned(name, self.how.how.name, self.search, done, best, scaling, self.cost, notes)


def _length(assumed: Horizon, steps: int, target_steps: Optional[int]) -> int:
    """Steps of the target run: those of the base times what the batch sizes and the tokens come to."""
    wanted = steps * assumed.steps
    if target_steps is not None and abs(target_steps - wanted) > max(1.0, 0.01 * wanted):
        raise TpcalcError(
            f"{steps} steps at the base and these batch sizes and tokens come to {wanted:.6g} steps at the target, and "
            f"--target-steps is {target_steps}; leave it out, or give the tokens of these runs"
        )
    return target_steps or max(1, round(wanted))
