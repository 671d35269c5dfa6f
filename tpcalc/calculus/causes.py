"""Which operand is at fault: from a value that is too large back to what makes it so.

A fault is a weight's init, a weight's update, or a *site*: an op that makes a large result of operands none of which is
too large (attention).  Repaired by its excess, it gives the value that is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from functools import cached_property
from typing import Any, NamedTuple, Optional

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order, max_order
from tpcalc.calculus.alignment import Alignment
from tpcalc.calculus.facts import Facts, given_operand, on_change, over_depth, roles, spread
from tpcalc.calculus.limits import base, passes, weighs
from tpcalc.calculus.reading import Id, Reading
from tpcalc.lower.lowered import Leaf, Lowered
from tpcalc.program.queries import trail
from tpcalc.rules import structures as st
from tpcalc.rules.structures import Atom, linear_at_zero, operands

INIT, LR, SITE = "init", "lr", "multiplier"


class Fault(NamedTuple):
    """A leaf's init or learning rate, or a site (no leaf), too large by ``excess``.

    ``atom``: where the leaf is used, or the site.  ``scale``: at a site, the power of the code's own constants.
    """

    quantity: str
    leaf: Optional[Leaf]
    atom: Atom
    excess: Order
    scale: Order = ZERO

    @property
    def key(self) -> tuple[str, "str | int"]:
        return self.quantity, self.leaf.name if self.leaf is not None else self.atom.out


class TooLarge(NamedTuple):
    """A value that may only have order ``allowed``; ``change``: only its change is too large.

    ``scale``: power of the constants between it and where the search began.
    """

    value: Id
    allowed: Order
    change: bool
    scale: Order = ZERO


#: What one step back finds.
Back = Iterator["Fault | TooLarge"]


class Share(NamedTuple):
    """What an operand of a merged weight has of the fault: its init too large by ``init``, its update by ``change``.

    ``carried``: by how much a change is too large that moves the init of other entries along; None: as any.
    """

    operand: Id
    init: Order
    change: Order
    carried: Optional[Order] = None


class Search:
    """From values back to faults, under given facts.  Nothing is looked for behind values that are ``limited``.

    (They are judged by themselves.)
    """

    def __init__(self, lowered: Lowered, facts: Facts, alignment: Alignment, limited: Container[int]) -> None:
        self.lowered, self.facts, self.alignment, self.limited = lowered, facts, alignment, limited

    @cached_property
    def leaves(self) -> dict[int, Leaf]:
        return {leaf.value: leaf for leaf in self.lowered.leaves}

    def faults(self, start: TooLarge) -> list[Fault]:
        """What makes a value too large, the worst of each kind, whichever way leads there."""
        found: dict[tuple[str, "str | int"], Fault] = {}
        stack = [start]
        seen: set[TooLarge] = set()
        while stack:
            large = stack.pop()
            if large in seen:
                continue
            seen.add(large)
            for item in self.step(large):
                if isinstance(item, TooLarge):
                    stack.append(item)
                elif item.key not in found or found[item.key].excess < item.excess:
                    found[item.key] = item
        return list(found.values())

    def step(self, large: TooLarge) -> Back:
        """One step back: faults, or operands that may be too large in turn."""
        atom = self.lowered.maker.get(large.value)
        if self.excess(large) <= ZERO:
            return
        if self.facts[large.value].is_weight:
            fact = self.facts[large.value]
            init = ZERO if large.change else fact.init - large.allowed
            yield from self.of_weight(large.value, init, fact.change - large.allowed, atom)
        elif atom is not None:
            law = CAUSES.of(atom.structure)
            yield from (self.site(large, atom),) if law is None else law(atom.structure, large, self, atom)

    def size(self, vid: Id, change: bool) -> Order:
        fact = self.facts[vid]
        return fact.change if change else max_order(fact.init, fact.trained)

    def excess(self, large: TooLarge) -> Order:
        return self.size(large.value, large.change) - large.allowed

    def suspect(self, vid: Id, change: bool, limited: Optional[int] = None) -> bool:
        """Whether a value is too large itself, and not judged by itself (or as ``limited``)."""
        return self.size(vid, change) > ZERO and (vid if limited is None else limited) not in self.limited

    def relative(self, vid: Id, large: TooLarge, atom: Atom, shift: Order) -> "Fault | TooLarge":
        """A change that counts relative to the size at init; no update of what starts at zero is small to that."""
        init = self.facts[vid].init
        if not large.change or init is MINUS_INFINITY:
            return self.site(large, atom)
        return large._replace(value=vid, allowed=init + large.allowed - shift)

    def constants(self, vid: Id) -> Order:
        """The power of the constants on the way to a value from what they act on."""
        made = (self.lowered.maker.get(x) for x in trail(self.lowered.flow, vid, passes(self.lowered)))
        scales = (atom.structure for atom in made if atom is not None)
        orders = (s.order for s in scales if isinstance(s, st.Scale))
        return sum((order for order in orders if order is not MINUS_INFINITY), ZERO)

    def site(self, large: TooLarge, atom: Atom, scale: Order = ZERO) -> Fault:
        return Fault(SITE, None, atom, self.excess(large), large.scale + scale)

    def of_weight(
        self, vid: Id, init: Order, change: Order, use: Optional[Atom], carried: Optional[Order] = None
    ) -> Iterator[Fault]:
        """Blame a weight, through what it is made of: its init too large by ``init``, its update by ``change``."""
        leaf = self.leaves.get(vid)
        if leaf is not None:
            atom = use or next(iter(self.lowered.forward_uses.get(vid, ())), None)
            fact = self.facts[vid]
            if atom is not None and init > ZERO and fact.init is not MINUS_INFINITY:
                yield Fault(INIT, leaf, atom, init)
            if atom is not None and change > ZERO and fact.change is not MINUS_INFINITY:
                yield Fault(LR, leaf, atom, change)
            return
        made = self.lowered.maker.get(vid)
        if made is None:
            return
        law = MERGED.of(made.structure)
        for found in () if law is None else law(made.structure, Share(vid, init, change, carried), self):
            if not isinstance(found, Fault):
                yield from self.of_weight(found.operand, found.init, found.change, use, found.carried)
            else:  # a size that no weight has: what it makes is to be multiplied
                yield found if use is None else found._replace(atom=use)

    def is_fixed(self, vid: Id) -> bool:
        """Whether it is a constant or a buffer, whose size no weight has."""
        fact = self.facts[vid]
        return fact.is_constant or self.lowered.is_given(fact.weight)


# -- from a value to its operands ------------------------------------------------------------------

CAUSES: Reading[Callable[[Any, TooLarge, Search, Atom], Back]] = Reading(
    "causes", "which operand makes the result too large?"
)

CAUSES.silent(st.Known, st.Discrete, st.Slope, why="of order 0 whatever enters: the place itself is at fault")


@CAUSES.law(st.View, st.Centre)
def passed_on(s: Any, large: TooLarge, search: Search, atom: Atom) -> Back:
    yield large._replace(value=s.x)


@CAUSES.law(st.Guard)
def guard(s: st.Guard, large: TooLarge, search: Search, atom: Atom) -> Back:
    """In the place of zero stands a constant."""
    zero = search.facts[s.x].init is MINUS_INFINITY and not large.change and large.allowed < ZERO
    yield search.site(large, atom) if zero else large._replace(value=s.x)


@CAUSES.law(st.LinearLike)
def linear_like(s: st.LinearLike, large: TooLarge, search: Search, atom: Atom) -> Back:
    """f(0) != 0 stays, however small the operand is."""
    stays = s.offset and not large.change and large.allowed < ZERO
    yield search.site(large, atom) if stays else large._replace(value=s.x)


@CAUSES.law(st.Bounded)
def bounded(s: st.Bounded, large: TooLarge, search: Search, atom: Atom) -> Back:
    yield large._replace(value=s.x) if large.change or s.zero else search.site(large, atom)


@CAUSES.law(st.Exp)
def exponential(s: st.Exp, large: TooLarge, search: Search, atom: Atom) -> Back:
    yield large._replace(value=s.x) if large.change else search.site(large, atom)


@CAUSES.law(st.Softmax)
def softmax(s: st.Softmax, large: TooLarge, search: Search, atom: Atom) -> Back:
    growth = ZERO if s.log else s.growth
    follows = large.change or (s.log and large.allowed >= ZERO)
    yield large._replace(value=s.x, allowed=large.allowed + growth) if follows else search.site(large, atom)


@CAUSES.law(st.Log)
def logarithm(s: st.Log, large: TooLarge, search: Search, atom: Atom) -> Back:
    yield search.relative(s.x, large, atom, ZERO)


@CAUSES.law(st.Normalise)
def normalise(s: st.Normalise, large: TooLarge, search: Search, atom: Atom) -> Back:
    """Of its order whatever enters; the change is relative."""
    yield search.relative(s.x, large, atom, s.shift)


@CAUSES.law(st.Gather)
def gather(s: st.Gather, large: TooLarge, search: Search, atom: Atom) -> Back:
    """A look-up is where an embedding is used."""
    if not search.facts[s.x].is_weight:
        yield large._replace(value=s.x)
        return
    fact = search.facts[s.x]
    init = ZERO if large.change else fact.init - large.allowed
    yield from search.of_weight(s.x, init, fact.change - large.allowed, atom)


@CAUSES.law(st.Scale)
def scale(s: st.Scale, large: TooLarge, search: Search, atom: Atom) -> Back:
    yield large._replace(value=s.x, allowed=large.allowed - s.order, scale=large.scale + s.order)


@CAUSES.law(st.Sum)
def total(s: st.Sum, large: TooLarge, search: Search, atom: Atom) -> Back:
    for x in s.xs:
        yield large._replace(value=x)


@CAUSES.law(st.Power)
def power(s: st.Power, large: TooLarge, search: Search, atom: Atom) -> Back:
    """The mean-value law for changes less than the value itself; an inverse is large for what is small."""
    init, allowed = search.facts[s.x].init, large.allowed
    if large.change and init is not MINUS_INFINITY and allowed < s.k * init:
        yield TooLarge(s.x, allowed - (s.k - 1) * init, True, large.scale * s.k)
    elif s.k > 0:
        yield TooLarge(s.x, allowed / s.k, large.change, large.scale * s.k)
    else:
        yield search.site(large, atom)


@CAUSES.law(st.Contract)
def contract(s: st.Contract, large: TooLarge, search: Search, atom: Atom) -> Back:
    """Laws 1 to 3 term by term: which of them is too large."""
    kinds = roles(s, search.facts[s.x], search.facts[s.y])
    if kinds == (False, False):
        yield from of_two_values(s, large, search, atom)
        return
    given = given_operand(s, search.facts, search.lowered)
    if given is not None:  # a constant to the value that it meets
        moves = search.alignment.initial_on_change(s.K, given.rest)
        yield large._replace(value=given.value, allowed=large.allowed - given.fact.init - moves)
        return
    for is_weight, w, v, rest, partner_weight in (
        (kinds[0], s.x, s.y, s.rest_x, kinds[1]),
        (kinds[1], s.y, s.x, s.rest_y, kinds[0]),
    ):
        if not is_weight:
            continue
        weight, value = search.facts[w], search.facts[v]
        init, trained, change = value.init, value.trained, value.change
        moves = on_change(search.alignment, s.K, rest, weight)
        if partner_weight:
            grows = s.K if weight.weight & value.weight else s.K / 2
        else:
            grows = spread(search.alignment, s.K, rest, weight, value)
        if not partner_weight and search.suspect(v, large.change, base(search.lowered, v)):
            yield TooLarge(v, ZERO, large.change)
            # mended itself: the weight is not to make up for it
            init, trained, change = (min(order, ZERO) for order in (init, trained, change))
        on_values = weight.init + moves + change
        at_init = on_values if large.change else max_order(weight.init + grows + init, on_values)
        updated = weight.update + search.alignment.weight_change(s.K) + trained
        carried = None if weight.own is None else weight.change + moves + trained - large.allowed
        yield from search.of_weight(w, at_init - large.allowed, updated - large.allowed, atom, carried)


@CAUSES.law(st.Product)
def product(s: st.Product, large: TooLarge, search: Search, atom: Atom) -> Back:
    if search.facts[s.x].is_weight == search.facts[s.y].is_weight:
        yield from of_two_values(s, large, search, atom)
        return
    w, v = (s.x, s.y) if search.facts[s.x].is_weight else (s.y, s.x)
    if search.suspect(v, large.change):
        yield large._replace(value=v, allowed=ZERO)
        return
    weight, value = search.facts[w], search.facts[v]
    at_init = weight.init + search.size(v, large.change)
    yield from search.of_weight(w, at_init - large.allowed, weight.change + value.trained - large.allowed, atom)


def of_two_values(s: st.Product | st.Contract, large: TooLarge, search: Search, atom: Atom) -> Back:
    """Those that are too large; where none is, their product."""
    values = [x for x in (s.x, s.y) if search.suspect(x, large.change)]
    if values:
        for x in values:
            yield large._replace(value=x, allowed=ZERO)
    else:
        yield search.site(large, atom, search.constants(s.x) + search.constants(s.y))


@CAUSES.law(st.Reduce)
def reduce(s: st.Reduce, large: TooLarge, search: Search, atom: Atom) -> Back:
    """A weighted sum is a contraction written out: what it adds to an init and to a change is the weight's to bear."""
    if not weighs(search.lowered, search.facts, s.x):
        yield large._replace(value=s.x, allowed=ZERO) if search.suspect(s.x, large.change) else search.site(large, atom)
        return
    x, before = search.facts[s.x], large._replace(value=s.x)
    if not large.change:
        yield before._replace(allowed=large.allowed - (s.K / 2 if x.cancels else s.K))
    yield before._replace(allowed=large.allowed - search.alignment.values(s.K), change=True)


