"""What code keeps of a trace: tensors cached at the first call, by a module, a function, a class or a file.

A traced tensor in a cache would be found by the next trace, or by the model itself when it trains.  So caches are put
back when a trace ends.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from operator import is_, methodcaller
from types import FunctionType, ModuleType
from typing import Any, NamedTuple, Optional
from weakref import ref

import torch
from torch.utils._pytree import tree_leaves

from tpcalc.trace.record.phantom import Phantom
from tpcalc.trace.record.where import is_users

__all__ = ["Attributes", "Files", "kept_apart"]

_CACHED = type(lru_cache(lambda: None))
MOST_KEPT = 1000
"""Containers with more items than this are not looked into."""


class _Searched(NamedTuple):
    """A module of a library that was searched: how many names it had, and its cached functions."""

    module: ref[ModuleType]
    names: int
    found: list[Any]


_seen: dict[int, _Searched] = {}
"""By the id of the module: there are thousands of them, and a weak key is slow to look up."""


class _Sorted(NamedTuple):
    """All modules as they were last seen: the places of the user's own, and the cached functions of the others.

    ``ids`` and how many ``names`` each has tell whether they are the same.  The ids cannot be those of others, as what
    dies makes :func:`_forget` forget all this.
    """

    ids: list[int]
    names: list[dict[str, Any]]
    counts: list[int]
    own: list[int]
    cached: list[Any]
    alive: list[Any]


_NONE = _Sorted([], [], [], [], [], [])
_last = _NONE


@contextmanager
def kept_apart(model: torch.nn.Module) -> Iterator[None]:
    """Plain attributes of the modules of ``model`` that hold traced tensors afterwards get back what they held."""
    held = _Kept(model.modules())
    try:
        yield
    finally:
        held.put_back(Phantom)


class Attributes:
    """Plain attributes of the modules of a model as they are now, and what its ``files`` keep."""

    def __init__(self, model: torch.nn.Module, files: "Files") -> None:
        self._held = _Kept(model.modules())
        self._files = files
        self._files.add_those_of(model)

    @contextmanager
    def standing(self) -> Iterator[None]:
        """While it is held, what the modules have cached since is away (what files have, for good): tensors kept at the
        first call are made again."""
        later = _Kept(self._held.roots)
        self._held.put_back(torch.Tensor)
        self._files.drop(torch.Tensor)
        try:
            yield
        finally:
            later.put_back(torch.Tensor)


class _Kept:
    """What objects hold, as it is now: their attributes, what is in their containers, and so on."""

    def __init__(self, roots: Iterable[Any]) -> None:
        self.roots = list(roots)
        self._seen: set[int] = set()
        self._kinds: dict[type, int] = {}
        """What was found of each type, as thousands of values are of few."""
        self._objects: list[tuple[Any, dict[str, Any]]] = []
        self._containers: list[tuple[Any, Any]] = []
        self._bare: list[Any] = []
        for root in self.roots:
            self.add(root)

    def add(self, owner: Any) -> None:
        """Hold what an object holds, and what that holds in turn."""
        if id(owner) in self._seen:
            return
        self._seen.add(id(owner))
        held = dict(vars(owner))
        if not held:  # as most functions
            self._bare.append(owner)
            return
        self._objects.append((owner, held))
        kinds = self._kinds
        for name, value in held.items():
            kind = kinds.get(type(value))
            if kind != _PLAIN and name not in _TABLES and not name.startswith("__"):
                self._look(value)

    def _look(self, value: Any) -> None:
        kinds, kind = self._kinds, type(value)
        if kind not in kinds:
            kinds[kind] = _kind_of(kind)
        if kinds[kind] == _OBJECT:
            if hasattr(value, "__dict__"):
                self.add(value)
        elif kinds[kind] == _CONTAINER and id(value) not in self._seen and len(value) < MOST_KEPT:
            self._seen.add(id(value))
            self._containers.append((value, kind(value)))
            if kind is not set:
                for item in value.values() if kind is dict else value:
                    if kinds.get(type(item)) != _PLAIN:
                        self._look(item)

    def changed(self) -> bool:
        """Whether anything holds other objects than it held.  That is asked before and after every trace, of all that
        files hold: in few steps, without a call for each."""
        now, before = [vars(owner) for owner, _ in self._objects], [held for _, held in self._objects]
        return (
            list(map(len, now)) != list(map(len, before))
            or not all(map(is_, chain.from_iterable(map(_VALUES, now)), chain.from_iterable(map(_VALUES, before))))
            or any(_differ(container, before) for container, before in self._containers)
            or any(map(vars, self._bare))
        )

    def put_back(self, kind: type[torch.Tensor]) -> None:
        """Give what holds a tensor of this kind, or held one, what it held before."""
        for container, before in self._containers:
            if _differ(container, before) and (_holds(container, kind) or _holds(before, kind)):
                container.clear()
                (container.extend if isinstance(container, list) else container.update)(before)
        for owner, before in [*self._objects, *((owner, {}) for owner in self._bare if vars(owner))]:
            now = vars(owner)
            if _same(now, before):
                continue
            for name in [*now, *(name for name in before if name not in now)]:
                changed = name not in _TABLES and (name not in now or now[name] is not before.get(name, _ABSENT))
                if not changed or not (_holds(now.get(name), kind) or _holds(before.get(name), kind)):
                    continue
                if name in before:
                    _set(owner, name, before[name])
                elif isinstance(owner, type):
                    delattr(owner, name)
                else:
                    del now[name]


def _kind_of(kind: type) -> int:
    """What to do with a value of this type: look at what it contains, at its attributes, or nothing."""
    if kind in (dict, list, set):
        return _CONTAINER
    return _OBJECT if _is_own(sys.modules.get(kind.__module__)) else _PLAIN


def _set(owner: Any, name: str, value: Any) -> None:
    if isinstance(owner, type):
        setattr(owner, name, value)
    else:  # past what a module makes of it
        vars(owner)[name] = value


class Files:
    """What files keep, as it is now: cached functions, and what names, classes, functions and objects hold.

    Cached functions of the user's own files start empty: what they had kept would be missing from a trace.
    ``modules``: those to look into, by default all of the user's own, and the cached functions of libraries.
    """

    def __init__(self, modules: Optional[Iterable[Any]] = None) -> None:
        self._modules = modules
        self._sorted: Optional[_Sorted] = None
        self._kept = _Kept(())
        self._own: set[int] = set()
        self._functions: list[Any] = []
        self._as_they_were = False
        """Whether it was just seen that they hold what they held before."""
        self.look()
        self._as_they_were = True

    def look(self) -> None:
        """Have them as they are now: quick where nothing has changed, as from one size of a model to the next; quicker
        still where that was just seen, as at the end of a trace (none of the user's code may run in between)."""
        modules = list(sys.modules.values() if self._modules is None else self._modules)
        known, self._as_they_were = self._as_they_were, False
        if known and self._sorted is _last and list(map(id, modules)) == _last.ids:
            return
        own, now = _sorted_out(modules)
        if now is not self._sorted or self._kept.changed():
            self._sorted, self._kept, self._own, self._functions = now, _Kept(()), set(), []
            for module in own:
                self._add(module, module.__name__)
        self._empty()
        self._misses = [(cached, cached.cache_info().misses) for cached in now.cached]

    def _empty(self) -> None:
        for cached in self._functions:
            cached.cache_clear()

    def add_those_of(self, model: torch.nn.Module) -> None:
        """Look into the files of the classes of a model, too, which may be no modules of Python's (loaded by path)."""
        for kind in {type(module) for module in model.modules()}:
            names = getattr(kind.__dict__.get("forward"), "__globals__", None)
            if names is not None and id(names) not in self._own and _is_file_of_own(names.get("__file__")):
                self._add(_Namespace(names), kind.__module__)
                self._empty()

    def _add(self, module: Any, name: str) -> None:
        self._own.add(id(vars(module)))
        self._kept.add(module)
        self._functions_of(module)
        for value in list(vars(module).values()):
            if issubclass(type(value), (type, FunctionType)) and value.__module__ == name:
                self._kept.add(value)
                if vars(value):
                    self._functions_of(value)

    def _functions_of(self, owner: Any) -> None:
        self._functions += _cached(vars(owner))

    @contextmanager
    def without(self, kind: type[torch.Tensor]) -> Iterator[None]:
        """What they keep while this is held is dropped again, where it holds tensors of this kind."""
        try:
            yield
        finally:
            self.drop(kind)

    def drop(self, kind: type[torch.Tensor]) -> None:
        """Drop what has come since and holds a tensor of this kind."""
        self._empty()
        for place, (function, misses) in enumerate(self._misses):
            if function.cache_info().misses != misses:
                function.cache_clear()
                self._misses[place] = function, 0
        self._as_they_were = not self._kept.changed()
        if not self._as_they_were:
            self._kept.put_back(kind)


class _Namespace:
    """The names of a file that stands in no module."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.__dict__ = names


def _is_own(module: Any) -> bool:
    """Whether this is a module of the user's, and of no library."""
    if not isinstance(module, ModuleType):
        return False
    return module.__name__ == "__main__" or _is_file_of_own(getattr(module, "__file__", None))


@lru_cache(maxsize=None)
def _is_file_of_own(path: Any) -> bool:
    return bool(path and is_users(path) and "site-packages" not in path)


def _sorted_out(modules: Iterable[Any]) -> tuple[list[ModuleType], _Sorted]:
    """The user's own among modules, and how all were sorted.  From one trace to the next nearly all of them are the
    same: that is seen quickly, and then it is the same object."""
    global _last
    every = list(modules)
    ids = list(map(id, every))
    if ids != _last.ids or list(map(len, _last.names)) != _last.counts:
        _last = _sorted(every, ids)
    return [every[place] for place in _last.own], _last


def _sorted(every: list[Any], ids: list[int]) -> _Sorted:
    names, own, cached, alive = list[dict[str, Any]](), list[int](), list[Any](), list[Any]()
    for place, module in enumerate(every):
        # by their type: compiled libraries of cffi stand among modules and only say that they are one
        if not issubclass(type(module), ModuleType):
            alive.append(module)
            continue
        names.append(vars(module))
        alive.append(ref(module, _forget))
        searched = _seen.get(id(module))
        if searched is None or searched.module() is not module:
            if _is_own(module):
                own.append(place)
                continue
            searched = None
        if searched is None or searched.names != len(names[-1]):
            searched = _seen[id(module)] = _searched(module)
        cached += searched.found
    return _Sorted(ids, names, list(map(len, names)), own, cached, alive)


def _forget(_: ref[Any]) -> None:
    """A module is gone, and its id may be that of another soon."""
    global _last
    _last = _NONE


def _searched(module: ModuleType) -> _Searched:
    """A module of a library, with its cached functions."""
    names, found = vars(module), []
    if is_users(getattr(module, "__file__", None) or "<"):
        kinds = [value for value in list(names.values()) if issubclass(type(value), type)]
        owners = [module, *(kind for kind in kinds if kind.__module__ == module.__name__)]
        found = [cached for owner in owners for cached in _cached(vars(owner))]
    return _Searched(ref(module), len(names), found)


def _cached(names: Any) -> list[Any]:
    """Functions under ``lru_cache`` or ``cache``, static and class methods too."""
    found = []
    for value in list(names.values()):
        if type(value) in (staticmethod, classmethod):
            value = value.__func__
        if type(value) is _CACHED:
            found.append(value)
    return found


def _differ(container: Any, before: Any) -> bool:
    """Whether other objects are inside than before."""
    if len(container) != len(before) or isinstance(container, set):
        return len(container) != len(before) or container != before
    if isinstance(container, list):
        return not all(map(is_, container, before))
    return not _same(container, before) and any(
        key not in before or before[key] is not value for key, value in container.items()
    )


def _same(now: Any, before: dict[str, Any]) -> bool:
    """Whether names hold the same objects, in the same order: quickly, as that is so nearly always."""
    return (
        len(now) == len(before) and all(map(is_, now.values(), before.values())) and all(map(is_, now.keys(), before))
    )


def _holds(kept: Any, kind: type[torch.Tensor]) -> bool:
    """Whether a tensor of this kind is among what is kept."""
    if isinstance(kept, kind):
        return True
    if kept is None or isinstance(kept, (str, int, float)):
        return False
    return any(isinstance(leaf, kind) for leaf in tree_leaves(list(kept) if isinstance(kept, set) else kept))


_VALUES = methodcaller("values")
_TABLES = ("_parameters", "_buffers", "_modules")
_ABSENT = object()
_PLAIN, _CONTAINER, _OBJECT = range(3)
