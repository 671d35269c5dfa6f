"""Too large: inits, updates and products of values that make something grow with the width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from tpcalc.algebra.order import ZERO, Order
from tpcalc.lower.lowered import Leaf
from tpcalc.rules.structures import Contract, Sum, operands
from tpcalc.verify import words
from tpcalc.verify.case import Case
from tpcalc.verify.findings import ATTENTION, EXPLODES, INIT_STD, MULTIPLIER, RATE, Fix
from tpcalc.verify.grouping import Item
from tpcalc.verify.repair import INIT, LR, SITE, Cause
from tpcalc.verify.words import say


def explosions(case: Case, causes: Sequence[Cause]) -> list[Item]:
    """What the causes are.  Where an init is too small for a norm, other updates of its value are right for a larger
    one.
    """
    small = {c.value for c in causes if c.leaf is not None and _is_small(case, c, c.leaf)}
    causes = [c for c in causes if c.value not in small or c.leaf is None or _is_small(case, c, c.leaf)]
    each = (_site(case, cause) if cause.leaf is None else _weight(case, cause, cause.leaf) for cause in causes)
    return [item for item in each if item is not None]


def _breaks(case: Case, cause: Cause, what: str) -> str:
    value, why = case.value(cause.value), cause.limit.why
    if cause.limit.norm:
        return say(words.SWAMPS, value=value, why=why, order=cause.order, size=case.mended[cause.value].init)
    moment = "at init" if cause.step == 0 else f"after step {cause.step}"
    return say(words.BREAKS, what=what, value=value, why=why, order=cause.order, moment=moment)


def _weight(case: Case, cause: Cause, leaf: Leaf) -> Optional[Item]:
    """None where its gradient or its size is wrong through something else, which is found too."""
    own, name, where = case.given[leaf.name], leaf.weight.name, case.lowered.where(cause.atom)
    group, by = case.group(leaf.weight), -cause.excess
    if cause.quantity == SITE:
        broken, fix = _breaks(case, cause, words.USE), say(words.TIED, by=by)
        fixes = (Fix(where or name, MULTIPLIER, by, values=(case.multiplier_at(cause.atom),)),)
        return Item(EXPLODES, MULTIPLIER, ZERO, by, cause.order, where, broken, fix, (name,), (group,), fixes=fixes)
    init = cause.quantity == INIT
    broken = _breaks(case, cause, "its init" if init else "one update")
    if init:
        quantity, found, needed = INIT_STD, own.b, None if own.b is None else own.b + cause.excess
    elif _is_small(case, cause, leaf):
        quantity, found, needed = INIT_STD, own.b, None if own.b is None else own.b - cause.excess
    else:
        quantity, found, needed = RATE, own.c, case.needed_c(leaf, cause.excess)
        if found == needed and case.sizeless(leaf):
            return from_zero(case, leaf, EXPLODES, cause.order, broken)
    if found is None or needed is None or found == needed or (not init and _through_a_site(case, leaf)):
        return None
    fix, lost = say(words.MULTIPLY, quantity=quantity, by=found - needed), False
    if quantity == RATE and found == 0 and own.weight_decay == needed:
        fix, lost = fix + say(words.LOST, decay=needed), True
    block = case.part(leaf) if quantity == INIT_STD else ""
    also, fixes = (group, lost), (Fix(block or name, quantity, found - needed),)
    return Item(EXPLODES, quantity, -found, -needed, cause.order, where, broken, fix, (name,), also, block, fixes=fixes)


def _is_small(case: Case, cause: Cause, leaf: Leaf) -> bool:
    """An update that is right for a weight of the size that it needs, and swamps the one that it has before a norm."""
    own, need = case.given[leaf.name], case.need(leaf)
    return (
        cause.limit.norm
        and cause.quantity == LR
        and need is not None
        and not isinstance(need.structure, Sum)
        and own.b is not None
        and own.b - cause.excess >= need.A
        and own.c == case.maximal_c(leaf)
    )


def _through_a_site(case: Case, leaf: Leaf) -> bool:
    """Under SGD the operands of a product of values that is too large make each other's gradients too large."""
    need = case.need(leaf)
    at = need.demand.excess_at if need is not None else None
    sites = {cause.atom.out for cause in case.causes if cause.leaf is None}
    return case.follows_others(leaf) and at is not None and at.out in sites


def from_zero(case: Case, leaf: Leaf, kind: str, effect: Order, does: str) -> Item:
    """The rate is right for a weight of its size, and wrong for none: what is at fault is its init."""
    law, need = case.given[leaf.name].law, case.need(leaf)
    size = None if need is None else -need.A
    text = say(words.FROM_ZERO, law="" if law is None else law.name, does=does)
    fix = words.ANY_SIZE if size is None else say(words.SOME_SIZE, size=size)
    names, group = (leaf.weight.name,), case.group(leaf.weight)
    fixes = (Fix(leaf.weight.name, INIT_STD, to=size),)
    return Item(kind, INIT_STD, None, size, effect, case.where(leaf), text, fix, names, (group,), fixes=fixes)


def _site(case: Case, cause: Cause) -> Item:
    """A product of two values whose updates align: attention logits, or another; or with a weight of a fixed size."""
    node, structure = case.lowered.node(cause.atom), cause.atom.structure
    kind, found, needed = EXPLODES, cause.scale, cause.scale - cause.excess
    fix = say(words.IN_FORWARD, by=-cause.excess)
    fixed = any(case.maximal[x].is_weight for x in operands(structure))
    if cause.limit.softmax and isinstance(structure, Contract) and not fixed:
        kind = ATTENTION
        if found > -structure.K:
            needed = -structure.K  # what trained queries and keys need, however much these ones move
        fix = say(words.LOGITS, needed=needed, found=found, by=needed - found)
    text, site = _breaks(case, cause, words.FIXED if fixed else words.PRODUCT), node.module or node.short_op
    fixes = (Fix(node.where or site, MULTIPLIER, needed - found, values=(case.multiplier_at(cause.atom),)),)
    return Item(kind, MULTIPLIER, found, needed, cause.order, node.where, text, fix, site=site, fixes=fixes)


__all__ = ["explosions", "from_zero"]
