"""Check: train for real at several widths, and compare every measured slope with the order that the calculus predicts.

::

    result = tpcalc.check(factory, widths=(64, 128, 256, 512))
    print(result); result.ok; result.failures

A coordinate check with a verdict, of a model by derived rules or of a set-up as it is.  Predictions are worst case over
alignment: a slope above its prediction fails, one below is fine, except that each weight's own update must move what
the weight makes by as much as predicted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpcalc.late import late

if TYPE_CHECKING:
    from tpcalc.check.result import Entry, Result
    from tpcalc.check.run import check
    from tpcalc.check.settings import PARAMETRIZATIONS

__all__ = ["PARAMETRIZATIONS", "Entry", "Result", "check"]


#: The command line asks for names before it needs the rest.
__getattr__ = late(
    __name__,
    {
        "PARAMETRIZATIONS": "tpcalc.check.settings",
        "Entry": "tpcalc.check.result",
        "Result": "tpcalc.check.result",
        "check": "tpcalc.check.run",
    },
)
