"""``derive``: from a traced program to the rules of every weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Optional, Union

from tpcalc.derive.gauge import WRITTEN_IN
from tpcalc.derive.parametrizations import named_solution
from tpcalc.derive.parametrize import parametrize
from tpcalc.derive.result import Parametrization
from tpcalc.derive.solve import solve
from tpcalc.errors import DeriveError
from tpcalc.lower.depth import Depth
from tpcalc.optimizers import Recipe, UpdateLaw, recipe
from tpcalc.program.ir import Program


def derive(
    program: Program,
    optimizer: Union[str, UpdateLaw, Recipe, Callable[..., Any]] = "adamw",
    *,
    alignment: str = "full",
    gauge: Optional[str] = None,
    parametrization: str = "derived",
    depth: Optional[Depth] = None,
) -> Parametrization:
    """Derive how init, learning rate, weight decay and epsilon of every weight must scale with width.

    ``optimizer``: the name of an update law (``adamw``, ``sgd``, ``lion``, ...), a recipe (``muon+adamw``: the first
    for hidden matrices), an :class:`~tpcalc.optimizers.UpdateLaw` of one's own, or a function from a list of parameters
    to an optimizer (or several), whose laws are read by running it (:mod:`tpcalc.probe`).  ``alignment``: ``full``,
    ``omega`` or ``none`` (:class:`tpcalc.calculus.alignment.Alignment`).  ``parametrization``: ``derived``, or one
    whose init is given, with the largest learning rates that stay stable under that alignment: ``sp``, ``ntp``, ``mfp``
    or ``mup`` (:mod:`tpcalc.derive.parametrizations`).  ``gauge``: where the sizes stand, ``init`` (no forward
    multipliers), ``mup``, ``symmetric`` or ``ntk`` (:mod:`tpcalc.derive.gauge`); by default that in which the
    parametrization is written, ``init`` for ``derived``.  ``depth``: orders of the depths along which the program was
    traced (:class:`tpcalc.lower.depth.Depth`), which stay fixed without it.

    Returns a mapping from parameter name to Rule; exponents follow the conventions of :mod:`tpcalc.derive.result`.

    Raises UnsupportedOpError for an op without a rule, DeriveError for an unknown name or where the uses of a weight
    have no common solution.
    """
    how = recipe(optimizer)
    if parametrization == "derived":
        return parametrize(solve(program, alignment, depth=depth), how, gauge or "init")
    if depth is not None:
        raise DeriveError(f"{parametrization} is a parametrization of the width alone; with a depth, derive the rules")
    solution = named_solution(program, parametrization, alignment)
    rules = parametrize(solution, how, gauge or WRITTEN_IN[parametrization])
    return replace(rules, parametrization=parametrization)
