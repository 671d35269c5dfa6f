"""Too small: updates that move their result by less than they could, inits that leave a nonlinearity linear."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

from tpcalc.algebra.form import degree
from tpcalc.algebra.order import MINUS_INFINITY, ONE, ZERO, Order, max_order
from tpcalc.calculus.weights import on_outputs
from tpcalc.derive.solve import Need
from tpcalc.dynamics.regime import KERNEL, TRIVIAL, own_effect
from tpcalc.lower.lowered import Leaf
from tpcalc.program.queries import first_met
from tpcalc.rules.structures import (
    Bounded,
    Centre,
    Contract,
    Exp,
    Guard,
    LinearLike,
    Normalise,
    Power,
    Product,
    Reduce,
    Scale,
    Softmax,
    Structure,
    Sum,
    View,
    operands,
)
from tpcalc.verify import words
from tpcalc.verify.case import Case
from tpcalc.verify.findings import FROZEN, INIT_STD, NOT_MAXIMAL, RATE, VANISHES, Fix
from tpcalc.verify.grouping import Item
from tpcalc.verify.large import from_zero
from tpcalc.verify.repair import LR
from tpcalc.verify.words import say

#: An update that moves its own result by no more than n^-1 is frozen; one between n^-1 and n^0 is not maximal.
FROZEN_FROM = ONE

#: What passes a value on, up to its size.
PLAIN: tuple[type[Structure], ...] = (View, Centre, Scale, Guard, Sum)


@dataclass(frozen=True)
class Slow:
    """The update of a leaf is too small by ``n^deficit``: its learning rate ``~ n^-c`` should be ``~ n^-needed``."""

    leaf: Leaf
    need: Need
    deficit: Order
    c: Order
    needed: Order


def _slow(case: Case) -> Iterator[Slow]:
    too_large = {cause.leaf.weight.name for cause in case.causes if cause.leaf is not None and cause.quantity == LR}
    for leaf in case.lowered.leaves:
        c, need, C = case.given[leaf.name].c, case.need(leaf), case.repaired.C[leaf.name]
        if c is None or need is None or C is None or leaf.weight.name in too_large:
            continue
        effect = own_effect(case.lowered, case.repaired.alignment, case.mended, leaf.value)
        deficit = C - need.C
        as_it_is = deficit > 0 and _starved(case, leaf) is None  # else its init is mended with its rate
        if as_it_is:
            deficit = deficit - case.resized(leaf)
        if deficit > 0 and effect is not MINUS_INFINITY:  # what it makes may be larger here than in another gauge
            deficit = max_order(deficit, -effect)
        if deficit > 0 and (_has_no_effect(case, leaf, C) or _starves(case, leaf) or _fading(case, leaf).fades):
            needed = case.needed_c(leaf, -deficit, as_it_is)
            if needed is not None:
                yield Slow(leaf, need, deficit, c, needed)


def small_updates(case: Case) -> Iterator[Item]:
    """Updates that are too small by their own learning rate, or by a size of zero that they scale with."""
    for slow in _slow(case):
        use = slow.need.demand.use
        value = case.value(use.out) if use is not None else slow.leaf.name
        text = say(words.MOVES_LITTLE, value=value, by=-slow.deficit)
        if slow.needed != slow.c:  # else what is too small is elsewhere
            if _bears_no_more(case, slow.leaf) is None:
                yield _small_update(case, slow, value, text)
        elif case.sizeless(slow.leaf):
            yield from_zero(case, slow.leaf, NOT_MAXIMAL, -slow.deficit, text)


def shared_rates(case: Case) -> Iterator[str]:
    """Notes on packed weights whose one learning rate is right for a block and small for others."""
    for slow in _slow(case):
        first = _bears_no_more(case, slow.leaf)
        if first is not None and slow.needed != slow.c:
            yield say(words.SHARED_RATE, weight=slow.leaf.weight.name, block=first.name)


def _bears_no_more(case: Case, leaf: Leaf) -> Optional[Leaf]:
    """Another block of the same packed weight that bears no larger learning rate than the one they share."""
    others = (x for x in case.lowered.leaves_of[leaf.weight.name] if x is not leaf)
    return next((x for x in others if case.maximal_c(x) == case.given[leaf.name].c), None)


def _small_update(case: Case, slow: Slow, value: str, text: str) -> Item:
    leaf, need, effect = slow.leaf, slow.need, -slow.deficit
    kind, fix = NOT_MAXIMAL, say(words.MULTIPLY, quantity=RATE, by=slow.c - slow.needed)
    if (starved := _starved(case, leaf)) is not None:
        fading = _fading(case, leaf)
        kept = fading.fades and fading.stays and not _has_no_effect(case, leaf, need.C + slow.deficit)
        kind = NOT_MAXIMAL if kept and not _starves(case, leaf) else VANISHES
        law = words.FADES if fading.fades else need.demand.law
        text = say(words.SHRINKS, value=value, law=law, by=effect)
        fix = say(words.AND_INIT, multiply=fix, by=starved.by)
    elif case.regime.name in (KERNEL, TRIVIAL) or (
        degree(slow.deficit) >= FROZEN_FROM and not _beside_another(case, slow)
    ):
        kind = FROZEN
    names, also = (leaf.weight.name,), (case.group(leaf.weight),)
    fixes = [Fix(leaf.weight.name, RATE, slow.c - slow.needed)]
    if starved is not None:
        fixes.append(Fix(case.part(leaf) or leaf.weight.name, INIT_STD, starved.by))
    where = case.where(leaf)
    return Item(kind, RATE, -slow.c, -slow.needed, effect, where, text, fix, names, also, fixes=tuple(fixes))


def outsized(case: Case) -> list[Item]:
    """Before a norm, updates that are right for a size that the weight does not have: of what it makes they are too
    small a part.

    Where inits are too large those are at fault, and only where none is, the rates.
    """
    found: list[tuple[bool, Item]] = []
    for leaf in case.lowered.leaves:
        own, need, C = case.given[leaf.name], case.need(leaf), case.repaired.C[leaf.name]
        use = need.demand.use if need is not None else None
        if own.c is None or need is None or C is None or use is None or need.C < C:
            continue
        effect = own_effect(case.lowered, case.repaired.alignment, case.mended, leaf.value)
        large = own.b is not None and own.b < need.A
        larger = case.mended[use.out].init > max_order(case.maximal[use.out].init, ZERO)
        if effect >= ZERO or not (large or larger) or not _before_a_norm(case, use.out):
            continue
        value, size, name = case.value(use.out), case.mended[use.out].init, leaf.weight.name
        text = say(words.OUTSIZED, value=value, by=effect, size=size)
        quantity, at, by, block = RATE, own.c, -effect, ""
        if large and own.b is not None and own.c == case.maximal_c(leaf):
            quantity, at, by, block = INIT_STD, own.b, max_order(effect, own.b - need.A), case.part(leaf)
        fix, fixes = say(words.MULTIPLY, quantity=quantity, by=by), (Fix(block or name, quantity, by),)
        also, where = (case.group(leaf.weight),), case.where(leaf)
        item = Item(NOT_MAXIMAL, quantity, -at, by - at, effect, where, text, fix, (name,), also, block, fixes=fixes)
        found.append((large, item))
    return [item for large, item in found if large or not any(others for others, _ in found)]


def _before_a_norm(case: Case, vid: int) -> bool:
    """Whether a norm divides out the size of a value, or of what is a multiple of it."""
    maker = case.lowered.maker

    def multiplies(x: int) -> bool:
        return isinstance(maker[x].structure, (*PLAIN, Product, Contract, Reduce, Power))

    return any(isinstance(maker[out].structure, Normalise) for _, out in first_met(case.lowered.flow, vid, multiplies))


def _has_no_effect(case: Case, leaf: Leaf, C: Order) -> bool:
    """By propagation, whatever the gauge: the update moves its result, or through it the outputs, vanishingly."""
    no_output = on_outputs(leaf, case.mended, -C) < ZERO
    return no_output or own_effect(case.lowered, case.repaired.alignment, case.mended, leaf.value) < ZERO


def _beside_another(case: Case, slow: Slow) -> bool:
    """A bias, or one of two embeddings: what it is added to moves maximally anyhow."""
    use = slow.need.demand.use
    if use is None or not isinstance(use.structure, Sum):
        return False
    others = [x for x in operands(use.structure) if x != slow.leaf.value and case.mended[x].data]
    return any(case.mended[x].change >= ZERO for x in others)


# -- inits -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SmallInit:
    """The init of a weight is ``~ n^-needed`` but for a factor ``n^-by``; it makes the value ``result``."""

    needed: Order
    by: Order
    result: int


def _small_init(case: Case, leaf: Leaf) -> Optional[SmallInit]:
    """None as well for a weight that starts at zero or is only added."""
    b, need = case.given[leaf.name].b, case.need(leaf)
    use = need.demand.use if need is not None else None
    if b is None or need is None or use is None or b <= need.A or isinstance(use.structure, Sum):
        return None
    return SmallInit(need.A, b - need.A, use.out)


def _starved(case: Case, leaf: Leaf) -> Optional[SmallInit]:
    """Its result is smaller than it may be, at init and after training."""
    small = _small_init(case, leaf)
    return small if small is not None and _shrunk(case, small.result) else None


def _shrunk(case: Case, vid: int) -> bool:
    return case.mended[vid].trained < case.maximal[vid].trained


def _starves(case: Case, leaf: Leaf) -> bool:
    """It makes a nonlinearity further on linear in the limit: what enters there is too small, trained or not (a
    norm's gain that shrinks: whatever the weights behind it do, relative to that all of them move).
    """
    starved = _starved(case, leaf)
    after = () if starved is None else _nonlinearities(case, starved.result, (*PLAIN, Contract, Product))
    return any(_shrunk(case, value) for value, _ in after)


@dataclass(frozen=True)
class Fading:
    """Where what a weight makes, smaller than it may be, goes: ``fades`` beside what it is added to, which it would not
    if it were as large as it may be (a look-up among positions); ``stays``: elsewhere too (a norm, before a stream).
    """

    fades: bool = False
    stays: bool = False


def _fading(case: Case, leaf: Leaf) -> Fading:
    starved, found = _starved(case, leaf), Fading()
    queue, seen = [] if starved is None or not case.mended[starved.result].data else [starved.result], set[int]()
    for x in queue:
        for use in case.lowered.forward_uses.get(x, ()):
            if isinstance(use.structure, Sum) and case.mended[x].trained < case.mended[use.out].trained:
                fades = case.maximal[x].trained >= case.maximal[use.out].trained
                found = Fading(found.fades or fades, found.stays or not fades)
            elif not isinstance(use.structure, PLAIN):
                found = Fading(found.fades, True)
            elif use.out not in seen:
                seen.add(use.out)
                queue.append(use.out)
    return found


def small_inits(case: Case, found: Sequence[Item]) -> list[Item]:
    """Inits that leave a nonlinearity linear at init, of weights of which nothing else was ``found``."""
    items: list[Item] = []
    for leaf in case.lowered.leaves:
        small, name = _small_init(case, leaf), leaf.weight.name
        need = case.need(leaf)
        if small is None or need is None or not case.given[leaf.name].random or need.role(leaf) == "output":
            continue
        if any(item.weight == name and item.block in ("", leaf.name) for item in (*found, *items)):
            continue
        value, why = next(_nonlinearities(case, small.result, PLAIN), (None, ""))
        if value is not None and case.mended[value].init < case.maximal[value].init:
            text = say(words.SMALL_INIT, value=case.value(value), why=why, by=-small.by)
            fix = say(words.MULTIPLY, quantity=INIT_STD, by=small.by)
            std, by, where = -small.needed, -small.by, case.where(leaf)
            also, block = (case.group(leaf.weight),), case.part(leaf)
            fixes = (Fix(block or name, INIT_STD, small.by),)
            item = Item(NOT_MAXIMAL, INIT_STD, std + by, std, by, where, text, fix, (name,), also, block, fixes=fixes)
            items.append(item)
    return items


def _nonlinearities(case: Case, vid: int, through: tuple[type[Structure], ...]) -> Iterator[tuple[int, str]]:
    """The values that a result becomes, by structures of the kinds ``through``, where they enter a nonlinearity or a
    softmax, with what they enter; the nearest first.
    """
    queue, seen = [vid], {vid}
    for x in queue:
        limit = case.limits.get(x)
        atom = limit.atom if limit is not None else None
        if limit is not None and atom is not None and isinstance(atom.structure, (LinearLike, Bounded, Exp, Softmax)):
            yield x, limit.why
            continue
        for use in case.lowered.forward_uses.get(x, ()):
            if isinstance(use.structure, through) and use.out not in seen:
                seen.add(use.out)
                queue.append(use.out)


__all__ = ["FROZEN_FROM", "outsized", "shared_rates", "small_inits", "small_updates"]