@CAUSES.law(st.Repeat)
def repeat(s: st.Repeat, large: TooLarge, search: Search, atom: Atom) -> Back:
    """What it adds up to at init and what it changes are each term's to bear."""
    if not large.change:
        yield large._replace(value=s.x, allowed=large.allowed - over_depth(s, search.facts[s.x]))
    yield large._replace(value=s.x, allowed=large.allowed - search.alignment.values(s.K), change=True)


CAUSES.complete()

# -- from a merged weight to its factors -----------------------------------------------------------

MERGED: Reading[Callable[[Any, Share, Search], "Iterator[Fault | Share]"]] = Reading(
    "merged", "which of the weights that it is made of?"
)

MERGED.silent(st.Known, why="it has no operand")
MERGED.silent(st.Slope, why="there is none in a forward pass")


@MERGED.law(st.View, st.Centre, st.Guard, st.Gather, st.Scale, st.Reduce, st.Repeat)
def same_weight(s: Any, share: Share, search: Search) -> Iterator[Share]:
    yield share._replace(operand=s.x)


@MERGED.law(st.Power)
def power_of_a_weight(s: st.Power, share: Share, search: Search) -> "Iterator[Fault | Share]":
    """A change is k w^(k-1) dw: smaller with the init; an inverse is not mended by less."""
    if s.k <= 0:
        yield from of_its_own_size(s, share, search)
        return
    x = search.facts[s.x]
    mended = max_order(share.init, ZERO) / s.k
    full = x.change >= x.init - mended
    yield Share(s.x, share.init / s.k, share.change / s.k if full else share.change - (s.k - 1) * mended)


