"""Set-ups that end in a trainer: a ``Trainer`` of transformers, a module of Lightning.

They are known by what they have, so that neither library is imported here.  Each is asked for the optimizer and the
scheduler that it would train with.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from tpcalc.errors import SetupError
from tpcalc.verify.built import holds_optimizer

__all__ = ["opened"]

#: The length of a training whose own length can't be told (no data at hand): only where a schedule turns goes by it.
STEPS = 1000


def opened(result: Any, call: str) -> Any:
    """What ``call`` returned, with a trainer as its model, optimizer and scheduler; anything else as it is.

    Raises SetupError where the trainer makes no optimizer.
    """
    first, *rest = result if isinstance(result, (tuple, list)) and result else (result,)
    if callable(getattr(first, "create_optimizer_and_scheduler", None)) and hasattr(first, "model"):
        steps = getattr(getattr(first, "args", None), "max_steps", 0)
        first.create_optimizer_and_scheduler(num_training_steps=steps if steps > 0 else STEPS)
        return first.model, first.optimizer, first.lr_scheduler, *rest
    alone = isinstance(first, nn.Module) and not holds_optimizer((first, *rest))
    if alone and callable(getattr(first, "configure_optimizers", None)):
        return first, _configured(first, call), *rest
    return result


def _configured(module: Any, call: str) -> Any:
    if callable(getattr(module, "configure_model", None)):
        module.configure_model()  # what a fit calls first
    try:
        made = module.configure_optimizers()
    except RuntimeError as error:
        if "attached to a `Trainer`" not in str(error):
            raise
        raise SetupError(
            f"configure_optimizers of what {call} returned asks for its Trainer, which is not there yet; attach one "
            f"(module.trainer = Trainer(max_steps=...)), or give it the number of steps as an argument"
        ) from None
    if made is None:
        raise SetupError(f"configure_optimizers of what {call} returned makes no optimizer; let it return one")
    return made
