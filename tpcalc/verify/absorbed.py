"""Multipliers in front of a norm: a constant power of the width that the norm divides out again.

Found by perturbation: with the constant a power larger and a power smaller, no value that must stay O(1) changes its
order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from tpcalc.algebra.order import ZERO, Order, max_order
from tpcalc.calculus.laws import interpret
from tpcalc.program.names import fold_names
from tpcalc.rules.structures import Atom, Contract, Guard, Product, Scale, Sum, View, operands
from tpcalc.verify import words
from tpcalc.verify.case import Case
from tpcalc.verify.effective import exact
from tpcalc.verify.findings import ABSORBED, MULTIPLIER, WARNING, Fix
from tpcalc.verify.grouping import Item
from tpcalc.verify.repair import Cause
from tpcalc.verify.words import say


@dataclass(frozen=True)
class Absorbed:
    """The multiplication ``atom`` by ``n^power`` has no effect; ``causes``: what explodes for want of it."""

    atom: Atom
    power: Order
    causes: tuple[Cause, ...]


def multipliers(case: Case) -> list[Absorbed]:
    """All multipliers of the forward pass that only norms see, each cause at the first that explains it."""
    lowered, causes = case.lowered, list(case.causes)
    found: list[Absorbed] = []
    for index, atom in enumerate(lowered.atoms[: lowered.forward]):
        s = atom.structure
        by = exact(s.order) if isinstance(s, Scale) else None
        if not by:
            continue
        (x,) = operands(s)
        if case.maximal[x].data and case.maximal[x].depends:
            larger, smaller = (_ends(case, index, by) for by in (case.unit, -case.unit))
            if larger and smaller:
                explained = [cause for cause in causes if _explains(case, -by, larger & smaller, cause)]
                causes = [cause for cause in causes if cause not in explained]
                found.append(Absorbed(atom, by, tuple(explained)))
    return found


def _ends(case: Case, index: int, by: Order) -> set[int]:
    """The values at which a change of scale ends; none where it reaches one that must stay O(1)."""
    lowered, facts = case.lowered, case.maximal
    start = lowered.atoms[index].out
    changed = {start: facts[start].shifted(by)}
    ends: set[int] = set()
    if _must_stay(case, start):
        return set()
    for atom in lowered.atoms[index + 1 : lowered.forward]:
        xs = operands(atom.structure)
        if not any(x in changed for x in xs):
            continue
        fact = interpret(lowered, atom, {x: changed.get(x, facts[x]) for x in xs})
        before = facts[atom.out]
        if (fact.init, fact.trained, fact.change) == (before.init, before.trained, before.change):
            ends.add(atom.out)
        elif _must_stay(case, atom.out):
            return set()
        else:
            changed[atom.out] = fact
    return ends


def _must_stay(case: Case, vid: int) -> bool:
    limit = case.limits.get(vid)
    return limit is not None and not limit.norm


def _explains(case: Case, missing: Order, ends: set[int], cause: Cause) -> bool:
    """Whether a weight after the norm explodes by no more than the multiplier should have taken off."""
    if cause.leaf is None or cause.excess > missing or not isinstance(cause.atom.structure, Contract):
        return False
    return any(case.mended[x].data and _ends_before(case, x, ends) for x in operands(cause.atom.structure))


def _ends_before(case: Case, vid: int, ends: set[int]) -> bool:
    """Whether one of ``ends`` reaches ``vid`` through views, constants, gains and biases alone."""
    while vid not in ends:
        atom = case.lowered.maker.get(vid)
        if atom is None or not isinstance(atom.structure, (View, Scale, Guard, Product, Sum)):
            return False
        xs = operands(atom.structure)
        values = [x for x in xs if len(xs) == 1 or case.mended[x].data]
        if len(values) != 1:
            return False
        (vid,) = values
    return True


def without_effect(case: Case, sites: Sequence[Absorbed]) -> Iterator[Item]:
    """An error where something explodes for want of the multiplier, else a warning."""
    for site in sites:
        by, where, op = site.power, case.lowered.where(site.atom), case.lowered.node(site.atom).op
        names = tuple(dict.fromkeys(cause.leaf.weight.name for cause in site.causes if cause.leaf is not None))
        text, fix, severity = words.WITHOUT_EFFECT, words.MOVE_OR_DROP, WARNING
        found, needed = by, ZERO
        if site.causes:
            worst = max(site.causes, key=attrgetter("order"))
            weights, value = ", ".join(fold_names(names)), case.value(worst.value)
            text = say(words.MISSING, by=by, weights=weights, value=value, order=worst.order)
            fix, severity = words.MOVE, ""
            found, needed = ZERO, by
        effect, at = max_order(*(cause.order for cause in site.causes)), where or op
        fixes = [Fix(at, MULTIPLIER, -by, values=(site.atom.out,))]
        if site.causes:
            behind = tuple(dict.fromkeys(case.multiplier_at(cause.atom) for cause in site.causes))
            fixes.append(Fix(f"{at}, behind the norm", MULTIPLIER, by, values=behind))
        item = Item(ABSORBED, MULTIPLIER, found, needed, effect, where, text, fix, names, site=at, severity=severity)
        yield replace(item, fixes=tuple(fixes))


__all__ = ["Absorbed", "multipliers", "without_effect"]
