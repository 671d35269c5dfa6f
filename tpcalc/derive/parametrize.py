"""Effective orders as rules: (a, b, c), decay and eps of every weight for one optimizer or recipe, in one gauge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Union

from tpcalc.algebra.form import exact
from tpcalc.algebra.order import ZERO, Order, max_order, order
from tpcalc.calculus.weights import gradient_order, growths, moved, trained, weight_view
from tpcalc.derive.clipping import clipping
from tpcalc.derive.depth import check_rates
from tpcalc.derive.gauge import check_gauge, multiplier_exponent
from tpcalc.derive.notes import conventions, notes
from tpcalc.derive.rates import rates
from tpcalc.derive.reasons import init_bound, reason, update_bound
from tpcalc.derive.result import Parametrization, Rule, SliceRule
from tpcalc.derive.solve import Solution
from tpcalc.derive.uneven import check_even
from tpcalc.errors import DeriveError
from tpcalc.optimizers import Recipe, UpdateLaw, recipe
from tpcalc.program.ir import Weight


def parametrize(
    solution: Solution, optimizer: Union[str, UpdateLaw, Recipe, Callable[..., Any]], gauge: str = "init"
) -> Parametrization:
    """Turn effective orders into (a, b, c), decay and eps for one optimizer or recipe, in one gauge.

    Raises DeriveError for an optimizer or a gauge that does not exist.
    """
    how, gauge = recipe(optimizer), check_gauge(gauge)
    program = solution.lowered.program
    if gauge == "symmetric" and program.compass is not None:
        raise DeriveError("the gauge symmetric is written in powers of one width; choose init, mup, ntk or completep")
    rules: dict[str, Rule] = {}
    for weight in program.weights:
        rules.update(dict.fromkeys(weight.names, _rule(solution, weight, how, gauge)))
    check_rates(solution.lowered, {name: rule.c for name, rule in rules.items()})
    used = [law for law in how.laws if any(rule.optimizer == law.name for rule in rules.values())] or [*how.laws]
    check_even(solution.lowered, {name: how.by_name[rule.optimizer] for name, rule in rules.items()})
    norms = ((w.name, _norm(solution, w, rules[w.name])) for w in program.weights if w.trainable)
    return Parametrization(
        rules=rules,
        optimizer=how.name,
        widths=program.widths,
        sites=solution.sites,
        assumptions=program.assumptions,
        notes=notes(solution, rules, used),
        symbol=program.symbol,
        conventions=conventions(used),
        gauge=gauge,
        alignment=solution.alignment.name,
        clipping=clipping(norms),
    )


def _norm(solution: Solution, weight: Weight, rule: Rule) -> Order:
    """Order of the Frobenius norm of a gradient: few rows that are not zero, or are larger than the others, count as
    the few that they are."""
    a = order(rule.a)
    found = []
    for leaf in solution.lowered.leaves_of[weight.name]:
        own = growths(leaf)
        of_bulk = leaf.grad if leaf.bulk is None else leaf.bulk
        parts = [(of_bulk, moved(leaf))]
        if leaf.bulk is not None:
            packed = [size.is_mixed if leaf.dim is None else axis == leaf.dim for axis, size in enumerate(weight.shape)]
            parts.append((leaf.grad, sum((growth for growth, few in zip(own, packed) if not few), ZERO)))
        orders = ((gradient_order(grad, solution.applied, trained) - a, entries) for grad, entries in parts)
        found += [gradient + (entries + leaf.copies) / 2 for gradient, entries in orders]
    return max_order(*found)


def _rule(solution: Solution, weight: Weight, how: Recipe, gauge: str) -> Rule:
    """The rule of one weight, in plain fractions for its users.

    Blocks with different needs share the safe, largest exponents, with their own in ``slices``.
    Only the init can be made for each block: the learning rate, epsilon and decay of one parameter are one number, and
    the safe one keeps every block within its budget.
    """
    found = solution.needs_of(weight)
    need = found[0][1] if found else None
    role, axes = solution.role(weight), growths(weight)
    # a packed matrix is trained as one: a block that is hidden makes it so
    hidden = any(own.role(leaf) == "hidden" for leaf, own in found)
    lengths = tuple(size.at(min(solution.lowered.program.widths)) for size in weight.shape)
    law = how.law_for("hidden" if hidden else role, axes, lengths)
    A = max((own.A for _, own in found), default=ZERO)
    C = max((own.C for _, own in found), default=ZERO)
    if law.relative:  # an update larger than the weight would make it, and so the next update, grow without end
        C = max(C, A)
    contracted = need.contracted if need is not None else ZERO
    depth = need.demand.depth if need is not None else ZERO
    a = multiplier_exponent(gauge, A, role, contracted, any(growth > 0 for growth in axes), depth)
    c, decay, eps = rates(solution, weight, law, a)
    return Rule(
        name=weight.name,
        shape=weight.shape,
        role=role,
        a=exact(a),
        b=exact(A - a),
        c=exact(c),
        weight_decay=exact(decay),
        eps=None if eps is None else exact(eps),
        A=exact(A),
        C=exact(C),
        gradient=gradient_order(weight.grad, solution.applied, trained) - a,
        reason=reason(solution, need, role) + ("" if weight.trainable else "; frozen"),
        init_bound=init_bound(solution, need) if need is not None else None,
        update_bound=update_bound(solution, need) if need is not None else None,
        aliases=weight.aliases,
        slices=_slices(solution, weight, law, a),
        trainable=weight.trainable,
        optimizer=law.name,
    )


def _slices(solution: Solution, weight: Weight, law: UpdateLaw, a: Order) -> tuple[SliceRule, ...]:
    """The blocks of a packed weight, where they differ."""
    result = []
    for leaf, need in solution.blocks_of(weight):
        if leaf.dim is None or leaf.start is None or leaf.length is None:
            return ()  # it is whole
        c = law.c(need.C, weight_view(solution.lowered, leaf, solution.facts, need.A).at(a), a)
        A, C, b = exact(need.A), exact(need.C), exact(need.A - a)
        result.append(SliceRule(leaf.dim, leaf.start, leaf.length, A, C, need.role(leaf), b, exact(c)))
    return tuple(result) if len({(block.A, block.C, block.c) for block in result}) > 1 else ()