@MERGED.law(st.LinearLike, st.Bounded)
def nonlinear_weight(s: Any, share: Share, search: Search) -> "Iterator[Fault | Share]":
    """What exceeds order 0 is cut off by a bounded function."""
    if not linear_at_zero(s):
        yield from of_its_own_size(s, share, search)
        return
    x, fact = search.facts[s.x], search.facts[share.operand]
    yield Share(s.x, _beyond(x.init, fact.init, share.init), _beyond(x.change, fact.change, share.change))


@MERGED.law(st.Exp, st.Log, st.Softmax, st.Discrete)
def of_its_own_size(s: Any, share: Share, search: Search) -> "Iterator[Fault | Share]":
    """Of a size that is not that of the weight: only its update can be mended, as long as that is not all of it."""
    fact, atom = search.facts[share.operand], search.lowered.maker[share.operand]
    if share.init > ZERO:
        yield Fault(SITE, None, atom, share.init)
    if share.change <= ZERO:
        return
    for x in operands(s):
        own = search.facts[x]
        by: Order = ZERO  # by what its change is multiplied, as long as it is small
        if isinstance(s, (st.Log, st.Discrete, st.Power)):
            if own.init is MINUS_INFINITY:
                yield Fault(SITE, None, atom, share.change)
                continue
            by = (s.k - 1 if isinstance(s, st.Power) else -1) * own.init
        elif isinstance(s, st.Softmax) and not s.log:
            by = -s.growth
        yield Share(x, MINUS_INFINITY, _beyond(own.change + by, fact.change, share.change))


