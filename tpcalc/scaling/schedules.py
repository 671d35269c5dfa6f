"""Learning-rate schedules that keep the ratios between optimizer groups.

A schedule that multiplies every group's own learning rate keeps them: LambdaLR, StepLR, ExponentialLR, LinearLR,
cosine down to zero.  One that is given a learning rate as a number does not: ``OneCycleLR(max_lr=3e-3)`` puts the same
value into every group, ``CosineAnnealingLR(eta_min=1e-4)`` ends there.  Groups made by ``param_groups`` carry their
``lr_multiplier``, from which the right values follow.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import SWALR

from tpcalc.scaling.runtime import RatioWarning, _kept


def per_group(optimizer: Optimizer, value: float) -> list[float]:
    """``value`` (a max_lr, base_lr, min_lr or eta_min tuned at base width) times the multiplier of each group."""
    return [value * group.get("lr_multiplier", 1.0) for group in optimizer.param_groups]


def one_cycle(optimizer: Optimizer, max_lr: float, *args: Any, **options: Any) -> OneCycleLR:
    """``OneCycleLR`` with a peak of ``max_lr`` times each group's multiplier."""
    return OneCycleLR(optimizer, per_group(optimizer, max_lr), *args, **options)


def cosine_annealing(optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> LambdaLR:
    """``CosineAnnealingLR`` from each group's own lr down to ``eta_min`` times its multiplier."""
    groups = optimizer.param_groups
    start = groups[0].get("initial_lr", groups[0]["lr"]) if last_epoch >= 0 else groups[0]["lr"]
    floor = per_group(optimizer, eta_min)[0] / float(start)

    def factor(step: int) -> float:
        return floor + (1 - floor) * (1 + math.cos(math.pi * step / T_max)) / 2

    return LambdaLR(optimizer, factor, last_epoch=last_epoch)


def ratios_kept(optimizer: Optimizer, scheduler: "LRScheduler | None" = None) -> bool:
    """Whether the groups' learning rates stand, and under ``scheduler`` will stay, in the ratio of their multipliers.

    Warns with RatioWarning, saying what to use instead, where they do not.
    """
    for name, values, remedy in (*_bounds(optimizer, scheduler), ("lr", _current(optimizer), "")):
        if not _kept(values, optimizer.param_groups):
            what = f"{type(scheduler).__name__} gives" if scheduler is not None and remedy else "the optimizer has"
            shown = ", ".join(f"{value:.3g}" for value in dict.fromkeys(values))
            advice = remedy or "make the groups with param_groups and change all by one factor"
            warnings.warn(
                f"{what} the groups {name} = {shown}, which is not in the ratio of their multipliers; {advice}",
                RatioWarning,
                stacklevel=2,
            )
            return False
    return True


def _current(optimizer: Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def _bounds(optimizer: Optimizer, scheduler: Any) -> list[tuple[str, list[float], str]]:
    """Learning rates a scheduler moves to, one for each group, and what gives the right ones."""
    groups = optimizer.param_groups
    module = "tpcalc.scaling.schedules"
    found = []
    for part in getattr(scheduler, "_schedulers", ()):  # SequentialLR, ChainedScheduler
        found += _bounds(optimizer, part)
    if isinstance(scheduler, OneCycleLR):
        for key in ("max_lr", "min_lr"):
            found.append((key, [float(group[key]) for group in groups], f"use {module}.one_cycle"))
    elif isinstance(scheduler, SWALR):
        group_rates = [float(group["swa_lr"]) for group in groups]
        found.append(("swa_lr", group_rates, _each("swa_lr", optimizer, group_rates)))
    elif hasattr(scheduler, "eta_min"):
        found.append(("eta_min", _spread(scheduler.eta_min, groups), f"use {module}.cosine_annealing"))
    for attribute, argument in (("max_lrs", "max_lr"), ("base_lrs", "base_lr"), ("min_lrs", "min_lr")):
        values = getattr(scheduler, attribute, None)
        if isinstance(values, (list, tuple)) and values:
            if len(values) != len(groups):  # of before the groups were split, when there was one for all
                values = _spread(max(values), groups)
            numbers = [float(value) for value in values]
            found.append((argument, numbers, _each(argument, optimizer, numbers)))
    return found


def _each(argument: str, optimizer: Optimizer, values: Sequence[float]) -> str:
    """What to give, and in numbers for a config, which can't call it."""
    value = max(values)
    numbers = ", ".join(f"{number:.6g}" for number in per_group(optimizer, value))
    return f"give {argument}=tpcalc.scaling.schedules.per_group(optimizer, {value:.6g}), which is [{numbers}]"


def _spread(value: Any, groups: Sequence[Any]) -> list[float]:
    return [float(value)] * len(groups)
