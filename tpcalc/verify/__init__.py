"""Verify a hand-written parametrization: someone's own init and optimizer groups, checked at infinite width.

One module a concept.  From the setup: :mod:`gather` runs it at all widths and :mod:`along` along scales, :mod:`built`
tells what it returned, :mod:`schedules` follows schedulers, :mod:`live` reads optimizers, :mod:`optimizers` knows which
law each follows, :mod:`numbers` fits exponents, :mod:`effective` those of each weight.  What is known: :mod:`repair`
finds what explodes and why, :mod:`case` holds it all.  The checks: :mod:`large`, :mod:`absorbed` (multipliers without
effect), :mod:`small`, :mod:`unmatched`, :mod:`scheduled`, :mod:`drift`.  What comes out: :mod:`grouping` makes one
finding a cause, :mod:`words` its sentences, :mod:`report` the whole, :mod:`findings` its types; :mod:`scaled` puts the
reports along several scales together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Optional, Union

from tpcalc.collector import without_gc
from tpcalc.errors import SetupError
from tpcalc.late import late
from tpcalc.verify.findings import Finding, Report

if TYPE_CHECKING:
    from tpcalc.verify.optimizers import declare_optimizer

__all__ = ["Finding", "Report", "SetupError", "declare_optimizer", "verify"]

#: Reports know findings without torch, which the probe of optimizers needs.
__getattr__ = late(__name__, {"declare_optimizer": "tpcalc.verify.optimizers"})


@without_gc()
def verify(
    setup: Callable[..., Any],
    widths: Sequence[int] = (128, 256, 512),
    *,
    scales: Optional[Mapping[str, Sequence[int]]] = None,
    depth_alpha: Union[str, Fraction, int] = 1,
    loss: Optional[Callable[..., Any]] = None,
) -> Report:
    """Check the parametrization that ``setup`` writes by hand.

    ``setup(width)`` returns ``(model, optimizer)``, optionally followed by a scheduler and by example inputs, told
    apart by type; the optimizer may be a list.  It is run at three or more widths, under fake tensors where it can
    bear that.  Effective init, forward constants, learning rates (at the peak of their schedules), weight decay and
    epsilon are read from the live objects and fitted as powers of the width; training at infinite width follows.

    ``scales``: several by name, each with its values, the base first, which ``setup`` takes by name: ``{"width": (64,
    128, 256), "depth": (2, 3)}``.  It is judged along each alone and along all sizes together; exponents are mappings
    by the symbol of each.  ``depth_alpha``: along a depth L, branches ought to start at L^-alpha.

    Raises SetupError, TargetError or TraceError where the setup can't be run, FitError where a number is no power of
    the width, UnsupportedOpError for an op without a rule.
    """
    from tpcalc.derive.api import depth_exponent
    from tpcalc.trace.target import name_of
    from tpcalc.verify.case import Case
    from tpcalc.verify.gather import gather
    from tpcalc.verify.report import report_of
    from tpcalc.verify.scaled import verify_along

    alpha = depth_exponent(depth_alpha)
    if scales is not None and set(scales) != {"width"}:
        return verify_along(setup, scales, widths, loss, alpha)
    if alpha != 1:
        raise SetupError("depth_alpha is about residual branches along a depth; verify along a scale depth")
    widths = widths if scales is None else scales["width"]
    return report_of(Case.of(gather(setup, widths, loss)), name_of(setup))
