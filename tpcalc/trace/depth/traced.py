"""A model traced at several widths and, at the smallest of them, at several depths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Optional

from tpcalc.errors import AlignError, TargetError
from tpcalc.program.ir import Program
from tpcalc.program.raw import RawTrace
from tpcalc.program.repeat import Loop, Repeats
from tpcalc.trace.align import align
from tpcalc.trace.depth.constants import powers
from tpcalc.trace.depth.insertion import inserted, tokens
from tpcalc.trace.init import InitRecorder
from tpcalc.trace.record import record
from tpcalc.trace.target import call_factory

#: The longest period that is looked for, in units of the depth: gemma3 has one global layer in six.
MOST = 8

__all__ = ["MOST", "trace_depths"]


def trace_depths(
    factory: Callable[..., Any],
    widths: Sequence[int],
    depths: Sequence[str] = ("depth",),
    *,
    loss: Optional[Callable[..., Any]] = None,
    least: int = 1,
) -> Program:
    """Trace ``factory(width=..., depth=...)`` with two periods of each stack, which stand for any number.

    ``depths``: names of the scales along which there are more nodes, each an argument of the factory.  ``least``: the
    smallest depth that has a whole period.  What the layers of a period are is found: periods of one layer are tried
    first, then of two (layers that take turns), up to MOST.

    Raises AlignError where a deeper model is not the same one with whole periods more.
    """
    return _Deep(factory, tuple(sorted(widths)), tuple(depths), loss, least).program()


class _Deep:
    """Traces by their sizes, each recorded once."""

    def __init__(
        self, factory: Callable[..., Any], widths: tuple[int, ...], depths: tuple[str, ...], loss: Any, least: int
    ) -> None:
        self.factory, self.widths, self.depths, self.loss, self.least = factory, widths, depths, loss, least
        self.traces: dict[tuple[int, ...], RawTrace] = {}

    def program(self) -> Program:
        at = {name: self.least for name in self.depths}
        step = {}
        for name in self.depths:
            step[name] = self.period(at, name)
            at[name] = self.least - 1 + 2 * step[name]
        base = self.trace(self.widths[0], at)
        repeats = self.repeats(base, at, step)
        program = align([base, *(self.trace(width, at) for width in self.widths[1:])])
        return replace(program, repeats=repeats)

    def trace(self, width: int, at: Mapping[str, int]) -> RawTrace:
        key = width, *(at[name] for name in self.depths)
        if key not in self.traces:
            # source lines are the same at every width, and walking the stack for them is the slow part
            call = lambda width: self.factory(width=width, **at)  # noqa: E731
            call.__name__ = getattr(self.factory, "__name__", "factory")
            self.traces[key] = record(
                lambda: call_factory(call, width),
                width,
                loss=self.loss,
                building=InitRecorder(),
                sources=width == self.widths[0],
            )
        return self.traces[key]

    def period(self, at: Mapping[str, int], name: str) -> int:
        """How much deeper the model is by one period of this scale."""
        last = ""
        for length in range(1, MOST + 1):
            once, twice = self.least - 1 + length, self.least - 1 + 2 * length
            try:
                shallow, deep = (self.forward({**at, name: depth}) for depth in (once, twice))
            except TargetError as error:
                last = f" ({error})"
                continue
            found = inserted(shallow, deep)
            if found == ():
                raise AlignError(f"{name} changes nothing: the model has the same ops at {name} {once} and {twice}")
            if found and not self.also(at, name, length, found):
                continue
            if found:
                return length
        raise AlignError(
            f"the model does not repeat itself along {name}: no model with {name} up to {2 * MOST} is the half as deep "
            f"one with whole blocks put in{last}; blocks whose sizes or ops depend on their index have no power of the "
            f"depth"
        )

    def also(self, at: Mapping[str, int], name: str, length: int, found: Sequence[Any]) -> bool:
        """Whether one period more is the same loop, one period longer."""
        twice, thrice = self.least - 1 + 2 * length, self.least - 1 + 3 * length
        more = inserted(self.forward({**at, name: twice}), self.forward({**at, name: thrice}))
        return more is not None and [piece[1] for piece in more] == [piece[1] for piece in found]

    def forward(self, at: Mapping[str, int]) -> list[Any]:
        return tokens(self.trace(self.widths[0], at))

    def repeats(self, base: RawTrace, at: Mapping[str, int], step: Mapping[str, int]) -> Repeats:
        loops: list[Loop] = []
        constants = []
        for name in self.depths:
            others = [self.trace(self.widths[0], {**at, name: at[name] + by * step[name]}) for by in (-1, 1)]
            found = inserted(tokens(others[0]), tokens(base))
            assert found
            loops += [Loop(name, *stretch) for stretch in found]
            constants += powers(base, others, found, name, [at[name] + by * step[name] for by in (0, -1, 1)])
        return Repeats(tuple(loops), tuple(constants), tuple(step.items()))
