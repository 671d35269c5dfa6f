"""Budgets: the order that each value may have, walked from the outputs back to the weights.

The budget of a value is 0 where it enters a nonlinearity, a norm, a residual sum, another weight, or leaves as an
output; constants shift it (a value multiplied by ``n^p`` has ``p`` less).  A weight meets a :class:`Demand` at each of
its uses; the demand in turn fixes its orders ``A`` and ``C`` (:mod:`tpcalc.derive.solve`).

Where two values meet in a contraction or a product, one of them, the *absorber*, takes what the budget leaves; the
other keeps budget 0 (:mod:`tpcalc.calculus.freedom`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Optional

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order, max_order
from tpcalc.calculus.alignment import Alignment
from tpcalc.calculus.facts import Facts, roles, spread
from tpcalc.calculus.freedom import ABSORBING, Freedom
from tpcalc.calculus.limits import DERIVATIVE, LIMITS, NORM, OUTPUT, WEIGHT
from tpcalc.calculus.reading import Id, Reading, back
from tpcalc.lower.lowered import Lowered
from tpcalc.rules import structures as st
from tpcalc.rules.structures import Atom, operands


class Demand(NamedTuple):
    """What one consumer allows a value: an initial part of order ``init`` at most, a change of order ``change``.

    ``tight``: the consumer is not invariant to the scale of the value, so less than the budget is a loss.
    ``origin`` is the atom where the budget of 0 stands (None: an output), ``use`` the atom at which a weight meets this
    demand, ``partner`` the value it meets there; ``excess`` tells how much of a value-value product's excess is passed
    on, and ``excess_at`` the atom of that product.  ``meets_weight``: only constants stand between the value and a
    weight, which makes up for them itself.
    """

    init: Order
    change: Order
    tight: bool
    law: str
    origin: Optional[Atom] = None
    use: Optional[Atom] = None
    partner: Optional[int] = None
    excess: Order = ZERO
    excess_at: Optional[Atom] = None
    meets_weight: bool = False

    def shifted(self, by: Order, **changes: Any) -> "Demand":
        return self._replace(init=self.init - by, change=self.change - by, **changes)


class Conflict(NamedTuple):
    """A consumer that would need a value smaller than another consumer can bear."""

    value: int
    demand: Demand
    needed: Order
    allowed: Order


class Budgets(NamedTuple):
    """``of``: value -> the demand that binds it.  ``weights``: leaf value -> all demands, one for each use."""

    of: dict[int, Demand]
    weights: dict[int, list[Demand]]
    conflicts: list[Conflict]


class Walk:
    """One reverse pass.  Mutable while it runs, discarded afterwards."""

    def __init__(
        self, lowered: Lowered, facts: Facts, free: Freedom, alignment: Alignment, caps: Mapping[int, Order]
    ) -> None:
        self.lowered = lowered
        self.facts = facts
        self.hops: Mapping[Any, Optional[int]] = free.hops
        self.shift: Mapping[Any, Order] = free.shift
        self.alignment = alignment
        self.caps = caps
        self.demands: dict[int, list[Demand]] = {}
        self.live: set[int] = set()
        self.result = Budgets({}, {}, [])

    def run(self) -> Budgets:
        ends = self.lowered.program.ends
        for vid in ends:
            self.ask(vid, Demand(ZERO, ZERO, True, OUTPUT))
        self.live.update(ends)
        for vid in self.lowered.differentiated:
            self.ask(vid, Demand(ZERO, ZERO, True, DERIVATIVE))
        self.live.update(self.lowered.differentiated)
        back(DEMANDS, self.lowered, self)
        for leaf in self.lowered.leaves:
            self.result.weights[leaf.value] = self.demands.pop(leaf.value, [])
        return self.result

    def asked_of(self, atom: Atom) -> Iterator[Optional[Demand]]:
        """The binding demand on a value, None on one that only its operands' own limits hold; on a weight every one."""
        if atom.out not in self.live:
            return
        self.live.update(operands(atom.structure))
        demands = self.demands.pop(atom.out, None)
        if demands is None:
            yield None
        elif self.facts[atom.out].is_weight:
            self.result.of[atom.out] = demands[0]
            yield from demands
        else:
            asked = self.before_constants(atom, self.settle(atom.out, demands))
            self.result.of[atom.out] = asked
            yield asked

    def ask(self, vid: Id, demand: Demand, use: Optional[Atom] = None) -> None:
        """Record a demand on ``vid``; a weight remembers the atom ``use`` at which it meets it."""
        if demand.use is None and self.facts[vid].is_weight:
            demand = demand._replace(use=use)
        self.demands.setdefault(vid, []).append(demand)

    def settle(self, vid: int, demands: list[Demand]) -> Demand:
        """The binding demand of a value.  One that would starve a tight consumer is a conflict and is dropped."""
        least = min(demands, key=lambda d: d.change)
        if least.excess > 0:
            floor = min(max((d.change for d in demands if d.tight), default=least.change), ZERO)
            starving = [d for d in demands if d.change < floor and d.excess > 0]
            self.result.conflicts.extend(Conflict(vid, d, d.change, floor) for d in starving)
            least = min((d for d in demands if d not in starving), key=lambda d: d.change)
        return least

    def before_constants(self, atom: Atom, demand: Demand) -> Demand:
        """What is left of a budget that a weight makes up for."""
        return CONSTANTS[type(atom.structure)](atom.structure, demand, self) if demand.meets_weight else demand


