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

from tpcalc.integrations.deepspeed import PLAIN_NORM
from tpcalc.integrations.groups import hold_ratios, scale_optimizer_
from tpcalc.integrations.weights import Given, check_init, check_model, clips, multipliers
from tpcalc.scaling.runtime import Multipliers
from tpcalc.verify.built import is_scheduler

__all__ = ["clip_weighed", "scaled"]

Accelerator = TypeVar("Accelerator")


def scaled(accelerator: Accelerator, given: Given, *, fresh: bool) -> Accelerator:
    """Give an accelerator its multipliers; it is returned.

    ``fresh``: the model that is prepared is as its code initialises it, and is multiplied once, by ``init_``.  False:
    its init has the multipliers, or its weights were loaded.

    ``prepare`` takes one model with its optimizer, and raises ``scaling.error`` where a scheduler was made before the
    groups had their multipliers: then make them with ``scaling.param_groups(model, lr=...)``.
    """
    scaling = multipliers(given)
    anyway: Any = accelerator
    prepare = anyway.prepare
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
            check_model(scaling, model)
            for optimizer in optimizers:
                scale_optimizer_(optimizer, scaling, model)
            for scheduler in filter(is_scheduler, things):
                hold_ratios(scheduler.optimizer, scheduler, scaling)
            if left[0]:
                scaling.init_(model)
                left[0] = False
            elif not fresh:
                check_init(scaling, model)
        return prepare(*things, **options)

    anyway.prepare = prepared
    clip_weighed(anyway, scaling)
    return accelerator


def clip_weighed(accelerator: Any, scaling: Multipliers) -> None:
    """Have ``accelerator.clip_grad_norm_`` measure each gradient times its ``clip``, as ``scaling.clip_grad_norm_``.

    The parameters it is called with must be all of a model that it has prepared.  Under DeepSpeed, which clips by
    itself and by the plain norm, it raises ``scaling.error`` where that would clip.
    """
    plain = accelerator.clip_grad_norm_

    def clip_grad_norm_(parameters: Any, max_norm: float, norm_type: float = 2.0) -> Any:
        if str(getattr(accelerator.distributed_type, "value", "")) == "DEEPSPEED":
            if 0 < max_norm < math.inf and clips(scaling):
                raise scaling.error(PLAIN_NORM)
            return plain(parameters, max_norm, norm_type)
        given = list(parameters)
        for model in accelerator._models:
            if {id(parameter) for parameter in model.parameters()} == {id(parameter) for parameter in given}:
                accelerator.unscale_gradients()
                return scaling.clip_grad_norm_(model, max_norm, norm_type)
        raise scaling.error(
            "clip_grad_norm_ was given parameters that are not those of a model that this accelerator has prepared; "
            "give it model.parameters() of the prepared model"
        )

    accelerator.clip_grad_norm_ = clip_grad_norm_
