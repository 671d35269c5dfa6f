"""Multipliers in an engine of DeepSpeed.

::

    from tpcalc.integrations.deepspeed import initialize

    engine, *_ = initialize("multipliers.json", fresh=True, model=model, optimizer=optimizer, config=config)

in place of ``deepspeed.initialize``.  Groups stay groups under ZeRO, so each keeps its multipliers.
"""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

from tpcalc.integrations.groups import hold_ratios
from tpcalc.integrations.weights import Given, clips, multipliers, start_

__all__ = ["PLAIN_NORM", "initialize"]

PLAIN_NORM = (
    "DeepSpeed clips by the plain global norm, for which one threshold means something else at each width; set "
    "gradient_clipping (a trainer's max_grad_norm) to 0"
)


def initialize(given: Given, *, fresh: bool, model: Any, optimizer: Any, **options: Any) -> Any:
    """``deepspeed.initialize`` of a model and an optimizer with multipliers; gives what that gives.

    ``fresh``: the model is as its code initialises it, and is multiplied once, by ``init_``.  False: its init has the
    multipliers, or its weights were loaded.

    Raises ``scaling.error`` for an optimizer that is none yet, for gradient clipping where a weight has a ``clip``
    other than 1, and for a schedule that moves all groups to one rate (``WarmupLR`` with one ``warmup_max_lr``).
    """
    scaling = multipliers(given)
    if not isinstance(optimizer, Optimizer):
        raise scaling.error(
            "initialize needs the optimizer itself, whose groups get the multipliers: make it from model.parameters() "
            "and take 'optimizer' out of DeepSpeed's config"
        )
    import deepspeed

    start_(scaling, model, [optimizer], fresh=fresh)
    made = deepspeed.initialize(model=model, optimizer=optimizer, **options)
    engine, _, _, scheduler = made
    if engine.gradient_clipping() and clips(scaling):
        raise scaling.error(PLAIN_NORM)
    if scheduler is not None:
        hold_ratios(engine.optimizer, scheduler, scaling)
    return made
