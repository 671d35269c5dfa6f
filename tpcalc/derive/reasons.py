"""Why a weight has its exponents: one line for the table, and the constraints that bind ``A`` and ``C``."""

from __future__ import annotations

from typing import Optional

from tpcalc.algebra.text import exponent_text, power_text
from tpcalc.calculus.facts import Facts, on_change, roles
from tpcalc.derive.result import Bound
from tpcalc.derive.solve import Need, Solution
from tpcalc.rules.structures import Contract, Gather, Product

#: Role -> from what to what a contraction leads.
LEADS = {
    "hidden": "growing to growing",
    "output": "growing to finite",
    "input": "finite to growing",
    "scalar": "finite to finite",
}


def reason(solution: Solution, need: Optional[Need], role: str) -> str:
    """One line for the table."""
    if need is None:
        return "no output depends on it"
    structure = need.structure
    if isinstance(structure, Contract):
        text = f"contraction, {LEADS[role]}"
    elif isinstance(structure, Gather):
        text = "look-up"
    else:
        text = "entrywise gain" if isinstance(structure, Product) else "added"
    site = need.demand.excess_at
    if site is not None and need.shift < 0:
        node = solution.lowered.node(site)
        where = f" ({node.source})" if node.source else ""
        power = power_text(need.shift, style="full")
        return f"{text}; absorbs {power} for {node.short_op} in {node.module or '(top)'}{where}"
    if need.demand.depth:
        return f"{text}; one of the terms that a residual stream sums over the depth"
    if need.shift == 0:
        return text
    return f"{text}; a constant {power_text(-need.shift, style='full')} follows in the code"


def init_bound(solution: Solution, need: Need) -> Bound:
    """What binds ``A``."""
    return _bound(solution, need, _init_law(solution, need))


def update_bound(solution: Solution, need: Need) -> Bound:
    """What binds ``C``."""
    if isinstance(need.structure, Contract):
        return _bound(solution, need, f"law 3: weight update x value over growth {exponent_text(need.contracted)}")
    return _bound(solution, need, "entrywise: the update passes through")


def _bound(solution: Solution, need: Need, law: str) -> Bound:
    use, origin = need.demand.use, need.demand.origin
    value = solution.lowered.name(use.out) if use is not None else "its value"
    where = solution.lowered.where(origin) if origin is not None else ""
    return Bound(value, f"{law}; the result {need.demand.law}", where)


def _init_law(solution: Solution, need: Need) -> str:
    s = need.structure
    if isinstance(s, Contract):
        if s.K == 0:
            return "law 1: nothing growing is contracted"
        facts: Facts = solution.facts
        x_weight, _ = roles(s, facts[s.x], facts[s.y])
        R, weight = (s.rest_x, facts[s.x]) if x_weight else (s.rest_y, facts[s.y])
        order = on_change(solution.alignment, s.K, R, weight)
        K, rest, by = map(exponent_text, (s.K, R, order))
        if order > solution.alignment.initial_on_change(s.K, R):
            return f"law 4: the mean of the weight's entries x value over growth {K}: {by}"
        return f"law 2: initial weight x changed value over growth {K} with R = {rest}: {by}"
    if isinstance(s, Gather):
        return "look-up: entries pass through"
    if isinstance(s, Product):
        return "entrywise product: orders add"
    return "law of sums" if s is None else "sum: the order is the max"
