"""Each pass of a model recorded once, for tests that trace the same factories at the same places again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import fields, replace
from functools import partial
from importlib import import_module
from typing import Any, Optional
from unittest import mock

from tpcalc.program.raw import RawTrace
from tpcalc.trace.record import record
from tpcalc.trace.target import call_factory

_RECORD = ("tpcalc.trace.record", "tpcalc.trace.depth.alike", "tpcalc.trace.depth.traced")


@contextmanager
def recorded_once() -> Iterator[None]:
    """While it is held, a factory is recorded once at each place: as often as asked, it would give the same."""
    with ExitStack() as stack:
        stand_in = _once(record)
        for name in _RECORD:
            stack.enter_context(mock.patch.object(import_module(name), "record", stand_in))
        yield


def _once(original: Callable[..., RawTrace]) -> Callable[..., RawTrace]:
    known: dict[Any, RawTrace] = {}  # its keys keep the factories, so that no other gets the id of one

    def recorded(call: Any, width: Any, *, building: Any = None, files: Any = None, **options: Any) -> RawTrace:
        key = _key(call, building, options)
        if key is None:
            return original(call, width, building=building, files=files, **options)
        if key not in known:
            known[key] = original(call, width, building=building, files=files, **options)
        # what is inside is frozen
        return replace(known[key], **{each.name: copy(getattr(known[key], each.name)) for each in fields(RawTrace)})

    return recorded


def _key(call: Any, building: Any, options: dict[str, Any]) -> Optional[Any]:
    """None for what is no factory at a place."""
    if not (isinstance(call, partial) and call.func is call_factory and len(call.args) == 2 and not call.keywords):
        return None
    factory, place = call.args
    return factory, getattr(place, "names", None), place, type(building), tuple(sorted(options.items()))
