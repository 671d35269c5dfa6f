"""Unmatched: weights that no group holds, that a learning rate of 0 freezes, or that a filter over names missed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tpcalc.algebra.order import Order
from tpcalc.calculus.weights import growths
from tpcalc.program.ir import Weight
from tpcalc.verify import words
from tpcalc.verify.case import Case
from tpcalc.verify.effective import STUCK
from tpcalc.verify.findings import EXPLODES, FROZEN, NOT_MAXIMAL, RATE, UNMATCHED, Fix
from tpcalc.verify.grouping import Item
from tpcalc.verify.words import say


def untrained(case: Case) -> Iterator[Item]:
    """Weights with a gradient and without an optimizer or a learning rate."""
    for weight in case.program.weights:
        own = case.given[weight.name]
        if weight.trainable and weight.grad is not None and weight.name not in case.solution.unused and own.c is None:
            held = own.law is not None
            kind, fix = (FROZEN, words.NO_RATE) if held else (UNMATCHED, words.NO_GROUP)
            fix = words.ANY_SIZE if own.why == STUCK else fix
            where, text = case.where(case.lowered.leaves_of[weight.name][0]), say(words.NEVER_MOVES, why=own.why)
            rates = [c for leaf in case.lowered.leaves_of[weight.name] if (c := case.maximal_c(leaf)) is not None]
            fixes = (Fix(weight.name, RATE, to=-max(rates) if rates else None),)
            yield Item(kind, RATE, None, None, None, where, text, fix, (weight.name,), fixes=fixes)


def missed(case: Case, found: Sequence[Item]) -> list[Item]:
    """What was ``found``, told otherwise where a weight was left at the default learning rate while its twins, or a
    group that holds nothing, have the one that it needs.
    """
    weights = {weight.name: weight for weight in case.program.weights}
    wrong = {item.weight for item in found if item.quantity == RATE}
    right = [weight for name, weight in weights.items() if name not in wrong]
    empty = _empty_groups(case)
    items = []
    for item in found:
        if item.quantity == RATE and item.found == 0 and item.needed and item.kind in (EXPLODES, FROZEN, NOT_MAXIMAL):
            needed, own = item.needed, weights[item.weight]
            places = [place for place, rate in empty.items() if rate == needed]
            twins = [x.name for x in right if case.given[x.name].c == -needed and _are_twins(case, x, own)]
            if places or twins:
                sentence, name = (words.EMPTY_GROUP, places[0]) if places else (words.TWIN, twins[0])
                reason = say(sentence, name=name, lr=needed)
                item = replace(item, kind=UNMATCHED, text=f"{reason}; {item.text}", also=(*item.also, bool(places)))
        items.append(item)
    return items


def _are_twins(case: Case, x: Weight, y: Weight) -> bool:
    """Whether two weights have the same growing axes, role and optimizer."""
    return (
        growths(x) == growths(y)
        and case.role(x) == case.role(y)
        and case.given[x.name].optimizer == case.given[y.name].optimizer
    )


def _empty_groups(case: Case) -> dict[str, Order]:
    """Groups that hold no parameter at any width -> the order of their learning rate."""
    tables = {width: dict(live.empty) for width, live in case.gathered.live.items()}
    shared = [place for place in next(iter(tables.values()), {}) if all(place in table for table in tables.values())]
    rates = {place: {width: table[place] for width, table in tables.items()} for place in shared}
    power = case.gathered.numbers.power
    return {place: power(samples, f"the learning rate of {place}") for place, samples in rates.items()}


__all__ = ["missed", "untrained"]
