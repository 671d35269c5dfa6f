"""The largest stable updates for a given init.

Where :mod:`tpcalc.derive.solve` asks for init and updates together, here the init is given and fixed: from the outputs
back, :mod:`tpcalc.calculus.allowed` gives every weight its largest update.  For an MLP this solves the linear program
of Everett et al. 2024 (Section 3; also TP4's and TP4b's conditions ``r >= 0`` and ``a + b + r >= 1``) in the effective
orders, where the solution is unique: what one weight may do does not depend on what another does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Optional

from tpcalc.algebra.order import Order, order_text
from tpcalc.calculus.alignment import Alignment
from tpcalc.calculus.allowed import allowed_changes
from tpcalc.calculus.facts import Fact, WeightOrders
from tpcalc.calculus.laws import propagate
from tpcalc.derive.solve import ROUNDS
from tpcalc.dynamics.regime import excesses
from tpcalc.errors import DeriveError
from tpcalc.lower.lowered import Lowered


def largest_updates(
    lowered: Lowered, orders: Mapping[str, WeightOrders], alignment: Alignment
) -> tuple[dict[str, Optional[Order]], dict[int, Fact]]:
    """Leaf name -> the smallest stable ``C``, and the facts that follow.

    None for a leaf that nothing limits, or that does not train.

    ``orders``: the init of every leaf, and as ``C`` a first guess (the derived one): of two trained factors each may
    move by as much as the other leaves it, and the guess shares that out.  Raises DeriveError where the init alone is
    unstable.
    """
    C: dict[str, Optional[Order]] = dict.fromkeys(orders)
    facts = _facts(lowered, orders, C, alignment)
    for excess in excesses(lowered, facts):
        where = f" ({lowered.where(excess.atom)})" if excess.atom is not None else ""
        raise DeriveError(
            f"this init is unstable before any update: {lowered.name(excess.value)}, which {excess.why}{where}, grows "
            f"like n^({order_text(excess.order)}); take another parametrization"
        )
    C = {name: own.C for name, own in orders.items()}
    facts = _facts(lowered, orders, C, alignment)
    for _ in range(ROUNDS):  # sizes after training feed back into what is allowed
        allowed = allowed_changes(lowered, facts, alignment)
        found = {
            leaf.name: -allowed[leaf.value] if leaf.weight.trainable and leaf.value in allowed else None
            for leaf in lowered.leaves
        }
        if found == C:
            return C, _facts(lowered, orders, C, alignment, backward=True)
        C = found
        facts = _facts(lowered, orders, C, alignment)
    raise DeriveError(
        "the largest stable updates do not settle: two weights are multiplied into one; apply them in turn"
    )


def _facts(
    lowered: Lowered,
    orders: Mapping[str, WeightOrders],
    C: Mapping[str, Optional[Order]],
    alignment: Alignment,
    backward: bool = False,
) -> dict[int, Fact]:
    trained = {name: replace(own, C=C[name]) for name, own in orders.items()}
    return propagate(lowered, trained, alignment, backward=backward)
