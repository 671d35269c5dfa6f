"""What a setup returned, told apart by type: a model, optimizers, schedulers, inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from tpcalc.errors import SetupError
from tpcalc.probe import number as read
from tpcalc.trace.inputs import example_inputs
from tpcalc.verify.optimizers import DECLARED

EXPECTS = (
    "(model, optimizer), optionally followed by a scheduler and by example inputs, or a Trainer or Lightning module"
)
#: What stands beside optimizers and schedulers in the dicts of a trainer ("interval": "step", "frequency": 1).
PLAIN = (str, int, float, bool, type(None))


@dataclass
class Built:
    """What ``setup(width)`` returned, told apart by type."""

    model: torch.nn.Module
    optimizers: list[Any]
    schedulers: list[Any] = field(default_factory=list)
    inputs: Any = None
    said: str = ""
    """What was assumed about inputs that the setup did not return."""

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The param groups of all optimizers, wrapped ones too."""
        return [group for optimizer in unwrapped(self.optimizers) for group in optimizer.param_groups]


def is_optimizer(thing: Any) -> bool:
    return isinstance(thing, torch.optim.Optimizer) or (
        hasattr(thing, "param_groups") and callable(getattr(thing, "step", None)) and not is_scheduler(thing)
    )


def is_scheduler(thing: Any) -> bool:
    known = (torch.optim.lr_scheduler.LRScheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
    if isinstance(thing, known):
        return True
    named = isinstance(thing, (torch.nn.Module, torch.Tensor, torch.optim.Optimizer)) or isinstance(thing, Mapping)
    return not named and callable(getattr(thing, "step", None)) and not hasattr(thing, "param_groups")


def unpack(result: Any, call: str) -> Built:
    """Tell apart what a setup returned.  Optimizers and schedulers may be nested in lists and dicts, as a trainer's
    ``{"optimizer": o, "lr_scheduler": {"scheduler": s, "interval": "step"}}``.

    Raises SetupError where there is no model, no optimizer, or something of no known kind.
    """
    if not isinstance(result, (tuple, list)) or len(result) < 2:
        raise SetupError(f"{call} returned {_kind(result)}; return {EXPECTS}")
    if not isinstance(result[0], torch.nn.Module):
        raise SetupError(f"{call} returned {_kind(result[0])} first, where the model belongs; return {EXPECTS}")
    built = Built(result[0], [])
    for item in result[1:]:
        if item is not None and not _take(built, item):
            raise SetupError(
                f"{call} returned {_kind(item)}, which is no optimizer, scheduler or input; return {EXPECTS}"
            )
    if not built.optimizers:
        raise SetupError(f"{call} returned no optimizer; return {EXPECTS}")
    if built.inputs is None and (found := example_inputs(built.model)) is not None:
        built.inputs, built.said = found
    if built.inputs is None:
        raise SetupError(
            f"{call} returned no example inputs; add them last: a tensor, a tuple of arguments or a dict of keyword "
            f"arguments"
        )
    return built


def holds_optimizer(result: Any) -> bool:
    """Whether what a target returned is a model beside an optimizer."""
    several = isinstance(result, (tuple, list)) and len(result) > 1
    return several and any(is_optimizer(part) for item in result[1:] for part in parts(item))


def _take(built: Built, item: Any) -> bool:
    """Put a part where it belongs; False for one of no known kind."""
    found = list(parts(item))
    optimizers = [part for part in found if is_optimizer(part)]
    schedulers = [part for part in found if is_scheduler(part)]
    if optimizers or schedulers:
        built.optimizers += optimizers
        built.schedulers += schedulers
        others = len(found) - len(optimizers) - len(schedulers)
        return others == sum(isinstance(part, PLAIN) for part in found)
    if built.inputs is not None or not _is_inputs(item):
        return False
    args = (item,) if isinstance(item, torch.Tensor) else item
    built.inputs = tuple(args) if isinstance(args, list) else args
    return True


def parts(thing: Any) -> Iterator[Any]:
    """What lists, tuples and dicts hold, however deep."""
    if isinstance(thing, Mapping):
        thing = list(thing.values())
    if isinstance(thing, (list, tuple)):
        for item in thing:
            yield from parts(item)
    else:
        yield thing


def _is_inputs(thing: Any) -> bool:
    return isinstance(thing, (torch.Tensor, tuple, list, Mapping)) or hasattr(thing, "keys")


def _kind(thing: Any) -> str:
    return f"a {type(thing).__module__}.{type(thing).__qualname__}".replace("builtins.", "")


def unwrapped(optimizers: Iterable[Any]) -> Iterator[Any]:
    """Look inside wrappers: lists of optimizers, and one that holds the real one as ``.optimizer``."""
    for optimizer in optimizers:
        inner = getattr(optimizer, "chained_optimizers", None) or getattr(optimizer, "optimizers", None)
        if isinstance(inner, (list, tuple)) and inner:
            yield from unwrapped(inner)
            continue
        held = getattr(optimizer, "optimizer", None)
        wraps = held is not None and is_optimizer(held) and type(optimizer) not in DECLARED
        yield from unwrapped([held]) if wraps else [optimizer]


def optimizers_in(made: Any) -> list[Any]:
    """The optimizers that something is, or holds."""
    return list(unwrapped(part for part in parts(made) if is_optimizer(part)))


def number(value: Any, what: str) -> float:
    """A setting as a Python number.  Raises SetupError for what is none, or has none while it is traced."""
    found = read(value)
    if found is not None:
        return found
    if isinstance(value, torch.Tensor):
        raise SetupError(f"{what} is a tensor without numbers while the setup is traced; give it as a Python number")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise SetupError(f"{what} is {value!r}, which is no number") from None


__all__ = [
    "EXPECTS", "Built", "holds_optimizer", "is_optimizer", "is_scheduler", "number", "optimizers_in", "parts", "unpack",
    "unwrapped",
]  # fmt: skip