def capped(demand: Demand, law: str = "") -> Demand:
    """A value that enters a nonlinearity or a reduction has no budget above 0."""
    return demand._replace(init=min(demand.init, ZERO), change=min(demand.change, ZERO), law=law or demand.law)


# -- constants before a weight ---------------------------------------------------------------------

CONSTANTS: Reading[Callable[[Any, Demand, Walk], Demand]] = Reading(
    "constants", "what is left, of a budget that a weight makes up for, to what is before the constants?"
)


@CONSTANTS.law(st.View, st.Centre, st.Guard, st.Gather, st.Scale, st.Reduce)
def constants(s: Any, demand: Demand, walk: Walk) -> Demand:
    """What the 1/n of a readout multiplier multiplies keeps budget 0: the weight makes up for it."""
    return demand


@CONSTANTS.law(st.Contract)
def constants_of_a_contraction(s: st.Contract, demand: Demand, walk: Walk) -> Demand:
    """The constant may be there for the sum (dot products divided by n): what that adds is left to it."""
    if roles(s, walk.facts[s.x], walk.facts[s.y]) != (False, False):
        return no_constants(s, demand, walk)
    K = walk.alignment.values(s.K)
    return demand._replace(init=min(demand.init, K), change=min(demand.change, K), meets_weight=False)


@CONSTANTS.law(
    st.Known,
    st.Sum,
    st.Product,
    st.Power,
    st.LinearLike,
    st.Bounded,
    st.Slope,
    st.Exp,
    st.Log,
    st.Softmax,
    st.Normalise,
    st.Discrete,
)
def no_constants(s: Any, demand: Demand, walk: Walk) -> Demand:
    return capped(demand)._replace(meets_weight=False)


CONSTANTS.complete()


# -- what is asked of operands ---------------------------------------------------------------------

DEMANDS: Reading[Callable[[Any, Any, Walk, Atom], None]] = Reading(
    "demands", "what does a demand on the result ask of the operands?"
)

DEMANDS.silent(st.Known, why="it has no operand")
DEMANDS.silent(st.Discrete, why="no gradient passes: whatever enters, less of it is the same")
DEMANDS.silent(st.Slope, why="bounded whatever enters; the function itself asks, in the forward pass")


@DEMANDS.law(st.LinearLike, st.Bounded, st.Exp, st.Log, st.Softmax, unasked=True)
def nonlinearity(s: Any, demand: Optional[Demand], walk: Walk, atom: Atom) -> None:
    """Whatever becomes of the result: above order 0 it saturates, below it is linear."""
    for limit in LIMITS[type(s)](s, atom, walk.facts, walk.lowered):
        walk.ask(limit.value, Demand(ZERO, ZERO, True, f"enters a {limit.words}", atom))


@DEMANDS.law(st.Normalise, unasked=True)
def normalise(s: st.Normalise, demand: Optional[Demand], walk: Walk, atom: Atom) -> None:
    """The size of what enters is free (0); of a normalised weight the update counts relative to that."""
    relative: Order = ZERO
    use = None
    if demand is not None and walk.facts[atom.out].is_weight and demand.change < s.shift:
        relative, use = demand.change - s.shift, demand.use
    walk.ask(s.x, Demand(ZERO, relative, False, NORM, atom), use)


@DEMANDS.law(st.View, st.Centre, st.Guard)
def passes(s: Any, demand: Demand, walk: Walk, atom: Atom) -> None:
    walk.ask(s.x, demand)


@DEMANDS.law(st.Gather)
def gather(s: st.Gather, demand: Demand, walk: Walk, atom: Atom) -> None:
    walk.ask(s.x, demand, atom)


@DEMANDS.law(st.Scale)
def scale(s: st.Scale, demand: Demand, walk: Walk, atom: Atom) -> None:
    if s.order is not MINUS_INFINITY:
        walk.ask(s.x, demand.shifted(s.order))


@DEMANDS.law(st.Sum)
def total(s: st.Sum, demand: Demand, walk: Walk, atom: Atom) -> None:
    """Before a norm or a weight, what joins a value that can't grow is not made larger than that."""
    facts, hops = walk.facts, walk.hops
    pinned = max_order(*(facts[x].trained for x in s.xs if hops[x] is None and facts[x].data))
    if not demand.tight and pinned is not MINUS_INFINITY and pinned < demand.change:
        demand = demand._replace(init=min(demand.init, pinned), change=pinned)
    for x in s.xs:
        walk.ask(x, demand, atom)


