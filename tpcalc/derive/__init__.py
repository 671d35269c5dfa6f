"""From budgets to rules: the maximal parametrization of a program, explained and certified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpcalc.late import late

if TYPE_CHECKING:
    from tpcalc.derive.api import derive

__all__ = ["derive"]

#: The command line asks for the names of gauges before it needs the calculus.
__getattr__ = late(__name__, {"derive": "tpcalc.derive.api"})
