"""Explain one weight: its exponents, what binds each, the way to that place, and where its gradient comes from."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Optional, Union

from tpcalc.algebra.fan import Walls
from tpcalc.algebra.form import coordinates
from tpcalc.algebra.formula import Formula
from tpcalc.algebra.order import Order
from tpcalc.algebra.scales import Scale
from tpcalc.calculus.words import chain
from tpcalc.derive.api import alpha_of, solve_along
from tpcalc.derive.certificate import Certificate, certify
from tpcalc.derive.parametrize import parametrize
from tpcalc.derive.result import Parametrization, Rule
from tpcalc.derive.several import formulas_of, in_every_direction
from tpcalc.derive.solve import Solution
from tpcalc.errors import DeriveError
from tpcalc.horizon import Chosen, chosen
from tpcalc.optimizers import Recipe, UpdateLaw, recipe
from tpcalc.program.ir import Program, Weight
from tpcalc.program.names import first_meant
from tpcalc.rules.structures import Atom, Centre, View
from tpcalc.show import Shown


@dataclass(frozen=True)
class Waypoint:
    """A value on the way, or behind the gradient: its trained order, and the op or the law that gives it.

    ``shown``: id of the value of the program that stands for it (None: an op without a result).
    """

    value: str
    how: str
    order: Order
    where: str
    budget: Optional[Order] = None
    shown: Optional[int] = None


@dataclass(frozen=True, repr=False)
class Explanation(Shown):
    """Why a weight has its exponents under ``law``.  ``print(explanation)`` tells it in plain lines.

    ``certificates``: of A and C.  ``path``: from the use of the weight that binds to where the budget stands; None
    where no output depends on the weight, empty where the budget is the weight's own.  ``gradient``: back along what
    decides its order.  ``assumed``: a rule for batch size and length, which is no part of what is derived.
    """

    names: tuple[str, ...]
    rule: Rule
    law: UpdateLaw
    gauge: str
    certificates: tuple[Certificate, ...] = ()
    path: Optional[tuple[Waypoint, ...]] = None
    gradient: tuple[Waypoint, ...] = ()
    assumed: Optional[Chosen] = None


@dataclass(frozen=True, repr=False)
class ScaledExplanation(Shown):
    """Why a weight has its ``formulas`` (:class:`~tpcalc.derive.several.ScaledRule`) of several ``scales``.

    ``cones``: one explanation for each set of exponents that it takes, with the walls ``v.log x > 0`` of a cone in
    which that holds.  Orders are forms (:mod:`tpcalc.algebra.form`).
    """

    scales: tuple[Scale, ...]
    formulas: Mapping[str, Optional[Formula]]
    cones: tuple[tuple[Walls, Explanation], ...]
    assumed: Optional[Chosen] = None


def find_weight(program: Program, name: str) -> Weight:
    """The weight called ``name`` (any of its tied names), or the first that a printed name stands for
    (``blocks.*.q.weight``); raises DeriveError with close matches.
    """
    traced = program.copies.source.get(name, name)
    for weight in program.weights:
        if traced in weight.names:
            return weight
    known = [n for weight in program.weights for n in weight.names]
    meant = first_meant(name, known)
    if meant is not None:
        return find_weight(program, meant)
    names = [*known, *program.copies.source]
    close = difflib.get_close_matches(name, names, n=3)
    hint = f"; did you mean {' or '.join(close)}?" if close else "; run tpcalc table to see the names"
    raise DeriveError(f"the model has no parameter {name!r}{hint}")


def explain(
    program: Program,
    weight: str,
    optimizer: Union[str, UpdateLaw, Recipe, Callable[..., Any]] = "adamw",
    *,
    alignment: str = "full",
    gauge: str = "init",
    depth_alpha: Union[str, Fraction, int] = 1,
    horizon: Union[str, Chosen, None] = None,
) -> Any:
    """Say why ``weight`` has its exponents under ``optimizer``: an :class:`Explanation`, of a program of several scales
    a :class:`ScaledExplanation`.  ``horizon``: a rule for batch size and length, told beside (:mod:`tpcalc.horizon`).
    The other arguments are those of :func:`tpcalc.derive.derive`.

    Raises DeriveError for a parameter, optimizer, alignment or gauge that does not exist, ScalingError for a rule.
    """
    how, alpha = recipe(optimizer), alpha_of(program, depth_alpha)
    assumed = chosen(horizon) if isinstance(horizon, str) else horizon
    if assumed is not None:
        assumed.check(how)
    find_weight(program, weight)  # before anything slow

    def explained(p: Program) -> Explanation:
        solution = solve_along(p, alignment, alpha)
        return explanation(solution, find_weight(p, weight), parametrize(solution, how, gauge), how)

    if program.compass is None:
        return replace(explained(program), assumed=assumed)
    cells = in_every_direction(program, explained)
    return replace(scaled(program, [(cell.walls, cell.found) for cell in cells]), assumed=assumed)


def scaled(program: Program, found: Sequence[tuple[Walls, Explanation]]) -> ScaledExplanation:
    """One explanation of a weight from those in all cones of a fan."""
    apart: dict[Any, tuple[Walls, Explanation]] = {}
    for walls, own in found:
        orders = own.rule.formulas.values()
        exponents = tuple(None if x is None else coordinates(x, len(program.scales)) for x in orders)
        apart.setdefault(exponents, (walls, own))
    formulas = formulas_of(program, [(walls, own.rule) for walls, own in found])
    return ScaledExplanation(program.scales, formulas, tuple(apart.values()))


def explanation(solution: Solution, found: Weight, rules: Parametrization, how: Recipe) -> Explanation:
    """Why the weight ``found`` has its exponents; ``rules``: those of the solution under the optimizer ``how``."""
    rule = rules[found.name]
    law = how.by_name[rule.optimizer]
    needs = solution.needs_of(found)
    if not needs:
        return Explanation(found.names, rule, law, rules.gauge)
    demand = needs[0][1].demand
    path, back = tuple(_path(solution, demand.use, demand.origin)), tuple(_gradient(solution, found))
    return Explanation(found.names, rule, law, rules.gauge, certify(solution, found), path, back)


def _gradient(solution: Solution, weight: Weight) -> Iterator[Waypoint]:
    if weight.grad is None:
        return
    lowered = solution.lowered
    for reason in chain(lowered, solution.facts, solution.alignment, weight.grad):
        where = lowered.where(reason.atom) if reason.atom is not None else ""
        shown = lowered.shown(reason.value)
        yield Waypoint(lowered.name(reason.value), reason.rule, reason.trained, where, shown=shown)


def _path(solution: Solution, start: Optional[Atom], end: Optional[Atom]) -> Iterator[Waypoint]:
    """The forward atoms from the binding use to the place of the budget, without pass-through views."""
    if start is None:
        return
    lowered, facts = solution.lowered, solution.facts
    before: dict[int, Optional[Atom]] = {start.out: None}
    queue, goal = [start], start
    for atom in queue:  # which grows on the way
        goal = atom if end is None or atom.out == end.out else goal
        if end is not None and atom.out == end.out:
            break
        for consumer in lowered.forward_uses.get(atom.out, ()):
            if consumer.out not in before and (end is None or consumer.out <= end.out or consumer.node <= end.node):
                before[consumer.out] = atom
                queue.append(consumer)
    path, last = [goal], before[goal.out]
    while last is not None:
        path.append(last)
        last = before[last.out]
    for atom in reversed(path):
        if isinstance(atom.structure, (View, Centre)):
            continue
        node = lowered.node(atom)
        demand = solution.budgets.of.get(atom.out)
        budget = None if demand is None else demand.change
        order, shown = facts[atom.out].trained, lowered.shown(atom.out)
        yield Waypoint(lowered.name(atom.out), node.short_op, order, node.where, budget, shown)