@DEMANDS.law(st.Reduce)
def reduce(s: st.Reduce, demand: Demand, walk: Walk, atom: Atom) -> None:
    walk.ask(s.x, capped(demand.shifted(s.K), "is summed over a growing axis" if s.K else demand.law))


@DEMANDS.law(st.Power)
def power(s: st.Power, demand: Demand, walk: Walk, atom: Atom) -> None:
    """An inverse is larger for less: what it divides by keeps order 0."""
    if s.k > 0:
        walk.ask(s.x, capped(demand._replace(init=demand.init / s.k, change=demand.change / s.k)))
    else:
        walk.ask(s.x, Demand(ZERO, ZERO, False, "is divided by", atom))


@DEMANDS.law(st.Product)
def product(s: st.Product, demand: Demand, walk: Walk, atom: Atom) -> None:
    share(s, demand, walk, atom, ZERO)


@DEMANDS.law(st.Contract, unasked=True)
def contract(s: st.Contract, demand: Optional[Demand], walk: Walk, atom: Atom) -> None:
    kinds = roles(s, walk.facts[s.x], walk.facts[s.y])
    if kinds != (False, False):
        weight_use(s, demand, walk, atom, kinds)
    elif demand is not None:
        share(s, demand, walk, atom, walk.alignment.values(s.K))


def weight_use(s: st.Contract, demand: Optional[Demand], walk: Walk, atom: Atom, kinds: tuple[bool, bool]) -> None:
    """Laws 1 to 3, solved for the weight: A and C at this use.  What it meets keeps budget 0, less a cap."""
    x_weight, y_weight = kinds
    for is_weight, w, v, rest in ((x_weight, s.x, s.y, s.rest_x), (y_weight, s.y, s.x, s.rest_y)):
        if not is_weight:
            continue
        weight, value = walk.facts[w], walk.facts[v]
        if demand is not None and value.trained is not MINUS_INFINITY:
            on_change = walk.alignment.initial_on_change(s.K, rest)
            init = max_order(spread(walk.alignment, s.K, rest, weight, value) + value.init, on_change + value.change)
            change = walk.alignment.weight_change(s.K) + value.trained
            asked: Id = v
            own = demand._replace(init=demand.init - init, change=demand.change - change)
            walk.ask(w, own._replace(use=atom, partner=asked))
    if x_weight and y_weight:
        return
    cap = walk.caps.get(atom.out, ZERO)
    law = "meets a weight that a smaller use has already fixed" if cap else WEIGHT
    excess_at = atom if cap else None
    entering = Demand(-cap, -cap, False, law, atom, excess=cap, excess_at=excess_at, meets_weight=True)
    walk.ask(s.y if x_weight else s.x, entering)


def share(s: st.Product | st.Contract, demand: Demand, walk: Walk, atom: Atom, K: Order) -> None:
    """Two values meet: the absorber takes what the budget leaves, the other keeps budget 0."""
    facts, hops = walk.facts, walk.hops
    x, y = facts[s.x].trained, facts[s.y].trained
    if hops[s.x] is None and hops[s.y] is None:
        # neither follows a weight as a whole, but a part may (the gain of 1 + w)
        for vid, met in ((s.x, y), (s.y, x)):
            if met is not MINUS_INFINITY:
                walk.ask(vid, demand.shifted(K + met, tight=False), atom)
        return
    (absorber,) = ABSORBING[type(s)](s, hops)
    other: Id = s.y if absorber == s.x else s.x
    met = facts[other].trained
    if met is MINUS_INFINITY:
        return
    if hops[other] is None and facts[other].is_weight:
        # a normalised direction under a gain: it can't be smaller, and its change is a change of the product
        walk.ask(other, demand.shifted(facts[absorber].trained, tight=False))
    elif hops[other] is None:
        walk.ask(other, Demand(max(met, ZERO), max(met, ZERO), False, "multiplies another value", atom))
    else:
        # a free partner keeps the order that the code's constants give it
        own = walk.shift.get(other, ZERO)
        met = min(met, own)
        # a product of weights is updated through both: each alone must keep the update of the product within its budget
        change = min(own, demand.change - facts[absorber].trained) if walk.facts[atom.out].is_weight else own
        walk.ask(other, Demand(own, change, True, "multiplies another value", atom), atom)
    passed = demand.shifted(K + met)
    if K > 0 and passed.change < 0 and passed.change < demand.change:
        passed = passed._replace(excess=-passed.change, excess_at=atom)
    if facts[absorber].is_weight:
        passed = passed._replace(use=atom, partner=other)
    walk.ask(absorber, passed)


DEMANDS.complete()


def budgets(lowered: Lowered, facts: Facts, free: Freedom, alignment: Alignment, caps: Mapping[int, Order]) -> Budgets:
    """Walk the forward atoms backwards and return every value's budget.

    ``facts``: orders of the values under the present guess.  ``caps``: contraction -> how much below 0 the value that
    meets its weight must stay.
    """
    return Walk(lowered, facts, free, alignment, caps).run()


__all__ = ["CONSTANTS", "DEMANDS", "Budgets", "Conflict", "Demand", "Walk", "budgets"]
