"""Run a setup at several widths: its program, its init laws, and its optimizers' numbers.

Under phantom tensors where the setup can bear it, else on real small instances.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import torch

from tpcalc.algebra.scales import Place
from tpcalc.errors import AlignError, FitError, SetupError, TargetError, TpcalcError, TraceError, UnsupportedOpError
from tpcalc.lower.lowered import Leaf
from tpcalc.program.ir import InitLaw, Program
from tpcalc.program.raw import RawTrace
from tpcalc.progress import steps
from tpcalc.trace.align import align
from tpcalc.trace.init import InitRecorder, measured_law
from tpcalc.trace.record import Files, record, record_real, seeded, unwritten_numbers
from tpcalc.trace.target import call_factory, name_of, parse_widths
from tpcalc.verify.built import EXPECTS, Built, unpack
from tpcalc.verify.live import Live, read
from tpcalc.verify.numbers import Numbers
from tpcalc.verify.schedules import Watch, follow, named
from tpcalc.verify.trainers import opened

FAKE, REAL = "fake tensors", "real small instances"
#: A measured standard deviation this many standard errors from the recorded one contradicts it.
SIGMAS = 6.0


@dataclass(frozen=True)
class Drawn:
    """The parameters of one built model and the recorder that saw them drawn; ``real``: those measured instead."""

    recorder: InitRecorder
    parameters: Mapping[str, torch.Tensor]
    real: dict[str, torch.Tensor] = field(default_factory=dict)

    def law(self, leaf: Leaf, width: Place) -> InitLaw:
        name, dim = leaf.weight.name, leaf.dim
        assert dim is not None and leaf.start is not None and leaf.length is not None
        start, length = leaf.start.at(width), leaf.length.at(width)
        if name in self.real:
            return measured_law(self.real[name].detach().narrow(dim, start, length))
        return self.recorder.law_of_block(self.parameters[name], dim, start, length)


@dataclass(frozen=True)
class Gathered:
    """A setup at all widths, or places of several scales.  ``how``: on fake tensors or real ones; ``why``: what kept it
    from running on fake ones.

    ``measured``: parameters whose init could not be read and was measured.  ``drawn``: width -> how they were drawn.
    ``numbers``: reads exponents off what stands at each of them.
    """

    program: Program
    live: dict[Any, Live]
    how: str
    why: str = ""
    measured: frozenset[str] = frozenset()
    drawn: Mapping[Any, Drawn] = field(default_factory=dict)
    numbers: Numbers = field(default_factory=Numbers)

    def init_of(self, leaf: Leaf) -> tuple[tuple[Any, InitLaw], ...]:
        """The init law of a weight, or of one block of a packed one, at each width."""
        if leaf.dim is None:
            return leaf.weight.init
        laws = tuple((width, drawn.law(leaf, width)) for width, drawn in self.drawn.items())
        return leaf.weight.init if any(law.kind == "unknown" for _, law in laws) else laws


Loss = Optional[Callable[..., Any]]


def gather(setup: Callable[[int], Any], widths: Sequence[int], loss: Loss = None) -> Gathered:
    """Run ``setup`` at each width.

    Raises SetupError, TargetError, TraceError, AlignError or FitError where it can't be run, traced or fitted.
    """
    ascending = parse_widths(widths)
    try:
        return _on_fake_tensors(setup, ascending, loss)
    except (SetupError, AlignError, FitError, UnsupportedOpError):
        raise
    except (TargetError, TraceError) as error:
        try:
            return _on_real_instances(setup, ascending, loss, str(error).partition("; make it return")[0])
        except (SetupError, AlignError, FitError, UnsupportedOpError, TargetError):
            raise
        except TpcalcError:
            raise error from None


def built_by(setup: Callable[..., Any], width: Place) -> tuple[Built, Live]:
    """What a set-up returns at a width, with the rates at their peaks, and what its optimizers say."""
    name = name_of(setup)
    call = f"{name}({width})"

    def factory(*width: int, **scales: int) -> Any:
        watch = Watch()
        with watch.watching():
            result = opened(setup(*width, **scales), call)
        built = unpack(result, call)
        courses = follow(built, watch)
        held.append((built, read(built, courses, named(built, watch), watch.line)))
        return built.model, built.inputs

    held: list[tuple[Built, Live]] = []
    factory.__name__ = name
    factory.__wrapped__ = setup  # type: ignore[attr-defined]  # whose signature counts
    call_factory(factory, width, EXPECTS)
    return held[0]


def _on_fake_tensors(setup: Callable[[int], Any], widths: tuple[int, ...], loss: Loss) -> Gathered:
    live: dict[int, Live] = {}
    traces: list[RawTrace] = []
    said: dict[str, None] = {}
    drawn: dict[int, Drawn] = {}
    files = Files()
    for width in steps("tracing", widths):
        recorder = InitRecorder()

        def call(width: int = width, recorder: InitRecorder = recorder) -> Any:
            with unwritten_numbers():
                built, live[width] = built_by(setup, width)
            drawn[width] = Drawn(recorder, dict(built.model.named_parameters(remove_duplicate=False)))
            said.update({built.said: None} if built.said else {})
            return built.model, built.inputs

        traces.append(record(call, width, loss=loss, building=recorder, sources=not traces, files=files))
    unknown = sorted({name for trace in traces for name, law in trace.init.items() if law.kind == "unknown"})
    if unknown:
        _measure(setup, traces, unknown, drawn)
    traces[0].assumptions.extend(said)
    return Gathered(align(traces), live, FAKE, measured=frozenset(unknown), drawn=drawn)


def _measure(setup: Callable[[int], Any], traces: list[RawTrace], names: list[str], drawn: Mapping[int, Drawn]) -> None:
    """Measure the init of the parameters that the recorder could not read on real instances."""
    for trace in traces:
        with seeded():
            built, _ = built_by(setup, trace.width)
        real = dict(built.model.named_parameters(remove_duplicate=False))
        for name in names:
            trace.init[name] = measured_law(real[name])
            drawn[trace.width].real[name] = real[name]


def _on_real_instances(setup: Callable[[int], Any], widths: tuple[int, ...], loss: Loss, why: str) -> Gathered:
    live: dict[int, Live] = {}
    traces: list[RawTrace] = []
    seen: list[dict[str, InitLaw]] = []
    measured: set[str] = set()
    drawn: dict[int, Drawn] = {}
    for width in steps("tracing", widths):
        with seeded(), InitRecorder() as recorder:
            built, live[width] = built_by(setup, width)
        laws = recorder.laws(built.model)
        drawn[width] = Drawn(recorder, dict(built.model.named_parameters(remove_duplicate=False)))
        seen.append({name: measured_law(p) for name, p in built.model.named_parameters(remove_duplicate=False)})
        measured |= _contradicted(laws, seen[-1], built.model)
        trace = record_real(built.model, built.inputs, width, loss=loss, sources=not traces)
        trace.init.update(laws)
        trace.assumptions += [built.said] if built.said else []
        traces.append(trace)
    for trace, laws in zip(traces, seen, strict=True):  # read in one way at all widths
        trace.init.update({name: laws[name] for name in measured})
        drawn[trace.width].real.update({name: drawn[trace.width].parameters[name] for name in measured})
    return Gathered(align(traces), live, REAL, why, frozenset(measured), drawn)


def _contradicted(laws: dict[str, InitLaw], seen: dict[str, InitLaw], model: torch.nn.Module) -> set[str]:
    """The parameters whose recorded law is unknown or not that of the real entries: real code may write past the
    recorder.
    """
    sizes = {name: max(p.numel(), 1) for name, p in model.named_parameters(remove_duplicate=False)}
    return {name for name, law in laws.items() if law.kind == "unknown" or not _agree(law, seen[name], sizes[name])}


def _agree(law: InitLaw, seen: InitLaw, entries: int) -> bool:
    if law.kind == "constant" or seen.kind == "constant":
        return law.kind == seen.kind and math.isclose(law.mean, seen.mean, rel_tol=1e-5, abs_tol=1e-12)
    slack = SIGMAS / math.sqrt(2 * entries)
    rms, other = math.hypot(law.std, law.mean), math.hypot(seen.std, seen.mean)
    return abs(other - rms) <= slack * rms


__all__ = ["FAKE", "REAL", "Gathered", "built_by", "gather"]
