"""Why one weight has its exponents, in plain lines.

Of one scale orders are exponents of n; of several they are shown as powers, ``n^1/2 L^-1``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Optional, Union

from tpcalc.algebra.form import Vector
from tpcalc.algebra.order import Exact, order_text
from tpcalc.algebra.scales import Scale
from tpcalc.algebra.text import power_text, product_text
from tpcalc.derive.explain import Explanation, ScaledExplanation, Waypoint
from tpcalc.derive.result import Bound
from tpcalc.horizon.words import HEADING, formula_lines
from tpcalc.report.grid import within

#: Of a weight without a use.
NOTHING = "Nothing was derived: no output depends on this parameter."


def explanation_text(explanation: Union[Explanation, ScaledExplanation], width: Optional[int] = None) -> str:
    """``width`` is that of a terminal, in which every number stays whole."""
    if isinstance(explanation, Explanation):
        lines = Told(explanation).lines()
    elif len(explanation.cones) == 1:
        lines = ToldInPowers(explanation.cones[0][1]).lines()
    else:
        init, rate = (explanation.formulas[quantity] for quantity in ("init_std", "lr"))
        name = explanation.cones[0][1].names[0]
        lines = [f"{name}: init std ~ {init}, lr ~ {rate}; each set of exponents in one cone in which it holds"]
        for walls, each in explanation.cones:
            lines += ["", f"Where {cone_text(explanation.scales, walls)}:", "", *ToldInPowers(each).lines()]
    if explanation.assumed is not None:
        each = explanation if isinstance(explanation, Explanation) else explanation.cones[0][1]
        told = formula_lines(explanation.assumed, each.law)
        lines += ["", f"{HEADING[0].upper()}{HEADING[1:]}:", *(f"  {line}" for line in told)]
    return "\n".join(within(lines, width))


def cone_text(scales: Sequence[Scale], walls: Sequence[Vector]) -> str:
    """``f > n and h d > f``."""
    sides = [[product_text(scales, [Fraction(max(s * x, 0)) for x in wall]) for s in (1, -1)] for wall in walls]
    return " and ".join(f"{more} > {less}" for more, less in sides)


class Told:
    """One explanation, its orders as exponents of n."""

    def __init__(self, explanation: Explanation) -> None:
        self.explanation, self.rule, self.law = explanation, explanation.rule, explanation.law

    def lines(self) -> list[str]:
        rule, told = self.rule, self.explanation
        head = f"{' = '.join(told.names)} {rule.shape_text}: {rule.role} ({rule.reason})"
        if told.path is None:
            return [head, "", NOTHING]
        return [
            head,
            "",
            *self.init(),
            *self.update(),
            "",
            "From the weight to where the budget stands:",
            *(map(self.on_the_way, told.path) if told.path else ["  its value is the budget's own"]),
            "",
            self.gradient(),
            *(_line(f"{s.value} : {self.size(s.order)}  {s.how}", s.where) for s in told.gradient),
            "",
            f"{self.law.name} ({self.law.source}):",
            *self.training(),
        ]

    def init(self) -> Iterator[str]:
        return self.exponent("A", self.rule.A, "std of W", self.rule.init_bound)

    def update(self) -> Iterator[str]:
        return self.exponent("C", self.rule.C, "entries of an update", self.rule.update_bound)

    def exponent(self, name: str, value: Fraction, of: str, bound: Optional[Bound]) -> Iterator[str]:
        yield self.bound(name, value, of)
        yield f"  {bound}"
        for certificate in self.explanation.certificates:
            if certificate.exponent == name:
                verdict = f"{'above' if certificate.holds else 'not above'} its budget"
                smaller = f"{certificate.value} would have {self.order(certificate.found)}, {verdict}"
                yield f"  {self.smaller}, {smaller} {self.text(certificate.budget)}"
                return  # that of the first block

    def on_the_way(self, step: Waypoint) -> str:
        budget = "" if step.budget is None else f", budget {self.text(step.budget)}"
        return _line(f"{step.value} = {step.how}: {self.order(step.order)}{budget}", step.where)

    def training(self) -> Iterator[str]:
        yield from self.multiplied()
        yield f"  weight decay ~ {self.size(self.rule.weight_decay)}: {self.law.decay.convention}"
        if self.law.eps is not None and self.rule.eps is not None:
            yield f"  eps ~ {self.size(self.rule.eps)}: {self.law.eps.convention}"
        if self.law.note:
            yield f"  note: {self.law.note}"

    # -- how orders are shown --

    smaller = "smaller by 1/8"

    def text(self, order: Exact) -> str:
        return order_text(order)

    def order(self, order: Exact) -> str:
        return f"order {order_text(order)}"

    def size(self, order: Exact) -> str:
        return f"n^{order_text(order)}"

    def bound(self, name: str, value: Fraction, of: str) -> str:
        return f"{name} = {order_text(value)}   ({of} ~ n^-{name})"

    def gradient(self) -> str:
        return f"Gradient: g = {order_text(self.rule.gradient + self.rule.a)}   (entries ~ n^g)"

    def multiplied(self) -> Iterator[str]:
        a, b, c, behind = (order_text(x) for x in (self.rule.a, self.rule.b, self.rule.c, self.rule.gradient))
        if self.rule.a:
            yield (
                f"  a = {a}, b = A - a = {b}, gradient g - a = {behind}   "
                f"(gauge {self.explanation.gauge}: multiplier ~ n^-a, std ~ n^-b)"
            )
        yield f"  c = C{' - a' if self.rule.a else ''} + u = {c}   (lr ~ n^-c)"


class ToldInPowers(Told):
    """The same, its orders as powers of several scales."""

    smaller = "with 1/8 less in the exponent"

    def text(self, order: Exact) -> str:
        return power_text(order)

    order = size = text

    def bound(self, name: str, value: Fraction, of: str) -> str:
        return f"{name}: {of} ~ {power_text(-value)}"

    def gradient(self) -> str:
        return f"Gradient: entries ~ {power_text(self.rule.gradient + self.rule.a)}"

    def multiplied(self) -> Iterator[str]:
        if self.rule.a:
            yield (
                f"  multiplier ~ {power_text(-self.rule.a)}, std ~ {power_text(-self.rule.b)}, gradient ~ "
                f"{power_text(self.rule.gradient)}   (gauge {self.explanation.gauge})"
            )
        yield f"  lr ~ {power_text(-self.rule.c)}"


def _line(text: str, where: str) -> str:
    return f"  {text}   # {where}" if where else f"  {text}"
