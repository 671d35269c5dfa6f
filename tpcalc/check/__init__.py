"""Check: train for real at several widths, and compare every measured slope with the order that the calculus predicts.

::

    result = tpcalc.check(factory, widths=(64, 128, 256, 512))
    print(result); result.ok; result.failures

A coordinate check with a verdict.  Predictions are worst case over alignment: a slope above its prediction fails, one
below is fine, except that each weight's own update must move what the weight makes by as much as predicted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tpcalc.check.result import Entry, Result
from tpcalc.check.settings import PARAMETRIZATIONS

if TYPE_CHECKING:
    from tpcalc.check.run import check

__all__ = ["PARAMETRIZATIONS", "Entry", "Result", "check"]


def __getattr__(name: str) -> Any:
    """``check`` itself on first use: the command line asks for names before it needs torch."""
    if name != "check":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tpcalc.check.run import check

    return check
