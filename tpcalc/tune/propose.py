"""Proposals of what to try next, by the samplers of Optuna."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tpcalc.errors import TpcalcError
from tpcalc.transfer.stored import require_optuna
from tpcalc.tune.space import Space

__all__ = ["SAMPLERS", "propose"]

#: What a run that diverged counts as: worse than the worst by this.
WORSE = 1.0


def _tpe(optuna: Any, seed: int) -> Any:
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=1)


def _random(optuna: Any, seed: int) -> Any:
    return optuna.samplers.RandomSampler(seed=seed)


#: Name -> what makes one of a seed.
SAMPLERS: dict[str, Callable[[Any, int], Any]] = {"tpe": _tpe, "random": _random}


def propose(
    space: Space, history: Sequence[tuple[Mapping[str, float], float]], count: int, seed: int, sampler: str
) -> list[dict[str, float]]:
    """``count`` sets of numbers of a ``space``, from those that were tried and their losses; the same for the same
    ``seed``.

    Within a generation each proposal counts as tried, with the worst loss that is known, so that the next one keeps
    away from it (the constant liar of Ginsbourger et al. 2010).
    """
    if sampler not in SAMPLERS:
        raise TpcalcError(f"sampler {sampler!r} is unknown; choose one of {', '.join(SAMPLERS)}")
    optuna = require_optuna()
    ranges = {name: optuna.distributions.FloatDistribution(*space.ranges[name], log=True) for name in space.free}
    study = optuna.create_study(sampler=SAMPLERS[sampler](optuna, seed))
    finite = [loss for _, loss in history if math.isfinite(loss)]
    worst = max(finite, default=math.inf)

    def note(numbers: Mapping[str, float], loss: float) -> None:
        params = {name: numbers[name] for name in ranges}
        value = loss if math.isfinite(loss) else max(finite, default=0.0) + WORSE
        study.add_trial(optuna.trial.create_trial(params=params, distributions=ranges, value=value))

    for numbers, loss in history:
        note(numbers, loss)
    found = []
    for _ in range(count):
        drawn = space.within({**{name: low for name, (low, _) in space.ranges.items()}, **study.ask(ranges).params})
        found.append(drawn)
        note(drawn, worst)
    return found
