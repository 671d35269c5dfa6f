"""Stacks of growing depth in a solution: slower weights inside branches, and periods that have to agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from tpcalc.algebra.order import ONE, ZERO, Order
from tpcalc.calculus.facts import Fact, WeightOrders, flips
from tpcalc.calculus.weights import gradient_order
from tpcalc.errors import DeriveError
from tpcalc.lower.depth import branches
from tpcalc.lower.lowered import Lowered


def slowed(lowered: Lowered, facts: Mapping[int, Fact]) -> dict[int, Order]:
    """Leaf value -> by how much its updates are smaller than its branch alone asks for: L^-(1 - alpha).

    A branch of size L^-alpha may change by L^-1, for all periods push along one gradient.
    """
    found: dict[int, Order] = {}
    leaves = {leaf.value for leaf in lowered.leaves}
    for atom, inside in branches(lowered):
        s: Any = atom.structure
        if s.alpha == ONE or s.factor or not flips(s, facts[s.x]):
            continue
        for vid in leaves & inside:
            found[vid] = (ONE - s.alpha) * s.K
    return found


def depth_power(lowered: Lowered, order: Order) -> Optional[str]:
    """``"depth^-1"`` for an order that a sum over the depth asks for; None for any other."""
    for stack in lowered.stacks:
        for power in dict.fromkeys((stack.alpha, ONE)):
            if order == power * stack.K:
                return f"{stack.scale}^-{power}" if power.denominator == 1 else f"{stack.scale}^(-{power})"
    return None


def check_periods(lowered: Lowered, orders: Mapping[str, WeightOrders], facts: Mapping[int, Fact]) -> None:
    """Every traced period stands for all: raise DeriveError where two of them do not agree."""
    leaves = {leaf.name: leaf for leaf in lowered.leaves}
    for stack in lowered.stacks:
        for names in stack.twins:
            found = [(orders[name].A, orders[name].C, gradient_order(leaves[name].grad, facts)) for name in names]
            for name, each in zip(names[1:], found[1:]):
                if each != found[0]:
                    raise DeriveError(
                        f"{names[0]} and {name} stand at the same place of two blocks along {stack.scale} and need "
                        f"different orders (init, update, gradient {_text(found[0])} and {_text(each)}): the blocks "
                        f"are not periods of one stack"
                    )


def _text(orders: tuple[Optional[Order], ...]) -> str:
    return ", ".join("none" if order is None else str(order) for order in orders)


__all__ = ["check_periods", "depth_power", "slowed"]
