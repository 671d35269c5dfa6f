"""What the live objects of a setup say: which optimizer trains each parameter, with which numbers.

Parameters are told by identity, so nothing depends on how the groups were made (by hand, by ``mup``, by a trainer).
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

import torch

from tpcalc.errors import SetupError
from tpcalc.probe import Kind, Subject, number
from tpcalc.trace.inputs import example_inputs
from tpcalc.verify.optimizers import DECLARED, Trained, trained_by

EXPECTS = "(model, optimizer), optionally followed by a scheduler and by example inputs"
#: Steps taken at most until a warm-up gives a learning rate above 0.
WARM_UP = 16


@dataclass(frozen=True)
class Settings:
    """How one parameter is trained at one width.  ``group`` holds what else its group says (``adjust_lr_fn``)."""

    optimizer: str
    subject: Subject
    group: Mapping[str, Any]
    lr: float
    weight_decay: float
    eps: Optional[float]
    place: str

    def trained(self, kind: Kind) -> Trained:
        """Its law, as its steps show it on weights of this kind."""
        return trained_by(self.subject, self.group, kind, self.weight_decay != 0)

    def epsilon(self, trained: Trained) -> Optional[float]:
        """The one that its steps go by, else the one that its name says."""
        if trained.law.eps is None:
            return None
        if trained.seen is None:
            return self.eps
        return None if trained.seen.eps_key is None else number(self.group[trained.seen.eps_key])


@dataclass(frozen=True)
class Live:
    """All parameters of one model: name (every tied one) -> Settings.

    ``empty``: groups that hold no parameter, as (place, lr).
    ``twice``: parameters held by two optimizers (the last is read).  ``strangers``: number of tensors in the
    optimizer that are no parameters of the model.
    """

    settings: dict[str, Settings]
    empty: tuple[tuple[str, float], ...] = ()
    strangers: int = 0
    twice: tuple[str, ...] = ()


@dataclass
class Built:
    """What ``setup(width)`` returned, told apart by type."""

    model: torch.nn.Module
    optimizers: list[Any]
    schedulers: list[Any] = field(default_factory=list)
    inputs: Any = None
    said: str = ""
    """What was assumed about inputs that the setup did not return."""


# -- told apart by type ------------------------------------------------------------------------------


def is_optimizer(thing: Any) -> bool:
    return isinstance(thing, torch.optim.Optimizer) or (
        hasattr(thing, "param_groups") and callable(getattr(thing, "step", None)) and not _is_scheduler(thing)
    )


def _is_scheduler(thing: Any) -> bool:
    known = (torch.optim.lr_scheduler.LRScheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
    if isinstance(thing, known):
        return True
    named = isinstance(thing, (torch.nn.Module, torch.Tensor, torch.optim.Optimizer)) or isinstance(thing, Mapping)
    return not named and callable(getattr(thing, "step", None)) and not hasattr(thing, "param_groups")


def _all(thing: Any, test: Callable[[Any], bool]) -> Optional[list[Any]]:
    """``thing``, or every one of a non-empty list, tuple or dict, if all pass the test."""
    if test(thing):
        return [thing]
    if isinstance(thing, Mapping):
        thing = list(thing.values())
    if isinstance(thing, (list, tuple)) and thing and all(test(item) for item in thing):
        return list(thing)
    return None


def unpack(result: Any, call: str) -> Built:
    """Tell apart what a setup returned.

    Raises SetupError where there is no model, no optimizer, or something of no known kind.
    """
    if not isinstance(result, (tuple, list)) or len(result) < 2:
        raise SetupError(f"{call} returned {_kind(result)}; return {EXPECTS}")
    if not isinstance(result[0], torch.nn.Module):
        raise SetupError(f"{call} returned {_kind(result[0])} first, where the model belongs; return {EXPECTS}")
    built = Built(result[0], [])
    for item in result[1:]:
        if item is None:
            continue
        if (optimizers := _all(item, is_optimizer)) is not None:
            built.optimizers += optimizers
        elif (schedulers := _all(item, _is_scheduler)) is not None:
            built.schedulers += schedulers
        elif built.inputs is None and _is_inputs(item):
            args = (item,) if isinstance(item, torch.Tensor) else item
            built.inputs = tuple(args) if isinstance(args, list) else args
        else:
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


def _is_inputs(thing: Any) -> bool:
    return isinstance(thing, (torch.Tensor, tuple, list, Mapping)) or hasattr(thing, "keys")


def _kind(thing: Any) -> str:
    return f"a {type(thing).__module__}.{type(thing).__qualname__}".replace("builtins.", "")


# -- numbers -----------------------------------------------------------------------------------------


def _unwrapped(optimizers: Iterable[Any]) -> Iterator[Any]:
    """Look inside wrappers: lists of optimizers, and one that holds the real one as ``.optimizer``."""
    for optimizer in optimizers:
        inner = getattr(optimizer, "chained_optimizers", None) or getattr(optimizer, "optimizers", None)
        if isinstance(inner, (list, tuple)) and inner:
            yield from _unwrapped(inner)
            continue
        held = getattr(optimizer, "optimizer", None)
        wraps = held is not None and is_optimizer(held) and type(optimizer) not in DECLARED
        yield from _unwrapped([held]) if wraps else [optimizer]


def optimizers_in(made: Any) -> list[Any]:
    """The optimizers that something is, or holds."""
    return list(_unwrapped(_all(made, is_optimizer) or []))


def _number(value: Any, what: str) -> float:
    if isinstance(value, torch.Tensor):
        real = getattr(value, "real", None) if hasattr(value, "memory") else value
        if real is None:
            raise SetupError(
                f"{what} is a tensor without numbers while the setup is traced; give it as a Python number"
            )
        return float(real)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise SetupError(f"{what} is {value!r}, which is no number") from None


def step_schedulers(built: Built) -> None:
    """One step of each scheduler (more while a warm-up still gives 0), as training would have taken."""
    schedulers = [s for s in built.schedulers if _steps_alone(s)]
    if not schedulers:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(WARM_UP):
            for scheduler in schedulers:
                scheduler.step()
            groups = [g for o in _unwrapped(built.optimizers) for g in o.param_groups if g["params"]]
            if any(_number(g["lr"], "the learning rate") != 0 for g in groups):
                return


def _steps_alone(scheduler: Any) -> bool:
    """Whether ``scheduler.step()`` needs no argument (ReduceLROnPlateau needs the loss, and changes nothing at
    first).
    """
    try:
        parameters = inspect.signature(scheduler.step).parameters.values()
    except (TypeError, ValueError):
        return True
    return all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)


#: Where transformers' Adafactor chooses the rate itself, it is at most this, at every width.
RELATIVE_STEP = 1e-2


def _settings(subject: Subject, lr: float, label: str, place: str) -> Settings:
    """What a group says of one parameter; Moonlight's Muon says in its state which ones it trains as AdamW."""
    group = subject.group
    told = {key: value for key, value in group.items() if key != "params"}
    if "use_muon" in subject.said:
        told["use_muon"] = bool(subject.said["use_muon"])
    decay = group.get("weight_decay", group.get("wd"))
    eps = group.get("eps", None if told.get("use_muon") else group.get("adamw_eps"))
    read_eps = _number(eps, f"the epsilon of {place}") if isinstance(eps, (int, float, torch.Tensor)) else None
    return Settings(label, subject, told, lr, _number(decay or 0.0, f"the weight decay of {place}"), read_eps, place)


