"""Budgets: the order that each value may have, walked from the outputs back to the weights.

The budget of a value is 0 where it enters a nonlinearity, a norm, a residual sum, another weight, or leaves as an
output; constants shift it (a value multiplied by ``n^p`` has ``p`` less).  A weight meets a :class:`Demand` at each of
its uses; the demand in turn fixes its orders ``A`` and ``C`` (:mod:`tpcalc.derive.solve`).

Where two values meet in a contraction or a product, one of them, the *absorber*, takes what the budget leaves; the
other keeps budget 0 (:mod:`tpcalc.calculus.freedom`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Optional

from tpcalc.algebra.order import MINUS_INFINITY, ONE, ZERO, Order, max_order
from tpcalc.calculus.alignment import Alignment
from tpcalc.calculus.demand import Budgets, Conflict, Demand
from tpcalc.calculus.facts import Facts, Given, flips, given_operand, mixes, on_change, roles, spread
from tpcalc.calculus.freedom import ABSORBING, Freedom
from tpcalc.calculus.limits import DERIVATIVE, LIMITS, NORM, OUTPUT, WEIGHT
from tpcalc.calculus.reading import Id, Reading, back
from tpcalc.lower.lowered import Lowered
from tpcalc.rules import structures as st
from tpcalc.rules.structures import Atom, linear_at_zero, operands


class Walk:
    """One reverse pass.  Mutable while it runs, discarded afterwards."""

    def __init__(
        self,
        lowered: Lowered,
        facts: Facts,
        free: Freedom,
        alignment: Alignment,
        caps: Mapping[int, Order],
        multipliers: Mapping[int, Order],
        waived: frozenset[int] = frozenset(),
    ) -> None:
        self.lowered = lowered
        self.facts = facts
        self.hops: Mapping[Any, Optional[int]] = free.hops
        self.shift: Mapping[Any, Order] = free.shift
        self.alignment = alignment
        self.caps = caps
        self.multipliers = multipliers
        self.demands: dict[int, list[Demand]] = {}
        self.live: set[int] = set()
        self.waived, self.heard = waived, True
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
        self.heard = atom.out not in self.waived
        demands = self.demands.pop(atom.out, None)
        if demands is None:
            yield None
        elif self.facts[atom.out].is_weight:
            self.result.of[atom.out] = demands[0]
            yield from demands
        else:
            asked = self.before_constants(atom, self.settle(atom.out, demands))
            self.result.of[atom.out] = asked
            yield asked.shifted(self.multipliers.get(atom.out, ZERO))

    def ask(self, vid: Id, demand: Demand, use: Optional[Atom] = None) -> None:
        """Record a demand on ``vid``; a weight remembers the atom ``use`` at which it meets it."""
        if demand.use is None and self.facts[vid].is_weight:
            demand = demand._replace(use=use)
        if not (self.heard or vid in self.waived or self.facts[vid].is_weight):
            return
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

    def itself(self, s: st.Product | st.Contract) -> bool:
        """Whether a value that follows a weight meets itself, but for constants: its square."""
        if None in (self.hops[s.x], self.hops[s.y]) or any(self.facts[x].is_weight for x in (s.x, s.y)):
            return False
        alive = self.facts[s.x].trained is not MINUS_INFINITY
        return alive and not self.lowered.all_of(s.x).isdisjoint(self.lowered.all_of(s.y))

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


@CONSTANTS.law(st.View, st.Centre, st.Guard, st.Gather, st.Scale, st.Reduce, st.Repeat)
def constants(s: Any, demand: Demand, walk: Walk) -> Demand:
    """What the 1/n of a readout multiplier multiplies keeps budget 0: the weight makes up for it."""
    return demand


@CONSTANTS.law(st.Contract)
def constants_of_a_contraction(s: st.Contract, demand: Demand, walk: Walk) -> Demand:
    """The constant may be there for the sum (dot products divided by n): what that adds is left to it."""
    if given_operand(s, walk.facts, walk.lowered) is not None:
        return demand
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
DEMANDS.silent(st.Slope, why="bounded whatever enters; the function itself asks, in the forward pass")


@DEMANDS.law(st.LinearLike, st.Bounded, st.Exp, st.Log, st.Softmax, unasked=True)
def nonlinearity(s: Any, demand: Optional[Demand], walk: Walk, atom: Atom) -> None:
    """Whatever becomes of the result: above order 0 it saturates, below it is linear.

    A weight is asked what is asked of its function, which may well be linear.
    """
    if walk.facts[atom.out].is_weight:
        if demand is not None:
            of_weight(s, demand, walk, atom)
        return
    for limit in LIMITS[type(s)](s, atom, walk.facts, walk.lowered):
        walk.ask(limit.value, Demand(ZERO, ZERO, True, f"enters a {limit.words}", atom))


def of_weight(s: Any, demand: Demand, walk: Walk, atom: Atom) -> None:
    """A function of a weight: what vanishes with the weight is asked for by its size, else only its update counts."""
    if linear_at_zero(s):
        walk.ask(s.x, capped(demand))
        return
    by = relative(demand, walk, atom)
    if isinstance(s, st.Log):
        by = walk.facts[s.x].init + min(by, ZERO)
    else:
        by = min(by + walk.facts[atom.out].init + (ZERO if not isinstance(s, st.Softmax) or s.log else s.growth), ZERO)
    walk.ask(s.x, demand._replace(init=ZERO, change=by))


def relative(demand: Demand, walk: Walk, atom: Atom) -> Order:
    """By how much what is made of a weight may change, relative to a size that no weight can change.

    Where that is too large, a constant has to make up for it (a site); where what follows does not mind, less is
    enough.
    """
    fact = walk.facts[atom.out]
    by = demand.change - fact.init
    excess = fact.init - demand.init
    return by + (max(excess, ZERO) if demand.tight else excess)


def of_its_size(vid: Id, demand: Demand, walk: Walk, atom: Atom) -> Order:
    """By how much a weight may change of which only what it changes relative to its size counts."""
    fact = walk.facts[vid]
    return max_order(fact.init, fact.trained) + min(relative(demand, walk, atom), ZERO)


@DEMANDS.law(st.Discrete)
def discrete(s: st.Discrete, demand: Demand, walk: Walk, atom: Atom) -> None:
    """No gradient passes: whatever enters, less of it is the same.  The update of a weight counts relative to it."""
    if walk.facts[atom.out].is_weight:
        for x in s.xs:
            if walk.facts[x].is_weight:
                walk.ask(x, demand._replace(init=ZERO, change=of_its_size(x, demand, walk, atom)))


@DEMANDS.law(st.Normalise, unasked=True)
def normalise(s: st.Normalise, demand: Optional[Demand], walk: Walk, atom: Atom) -> None:
    """The size of what enters is free (0); of a normalised weight the update counts relative to that."""
    if demand is not None and walk.facts[atom.out].is_weight and demand.use is not None:
        change = of_its_size(s.x, demand, walk, atom)
        walk.ask(s.x, Demand(ZERO, change, False, NORM, atom, demand.use, demand.partner))
    else:
        walk.ask(s.x, Demand(ZERO, ZERO, False, NORM, atom))


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
    asked = capped(demand.shifted(s.K), "is summed over a growing axis" if s.K else demand.law)
    walk.ask(s.x, asked._replace(statistic=True) if walk.facts[atom.out].is_weight else asked)


@DEMANDS.law(st.Repeat)
def repeat(s: st.Repeat, demand: Demand, walk: Walk, atom: Atom) -> None:
    """Budgets of a term of a sum over the depth: what its last weights take.

    L^-alpha at init where its signs are its own, else L^-1: also where a norm of the sum follows, for it is the
    sum that must not be made of branches alone.  Its change may be L^-1: where alpha is less than 1 the
    solver takes the rest from every weight of the branch (:mod:`tpcalc.derive.depth`), and here only alpha is asked.
    """
    if s.K == 0:
        walk.ask(s.x, demand)
        return
    by = s.K * (s.alpha if flips(s, walk.facts[s.x]) and not s.factor else ONE)
    law = "multiplies a stream in every period" if s.factor else "is summed over the depth"
    carried = None if demand.carried is None else demand.carried - by
    init = demand.init - (ZERO if s.factor else by)
    asked = demand._replace(
        init=init, change=demand.change - by, carried=carried, law=law, depth=ZERO if s.factor else by, tight=True
    )
    walk.ask(s.x, asked)


@DEMANDS.law(st.Power)
def power(s: st.Power, demand: Demand, walk: Walk, atom: Atom) -> None:
    """An inverse is larger for less: what it divides by keeps order 0."""
    if s.k > 0:
        init, change = demand.init / s.k, demand.change / s.k
        if walk.facts[atom.out].is_weight:  # of k w^(k-1) dw
            change = demand.change - (s.k - 1) * init
        walk.ask(s.x, capped(demand._replace(init=init, change=change)))
    elif walk.facts[atom.out].is_weight:
        own = min(walk.facts[s.x].init, ZERO) if walk.facts[s.x].init > MINUS_INFINITY else ZERO
        walk.ask(s.x, Demand(ZERO, own, False, "is divided by", atom, statistic=True))
    else:
        walk.ask(s.x, Demand(ZERO, ZERO, False, "is divided by", atom))


@DEMANDS.law(st.Product)
def product(s: st.Product, demand: Demand, walk: Walk, atom: Atom) -> None:
    share(s, demand, walk, atom, ZERO)


@DEMANDS.law(st.Contract, unasked=True)
def contract(s: st.Contract, demand: Optional[Demand], walk: Walk, atom: Atom) -> None:
    kinds = roles(s, walk.facts[s.x], walk.facts[s.y])
    given = given_operand(s, walk.facts, walk.lowered)
    if given is not None:
        given_use(given, demand, walk)
    elif kinds != (False, False):
        weight_use(s, demand, walk, atom, kinds)
    elif demand is not None:
        share(s, demand, walk, atom, walk.alignment.values(s.K))


def given_use(use: Given, demand: Optional[Demand], walk: Walk) -> None:
    """A matrix whose numbers are given is a constant to the value that it meets: that of law 2, so that the value's
    change may be as large as the value."""
    if demand is not None and use.fact.init is not MINUS_INFINITY:
        walk.ask(use.value, demand.shifted(use.fact.init + walk.alignment.initial_on_change(use.K, use.rest)))


def weight_use(s: st.Contract, demand: Optional[Demand], walk: Walk, atom: Atom, kinds: tuple[bool, bool]) -> None:
    """Laws 1 to 3, solved for the weight: A and C at this use.  What it meets keeps budget 0, less a cap."""
    x_weight, y_weight = kinds
    for is_weight, w, v, rest in ((x_weight, s.x, s.y, s.rest_x), (y_weight, s.y, s.x, s.rest_y)):
        if not is_weight:
            continue
        weight, value = walk.facts[w], walk.facts[v]
        if demand is not None and value.trained is not MINUS_INFINITY:
            moves = on_change(walk.alignment, s.K, rest, weight)
            moved = moves + value.change
            init = max_order(spread(walk.alignment, s.K, rest, weight, value) + value.init, moved)
            change = walk.alignment.weight_change(s.K) + value.trained
            carried = (demand.change if demand.carried is None else demand.carried) - moves - value.trained
            own = demand._replace(init=demand.init - init, change=demand.change - change, carried=carried)
            if demand.use is None or mixes(s) != w:  # else it is used where what it is mixed into is
                asked: Id = v
                own = own._replace(use=atom, partner=asked)
            walk.ask(w, own)
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
    if walk.itself(s):
        for vid, by in {s.x: x - y, s.y: y - x}.items():
            whole = demand.shifted(K)
            asked = capped(whole._replace(init=(whole.init + by) / 2, change=(whole.change + by) / 2))
            if K > 0 and asked.change < min(demand.change, ZERO):
                asked = asked._replace(excess=-asked.change, excess_at=atom, squared=True)
                own = walk.shift.get(vid, ZERO)  # each of the two is the other's partner, too
                walk.ask(vid, Demand(own, own, True, "multiplies another value", atom))
            walk.ask(vid, asked)
        return
    if hops[s.x] is None and hops[s.y] is None:
        # neither follows a weight as a whole, but a part may (the gain of 1 + w)
        for vid, met in ((s.x, y), (s.y, x)):
            if met is not MINUS_INFINITY:
                walk.ask(vid, of_factor(vid, demand.shifted(K + met, tight=False), s, walk, atom), atom)
        return
    (absorber,) = ABSORBING[type(s)](s, hops)
    other: Id = s.y if absorber == s.x else s.x
    met = facts[other].trained
    if met is MINUS_INFINITY:
        return
    if hops[other] is None and facts[other].is_weight:
        # a normalised direction under a gain: it can't be smaller, and its change is a change of the product
        walk.ask(other, of_factor(other, demand.shifted(facts[absorber].trained, tight=False), s, walk, atom))
    elif hops[other] is None:
        # made by a pinned weight, it has a size at init that no update is to exceed
        met = min(met, walk.shift.get(other, met))
        walk.ask(other, Demand(max(met, ZERO), max(met, ZERO), False, "multiplies another value", atom))
    else:
        # a free partner keeps the order that the code's constants give it
        own = walk.shift.get(other, ZERO)
        met = min(met, own)
        # a product of weights is updated through both: each alone must keep the update of the product within its budget
        change = own
        if facts[atom.out].is_weight:
            change = min(own, of_factor(other, demand.shifted(facts[absorber].trained), s, walk, atom).change)
        kept = Demand(own, change, True, "multiplies another value", atom)
        if remains(other, s, demand, walk, atom):
            kept = kept._replace(use=demand.use, partner=demand.partner)
        walk.ask(other, kept, atom)
    passed = of_factor(absorber, demand.shifted(K + met), s, walk, atom)
    if K > 0 and passed.change < 0 and passed.change < demand.change:
        passed = passed._replace(excess=-passed.change, excess_at=atom)
    if facts[absorber].is_weight and not remains(absorber, s, demand, walk, atom):
        passed = passed._replace(use=atom, partner=other)
    walk.ask(absorber, passed)


def remains(vid: Id, s: st.Product | st.Contract, demand: Demand, walk: Walk, atom: Atom) -> bool:
    """Whether a factor is the weight that the product still is, and that is used where the product is."""
    result, factor = walk.facts[atom.out], walk.facts[vid]
    return demand.use is not None and bool(result.weight & factor.weight) and not factor.coarse


def of_factor(vid: Id, demand: Demand, s: st.Product | st.Contract, walk: Walk, atom: Atom) -> Demand:
    """What is asked of a factor of a product: a gain of the rows of a weight carries their init along."""
    factor, other = walk.facts[vid], walk.facts[s.y if vid == s.x else s.x]
    if demand.carried is not None and walk.facts[atom.out].weight and factor.coarse and not other.coarse:
        demand = demand._replace(change=demand.carried)
    return (
        demand._replace(statistic=True)
        if factor.is_weight and factor.coarse and factor.weight & other.depends
        else demand
    )


DEMANDS.complete()


def budgets(
    lowered: Lowered,
    facts: Facts,
    free: Freedom,
    alignment: Alignment,
    caps: Mapping[int, Order],
    multipliers: Mapping[int, Order] = MappingProxyType({}),
    waived: frozenset[int] = frozenset(),
) -> Budgets:
    """Walk the forward atoms backwards and return every value's budget.

    ``facts``: orders of the values under the present guess.  ``caps``: contraction -> how much below 0 the value that
    meets its weight must stay.  ``multipliers``: value -> exponent of a multiplier supposed to stand right behind it.
    ``waived``: values that ask nothing of others than themselves and of weights.  A gradient that leaves is one value
    times another, and how large they are is asked by the outputs: were both to make room for it, neither would settle.
    """
    return Walk(lowered, facts, free, alignment, caps, multipliers, waived).run()


__all__ = ["CONSTANTS", "DEMANDS", "Budgets", "Conflict", "Demand", "Walk", "budgets"]
