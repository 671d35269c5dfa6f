"""Multipliers in the ``Trainer`` of Hugging Face transformers, and in trainers that derive from it.

::

    from tpcalc.integrations.transformers import scaled

    Trainer = scaled(Trainer, "multipliers.json", fresh=True)

Its arguments (``learning_rate``, ``weight_decay``, ``adam_epsilon``, ``max_grad_norm``, ``min_lr``) are then those
tuned at the base.  Which optimizer is made and which parameters decay is left to the trainer.
"""

from __future__ import annotations

import warnings
from typing import Any, Optional

from torch import nn

from tpcalc.integrations.accelerate import clip_weighed
from tpcalc.integrations.groups import hold_ratios, scale_optimizer_
from tpcalc.integrations.weights import Given, check_model, clips, mixed, multipliers, start_
from tpcalc.scaling.runtime import Multipliers

__all__ = ["Scaled", "optimizer_cls_and_kwargs", "scaled"]


class Scaled:
    """What a trainer becomes: a mixin, to stand before ``Trainer`` or a class that derives from it.

    ``tpcalc_scaling``: the multipliers.  ``tpcalc_fresh``: the model is as its code initialises it when the trainer is
    made, and is multiplied once, by ``init_``; False: its init has the multipliers, or its weights were loaded.
    """

    tpcalc_scaling: Any
    tpcalc_fresh: Optional[bool] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.tpcalc_scaling = multipliers(self.tpcalc_scaling)
        if self.tpcalc_fresh is None:
            raise self.tpcalc_scaling.error(
                "say whether the model is as its code initialises it: tpcalc_fresh = True, and the trainer multiplies "
                "its init once; tpcalc_fresh = False, and its weights are left as they are"
            )
        super().__init__(*args, **kwargs)
        this: Any = self
        if this.model_init is None:
            start_(self.tpcalc_scaling, this.model, fresh=self.tpcalc_fresh)

    def call_model_init(self, trial: Any = None) -> Any:
        made = super().call_model_init(trial)  # type: ignore[misc]
        start_(self.tpcalc_scaling, made, fresh=self.tpcalc_fresh)
        return made

    def create_accelerator_and_postprocess(self) -> Any:
        done = super().create_accelerator_and_postprocess()  # type: ignore[misc]
        this: Any = self
        clip_weighed(this.accelerator, self.tpcalc_scaling)
        return done

    def _mixed_mesh_grad_norm(self, model: nn.Module, max_norm: float) -> Any:
        """In place of the plain norm of parameters on several device meshes."""
        return self.tpcalc_scaling.clip_grad_norm_(model, max_norm)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        optimizer = super().create_optimizer(*args, **kwargs)  # type: ignore[misc]
        this: Any = self
        scale_optimizer_(getattr(optimizer, "optimizer", optimizer), self.tpcalc_scaling, this.model)
        return optimizer

    def create_scheduler(self, *args: Any, **kwargs: Any) -> Any:
        scheduler = super().create_scheduler(*args, **kwargs)  # type: ignore[misc]
        this: Any = self
        hold_ratios(kwargs.get("optimizer") or this.optimizer, scheduler, self.tpcalc_scaling)
        return scheduler


def scaled(trainer: type, given: Given, *, fresh: bool) -> Any:
    """The class ``trainer`` (``Trainer``, ``SFTTrainer`` ...) with multipliers; ``fresh``: see :class:`Scaled`."""
    return mixed(Scaled, trainer, given, fresh, "create_optimizer_and_scheduler", "a Trainer of transformers")


def optimizer_cls_and_kwargs(given: Given, model: Any, args: Any) -> tuple[Any, dict[str, Any]]:
    """For ``Trainer(optimizer_cls_and_kwargs=...)``, where the trainer's class must stay what it is.

    The trainer makes the optimizer that ``args.optim`` names, with its own groups, and these are split by the
    multipliers.  The init and clipping are left to you: warns where ``args.max_grad_norm`` would clip by the plain
    norm.
    """
    from transformers import Trainer

    scaling: Multipliers = multipliers(given)
    check_model(scaling, model)
    cls, kwargs = Trainer.get_optimizer_cls_and_kwargs(args, model)
    if args.max_grad_norm and clips(scaling):
        warnings.warn(
            f"max_grad_norm={args.max_grad_norm} clips by the plain global norm, for which one threshold means "
            f"something else at each width; set it to 0, or use tpcalc.integrations.transformers.scaled",
            stacklevel=2,
        )

    def made(self: Any, params: Any, **options: Any) -> None:
        cls.__init__(self, params, **options)
        scale_optimizer_(self, scaling, model)

    return type(cls.__name__, (cls,), {"__init__": made, "__module__": cls.__module__}), kwargs