def read(built: Built) -> Live:
    """The settings of every parameter that an optimizer holds.

    Raises SetupError for an optimizer of unknown class, or where its tensors are not the model's.
    """
    names: dict[int, list[str]] = {}
    for name, parameter in built.model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    settings: dict[str, Settings] = {}
    empty: list[tuple[str, float]] = []
    twice: list[str] = []
    strangers = 0
    for optimizer in _unwrapped(built.optimizers):
        label = type(optimizer).__name__
        for index, group in enumerate(optimizer.param_groups):
            named = f" ({group['name']!r})" if isinstance(group.get("name"), str) else ""
            place = f"group {index} of {label}{named}"
            rate = RELATIVE_STEP if group["lr"] is None and group.get("relative_step") else group["lr"]
            lr = _number(rate, f"the learning rate of {place}")
            if not group["params"]:
                empty.append((place, lr))
            for parameter in group["params"]:
                strangers += id(parameter) not in names
                own = _settings(Subject(optimizer, index, parameter), lr, label, place)
                for name in names.get(id(parameter), ()):
                    if name in settings:
                        twice.append(name)
                    settings[name] = own
    if strangers and not settings:
        raise SetupError(
            f"the {strangers} tensors in the optimizer are no parameters of the model; make the optimizer after the "
            f"model has been moved, wrapped or tied"
        )
    return Live(settings, tuple(empty), strangers, tuple(twice))


__all__ = ["EXPECTS", "Built", "Live", "Settings", "is_optimizer", "optimizers_in", "read", "step_schedulers", "unpack"]
