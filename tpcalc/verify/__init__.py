"""Verify a hand-written parametrization: someone's own init and optimizer groups, checked at infinite width.

One module a concept: :mod:`live` reads optimizers, :mod:`gather` runs the setup at all widths, :mod:`effective` fits
exponents, :mod:`repair` finds what explodes and why, :mod:`absorbed` multipliers without effect, :mod:`judge` makes
findings, :mod:`render` prints them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Optional

from tpcalc.verify.findings import Finding, Report
from tpcalc.verify.live import SetupError, declare_optimizer

__all__ = ["Finding", "Report", "SetupError", "declare_optimizer", "verify"]


def verify(
    setup: Callable[[int], Any],
    widths: Sequence[int] = (128, 256, 512),
    *,
    loss: Optional[Callable[..., Any]] = None,
) -> Report:
    """Check the parametrization that ``setup`` writes by hand.

    ``setup(width)`` returns ``(model, optimizer)``, optionally followed by a scheduler and by example inputs, told
    apart by type; the optimizer may be a list.  It is run at three or more widths, under fake tensors where it can
    bear that.  Effective init, forward constants, learning rates (after a scheduler step), weight decay and epsilon
    are read from the live objects and fitted as powers of the width; training at infinite width follows from them.

    Raises SetupError, TargetError or TraceError where the setup can't be run, FitError where a number is no power of
    the width, UnsupportedOpError for an op without a rule.
    """
    from tpcalc.verify.gather import gather
    from tpcalc.verify.judge import judge

    return judge(gather(setup, widths, loss), getattr(setup, "__name__", type(setup).__name__))
