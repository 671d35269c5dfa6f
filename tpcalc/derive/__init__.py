"""From budgets to rules: the maximal parametrization of a program, explained and certified."""

from tpcalc.derive.api import derive
from tpcalc.derive.parametrize import parametrize
from tpcalc.derive.solve import Need, Solution, solve

__all__ = ["Need", "Solution", "derive", "parametrize", "solve"]
