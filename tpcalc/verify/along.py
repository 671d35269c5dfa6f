"""Run a setup along scales, one of sizes and at most one depth, at a star of places.

A deeper model has more parameters.  Those of its further blocks are copies of one that was traced
(:class:`tpcalc.trace.depth.Periods`) and must have its numbers: at each depth one number for each place of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Optional

from tpcalc.algebra.fan import generic
from tpcalc.algebra.form import Compass
from tpcalc.algebra.scales import Point, Scale, star
from tpcalc.errors import FitError, SetupError
from tpcalc.program.ir import InitLaw, Program
from tpcalc.progress import steps
from tpcalc.trace.align import align
from tpcalc.trace.built import Built as Parameters
from tpcalc.trace.depth import Periods, trace_depths
from tpcalc.trace.init import InitRecorder
from tpcalc.trace.record import Files, build, record, unwritten_numbers
from tpcalc.trace.target import call_factory, name_of
from tpcalc.verify.built import Built
from tpcalc.verify.gather import FAKE, Drawn, Gathered, Loss, built_by
from tpcalc.verify.live import Live, Settings
from tpcalc.verify.numbers import StarNumbers

Setup = Callable[..., Any]
Values = Mapping[str, Sequence[int]]


def gather_along(setup: Setup, sizes: Values, depth: Values, loss: Loss = None) -> Gathered:
    """Run ``setup``, which takes the scales by name, along one of ``sizes`` and at most one ``depth``.

    Raises SetupError, TargetError, TraceError, AlignError or FitError where it can't be run, traced or fitted.
    """
    factory = model_of(setup)
    if depth:
        program = trace_depths(factory, sizes, tuple(depth), loss=loss)
        periods = Periods(factory, program.widths[0], dict(program.repeats.periods))
        places = star({**sizes, **_depths(program, depth)})
    else:
        program, periods = _traced(factory, sizes, loss), None
        places = program.widths
    read = {place: _Read.at(setup, place, periods) for place in places}
    weights = tuple(
        replace(weight, init=tuple((place, at.law(weight.name)) for place, at in read.items()))
        for weight in program.weights
    )
    said = dict.fromkeys(at.built.said for at in read.values() if at.built.said)
    program = replace(program, weights=weights, assumptions=tuple(dict.fromkeys((*program.assumptions, *said))))
    live = {place: at.settled() for place, at in read.items()}
    drawn = {place: at.drawn for place, at in read.items()}
    assert program.compass is not None
    return Gathered(program, live, FAKE, drawn=drawn, numbers=StarNumbers(program.compass, places))


def model_of(setup: Setup) -> Callable[..., Any]:
    """The factory of the model and its inputs in ``setup``."""

    def factory(**scales: int) -> tuple[Any, Any]:
        built, _ = _built(setup, Point(tuple(scales), scales.values()))
        return built.model, built.inputs

    factory.__name__ = name_of(setup)
    return factory


def _built(setup: Setup, place: Point) -> tuple[Built, Live]:
    with unwritten_numbers():
        return built_by(setup, place)


def _traced(factory: Callable[..., Any], sizes: Values, loss: Loss) -> Program:
    places, files = star(sizes), Files()
    traces = [
        record(
            partial(call_factory, factory, place),
            place,
            loss=loss,
            building=InitRecorder(),
            sources=place == places[0],
            files=files,
        )
        for place in steps("tracing", places)
    ]
    return align(traces, Compass([Scale(name) for name in sizes], generic(len(sizes))))


def _depths(program: Program, depth: Values) -> dict[str, tuple[int, ...]]:
    """The depths at which numbers are read: three that tell a power, that of the trace first, and those given."""
    found = {}
    for name, step in program.repeats.periods:
        traced = program.widths[0].by_name[name]
        more = -(-traced // step) * step
        found[name] = tuple(dict.fromkeys((traced, *sorted({traced + more, traced + 3 * more, *depth[name]}))))
    return found


@dataclass(frozen=True)
class _Read:
    """A setup at one place.  ``copies``: name of a traced parameter -> those that have its rule here."""

    place: Point
    built: Built
    live: Live
    recorder: InitRecorder
    parameters: Mapping[str, Any]
    copies: Mapping[str, tuple[str, ...]]

    @staticmethod
    def at(setup: Setup, place: Point, periods: Optional[Periods]) -> _Read:
        recorder = InitRecorder()
        built, live = build(partial(_built, setup, place), recorder)
        if live.schedulers:
            raise SetupError(
                f"{name_of(setup)} has a scheduler ({live.schedulers[0]}), and schedules are followed along the width "
                f"alone for now; verify it with --widths, and along scales return it without its scheduler"
            )
        parameters = dict(built.model.named_parameters(remove_duplicate=False))
        sources = {name: name for name in parameters}
        if periods is not None:
            sources = periods.sources(Parameters(place, parameters, recorder, built.model))
        copies: dict[str, list[str]] = {}
        for name, source in sources.items():
            copies.setdefault(source, []).append(name)
        own = {source: tuple(names) for source, names in copies.items()}
        return _Read(place, built, live, recorder, parameters, own)

    @property
    def drawn(self) -> Drawn:
        return Drawn(self.recorder, {source: self.parameters[names[0]] for source, names in self.copies.items()})

    def law(self, name: str) -> InitLaw:
        laws = {copy: self.recorder.law_of(self.parameters[copy]) for copy in self.copies[name]}
        self._alike({copy: (law.kind, law.std, law.mean) for copy, law in laws.items()}, "init")
        return laws[self.copies[name][0]]

    def settled(self) -> Live:
        """Its settings by the names of the traced parameters."""
        own = self.live.settings
        settings = {}
        for name, copies in self.copies.items():
            self._alike({copy: None if copy not in own else _numbers(own[copy]) for copy in copies}, "optimizer")
            if copies[0] in own:
                settings[name] = own[copies[0]]
        return replace(self.live, settings=settings)

    def _alike(self, found: Mapping[str, object], what: str) -> None:
        """Raise FitError where copies of one parameter differ in ``what``."""
        first = next(iter(found))
        other = next((name for name, each in found.items() if each != found[first]), None)
        if other is not None:
            raise FitError(
                f"the {what} of {first} and of {other}, one parameter of two blocks, differ at {self.place} "
                f"({_text(found[first])}; {_text(found[other])}); what follows the index of a block has no power of "
                f"the depth: give all blocks the same numbers"
            )


def _numbers(own: Settings) -> tuple[object, ...]:
    """What all copies of a parameter share."""
    told = {key: value for key, value in own.group.items() if isinstance(value, (bool, int, float, tuple))}
    return own.optimizer, own.lr, own.weight_decay, own.eps, tuple(sorted(told.items()))


def _text(found: object) -> str:
    if found is None:
        return "none holds it"
    assert isinstance(found, tuple)
    return ", ".join(f"{x:.6g}" if isinstance(x, float) else str(x) for x in found[:4])


__all__ = ["gather_along", "model_of"]
