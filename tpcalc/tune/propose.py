"""Proposals of what to try next, by the samplers of Optuna."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tpcalc.errors import TpcalcError
from tpcalc.transfer.stored import require_optuna
from tpcalc.tune.space import Space

__all__ = ["SAMPLERS", "SEEDS", "propose"]

#: What a run that diverged counts as: worse than the worst by this.
WORSE = 1.0
#: Learning rates are proposed within this factor of the best that is known: a line of them is tried first, and at ten
#: times too much or too little no constant of a module shows what it is worth.
NEAR = 4.0
#: How many seeds there are, for numpy, of which samplers are made.
SEEDS = 2**32
#: Runs that TPE wants to have seen; before, it draws from the ranges.
SEEN = 8


def _tpe(optuna: Any, seed: int) -> Any:
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=SEEN, constant_liar=True)


def _random(optuna: Any, seed: int) -> Any:
    return optuna.samplers.RandomSampler(seed=seed)


#: Name -> what makes one of a seed.
SAMPLERS: dict[str, Callable[[Any, int], Any]] = {"tpe": _tpe, "random": _random}


def propose(
    space: Space, history: Sequence[tuple[Mapping[str, float], float]], count: int, seed: int, sampler: str
) -> list[dict[str, float]]:
    """``count`` sets of numbers of a ``space``, from those that were tried and their losses; the same for the same
    ``seed``.

    Those of one generation are drawn one after the other, each as if the ones before it had been tried and were bad
    (the constant liar of Ginsbourger et al. 2010, in Optuna).
    """
    if sampler not in SAMPLERS:
        raise TpcalcError(f"sampler {sampler!r} is unknown; choose one of {', '.join(SAMPLERS)}")
    optuna = require_optuna()
    ends = {name: space.ranges[name] for name in space.free}
    best = min(history, key=lambda tried: tried[1], default=None)
    if "lr" in ends and best is not None and math.isfinite(best[1]):
        (low, high), lr = ends["lr"], best[0]["lr"]
        ends["lr"] = max(low, lr / NEAR), min(high, lr * NEAR)
        history = [tried for tried in history if ends["lr"][0] <= tried[0]["lr"] <= ends["lr"][1]]
    ranges = {name: optuna.distributions.FloatDistribution(*own, log=True) for name, own in ends.items()}
    study = optuna.create_study(sampler=SAMPLERS[sampler](optuna, seed % SEEDS))
    worst = max((loss for _, loss in history if math.isfinite(loss)), default=0.0)
    for numbers, loss in history:
        params = {name: numbers[name] for name in ranges}
        value = loss if math.isfinite(loss) else worst + WORSE
        study.add_trial(optuna.trial.create_trial(params=params, distributions=ranges, value=value))
    stays = {name: low for name, (low, _) in space.ranges.items()}
    return [space.within({**stays, **study.ask(ranges).params}) for _ in range(count)]
