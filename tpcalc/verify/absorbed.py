"""Multipliers in front of a norm: a constant power of the width that the norm divides out again.

Found by perturbation: with the constant a power larger and a power smaller, no value that must stay O(1) changes its
order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Optional

from tpcalc.algebra.order import MINUS_INFINITY, ONE
from tpcalc.calculus.laws import Fact, interpret
from tpcalc.lower.lowered import Lowered
from tpcalc.rules.structures import Atom, Guard, Product, Scale, Sum, View, operands
from tpcalc.verify.repair import Limit


@dataclass(frozen=True)
class Absorbed:
    """The multiplication ``atom`` by ``n^power`` has no effect: its scale ends at the values ``results``."""

    atom: Atom
    power: Fraction
    results: frozenset[int]


def absorbed(lowered: Lowered, facts: Mapping[int, Fact], limits: Mapping[int, Limit]) -> list[Absorbed]:
    """All multipliers of the forward pass that only norms see."""
    found = []
    for index, atom in enumerate(lowered.atoms[: lowered.forward]):
        s = atom.structure
        if (
            isinstance(s, Scale)
            and s.order is not MINUS_INFINITY
            and s.order != 0
            and facts[s.x].data
            and facts[s.x].depends
        ):
            ends = [_ends(lowered, facts, limits, index, by) for by in (ONE, -ONE)]
            if all(ends):
                found.append(Absorbed(atom, s.order, frozenset(ends[0] & ends[1])))
    return found


def _ends(
    lowered: Lowered, facts: Mapping[int, Fact], limits: Mapping[int, Limit], index: int, by: Fraction
) -> Optional[set[int]]:
    """The values at which a change of scale ends; None where it reaches one that must stay O(1)."""
    start = lowered.atoms[index].out
    changed = {start: facts[start].shifted(by)}
    ends: set[int] = set()
    if _reaches(start, limits):
        return None
    for atom in lowered.atoms[index + 1 : lowered.forward]:
        xs = operands(atom.structure)
        if not any(x in changed for x in xs):
            continue
        fact = interpret(lowered, atom, {x: changed.get(x, facts[x]) for x in xs})
        before = facts[atom.out]
        if (fact.init, fact.trained, fact.change) == (before.init, before.trained, before.change):
            ends.add(atom.out)
        elif _reaches(atom.out, limits):
            return None
        else:
            changed[atom.out] = fact
    return ends


def _reaches(vid: int, limits: Mapping[int, Limit]) -> bool:
    limit = limits.get(vid)
    return limit is not None and not limit.norm


def end_before(lowered: Lowered, facts: Mapping[int, Fact], vid: int, ends: frozenset[int]) -> bool:
    """Whether one of ``ends`` reaches ``vid`` through views, constants, gains and biases alone."""
    while vid not in ends:
        atom = lowered.maker.get(vid)
        if atom is None:
            return False
        s = atom.structure
        if isinstance(s, (View, Scale, Guard)):
            vid = s.x
        elif isinstance(s, (Product, Sum)):
            values = [x for x in operands(s) if facts[x].data]
            if len(values) != 1:
                return False
            vid = values[0]
        else:
            return False
    return True


__all__ = ["Absorbed", "absorbed", "end_before"]
