"""From a PyTorch model to a :class:`~tpcalc.program.ir.Program`: record at each width, align, fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Optional, Union

from tpcalc.collector import without_gc
from tpcalc.program.ir import Program
from tpcalc.program.raw import RawTrace
from tpcalc.progress import steps

__all__ = ["trace"]


@without_gc()
def trace(
    factory: Union[str, Callable[[int], Any]],
    widths: Sequence[int] = (128, 256, 512),
    *,
    scales: Optional[Mapping[str, Sequence[int]]] = None,
    also: Sequence[Mapping[str, int]] = (),
    loss: Optional[Callable[..., Any]] = None,
) -> Program:
    """Trace ``factory(width)`` at each of ``widths`` under fake tensors and return its Program.

    ``scales``: several at once by name, each with its values, the base first: ``{"width": (64, 128, 256), "ffn": (256,
    512, 1024)}``.  The factory takes them by name, and is traced at the base, with each scale alone at its other
    values, and where all have moved.  A scale that is called depth (or ends in it) counts repeated blocks: how many are
    traced is found by itself, and its values say nothing.  Beside depths alone, ``widths`` are those of a scale width.
    ``also``: further places, by the name of each scale, at which sizes are to be exact.

    ``factory`` returns ``model`` or ``(model, inputs)``; text is a target of the command line (``"file.py:callable"``,
    ``"hf:llama"``).  ``loss(output)``, if given, is the scalar the backward
    pass starts from; else it is the model's own loss or a cross-entropy-like seed on each output.

    Raises TargetError if the widths are not three or more different positive whole numbers or the factory
    raises, TraceError if the model can't be recorded, AlignError if its graph depends on the width, FitError
    if a size or constant is no power of the width.
    """
    from tpcalc.algebra.fan import generic
    from tpcalc.algebra.form import Compass
    from tpcalc.algebra.scales import Place, Scale, star
    from tpcalc.trace.align import align
    from tpcalc.trace.depth import depths_of, trace_depths
    from tpcalc.trace.init import InitRecorder
    from tpcalc.trace.record import Files, record
    from tpcalc.trace.target import call_factory, factory_of, parse_scales, parse_widths

    if scales is not None and set(scales) == {"width"}:
        widths, scales = scales["width"], None
    compass, places = None, tuple[Place, ...]()
    if scales is None:
        places = parse_widths(widths)
        factory = factory_of(factory, places)
    else:
        parsed = parse_scales(scales)
        called = factory_of(factory, parse_widths(widths), scales=parsed)
        # those of the target, too: the width, where depths alone were given
        parsed = {name: parsed.get(name, values) for name, values in getattr(called, "scales", parsed).items()}
        depths = depths_of(called, parsed)
        if depths:
            sizes = {name: values for name, values in parsed.items() if name not in depths}
            program = trace_depths(called, sizes or {"width": parse_widths(widths)}, depths, also, loss=loss)
            return replace(program, assumptions=(*getattr(called, "assumptions", ()), *program.assumptions))
        compass = Compass([Scale(name) for name in parsed], generic(len(parsed)))
        places = star(parsed, also)
        factory = called
    traces: list[RawTrace] = []
    files = Files()
    for place in steps("tracing", tuple[Place, ...](places)):
        # Source lines are the same at every width, and walking the stack for them is the slow part.
        first = not traces
        call = partial(call_factory, factory, place)
        traces.append(record(call, place, loss=loss, building=InitRecorder(), sources=first, files=files))
    traces[0].assumptions[:0] = getattr(factory, "assumptions", ())
    return align(traces, compass)
