"""From budgets to rules: the maximal parametrization of a program, explained and certified."""

from tpcalc.derive.solve import Need, Solution, derive, is_random, parametrize, solve, view_of, weight_view

__all__ = ["Need", "Solution", "derive", "is_random", "parametrize", "solve", "view_of", "weight_view"]
