"""The multipliers that a user gave, and the model that they are for when its training starts."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable
from typing import Any, Optional, Union

from torch import nn

from tpcalc.errors import ScalingError
from tpcalc.integrations.groups import hold_ratios, scale_optimizer_
from tpcalc.scaling import Scaling
from tpcalc.scaling.runtime import Multipliers
from tpcalc.scaling.shards import _is_off
from tpcalc.scaling.weight import Weight, _some

__all__ = ["BY_VALUE", "Given", "check_init", "check_model", "clips", "mixed", "multipliers", "start_"]

BY_VALUE = (
    "clipping by value has one threshold for all weights, and each needs its own: clip by norm, or divide the "
    "threshold by the clip of each weight in code of your own"
)
#: Multipliers, or where ``tpcalc export`` has written them.
Given = Union[Multipliers, str, "os.PathLike[str]"]


def multipliers(given: Any) -> Any:
    """What was given, loaded if it is a file; a module that ``tpcalc codegen`` wrote has them as ``scaling``.

    Raises ScalingError for what holds no multipliers.
    """
    if isinstance(given, (str, os.PathLike)):
        return Scaling.load(os.fspath(given))
    if not callable(getattr(given, "param_groups", None)):
        instead = "its scaling" if hasattr(given, "scaling") else "what tpcalc.scale returned"
        raise ScalingError(
            f"multipliers were to be given, and {type(given).__name__} holds none; give the path of the file that "
            f"`tpcalc export` wrote, or {instead}"
        )
    return given


def mixed(mixin: type, kind: type, given: Given, fresh: bool, hook: str, what: str) -> Any:
    """The class ``kind`` with ``mixin`` before it, under its own name, with what that asks for.

    Raises ScalingError for what is no class, or has no ``hook`` that the mixin could change; ``what`` it is to be.
    """
    if not isinstance(kind, type):
        name = type(kind).__name__
        raise ScalingError(
            f"scaled takes the class, and was given one that is made already; write {name} = scaled({name}, ...) "
            f"before, and make it of that"
        )
    if not hasattr(kind, hook):
        raise ScalingError(f"scaled takes the class of {what}, and {kind.__module__}.{kind.__name__} is none")
    names = {key: getattr(kind, key) for key in ("__module__", "__qualname__", "__doc__")}
    return type(kind.__name__, (mixin, kind), {"tpcalc_scaling": given, "tpcalc_fresh": fresh, **names})


def clips(scaling: Multipliers) -> bool:
    """Whether the norm to clip by is another than the plain one."""
    return any(weight.clip != 1.0 for weight, _ in scaling._table.values())


def start_(
    scaling: Multipliers,
    model: nn.Module,
    optimizers: Iterable[Any] = (),
    schedulers: Iterable[Any] = (),
    *,
    fresh: Optional[bool],
) -> None:
    """Give a model and what trains it their multipliers, in place.

    Whatever can be refused comes first, so that the weights of a refused one are as they were.  ``fresh``: they are
    multiplied, once; False: they are left, and a model that lacks the multipliers of its init is warned of; None: they
    have been seen to.
    """
    check_model(scaling, model)
    for optimizer in optimizers:
        scale_optimizer_(optimizer, scaling, model)
    for scheduler in schedulers:
        hold_ratios(scheduler.optimizer, scheduler, scaling)
    if fresh:
        scaling.init_(model)
    elif fresh is not None:
        check_init(scaling, model)


def check_model(scaling: Multipliers, model: nn.Module) -> None:
    """Raise ``scaling.error`` where the model is another one, or lacks the multipliers of its forward pass."""
    names = [name for name, _, weight in scaling.match(model) if weight.forward != 1.0]
    kept = {name for name, _ in model.named_parameters() if name.endswith(".original")}
    if names and not kept:
        raise scaling.error(
            f"{_some(names)} need multipliers in the forward pass, which this model does not have; call "
            f"forward_(model) on it before the trainer is made"
        )


def check_init(scaling: Multipliers, model: nn.Module) -> None:
    """Warn of a model whose weights are all just as the code initialises them: it lacks the multipliers of the init."""
    telling = [(name, p, weight) for name, p, weight in scaling.match(model) if _shows(weight) and not p.is_meta]
    if telling and not any(_is_off(p, weight) for _, p, weight in telling):
        warnings.warn(
            f"{_some([name for name, _, _ in telling])} of the model is as its code initialises it, without the "
            f"multipliers of the init; give fresh=True, or call init_(model) once before the trainer is made",
            stacklevel=4,
        )


def _shows(weight: Weight) -> bool:
    """Whether the size of a weight tells if its init has been multiplied."""
    entries = math.prod(weight.shape)
    apart = not 0.8 <= weight.init <= 1.25  # what _is_off tells apart
    return apart and not weight.slices and weight.draw[0] != "other" and entries >= 256 and weight.draw[1:] != (0, 0)
