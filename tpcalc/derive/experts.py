"""Experts: which of the terms of a mixture are of order 1, and the inits that others choose.

``y = sum_i g_i W2_i phi(W1_i x)`` over ``k`` experts of width ``f`` with gates that add up to 1, ``W2 ~ sigma`` with
``n`` outputs, has four terms that can be asked to be of order 1: (a) what the update of ``W1`` does through the initial
``W2``, ``sigma max(f/sqrt(n), sqrt(f/k))`` by law 2; (b) what a change of ``x`` does through initial experts and (c)
what they give at init, ``sigma sqrt(f/k)``; (d) the update of ``W2``.  No ``sigma`` gives all of them wherever ``n``,
``f`` and ``k`` go, and all papers agree on (d), whose rate does not know of ``sigma``:

=============  ========================================  =============================================================
name           sigma                                     what is of order 1
=============  ========================================  =============================================================
``mup``        ``f^-1/2 min(1, sqrt(n/f))``, as derived  (d), and each expert by itself whatever the gates
``stein``      ``sqrt(n)/f``                             (a) and (d): Jiang et al. 2026 (arXiv 2601.20205)
``balanced``   ``sqrt(k/f)``                             (b), (c), (d): Complete-muE (arXiv 2605.23893)
=============  ========================================  =============================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tpcalc.algebra.order import Order, max_order
from tpcalc.calculus.laws import propagate
from tpcalc.derive.gauge import EXPERTS
from tpcalc.derive.result import Terms
from tpcalc.derive.solve import Solution, as_trained
from tpcalc.errors import DeriveError
from tpcalc.lower.experts import Expert


def sized(solution: Solution, experts: str) -> Solution:
    """The solution with the last weights of experts at the init that ``experts`` names.

    Raises DeriveError for a name that does not exist, or where there are no experts.
    """
    if experts not in EXPERTS:
        raise DeriveError(f"experts {experts!r} are unknown; choose one of {', '.join(EXPERTS)}")
    if experts == EXPERTS[0]:
        return solution
    lowered = solution.lowered
    if not lowered.experts:
        raise DeriveError(
            f"experts {experts!r} are asked for, but the model has none: no softmax or top-k weighs what weights of "
            f"several experts give; leave the option out"
        )
    orders, needs = dict(solution.orders), dict(solution.needs)
    for expert in lowered.experts:
        # what gates that do not add up to 1 ask for is in the derived order, and stays
        more = _own(expert, experts) - _own(expert, EXPERTS[0])
        for leaf in lowered.leaves_of[expert.weight]:
            if leaf.name in needs and (A := orders[leaf.name].A) is not None:
                orders[leaf.name] = replace(orders[leaf.name], A=A + more)
                needs[leaf.name] = replace(needs[leaf.name], A=A + more)
    facts = propagate(lowered, orders, solution.alignment, multipliers=solution.multipliers)
    applied = as_trained(lowered, orders, facts, solution.alignment, solution.multipliers)
    return replace(solution, orders=orders, needs=needs, facts=facts, applied=applied)


def _own(expert: Expert, experts: str) -> Order:
    """``A`` of an expert's last weight where its gates add up to 1."""
    K, R = expert.K, expert.R
    if experts == "stein":
        return K - R / 2
    return (K - expert.count) / 2 if experts == "balanced" else max(K / 2, K - R / 2)


def terms(solution: Solution, experts: str) -> tuple[Terms, ...]:
    """Of the experts of a model, those of equal growths together."""
    alike: dict[tuple[Order, Order], list[str]] = {}
    for expert in solution.lowered.experts:
        sigma = -_own(expert, experts)
        spread = (expert.K - expert.count) / 2
        found = sigma + max_order(expert.K - expert.R / 2, spread), sigma + spread
        alike.setdefault(found, []).append(expert.weight)
    return tuple(Terms(tuple(names), *found) for found, names in alike.items())


def note(weights: Sequence[str], through: str, initial: str) -> str:
    """The sentence about terms whose orders are these."""
    names = ", ".join(weights[:3]) + (f" and {len(weights) - 3} more" if len(weights) > 3 else "")
    return (
        f"experts ({names}): beside what their own update does, what updates before them do through their init goes as "
        f"{through}, and what comes of the initial experts, or of a change through these alone, as {initial}"
    )


__all__ = ["note", "sized", "terms"]
