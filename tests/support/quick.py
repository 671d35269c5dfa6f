"""What makes tests with many gauges, optimizers and widths of the same few models affordable."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import tpcalc.trace
from tests.support.once import once
from tpcalc.derive.solve import Solution, solve
from tpcalc.program.ir import Program

_SOLVE = ("tpcalc.scaling.compute", "tpcalc.check.plan", "tpcalc.derive.api")


@contextmanager
def quick() -> Iterator[None]:
    """One trace of a factory serves every gauge and optimizer, and so does what solves it for an alignment."""
    cached, solved = once(tpcalc.trace.trace), _solved_once()
    with ExitStack() as stack:
        stack.enter_context(mock.patch("tpcalc.trace.trace", lambda f, widths, loss=None: cached(f, widths, loss=loss)))
        for name in _SOLVE:
            __import__(name)
            stack.enter_context(mock.patch.object(sys.modules[name], "solve", solved))
        yield


def _solved_once() -> Callable[..., Solution]:
    found: dict[Any, tuple[Program, Solution]] = {}  # the program is kept, so that no other gets its id

    def solved(program: Program, alignment: Any = "full") -> Solution:
        key = id(program), alignment
        if key not in found:
            found[key] = program, solve(program, alignment)
        return found[key][1]

    return solved
