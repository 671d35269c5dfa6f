"""From a PyTorch model to a :class:`~tpcalc.program.ir.Program`: record at each width, align, fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Optional, Union

from tpcalc.program.ir import Program
from tpcalc.program.raw import RawTrace

__all__ = ["trace"]


def trace(
    factory: Union[str, Callable[[int], Any]],
    widths: Sequence[int] = (128, 256, 512),
    *,
    loss: Optional[Callable[..., Any]] = None,
) -> Program:
    """Trace ``factory(width)`` at each of ``widths`` under fake tensors and return its Program.

    ``factory`` returns ``model`` or ``(model, inputs)``; text is a target of the command line (``"file.py:callable"``,
    ``"hf:llama"``).  ``loss(output)``, if given, is the scalar the backward
    pass starts from; else it is the model's own loss or a cross-entropy-like seed on each output.

    Raises TargetError if the widths are not three or more different positive whole numbers or the factory
    raises, TraceError if the model can't be recorded, AlignError if its graph depends on the width, FitError
    if a size or constant is no power of the width.
    """
    from tpcalc.trace.align import align
    from tpcalc.trace.init import InitRecorder
    from tpcalc.trace.record import record
    from tpcalc.trace.target import call_factory, factory_of, parse_widths

    ascending = parse_widths(widths)
    factory = factory_of(factory, ascending)
    traces: list[RawTrace] = []
    for width in ascending:
        # Source lines are the same at every width, and walking the stack for them is the slow part.
        first = not traces
        call = partial(call_factory, factory, width)
        traces.append(record(call, width, loss=loss, building=InitRecorder(), sources=first))
    traces[0].assumptions[:0] = getattr(factory, "assumptions", ())
    return align(traces)
