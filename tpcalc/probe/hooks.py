"""Hooks of an optimizer's step, on its copy: what they hold is copied too, so that they change nothing that lives."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any, Optional

import torch

from tpcalc.probe.copy import DEEP, Unprobable, copied, told

HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")


def hooked(optimizer: Any) -> bool:
    return any(getattr(optimizer, name, None) for name in HOOKS)


def hang(live: Any, made: Any, memo: dict[Any, Any]) -> None:
    """Give a copy the step hooks of the live one; ``memo``: what stands for what, as of :func:`copy.deepcopy`.

    Raises Unprobable for a hook that reaches what can't be copied.
    """
    memo[id(live)] = made
    for name in HOOKS:
        for key, hook in (getattr(live, name, None) or {}).items():
            if (held := _in_its_module(hook)) is not None:
                raise Unprobable(f"its step hook {_name(hook)} reads {held} of its module, which has no copy")
            try:
                getattr(made, name)[key] = copied(hook, memo)
            except Exception as error:
                raise Unprobable(f"its step hook {_name(hook)} can't be copied: {told(error)}") from None


def _name(hook: Any) -> str:
    return str(getattr(hook, "__qualname__", type(hook).__qualname__)).rpartition("<locals>.")[2]


def _in_its_module(hook: Any, depth: int = 0) -> Optional[str]:
    """The name of a live thing that its code, or a function that it calls, finds in its module."""
    hook = getattr(hook, "func", hook)
    called: Optional[Callable[..., Any]] = getattr(hook, "__func__", hook)
    if not inspect.isfunction(called):
        called = vars(type(hook)).get("__call__")
    if not inspect.isfunction(called) or depth > DEEP or called.__module__.partition(".")[0] == "torch":
        return None
    for name in _names(called.__code__):
        value = called.__globals__.get(name)
        if _lives(value):
            return name
        if inspect.isfunction(value) and value is not called:
            found = _in_its_module(value, depth + 1)
            if found is not None:
                return found
    return None


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for const in code.co_consts:
        if inspect.iscode(const):
            yield from _names(const)


def _lives(value: Any, depth: int = 0) -> bool:
    if isinstance(value, (list, tuple, set, dict)) and depth < DEEP:
        held = value.values() if isinstance(value, dict) else value
        return any(_lives(item, depth + 1) for item in held)
    return isinstance(value, (torch.Tensor, torch.nn.Module, torch.optim.Optimizer))


__all__ = ["HOOKS", "hang", "hooked"]
