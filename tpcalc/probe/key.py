"""What decides how a parameter is stepped, besides the numbers of a run, as something that compares equal."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import torch

from tpcalc.probe.copy import DECAYS, DEEP, EPSILON, NOT_COPIED, Subject, contents, inside, number, plain, rates
from tpcalc.probe.hooks import HOOKS

#: Items of what it holds that are looked at, and entries of a tensor.
MOST = 256


def options(subject: Subject) -> tuple[Any, ...]:
    """Its rate, decay and epsilon are numbers of a run; of a decay it matters whether it is 0."""
    cls = type(subject.optimizer)
    torchs = all(ancestor.__module__.startswith("torch.optim") for ancestor in cls.__mro__[:-1])
    read = subject.optimizer.defaults if torchs else subject.group  # what else a group says, torch's own don't look at
    group = {k: v for k, v in subject.group.items() if k in read and k not in ("params", "param_names")}
    told: dict[str, Any] = {}
    moved = rates(group)
    for key, value in group.items():
        held = number(value)
        if held is not None and key in DECAYS:
            told[key] = held != 0
        elif held is None or not (key in moved or EPSILON.search(key)):
            told[key] = _frozen(value, subject)
    if number(group.get("lr")) is None:
        told["lr"] = None
    if not torchs:
        told["of the parameter"] = _frozen(subject.attributes, subject)
        told["its name"] = _name(subject) if _reads(cls, "param_names") else None
    return (cls, tuple(told.items()), _frozen(subject.said, subject), _attributes(subject.optimizer, subject))


def _name(subject: Subject) -> Any:
    names, held = subject.group.get("param_names", ()), subject.group["params"]
    return next((name for name, p in zip(names, held) if p is subject.parameter), None)


def _reads(cls: type, key: str) -> bool:
    """Whether the code of a class names a key."""
    own = [vars(ancestor) for ancestor in cls.__mro__ if not ancestor.__module__.startswith("torch.optim")]
    codes = [inspect.unwrap(v).__code__ for held in own for v in held.values() if inspect.isfunction(v)]
    while codes:
        code = codes.pop()
        if key in code.co_consts:
            return True
        codes += [const for const in code.co_consts if inspect.iscode(const)]
    return False


def _attributes(optimizer: Any, subject: Subject) -> Any:
    held = {k: v for k, v in vars(optimizer).items() if k not in (*NOT_COPIED, "param_groups", "defaults")}
    nested = [(type(inner), _attributes(inner, subject)) for inner in inside(held.values())]
    hooks = [_frozen(hook, subject) for name in HOOKS for hook in held.get(name, {}).values()]
    return _frozen({k: v for k, v in held.items() if not k.endswith("_hooks")}, subject), tuple(hooks), tuple(nested)


def _frozen(value: Any, subject: Subject, depth: int = 0) -> Any:
    """A value that compares equal to another one where an optimizer could not tell them apart."""
    if plain(value) or isinstance(value, type):
        return value
    if depth > DEEP:
        return type(value)

    def inner(item: Any) -> Any:
        return _frozen(item, subject, depth + 1)

    if isinstance(value, Mapping):
        # of what goes by parameters, or by their ids, only what is said of this one matters
        ids = {id(p) for group in subject.optimizer.param_groups for p in group["params"]}
        kept = [(k, v) for k, v in list(value.items())[:MOST] if plain(k) and not (type(k) is int and k in ids)]
        of_it = [
            v for k, v in value.items() if k is subject.parameter or (type(k) is int and k == id(subject.parameter))
        ]
        return len(value), tuple((str(k), inner(v)) for k, v in kept), inner(of_it)
    if isinstance(value, (list, tuple)):
        held = any(item is subject.parameter for item in value)
        return len(value), held, tuple(map(inner, value[:MOST])), inner(getattr(value, "__dict__", None))
    if isinstance(value, (set, frozenset)):
        return len(value), id(subject.parameter) in value, any(item is subject.parameter for item in value)
    if isinstance(value, torch.Tensor):
        return "tensor", tuple(value.shape), number(value) if value.numel() == 1 else None
    if isinstance(value, functools.partial):
        return "partial", inner(value.func), inner(value.args), inner(value.keywords)
    if inspect.ismethod(value):
        return value.__func__, _frozen(value.__self__, subject, max(depth, DEEP - 1))
    if inspect.isfunction(value):
        cells = [contents(cell) for cell in value.__closure__ or ()]
        return value.__code__, inner(value.__defaults__), inner(cells)
    if inspect.isroutine(value):
        return value
    if isinstance(value, torch.nn.Module):
        return type(value), next((name for name, p in value.named_parameters() if p is subject.parameter), None)
    if isinstance(value, torch.optim.Optimizer):
        return type(value)
    return type(value), inner(getattr(value, "__dict__", None))


__all__ = ["options"]
