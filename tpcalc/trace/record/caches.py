"""What code keeps of a trace: tensors cached at the first call, by a module, a function, a class or a file.

A traced tensor in a cache would be found by the next trace, or by the model itself when it trains.  So caches are put
back when a trace ends.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from tpcalc.trace.record.phantom import Phantom
from tpcalc.trace.record.where import is_users

__all__ = ["Attributes", "forgotten", "kept_apart"]

_CACHED = type(lru_cache(lambda: None))
MOST_KEPT = 1000
"""Containers of a file with more items than this are not looked into."""


@contextmanager
def forgotten() -> Iterator[None]:
    """What files, their classes and cached functions keep while this is held is dropped again.

    Cached functions of the user's own files start empty: what they had kept would be missing from a trace.
    """
    before = _kept()
    yield
    _drop(before, Phantom)


Kept = tuple[list[tuple[Any, int]], list[tuple[Any, Any]], list[tuple[Any, str, Any]]]


def _drop(kept: Kept, kind: type[torch.Tensor]) -> None:
    """Drop what has come since and holds a tensor of this kind."""
    functions, containers, names = kept
    for function, misses in functions:
        if function.cache_info().misses != misses:
            function.cache_clear()
    for container, before in containers:
        if _holds(container, kind):
            _refill(container, before)
    for owner, name, value in names:
        now = vars(owner).get(name)
        if now is not value and _holds(now, kind):
            setattr(owner, name, value)


def _kept() -> Kept:
    """Cached functions with their misses, containers with their items, and whatever else could be replaced."""
    functions: list[tuple[Any, int]] = []
    containers: list[tuple[Any, Any]] = []
    names: list[tuple[Any, str, Any]] = []
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if not isinstance(module, ModuleType) or not path or not _may_cache(path):
            continue
        if "site-packages" in path:
            functions.extend((function, function.cache_info().misses) for function in _cached_by(module))
            continue
        for function in _cached_functions(module):
            function.cache_clear()
            functions.append((function, 0))
        for owner in _owners(module):
            for name, value in list(vars(owner).items()):
                if name.startswith("__"):
                    continue
                if type(value) in (dict, list, set) and len(value) < MOST_KEPT:
                    containers.append((value, type(value)(value)))
                elif value is None or isinstance(value, (torch.Tensor, tuple, dict, list)):
                    names.append((owner, name, value))
    return functions, containers, names


_may_cache = lru_cache(maxsize=None)(is_users)


def _owners(module: ModuleType) -> list[Any]:
    """A file and its classes."""
    own = [c for c in list(vars(module).values()) if isinstance(c, type) and c.__module__ == module.__name__]
    return [module, *own]


def _cached_functions(module: ModuleType) -> list[Any]:
    found = [value for owner in _owners(module) for value in list(vars(owner).values())]
    plain = [
        getattr(value, "__func__", value) if isinstance(value, (staticmethod, classmethod)) else value
        for value in found
    ]
    return [value for value in plain if isinstance(value, _CACHED)]


#: Of a library, which has thousands of names: looked for once.
_cached_by = lru_cache(maxsize=None)(_cached_functions)


def _holds(kept: Any, kind: type[torch.Tensor] = Phantom) -> bool:
    """Whether a traced tensor is among what is kept."""
    return any(isinstance(leaf, kind) for leaf in tree_leaves(kept if not isinstance(kept, set) else list(kept)))


@contextmanager
def kept_apart(model: torch.nn.Module) -> Iterator[None]:
    """Plain attributes of the modules of ``model`` that hold traced tensors afterwards get back what they held."""
    held = [_copied(module) for module in model.modules()]
    try:
        yield
    finally:
        _put_back(held, Phantom)


class Attributes:
    """Plain attributes of the modules of a model, and what files keep, as they are now."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._held = [_copied(module) for module in model.modules()]
        self._files = _kept()

    @contextmanager
    def standing(self) -> Iterator[None]:
        """While it is held, what the modules have cached since is away (what files have, for good): tensors kept at the
        first call are made again."""
        later = [_copied(module) for module, _ in self._held]
        _put_back(self._held, torch.Tensor)
        _drop(self._files, torch.Tensor)
        try:
            yield
        finally:
            _put_back(later, torch.Tensor)


Held = tuple[torch.nn.Module, dict[str, tuple[Any, Any]]]


def _copied(module: torch.nn.Module) -> Held:
    """A module with its attributes: each as it is, and of a container what is in it."""
    attributes = {name: value for name, value in vars(module).items() if name not in _TABLES}
    return module, {name: (value, _items(value)) for name, value in attributes.items()}


def _items(value: Any) -> Any:
    return type(value)(value) if type(value) in (dict, list, set) else None


def _put_back(held: list[Held], kind: type[torch.Tensor]) -> None:
    for module, attributes in held:
        now = vars(module)
        for name in [*now, *(name for name in attributes if name not in now)]:
            before, items = attributes.get(name, (None, None))
            if name in _TABLES or not (_holds(now.get(name), kind) or _holds(items or before, kind)):
                continue
            if items is not None:
                _refill(before, items)
            if name in attributes:
                now[name] = before
            else:
                del now[name]


def _refill(container: Any, items: Any) -> None:
    container.clear()
    (container.extend if isinstance(container, list) else container.update)(items)


_TABLES = ("_parameters", "_buffers", "_modules")
