"""A model traced at several widths and, at the smallest of them, at several depths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Optional

from tpcalc.errors import AlignError, TargetError
from tpcalc.program.ir import Program
from tpcalc.program.raw import RawTrace
from tpcalc.program.repeat import Loop, Repeats
from tpcalc.trace.align import align
from tpcalc.trace.depth.constants import powers
from tpcalc.trace.depth.insertion import grown, inserted, tokens
from tpcalc.trace.init import InitRecorder
from tpcalc.trace.record import record
from tpcalc.trace.target import call_factory

#: The depth up to which a model has to repeat itself: jamba has one layer of attention in eight.
MOST = 16

__all__ = ["MOST", "trace_depths"]


def trace_depths(
    factory: Callable[..., Any],
    widths: Sequence[int],
    depths: Sequence[str] = ("depth",),
    *,
    loss: Optional[Callable[..., Any]] = None,
) -> Program:
    """Trace ``factory(width=..., depth=...)`` with two periods of each stack, which stand for any number.

    ``depths``: names of the scales along which there are more nodes, each an argument of the factory.  How many layers
    make a period (layers may take turns) and how many stand alone at the ends is found: the least that explain the
    model up to depth MOST.

    Raises AlignError where a deeper model is not the same one with whole periods more.
    """
    return _Deep(factory, tuple(sorted(widths)), tuple(depths), loss).program()


class _Deep:
    """Traces by their sizes, each recorded once."""

    def __init__(
        self, factory: Callable[..., Any], widths: tuple[int, ...], depths: tuple[str, ...], loss: Any
    ) -> None:
        self.factory, self.widths, self.depths, self.loss = factory, widths, depths, loss
        self.traces: dict[tuple[int, ...], RawTrace] = {}
        self.seen: dict[tuple[int, ...], list[Any]] = {}

    def program(self) -> Program:
        at = dict.fromkeys(self.depths, 1)
        step = {}
        for name in self.depths:
            at[name], step[name] = self.period(at, name)
        base = self.trace(self.widths[0], at)
        repeats = self.repeats(base, at, step)
        program = align([base, *(self.trace(width, at) for width in self.widths[1:])])
        return replace(program, repeats=repeats)

    def trace(self, width: int, at: Mapping[str, int]) -> RawTrace:
        key = width, *at.values()
        if key not in self.traces:
            self.traces[key] = self.record(width, at, backward=True)
        return self.traces[key]

    def record(self, width: int, at: Mapping[str, int], backward: bool) -> RawTrace:
        call = partial(self.factory, **at)
        return record(
            lambda: call_factory(lambda width: call(width=width), width),
            width,
            loss=self.loss,
            backward=backward,
            building=InitRecorder(),
            sources=width == self.widths[0],
        )

    def forward(self, at: Mapping[str, int]) -> list[Any]:
        """The tokens of the forward pass at the smallest width."""
        key = tuple(at.values())
        if key not in self.seen:
            self.seen[key] = tokens(self.record(self.widths[0], at, backward=False))
        return self.seen[key]

    def period(self, at: Mapping[str, int], name: str) -> tuple[int, int]:
        """Of one scale: a depth with two periods at least, and how much deeper the model is by one."""
        refused: Optional[TargetError] = None
        lengths = range(1, MOST // 2 + 1)
        tries = sorted((depth, length) for length in lengths for depth in range(2 * length, MOST + 1))
        for depth, length in tries:
            try:
                once, twice = (self.forward({**at, name: each}) for each in (depth - length, depth))
                found = inserted(once, twice)
                if found == ():
                    raise AlignError(
                        f"{name} changes nothing: the model has the same ops at {name} {depth - length} and {depth}"
                    )
                if not found or any((end - start) // length_of < 2 for start, length_of, end in found):
                    continue
                times = max((MOST - depth) // length, 1)
                if self.forward({**at, name: depth + times * length}) == grown(twice, found, times):
                    return depth, length
            except TargetError as error:
                refused = error
        raise AlignError(
            f"the model does not repeat itself along {name}: up to {name} {MOST}, none is a shallower one with whole "
            f"blocks put in; blocks whose sizes or ops depend on their index have no power of the depth"
            + (f" ({refused})" if refused is not None else "")
        )

    def repeats(self, base: RawTrace, at: Mapping[str, int], step: Mapping[str, int]) -> Repeats:
        loops: list[Loop] = []
        constants = []
        for name in self.depths:
            depths = [at[name] + by * step[name] for by in (0, -1, 1)]
            others = [self.trace(self.widths[0], {**at, name: depth}) for depth in depths[1:]]
            found = inserted(tokens(others[0]), tokens(base)) or ()
            loops += [Loop(name, *stretch) for stretch in found]
            constants += powers(base, others, found, name, depths)
        loops.sort(key=lambda loop: loop.start)
        return Repeats(tuple(loops), tuple(constants), tuple(step.items()))
