"""The multipliers that a user gave, and the init of the model that they are for."""

from __future__ import annotations

import math
import os
import warnings
from typing import Any, Union

from torch import nn

from tpcalc.scaling import Scaling
from tpcalc.scaling.runtime import Multipliers
from tpcalc.scaling.shards import _is_off
from tpcalc.scaling.weight import Weight, _some

__all__ = ["Given", "check_init", "check_model", "clips", "mixed", "multipliers"]

#: Multipliers, or where ``tpcalc export`` has written them.
Given = Union[Multipliers, str, "os.PathLike[str]"]


def multipliers(given: Any) -> Any:
    """What was given, loaded if it is a file; a module that ``tpcalc codegen`` wrote has them as ``scaling``."""
    return Scaling.load(os.fspath(given)) if isinstance(given, (str, os.PathLike)) else given


def mixed(mixin: type, kind: type, given: Given, fresh: bool) -> Any:
    """The class ``kind`` with ``mixin`` before it, under its own name, with what that asks for."""
    names = {key: getattr(kind, key) for key in ("__module__", "__qualname__", "__doc__")}
    return type(kind.__name__, (mixin, kind), {"tpcalc_scaling": given, "tpcalc_fresh": fresh, **names})


def clips(scaling: Multipliers) -> bool:
    """Whether the norm to clip by is another than the plain one."""
    return any(weight.clip != 1.0 for weight, _ in scaling._table.values())


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
            stacklevel=3,
        )


def _shows(weight: Weight) -> bool:
    """Whether the size of a weight tells if its init has been multiplied."""
    entries = math.prod(weight.shape)
    apart = not 0.8 <= weight.init <= 1.25  # what _is_off tells apart
    return apart and not weight.slices and weight.draw[0] != "other" and entries >= 256 and weight.draw[1:] != (0, 0)
