"""Why every weight and every value of a program has its order, from one solution: what a picture of it tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Optional, Union

from tpcalc.algebra.fan import Cell
from tpcalc.algebra.order import Order
from tpcalc.calculus.words import reason_of
from tpcalc.derive.api import alpha_of, made, noted, solve_along
from tpcalc.derive.explain import Explanation, ScaledExplanation, explanation, scaled
from tpcalc.derive.gauge import EXPERTS
from tpcalc.derive.result import Parametrization
from tpcalc.derive.several import ScaledParametrization, in_every_direction, together
from tpcalc.derive.solve import Solution
from tpcalc.errors import DeriveError
from tpcalc.optimizers import Recipe, UpdateLaw, recipe
from tpcalc.program.ir import Program
from tpcalc.progress import steps, tell

__all__ = ["Explained", "ValueReason", "explain_all"]


@dataclass(frozen=True, slots=True)
class ValueReason:
    """Of a value its orders at init, after training, and of its change; the laws of its op in words; what decides.

    ``budget``: the order that its change may have; None where nothing asks for one.  ``decides``: id of a value of the
    program; None at leaves.
    """

    init: Order
    trained: Order
    change: Order
    budget: Optional[Order]
    rule: str
    decides: Optional[int]


@dataclass(frozen=True)
class Explained:
    """``rules``: those of :func:`~tpcalc.derive.api.derive`.  ``weights``: explanations by the name of the weight.
    ``values``: by the id of the value, of all that the calculus has an order for; of several scales along one direction
    in which they grow about alike."""

    rules: Union[Parametrization, ScaledParametrization]
    weights: Mapping[str, Union[Explanation, ScaledExplanation]]
    values: Mapping[int, ValueReason]


def explain_all(
    program: Program,
    optimizer: Union[str, UpdateLaw, Recipe, Callable[..., Any]] = "adamw",
    *,
    alignment: str = "full",
    gauge: str = "init",
    depth_alpha: Union[str, Fraction, int] = 1,
) -> Explained:
    """What :func:`~tpcalc.derive.api.derive` gives, what :func:`~tpcalc.derive.explain.explain` says of each weight,
    and the reason of each value.

    Raises what that raises; DeriveError for a program of which few blocks were traced, where most values are missing.
    """
    if program.copies:
        raise DeriveError("of this program few blocks were traced; trace all of them to explain each")
    how, alpha = recipe(optimizer), alpha_of(program, depth_alpha)
    tell("deriving")

    def every(solution: Solution) -> tuple[Parametrization, Mapping[str, Explanation]]:
        rules, weights = made(solution, how, gauge, EXPERTS[0]), solution.lowered.program.weights
        return rules, {w.name: explanation(solution, w, rules, how) for w in steps("explaining", weights)}

    whole = solve_along(program, alignment, alpha)
    if program.compass is None:
        rules, weights = every(whole)
        return Explained(noted(rules), weights, _values(whole))
    cells = in_every_direction(program, lambda p: every(solve_along(p, alignment, alpha)))
    every_rule = together(program, [Cell(cell.walls, cell.found[0]) for cell in cells])
    every_weight = {
        weight.name: scaled(program, [(cell.walls, cell.found[1][weight.name]) for cell in cells])
        for weight in program.weights
    }
    return Explained(every_rule, every_weight, _values(whole))


def _values(solution: Solution) -> dict[int, ValueReason]:
    lowered, found = solution.lowered, {}
    for vid, fact in solution.facts.items():
        if vid not in lowered.program.values:
            continue
        reason = reason_of(lowered, solution.facts, solution.alignment, vid)
        rules = [reason.rule]
        while reason.parents and lowered.shown(reason.parents[0]) in (vid, None):  # a part of the same op
            reason = reason_of(lowered, solution.facts, solution.alignment, reason.parents[0])
            rules.append(reason.rule)
        decides = next(iter(reason.parents), None)
        demand = solution.budgets.of.get(vid)
        found[vid] = ValueReason(
            *(fact.init, fact.trained, fact.change),
            None if demand is None else demand.change,
            "; ".join(rules),
            None if decides is None else lowered.shown(decides),
        )
    return found
