"""Why one weight has its exponents, in plain lines."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Optional

from tpcalc.algebra.order import order_text
from tpcalc.derive.explain import Explanation, Waypoint
from tpcalc.derive.result import Bound
from tpcalc.report.grid import within


def explanation_text(explanation: Explanation, width: Optional[int] = None) -> str:
    """``width`` is that of a terminal, in which every number stays whole."""
    rule = explanation.rule
    head = f"{' = '.join(explanation.names)} {rule.shape_text}: {rule.role} ({rule.reason})"
    if explanation.path is None:
        lines = [head, "", "Nothing was derived: no output depends on this parameter."]
        return "\n".join(within(lines, width))
    lines = [
        head,
        "",
        *_exponent(explanation, "A", rule.A, "std of W", rule.init_bound),
        *_exponent(explanation, "C", rule.C, "entries of an update", rule.update_bound),
        "",
        "From the weight to where the budget stands:",
        *(map(_on_the_way, explanation.path) if explanation.path else ["  its value is the budget's own"]),
        "",
        f"Gradient: g = {order_text(rule.gradient + rule.a)}   (entries ~ n^g)",
        *(_line(f"{s.value} : n^{order_text(s.order)}  {s.how}", s.where) for s in explanation.gradient),
        "",
        *_training(explanation),
    ]
    return "\n".join(within(lines, width))


def _exponent(explanation: Explanation, name: str, value: Fraction, of: str, bound: Optional[Bound]) -> Iterator[str]:
    yield f"{name} = {order_text(value)}   ({of} ~ n^-{name})"
    yield f"  {bound}"
    for certificate in explanation.certificates:
        if certificate.exponent == name:
            verdict = f"{'above' if certificate.holds else 'not above'} its budget {certificate.budget}"
            yield f"  smaller by 1/8, {certificate.value} would have order {certificate.found}, {verdict}"
            return  # that of the first block


def _on_the_way(step: Waypoint) -> str:
    budget = "" if step.budget is None else f", budget {order_text(step.budget)}"
    return _line(f"{step.value} = {step.how}: order {order_text(step.order)}{budget}", step.where)


def _line(text: str, where: str) -> str:
    return f"  {text}   # {where}" if where else f"  {text}"


def _training(explanation: Explanation) -> Iterator[str]:
    rule, law = explanation.rule, explanation.law
    a, b, c, behind = (order_text(x) for x in (rule.a, rule.b, rule.c, rule.gradient))
    yield f"{law.name} ({law.source}):"
    if rule.a:
        yield (
            f"  a = {a}, b = A - a = {b}, gradient g - a = {behind}   "
            f"(gauge {explanation.gauge}: multiplier ~ n^-a, std ~ n^-b)"
        )
    yield f"  c = C{' - a' if rule.a else ''} + u = {c}   (lr ~ n^-c)"
    yield f"  weight decay ~ n^{order_text(rule.weight_decay)}: {law.decay.convention}"
    if law.eps is not None and rule.eps is not None:
        yield f"  eps ~ n^{order_text(rule.eps)}: {law.eps.convention}"
    if law.note:
        yield f"  note: {law.note}"
