"""Multipliers in front of a norm: a constant power of the width that the norm divides out again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Optional

from tpcalc.lowering import Lowered
from tpcalc.order import MINUS_INFINITY
from tpcalc.propagate import Fact
from tpcalc.rules.structures import Atom, Guard, Normalise, Power, Product, Reduce, Scale, Sum, View, operands


@dataclass(frozen=True)
class Absorbed:
    """The multiplication ``atom`` by ``n^power`` has no effect: all that reads it is the norms that make ``results``."""

    atom: Atom
    power: Fraction
    results: frozenset[int]


def absorbed(lowered: Lowered, facts: Mapping[int, Fact]) -> list[Absorbed]:
    """All multipliers of the forward pass that only norms see."""
    found = []
    for atom in lowered.atoms[: lowered.forward]:
        s = atom.structure
        if isinstance(s, Scale) and s.order is not MINUS_INFINITY and s.order != 0 and facts[s.x].data and facts[s.x].depends:
            results = _norms(lowered, atom.out)
            if results:
                found.append(Absorbed(atom, s.order, results))
    return found


def _norms(lowered: Lowered, start: int) -> Optional[frozenset[int]]:
    """The norm results that are all that ``start`` leads to through homogeneous ops; None if anything else reads it."""
    outputs = {vid for _, vid in lowered.program.outputs} | {lowered.program.loss}
    reached = {start}
    results: set[int] = set()
    todo = [start]
    while todo:
        vid = todo.pop()
        if vid in outputs:
            return None
        for atom in lowered.forward_uses.get(vid, ()):
            s = atom.structure
            if isinstance(s, Normalise):
                results.add(atom.out)
            elif isinstance(s, (View, Scale, Guard, Power, Reduce)) or (
                isinstance(s, (Sum, Product)) and all(x in reached or _from(lowered, x, reached) for x in operands(s))
            ):
                if atom.out not in reached:
                    reached.add(atom.out)
                    todo.append(atom.out)
            else:
                return None
    return frozenset(results)


def _from(lowered: Lowered, vid: int, reached: set[int]) -> bool:
    """Whether a value is made of values reached already (the mean that a norm subtracts), constants apart."""
    atom = lowered.maker.get(vid)
    if atom is None or not isinstance(atom.structure, (View, Scale, Guard, Power, Reduce)):
        return False
    return atom.structure.x in reached or _from(lowered, atom.structure.x, reached)


def norm_before(lowered: Lowered, facts: Mapping[int, Fact], vid: int) -> Optional[int]:
    """The norm whose result reaches ``vid`` through views, constants, gains and biases; None if there is none."""
    while (atom := lowered.maker.get(vid)) is not None:
        s = atom.structure
        if isinstance(s, Normalise):
            return atom.out
        if isinstance(s, (View, Scale, Guard)):
            vid = s.x
        elif isinstance(s, (Product, Sum)):
            values = [x for x in operands(s) if facts[x].data]
            if len(values) != 1:
                return None
            vid = values[0]
        else:
            return None
    return None


__all__ = ["Absorbed", "absorbed", "norm_before"]
