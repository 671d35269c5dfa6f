"""What one run of a test leaves for its runs under mutants: the lines of the laws that it reaches, and its traces.

A test that does not run the line where a mutant is can't notice it.  A trace has no law in it, and takes longer than
all that is derived from it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Collection
from functools import partial
from inspect import unwrap
from types import FrameType, FunctionType
from typing import Any, Optional

#: A file of the laws and a line of it.
Line = tuple[str, int]


class Lines:
    """The lines of ``files`` that ran inside of ``with``."""

    def __init__(self, files: Collection[str]) -> None:
        self.files = frozenset(files)
        self.ran: set[Line] = set()

    def __enter__(self) -> Lines:
        self.before = sys.gettrace()
        sys.settrace(self._called)
        return self

    def __exit__(self, *raised: object) -> None:
        sys.settrace(self.before)

    def _called(self, frame: FrameType, event: str, value: Any) -> Any:
        return self._runs if frame.f_code.co_filename in self.files else None

    def _runs(self, frame: FrameType, event: str, value: Any) -> Any:
        if event == "line":
            self.ran.add((frame.f_code.co_filename, frame.f_lineno))
        return self._runs


class Traces:
    """The programs that each test has traced, in order: handed out again where the same is asked at the same place."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, int], tuple[Any, Any]] = {}
        self.test, self.count = "", 0

    def install(self) -> None:
        """For all that trace, wherever they have imported it to.  A second time changes nothing."""
        trace: Any = unwrap(importlib.import_module("tpcalc.trace").trace)
        if "_kept_traces" in trace.__globals__:
            return
        defaults, options = trace.__defaults__, dict(trace.__kwdefaults__)
        real = FunctionType(trace.__code__, trace.__globals__, trace.__name__, defaults)
        real.__kwdefaults__ = options
        trace.__globals__["_kept_traces"] = partial(self._of, real)
        handed = eval("lambda *given, **options: _kept_traces(*given, **options)")
        trace.__defaults__, trace.__kwdefaults__, trace.__code__ = None, None, handed.__code__

    def of_test(self, test: str) -> None:
        self.test, self.count = test, 0

    def _of(self, real: FunctionType, *given: Any, **options: Any) -> Any:
        place, asked = (self.test, self.count), signature((given, options))
        self.count += 1
        found: Optional[tuple[Any, Any]] = self.kept.get(place)
        if found is None or found[0] != asked:
            watching = sys.gettrace()
            sys.settrace(None)  # no law in it, and many calls
            try:
                found = asked, real(*given, **options)
            finally:
                sys.settrace(watching)
            self.kept[place] = found
        return found[1]


def signature(thing: Any) -> Any:
    """Alike for what is made in the same way, in another run of the same test."""
    if isinstance(thing, FunctionType):
        inside = [cell.cell_contents for cell in thing.__closure__ or ()]
        return thing.__code__, signature(inside), signature(thing.__defaults__ or ())
    if isinstance(thing, partial):
        return signature((thing.func, thing.args, thing.keywords))
    if isinstance(thing, (list, tuple)):
        return tuple(map(signature, thing))
    if isinstance(thing, dict):
        return tuple((signature(key), signature(value)) for key, value in thing.items())
    return thing if isinstance(thing, (type, str, int, float, type(None))) else type(thing)
