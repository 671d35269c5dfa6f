"""A model traced at several widths and, at the smallest of them, at several depths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Optional

from tpcalc.algebra.fan import generic
from tpcalc.algebra.form import Compass
from tpcalc.algebra.scales import SYMBOLS, Point, Scale, star
from tpcalc.errors import AlignError, TargetError
from tpcalc.program.ir import Program
from tpcalc.program.raw import RawTrace
from tpcalc.program.repeat import Loop, Repeats
from tpcalc.progress import tell
from tpcalc.trace.align import align
from tpcalc.trace.depth.constants import powers
from tpcalc.trace.depth.insertion import grown, inserted, tokens
from tpcalc.trace.init import InitRecorder
from tpcalc.trace.record import Files, record
from tpcalc.trace.target import call_factory

#: The depth up to which a model has to repeat itself: jamba has one layer of attention in eight.
MOST = 16

__all__ = ["MOST", "depths_of", "period_of", "trace_depths"]


def trace_depths(
    factory: Callable[..., Any],
    scales: Mapping[str, Sequence[int]],
    depths: Sequence[str] = ("depth",),
    also: Sequence[Mapping[str, int]] = (),
    *,
    loss: Optional[Callable[..., Any]] = None,
) -> Program:
    """Trace ``factory(width=..., depth=...)`` with two periods of each stack, which stand for any number.

    ``scales``: those of sizes, by name, with their values, the base first; ``also``: further places at which sizes are
    to be exact.  ``depths``: names of the scales along which there are more nodes.  All are arguments of the factory.
    How many layers make a period (layers may take turns) and how many stand alone at the ends is found: the least that
    explain the model up to depth MOST.

    Raises AlignError where a deeper model is not the same one with whole periods more.
    """
    return _Deep(factory, star(scales, also), tuple(depths), loss).program()


def period_of(
    factory: Callable[..., Any], base: Point, depth: str, loss: Optional[Callable[..., Any]] = None
) -> tuple[int, int]:
    """A depth at which the model has two periods at least, and how much deeper it is by one more.

    Raises AlignError where it does not repeat itself.
    """
    return _Deep(factory, (base,), (depth,), loss).period({depth: 1}, depth)


def depths_of(factory: Callable[..., Any], scales: Mapping[str, Sequence[int]]) -> list[str]:
    """The scales that count blocks: those along which there are more ops, whatever they are called."""
    base = Point(tuple(scales), (values[0] for values in scales.values()))

    def ops(place: Point) -> int:
        return len(record(partial(call_factory, factory, place), place, backward=False, sources=False).nodes)

    unnamed = [name for name in scales if name not in SYMBOLS]
    at_base = ops(base) if unnamed else 0
    more = [name for name in unnamed if ops(base.with_(**{name: scales[name][1]})) != at_base]
    return [name for name in scales if name.endswith("depth") or name in more]


class _Deep:
    """Traces by their sizes, each recorded once."""

    def __init__(
        self, factory: Callable[..., Any], sizes: tuple[Point, ...], depths: tuple[str, ...], loss: Any
    ) -> None:
        self.factory, self.depths, self.loss = factory, depths, loss
        self.sizes, self.base = sizes, sizes[0]
        self.names = (*self.base.names, *depths)
        self.traces: dict[Point, RawTrace] = {}
        self.seen: dict[Point, list[Any]] = {}
        self.files = Files()

    def program(self) -> Program:
        at = dict.fromkeys(self.depths, 1)
        step = {}
        for name in self.depths:
            at[name], step[name] = self.period(at, name)
        base = self.trace(self.base, at)
        repeats = self.repeats(base, at, step)
        all_scales = [Scale(name, depth=name in self.depths) for name in self.names]
        compass = Compass(all_scales, generic(len(all_scales)))
        program = align([base, *(self.trace(size, at) for size in self.sizes[1:])], compass)
        return replace(program, repeats=repeats)

    def place(self, size: Point, at: Mapping[str, int]) -> Point:
        return Point(self.names, (*size, *at.values()))

    def trace(self, size: Point, at: Mapping[str, int]) -> RawTrace:
        place = self.place(size, at)
        if place not in self.traces:
            self.traces[place] = self.record(place, backward=True)
        return self.traces[place]

    def record(self, place: Point, backward: bool) -> RawTrace:
        tell("tracing", len(self.traces))
        return record(
            partial(call_factory, self.factory, place),
            place,
            loss=self.loss,
            backward=backward,
            building=InitRecorder(),
            sources=place[: len(self.base)] == self.base,
            files=self.files,
        )

    def forward(self, at: Mapping[str, int]) -> list[Any]:
        """The tokens of the forward pass at the base."""
        place = self.place(self.base, at)
        if place not in self.seen:
            self.seen[place] = tokens(self.record(place, backward=False))
        return self.seen[place]

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
        if refused is not None and len(self.seen) < MOST // 2:  # it can't be built: no question of repeating
            raise refused
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
            others = [self.trace(self.base, {**at, name: depth}) for depth in depths[1:]]
            found = inserted(tokens(others[0]), tokens(base)) or ()
            loops += [Loop(name, *stretch) for stretch in found]
            constants += powers(base, others, found, name, depths)
        loops.sort(key=lambda loop: loop.start)
        return Repeats(tuple(loops), tuple(constants), tuple(step.items()))