def _beyond(order: Order, cut_off: Order, excess: Order) -> Order:
    """The excess of an order of which a function cuts off what is beyond its own."""
    return excess if cut_off is MINUS_INFINITY or order is MINUS_INFINITY else excess + (order - cut_off)


@MERGED.law(st.Sum)
def each_term(s: st.Sum, share: Share, search: Search) -> "Iterator[Fault | Share]":
    fact = search.facts[share.operand]
    for x in s.xs:
        own = search.facts[x]
        # what their means add up to is no fault of a term that has none
        init = share.init + (own.mean if fact.mean == fact.init else own.init) - fact.init
        if search.is_fixed(x):
            if init > ZERO:
                yield Fault(SITE, None, search.lowered.maker[share.operand], init)
        else:
            yield Share(x, init, share.change + own.change - fact.change)


@MERGED.law(st.Normalise)
def normalised_weight(s: st.Normalise, share: Share, search: Search) -> "Iterator[Fault | Share]":
    """Its size is not that of the weight; its update is, relative to the weight."""
    x, fact = search.facts[s.x], search.facts[share.operand]
    if share.init > ZERO:
        yield Fault(SITE, None, search.lowered.maker[share.operand], share.init)
    if share.change > ZERO and x.init is not MINUS_INFINITY:
        yield Share(s.x, MINUS_INFINITY, x.change - x.init - (fact.change - share.change - s.shift))


@MERGED.law(st.Product, st.Contract)
def moved_factor(s: st.Product | st.Contract, share: Share, search: Search) -> Iterator[Share]:
    """LoRA's B A, a gain times a direction: the factor that moved, the first one for the init."""
    first = True
    for vid, other in ((s.x, s.y), (s.y, s.x)):
        x, y = search.facts[vid], search.facts[other]
        if not x.is_weight:
            continue
        change, moved = share.change, x.change + y.trained >= y.change + x.init
        if share.carried is not None and x.coarse != y.coarse:  # one of them moves the other along
            change, moved = share.carried if x.coarse else share.change, True
        yield Share(vid, share.init if first else MINUS_INFINITY, change if moved else MINUS_INFINITY, share.carried)
        first = False


MERGED.complete()


__all__ = ["CAUSES", "INIT", "LR", "MERGED", "SITE", "Fault", "Search", "TooLarge"]
