"""Stacks of growing depth in a solution: slower weights inside branches, periods that have to agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tpcalc.algebra.order import ONE, ZERO, Order
from tpcalc.calculus.facts import Fact, flips
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
            found[vid] = max(found.get(vid, ZERO), (ONE - s.alpha) * s.K)
    return found


def check_periods(solution: Any) -> None:
    """TODO"""
