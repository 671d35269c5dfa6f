"""What makes tests with many gauges, optimizers and widths of the same few models affordable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any
from unittest import mock

from tests.support.once import once
from tpcalc.derive.solve import Solution, solve
from tpcalc.program.ir import Program

_TRACE = ("tpcalc.trace", "tpcalc.scaling.compute", "tpcalc.check.plan")
_SOLVE = ("tpcalc.scaling.compute", "tpcalc.check.plan", "tpcalc.derive.api")


@contextmanager
def quick() -> Iterator[None]:
    """One trace of a factory serves every gauge and optimizer, and so does what solves it for an alignment."""
    modules = {name: import_module(name) for name in (*_TRACE, *_SOLVE)}  # first: each holds the names it imports
    cached, solved = once(modules["tpcalc.trace"].trace), _solved_once()
    with ExitStack() as stack:
        for names, name, stand_in in ((_TRACE, "trace", _traced(cached)), (_SOLVE, "solve", solved)):
            for module in names:
                stack.enter_context(mock.patch.object(modules[module], name, stand_in))
        yield


def _traced(cached: Callable[..., Program]) -> Callable[..., Program]:
    return lambda f, widths, loss=None: cached(f, widths, loss=loss)


def _solved_once() -> Callable[..., Solution]:
    found: dict[Any, tuple[Program, Solution]] = {}  # the program is kept, so that no other gets its id

    def solved(program: Program, alignment: Any = "full", *, depth: Any = None) -> Solution:
        if depth is not None:
            return solve(program, alignment, depth=depth)
        key = id(program), alignment
        if key not in found:
            found[key] = program, solve(program, alignment)
        return found[key][1]

    return solved
