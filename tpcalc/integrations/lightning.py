"""Multipliers in a module of Lightning.

::

    from tpcalc.integrations.lightning import scaled

    Model = scaled(Model, "multipliers.json", fresh=True)

The optimizer that ``configure_optimizers`` makes then has the multipliers, before any scheduler is made of it, and
``Trainer(gradient_clip_val=...)`` clips by the norm that has one threshold at all widths.  Parameters are found
whatever the attribute is called under which the module holds the model, as long as it holds nothing else with
parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Optional

from torch.optim import Optimizer

from tpcalc.integrations.groups import has_multipliers, hold_ratios, scale_optimizer_
from tpcalc.integrations.weights import BY_VALUE, Given, clips, mixed, multipliers, start_
from tpcalc.verify.built import is_scheduler, optimizers_in, parts

__all__ = ["Scaled", "scaled"]


class Scaled:
    """What a module becomes: a mixin, to stand before a class that has its hooks.

    ``tpcalc_scaling``: the multipliers.  ``tpcalc_fresh``: the model is as its code initialises it when the first fit
    is set up (no checkpoint was loaded into it before), and is multiplied once, by ``init_``; False: its init has the
    multipliers, or its weights were loaded.
    """

    tpcalc_scaling: Any
    tpcalc_fresh: Optional[bool] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tpcalc_scaling = multipliers(self.tpcalc_scaling)
        if self.tpcalc_fresh is None:
            raise self.tpcalc_scaling.error(
                "say whether the model is as its code initialises it: tpcalc_fresh = True, and its init is multiplied "
                "once, when it is first fitted; tpcalc_fresh = False, and its weights are left as they are"
            )
        self._left_as_is = not self.tpcalc_fresh

    def configure_model(self) -> None:
        """Before a checkpoint is loaded, and after the module's own ``setup``."""
        super().configure_model()  # type: ignore[misc]
        self._start()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)  # type: ignore[misc]
        self._left_as_is = True

    def configure_optimizers(self) -> Any:
        this: Any = self
        with _as_they_are_made(lambda optimizer: scale_optimizer_(optimizer, self.tpcalc_scaling, this)):
            made = super().configure_optimizers()  # type: ignore[misc]
        for optimizer in optimizers_in(made):
            scale_optimizer_(optimizer, self.tpcalc_scaling, this)
        for scheduler in filter(is_scheduler, parts(made)):
            hold_ratios(scheduler.optimizer, scheduler, self.tpcalc_scaling)
        return made

    def clip_gradients(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Optional[str] = None
    ) -> None:
        """Of all parameters of the module together, whichever optimizer holds them."""
        this: Any = self
        trainer = this.trainer
        most = gradient_clip_val if gradient_clip_val is not None else trainer.gradient_clip_val
        how = str(getattr(gradient_clip_algorithm or trainer.gradient_clip_algorithm, "value", "") or "norm")
        by_value = str(gradient_clip_algorithm or how).lower().endswith("value")
        if most and by_value and clips(self.tpcalc_scaling):
            raise self.tpcalc_scaling.error(f"gradient_clip_algorithm='value': {BY_VALUE}")
        if most and by_value:
            super().clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)  # type: ignore[misc]
        elif most:
            self.tpcalc_scaling.clip_grad_norm_(this, float(most))

    def _start(self) -> None:
        this: Any = self
        done = self._left_as_is and self.tpcalc_fresh  # multiplied before, or loaded
        start_(self.tpcalc_scaling, this, fresh=None if done else self.tpcalc_fresh)
        self._left_as_is = True


@contextmanager
def _as_they_are_made(change: Callable[[Optimizer], None]) -> Iterator[None]:
    """Change optimizers before anything is made of them, groups that are added to them included: what a scheduler notes
    of the groups must be so already."""
    init, add = Optimizer.__init__, Optimizer.add_param_group

    def changed(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        init(optimizer, *args, **kwargs)
        change(optimizer)

    def added(optimizer: Optimizer, group: dict[str, Any]) -> None:
        add(optimizer, group)
        if has_multipliers(optimizer):  # not while it is made, when its groups come one by one
            change(optimizer)

    kind: Any = Optimizer
    kind.__init__, kind.add_param_group = changed, added
    try:
        yield
    finally:
        kind.__init__, kind.add_param_group = init, add


def scaled(module: type, given: Given, *, fresh: bool) -> Any:
    """The class ``module`` with multipliers; ``fresh``: see :class:`Scaled`."""
    return mixed(Scaled, module, given, fresh, "configure_optimizers", "a LightningModule")
