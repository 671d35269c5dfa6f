"""Explain one weight: its exponents, the constraint that binds each, the path to it, where its gradient comes from."""

from __future__ import annotations

import difflib
from typing import Optional, Union

from tpcalc.algebra.order import order_text
from tpcalc.calculus.words import chain
from tpcalc.derive.certificate import certify
from tpcalc.derive.parametrize import parametrize
from tpcalc.derive.solve import Solution, solve
from tpcalc.errors import DeriveError
from tpcalc.optimizers import Recipe, UpdateLaw, recipe
from tpcalc.program.ir import Program, Weight
from tpcalc.rules.structures import Atom, Centre, View


def find_weight(program: Program, name: str) -> Weight:
    """The weight called ``name`` (any of its tied names); raises DeriveError with close matches."""
    for weight in program.weights:
        if name in weight.names:
            return weight
    names = [n for weight in program.weights for n in weight.names]
    close = difflib.get_close_matches(name, names, n=3)
    hint = f"; did you mean {' or '.join(close)}?" if close else "; run tpcalc table to see the names"
    raise DeriveError(f"the model has no parameter {name!r}{hint}")


def explain(
    program: Program,
    weight: str,
    optimizer: Union[str, UpdateLaw, Recipe] = "adamw",
    *,
    alignment: str = "full",
    gauge: str = "init",
) -> str:
    """Say in plain lines why ``weight`` has its exponents under ``optimizer`` (see :func:`tpcalc.derive.solve`).

    Raises DeriveError for a parameter, optimizer, alignment or gauge that does not exist.
    """
    found = find_weight(program, weight)
    how = recipe(optimizer)
    solution = solve(program, alignment)
    rule = parametrize(solution, how, gauge)[found.name]
    law = how.by_name[rule.optimizer]
    lines = [f"{' = '.join(found.names)} {rule.shape_text}: {rule.role} ({rule.reason})", ""]
    needs = solution.needs_of(found)
    need = needs[0][1] if needs else None
    if need is None:
        return "\n".join([*lines, "Nothing was derived: no output depends on this parameter."])
    certificates = {c.exponent: c for c in reversed(certify(solution, found))}
    for exponent, value, meaning, bound in (
        ("A", rule.A, "std of W ~ n^-A", rule.init_bound),
        ("C", rule.C, "entries of an update ~ n^-C", rule.update_bound),
    ):
        lines.append(f"{exponent} = {order_text(value)}   ({meaning})")
        lines.append(f"  {bound}")
        certificate = certificates.get(exponent)
        if certificate is not None:
            verdict = "above" if certificate.holds else "not above"
            lines.append(
                f"  smaller by 1/8, {certificate.value} would have order {order_text(certificate.found)}, {verdict} its budget {order_text(certificate.budget)}"
            )
    lines += ["", "From the weight to where the budget stands:"]
    lines += [f"  {line}" for line in _path(solution, need.demand.use, need.demand.origin)]
    lines += ["", f"Gradient: g = {order_text(rule.gradient + rule.a)}   (entries ~ n^g)"]
    if found.grad is not None:
        for reason in chain(solution.lowered, solution.facts, solution.alignment, found.grad):
            where = solution.lowered.where(reason.atom) if reason.atom is not None else ""
            lines.append(
                f"  {solution.lowered.name(reason.value)} : n^{order_text(reason.trained)}  {reason.rule}"
                + (f"   # {where}" if where else "")
            )
    lines += [
        "",
        f"{law.name} ({law.source}):",
        *(
            [
                f"  a = {order_text(rule.a)}, b = A - a = {order_text(rule.b)}, gradient g - a = {order_text(rule.gradient)}   "
                f"(gauge {gauge}: multiplier ~ n^-a, std ~ n^-b)"
            ]
            if rule.a
            else []
        ),
        f"  c = C{' - a' if rule.a else ''} + u = {order_text(rule.c)}   (lr ~ n^-c)",
        f"  weight decay ~ n^{order_text(rule.weight_decay)}: {law.decay.convention}",
    ]
    if law.eps is not None:
        lines.append(f"  eps ~ n^{order_text(rule.eps)}: {law.eps.convention}")
    if law.note:
        lines.append(f"  note: {law.note}")
    return "\n".join(lines)


def _path(solution: Solution, start: Optional[Atom], end: Optional[Atom]) -> list[str]:
    """The forward atoms from the binding use to the place of the budget, without pass-through views."""
    if start is None:
        return ["its value is the budget's own"]
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
    lines = []
    for atom in reversed(path):
        if isinstance(atom.structure, (View, Centre)):
            continue
        node = lowered.node(atom)
        fact, demand = facts[atom.out], solution.budgets.of.get(atom.out)
        budget = f", budget {order_text(demand.change)}" if demand is not None else ""
        name = node.short_op
        lines.append(
            f"{lowered.name(atom.out)} = {name}: order {order_text(fact.trained)}{budget}"
            + (f"   # {node.where}" if node.where else "")
        )
    return lines
