"""Multipliers in a loop on Hugging Face accelerate.

::

    from tpcalc.integrations.accelerate import scaled

    accelerator = scaled(Accelerator(), "multipliers.json", fresh=True)

``prepare`` then puts the multipliers on the model's fresh weights and on the optimizer's groups, and
``accelerator.clip_grad_norm_`` clips by the norm that has one threshold at all widths.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

from torch import nn
from torch.optim import Optimizer

from tpcalc.errors import ScalingError
from tpcalc.integrations.deepspeed import PLAIN_NORM
from tpcalc.integrations.groups import has_multipliers
from tpcalc.integrations.weights import BY_VALUE, Given, clips, multipliers, start_
from tpcalc.scaling.runtime import Multipliers
from tpcalc.verify.built import is_scheduler

__all__ = ["clip_weighed", "scaled"]

Accelerator = TypeVar("Accelerator")


def scaled(accelerator: Accelerator, given: Given, *, fresh: bool) -> Accelerator:
    """Give an accelerator its multipliers; it is returned.

    ``fresh``: the model that is prepared is as its code initialises it, and is multiplied once, by ``init_``.  False:
    its init has the multipliers, or its weights were loaded.

    ``prepare`` takes one model with its optimizer, and raises ``scaling.error`` where a scheduler was made before the
    groups had their multipliers: then make them with ``scaling.param_groups(model, lr=...)``.  ``prepare_optimizer``,
    which sees no model, raises it for an optimizer without multipliers.
    """
    scaling = multipliers(given)
    if isinstance(accelerator, type) or not callable(getattr(accelerator, "prepare", None)):
        instead = accelerator.__name__ if isinstance(accelerator, type) else type(accelerator).__name__
        raise ScalingError(f"scaled takes an accelerator that is made, not {instead}; write scaled(Accelerator(), ...)")
    anyway: Any = accelerator
    prepare, prepare_optimizer = anyway.prepare, anyway.prepare_optimizer
    left = [fresh]

    def prepared(*things: Any, **options: Any) -> Any:
        models = [thing for thing in things if isinstance(thing, nn.Module)]
        optimizers = [thing for thing in things if isinstance(thing, Optimizer)]
        if optimizers and len(models) != 1:
            raise scaling.error(
                f"prepare was given {len(optimizers)} optimizers and {len(models)} models; give it the optimizer with "
                f"the one model that the multipliers are for"
            )
        for model in models[:1] if optimizers else ():
            done = fresh and not left[0]
            start_(scaling, model, optimizers, filter(is_scheduler, things), fresh=None if done else fresh)
            left[0] = False
        return prepare(*things, **options)

    def prepared_optimizer(optimizer: Any, *args: Any, **options: Any) -> Any:
        if not has_multipliers(getattr(optimizer, "optimizer", optimizer)):
            raise scaling.error(
                f"prepare_optimizer sees no model, whose multipliers {type(optimizer).__name__} could get; give both "
                f"to prepare(model, optimizer)"
            )
        return prepare_optimizer(optimizer, *args, **options)

    anyway.prepare, anyway.prepare_optimizer = prepared, prepared_optimizer
    clip_weighed(anyway, scaling)
    return accelerator


def clip_weighed(accelerator: Any, scaling: Multipliers) -> None:
    """Have ``accelerator.clip_grad_norm_`` measure each gradient times its ``clip``, as ``scaling.clip_grad_norm_``.

    The parameters it is called with must be all of a model that it has prepared, or all that are trained.  Under
    DeepSpeed, which clips by itself and by the plain norm, it raises ``scaling.error`` where that would clip, and so
    does ``clip_grad_value_``, which has one threshold for weights that need one each.
    """
    plain, by_value = accelerator.clip_grad_norm_, accelerator.clip_grad_value_

    def clip_grad_norm_(parameters: Any, max_norm: float, norm_type: float = 2.0) -> Any:
        if str(getattr(accelerator.distributed_type, "value", "")) == "DEEPSPEED":
            if 0 < max_norm < math.inf and clips(scaling):
                raise scaling.error(PLAIN_NORM)
            return plain(parameters, max_norm, norm_type)
        given = {id(parameter) for parameter in parameters}
        for model in accelerator._models:
            trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
            if trained <= given <= {id(parameter) for parameter in model.parameters()}:
                accelerator.unscale_gradients()
                return scaling.clip_grad_norm_(model, max_norm, norm_type)
        raise scaling.error(
            "clip_grad_norm_ was given parameters that are not those of a model that this accelerator has prepared; "
            "give it model.parameters() of the prepared model"
        )

    def clip_grad_value_(parameters: Any, clip_value: float) -> None:
        if clip_value < math.inf and clips(scaling):
            raise scaling.error(BY_VALUE)
        by_value(parameters, clip_value)

    accelerator.clip_grad_norm_, accelerator.clip_grad_value_ = clip_grad_norm_, clip_grad_value_
