"""``derive``: from a traced program to the rules of every weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any, Optional, Union

from tpcalc.algebra.order import Order
from tpcalc.algebra.text import power_text
from tpcalc.collector import without_gc
from tpcalc.derive.experts import note, sized, terms
from tpcalc.derive.gauge import EXPERTS, WRITTEN_IN
from tpcalc.derive.parametrizations import named_solution
from tpcalc.derive.parametrize import parametrize
from tpcalc.derive.result import Parametrization
from tpcalc.derive.several import in_every_direction, together
from tpcalc.derive.solve import Solution, solve
from tpcalc.derive.unfolded import unfolded
from tpcalc.errors import DeriveError
from tpcalc.lower.depth import Depth
from tpcalc.optimizers import Recipe, UpdateLaw, recipe
from tpcalc.program.ir import Program
from tpcalc.progress import tell


@without_gc()
def derive(
    program: Program,
    optimizer: Union[str, UpdateLaw, Recipe, Callable[..., Any]] = "adamw",
    *,
    alignment: str = "full",
    gauge: Optional[str] = None,
    parametrization: str = "derived",
    depth_alpha: Union[str, Fraction, int] = 1,
    experts: str = EXPERTS[0],
) -> Any:
    """Derive how init, learning rate, weight decay and epsilon of every weight must scale with width.

    ``optimizer``: the name of an update law (``adamw``, ``sgd``, ``lion``, ...), a recipe (``muon+adamw``: the first
    for hidden matrices), an :class:`~tpcalc.optimizers.UpdateLaw` of one's own, or a function from a list of parameters
    to an optimizer (or several), whose laws are read by running it (:mod:`tpcalc.probe`).  ``alignment``: ``full``,
    ``omega`` or ``none`` (:class:`tpcalc.calculus.alignment.Alignment`).  ``parametrization``: ``derived``, or one
    whose init is given, with the largest learning rates that stay stable under that alignment: ``sp``, ``ntp``, ``mfp``
    or ``mup`` (:mod:`tpcalc.derive.parametrizations`).  ``gauge``: where the sizes stand, ``init`` (no forward
    multipliers), ``mup``, ``symmetric`` or ``ntk`` (:mod:`tpcalc.derive.gauge`); by default that in which the
    parametrization is written, ``init`` for ``derived``.

    ``depth_alpha``: along a depth L, residual branches start at L^-alpha: 1 (CompleteP, Dey et al. 2025), at which all
    weights keep learning features, down to 1/2 (Depth-muP, Yang et al. 2023).

    ``experts``: the init of the last weights of experts: ``mup`` (derived), ``stein`` (Jiang et al. 2026) or
    ``balanced`` (Complete-muE); a note says what each leaves out (:mod:`tpcalc.derive.experts`).

    Returns a :class:`~tpcalc.derive.result.Parametrization`, a mapping from parameter name to Rule; exponents follow
    the conventions of :mod:`tpcalc.derive.result`.  Of a program of several scales it is a
    :class:`~tpcalc.derive.several.ScaledParametrization`, whose rules are formulas.

    Raises UnsupportedOpError for an op without a rule, DeriveError for an unknown name or where the uses of a weight
    have no common solution.
    """
    how, alpha = recipe(optimizer), alpha_of(program, depth_alpha)
    tell("deriving")
    if experts != EXPERTS[0] and parametrization != "derived":
        raise DeriveError(f"the init of the parametrization {parametrization} is given, that of experts too; name one")

    if program.compass is not None:
        if parametrization != "derived":
            raise DeriveError(
                f"the parametrization {parametrization} is one of the width alone; derive it for one scale"
            )

        def derived(p: Program) -> Parametrization:
            return made(sized(solve_along(p, alignment, alpha), experts), how, gauge or "init", experts)

        return together(program, in_every_direction(program, derived))
    if parametrization == "derived":
        rules = noted(made(sized(solve(program, alignment), experts), how, gauge or "init", experts))
    else:
        solution = named_solution(program, parametrization, alignment)
        rules = parametrize(solution, how, gauge or WRITTEN_IN[parametrization])
        rules = replace(rules, parametrization=parametrization)
    return unfolded(rules, program.copies) if program.copies else rules


def made(solution: Solution, how: Recipe, gauge: str, experts: str) -> Parametrization:
    """The rules of a solution whose experts are ``sized`` so, with what that leaves out."""
    return replace(parametrize(solution, how, gauge), experts=experts, terms=terms(solution, experts))


def noted(rules: Parametrization) -> Parametrization:
    """Rules of one scale that say what terms of experts become."""
    more = (
        note(names, *(power_text(x, rules.symbol, "full") for x in (through, initial)))
        for names, through, initial in rules.terms
        if not through == initial == 0
    )
    return replace(rules, notes=(*rules.notes, *more))


def solve_along(program: Program, alignment: str, alpha: Order) -> Solution:
    """The solution of a program of several scales along its compass; branches start at L^-alpha."""
    depths = program.compass.depths if program.compass is not None else {}
    return solve(program, alignment, depth=Depth(depths, alpha) if depths else None)


OF_A_DEPTH = "depth_alpha is about residual branches along a depth; trace the model along a scale depth"


def alpha_of(program: Program, alpha: Union[str, Fraction, int]) -> Order:
    """``alpha`` of a program as an exact exponent; raises DeriveError for one other than 1 where there is no depth."""
    found = depth_exponent(alpha)
    if found != 1 and not (program.compass and program.compass.depths):
        raise DeriveError(OF_A_DEPTH)
    return found


def depth_exponent(alpha: Union[str, Fraction, int]) -> Order:
    """``alpha`` as an exact exponent; raises DeriveError for anything but a rational."""
    try:
        return Order(alpha)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise DeriveError(f"depth_alpha {alpha!r} is no exact rational; write 1, 1/2 or 3/4") from error
