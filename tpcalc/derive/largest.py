"""The largest stable updates for a given init.

Where :mod:`tpcalc.derive.solve` asks for init and updates together, here the init is given and fixed.  Read backwards, each
law
of :mod:`tpcalc.calculus.laws` says how much an operand may change for the result to change by no more than allowed; from
the outputs back that gives every weight its largest update.  For an MLP this solves the linear program of Everett et
al. 2024 (Section 3; also TP4's and TP4b's conditions ``r >= 0`` and ``a + b + r >= 1``) in the effective orders,
where the solution is unique: what one weight may do does not depend on what another does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Optional

from tpcalc.algebra.order import MINUS_INFINITY, ONE, ZERO, Order, order_text
from tpcalc.calculus.laws import Alignment, Fact, WeightOrders, propagate, roles
from tpcalc.dynamics.regime import bounded_values, excesses
from tpcalc.errors import DeriveError
from tpcalc.lower.lowered import Lowered
from tpcalc.rules.structures import (
    Bounded,
    Centre,
    Contract,
    Exp,
    Gather,
    Guard,
    LinearLike,
    Log,
    Normalise,
    Power,
    Product,
    Reduce,
    Scale,
    Softmax,
    Structure,
    Sum,
    View,
)

#: Sizes after training feed back into what is allowed; that settles in two or three rounds.
ROUNDS = 16


def largest_updates(
    lowered: Lowered, orders: Mapping[str, WeightOrders], alignment: Alignment
) -> tuple[dict[str, Optional[Fraction]], dict[int, Fact]]:
    """Leaf name -> the smallest stable ``C`` (None: nothing limits it, or it does not train), and the facts that
    follow.

    ``orders``: the init of every leaf, and as ``C`` a first guess (the derived one): of two trained factors each may
    move
    by as much as the other leaves it, and the guess shares that out.  Raises DeriveError where the init alone is
    unstable.
    """
    C: dict[str, Optional[Fraction]] = dict.fromkeys(orders)
    facts = _facts(lowered, orders, C, alignment)
    for excess in excesses(lowered, facts):
        where = f" ({lowered.where(excess.atom)})" if excess.atom is not None else ""
        raise DeriveError(
            f"this init is unstable before any update: {lowered.name(excess.value)}, which {excess.why}{where}, grows like "
            f"n^({order_text(excess.order)}); take another parametrization"
        )
    C = {name: own.C for name, own in orders.items()}
    facts = _facts(lowered, orders, C, alignment)
    for _ in range(ROUNDS):
        allowed = allowed_changes(lowered, facts, alignment)
        found = {
            leaf.name: -allowed[leaf.value] if leaf.weight.trainable and leaf.value in allowed else None
            for leaf in lowered.leaves
        }
        if found == C:
            return C, propagate(lowered, _with(orders, C), alignment)
        C = found
        facts = _facts(lowered, orders, C, alignment)
    raise DeriveError(
        "the largest stable updates do not settle: two weights are multiplied into one; apply them in turn"
    )


def _with(orders: Mapping[str, WeightOrders], C: Mapping[str, Optional[Fraction]]) -> dict[str, WeightOrders]:
    return {name: WeightOrders(own.A, C[name], own.random) for name, own in orders.items()}


def _facts(lowered: Lowered, orders, C, alignment: Alignment) -> dict[int, Fact]:
    return propagate(lowered, _with(orders, C), alignment, backward=False)


def allowed_changes(lowered: Lowered, facts: Mapping[int, Fact], alignment: Alignment) -> dict[int, Order]:
    """Value id -> the largest order by which it may change; a value that nothing limits is left out."""
    allowed: dict[int, Order] = {}

    def limit(vid: int, order: Order) -> None:
        if order is not MINUS_INFINITY and (vid not in allowed or order < allowed[vid]):
            allowed[vid] = order

    for vid, _, _ in bounded_values(lowered, facts):
        if facts[vid].data:
            limit(vid, ZERO)
    for atom in reversed(lowered.atoms[: lowered.forward]):
        s = atom.structure
        if isinstance(s, Normalise):  # more than its own size is no update but another value
            limit(s.x, facts[s.x].init)
        if atom.out in allowed:
            _back(s, allowed[atom.out], facts, alignment, limit)
    return allowed


def _back(
    s: Structure, most: Order, facts: Mapping[int, Fact], alignment: Alignment, limit: Callable[[int, Order], None]
) -> None:
    """Limits on the operands of an op whose result may change by ``most``: its law, solved for their changes."""
    if isinstance(s, (View, Centre, Guard, Gather, LinearLike)):
        limit(s.x, most)
    elif isinstance(s, (Bounded, Exp)):
        if most < ZERO:
            limit(s.x, most)
    elif isinstance(s, Softmax):
        if s.log or most + s.growth < ZERO:
            limit(s.x, most if s.log else most + s.growth)
    elif isinstance(s, Scale):
        if s.order is not MINUS_INFINITY:
            limit(s.x, most - s.order)
    elif isinstance(s, Sum):
        for x in s.xs:
            limit(x, most)
    elif isinstance(s, Reduce):
        limit(s.x, most - alignment.values(s.K))
    elif isinstance(s, Log):
        if most < ZERO:
            _relative(s.x, most, facts, limit)
    elif isinstance(s, Normalise):
        if most < s.shift:
            _relative(s.x, most - s.shift, facts, limit)
    elif isinstance(s, Power):
        _power(s, most, facts, limit)
    elif isinstance(s, Product):
        for x, y in ((s.x, s.y), (s.y, s.x)):
            _past(x, most, facts[y].trained, limit)
    elif isinstance(s, Contract):
        x_weight, y_weight = roles(s, facts[s.x], facts[s.y])
        for x, y, other_weight, rest in ((s.x, s.y, y_weight, s.rest_y), (s.y, s.x, x_weight, s.rest_x)):
            if other_weight and facts[y].init is not MINUS_INFINITY:  # law 2
                _past(x, most, facts[y].init + alignment.initial_on_change(s.K, rest), limit)
            else:  # laws 3 and 4
                _past(x, most, facts[y].trained + alignment.values(s.K), limit)


def _past(x: int, most: Order, met: Order, limit: Callable[[int, Order], None]) -> None:
    if met is not MINUS_INFINITY:
        limit(x, most - met)


def _relative(x: int, most: Order, facts: Mapping[int, Fact], limit: Callable[[int, Order], None]) -> None:
    if facts[x].init is not MINUS_INFINITY:
        limit(x, facts[x].init + most)


def _power(s: Power, most: Order, facts: Mapping[int, Fact], limit: Callable[[int, Order], None]) -> None:
    """The mean-value law; what starts at zero changes by as much as it becomes."""
    init = facts[s.x].init
    if s.k == ONE:
        limit(s.x, most)
    elif init is not MINUS_INFINITY:
        limit(s.x, min(most - (s.k - 1) * init, init))
    elif s.k > 0:
        limit(s.x, most / s.k)
