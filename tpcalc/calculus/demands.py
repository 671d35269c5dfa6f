"""Budgets: the order that each value may have, walked from the outputs back to the weights.

The budget of a value is 0 where it enters a nonlinearity, a norm, a residual sum, another weight, or leaves as an output;
constants shift it (a value multiplied by ``n^p`` has ``p`` less).  A weight meets a :class:`Demand` at each of its uses; the
demand in turn fixes its orders ``A`` and ``C`` (:mod:`tpcalc.derive.solve`).

Where two values meet in a contraction or a product, one of them, the *absorber*, takes what the budget leaves; the other
keeps budget 0.  A value is *free* when scaling some weight upstream scales it, and *pinned* when a norm, a bounded
function or a constant fixes its order.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple, Optional

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order, max_order
from tpcalc.calculus.laws import Alignment, Fact, WeightOrders, interpret, leaf_facts, roles
from tpcalc.lower.lowered import Lowered
from tpcalc.rules.structures import (
    Atom,
    Bounded,
    Centre,
    Contract,
    Discrete,
    Exp,
    Gather,
    Guard,
    Known,
    LinearLike,
    Log,
    Normalise,
    Power,
    Product,
    Reduce,
    Scale,
    Slope,
    Softmax,
    Structure,
    Sum,
    View,
    operands,
)


class Demand(NamedTuple):
    """What one consumer allows a value: an order of at most ``init`` for its initial part and ``change`` for its change.

    ``tight``: the consumer is not invariant to the scale of the value, so less than the budget is a loss.
    ``origin`` is the atom where the budget of 0 stands (None: an output), ``use`` the atom at which a weight meets this
    demand, ``partner`` the value it meets there; ``excess`` tells how much of a value-value product's excess is passed on, and
    ``excess_at`` the atom of that product.  ``meets_weight``: only constants stand between the value and a weight, which makes
    up for them itself.
    """

    init: Order
    change: Order
    tight: bool
    law: str
    origin: Optional[Atom] = None
    use: Optional[Atom] = None
    partner: Optional[int] = None
    excess: Fraction = ZERO
    excess_at: Optional[Atom] = None
    meets_weight: bool = False

    def shifted(self, by: Order, **changes) -> "Demand":
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


class Freedom(NamedTuple):
    """How far each forward value follows the scale of weights, with its nominal orders.

    ``hops``: number of atoms to the nearest weight whose scale the value follows, None for a pinned value.
    ``shift``: order that the code's own constants give a free value when the weights around it keep theirs at 0.
    ``facts``: nominal facts, in which every free value has order 0 and pinned ones what follows from that.
    """

    hops: dict[int, Optional[int]]
    shift: dict[int, Order]
    facts: dict[int, Fact]


def freedom(lowered: Lowered, orders: Mapping[str, WeightOrders], alignment: Alignment) -> Freedom:
    """Which forward values are free; ``orders`` only tell which weights are random and which train."""
    facts = leaf_facts(lowered, orders)
    hops: dict[int, Optional[int]] = {vid: None for vid in facts}
    shift: dict[int, Order] = {}
    for leaf in lowered.leaves:
        hops[leaf.value] = 0
    for atom in lowered.atoms[: lowered.forward]:
        s = atom.structure
        fact = interpret(lowered, atom, facts, alignment)
        near, by = _follows(s, hops, shift, facts)
        if near is not None and fact.trained is not MINUS_INFINITY:
            hops[atom.out] = near + 1
            shift[atom.out] = by
            change = fact.change if fact.change is MINUS_INFINITY else ZERO
            fact = fact._replace(init=ZERO, trained=ZERO, change=change, deviation=None)
        else:
            hops[atom.out] = None
        facts[atom.out] = fact
    return Freedom(hops, shift, facts)


def _follows(s: Structure, hops, shift, facts: Mapping[int, Fact]) -> tuple[Optional[int], Order]:
    """Hops of an atom's result before this atom (None: pinned), and its shift."""
    if isinstance(s, (View, Centre, Scale, Guard, Gather, Reduce)) or (isinstance(s, Power) and s.k > 0):
        by = shift.get(s.x, ZERO)
        if isinstance(s, Scale):
            by = by + s.order
        elif isinstance(s, Power):
            by = by * s.k
        return hops[s.x], by
    if isinstance(s, Sum):
        counted = [x for x in s.xs if facts[x].trained is not MINUS_INFINITY]
        if counted and all(hops[x] is not None for x in counted):
            return min(hops[x] for x in counted), max_order(*(shift.get(x, ZERO) for x in counted))
        return None, ZERO
    if isinstance(s, (Product, Contract)):
        near = min((hop for hop in (hops[s.x], hops[s.y]) if hop is not None), default=None)
        if isinstance(s, Contract):
            return near, ZERO
        own = [facts[x].trained if hops[x] is None else shift.get(x, ZERO) for x in (s.x, s.y)]
        return near, own[0] + own[1]
    return None, ZERO


def absorbers(lowered: Lowered, start: int, hops: Mapping[int, Optional[int]]) -> set[int]:
    """The weight values that would absorb a smaller budget of the value ``start``."""
    reached = {start}
    for atom in reversed(lowered.atoms[: lowered.forward]):
        if atom.out in reached and hops.get(atom.out) is not None:
            s = atom.structure
            reached.update((_absorber(s, hops),) if isinstance(s, (Product, Contract)) else operands(s))
    return {leaf.value for leaf in lowered.leaves} & reached


def _absorber(s: "Product | Contract", hops: Mapping[int, Optional[int]]) -> int:
    """The operand that takes the excess: the only free one; of two, the weight itself, else the first (``q`` of ``q k``)."""
    x, y = hops[s.x], hops[s.y]
    if y is None or x is None:
        return s.x if y is None else s.y
    if isinstance(s, Product):
        return s.y if y < x else s.x
    return s.y if (y <= 2 < x) else s.x


class _Walk:
    """One reverse pass.  Mutable while it runs, discarded afterwards."""

    def __init__(
        self,
        lowered: Lowered,
        facts: Mapping[int, Fact],
        free: Freedom,
        alignment: Alignment,
        caps: Mapping[int, Fraction],
    ) -> None:
        self.lowered = lowered
        self.facts = facts
        self.hops, self.shift, _ = free
        self.alignment = alignment
        self.caps = caps
        self.demands: dict[int, list[Demand]] = {}
        self.result = Budgets({}, {}, [])

    def run(self) -> Budgets:
        program = self.lowered.program
        outputs = [program.loss] if program.loss is not None else [vid for _, vid in program.outputs]
        for vid in outputs:
            self.ask(vid, Demand(ZERO, ZERO, True, "leaves as an output"))
        live = set(outputs)
        for atom in reversed(self.lowered.atoms[: self.lowered.forward]):
            if atom.out not in live:
                continue
            live.update(operands(atom.structure))
            demands = self.demands.pop(atom.out, None)
            if demands is not None:
                if self.is_weight(atom.out):
                    for demand in demands:
                        self.result.of.setdefault(atom.out, demand)
                        self.pass_on(atom, demand)
                    continue
                demand = self.settle(atom.out, demands)
            else:
                demand = None
            if demand is not None:
                demand = self.before_constants(atom, demand)
                self.result.of[atom.out] = demand
            self.pass_on(atom, demand)
        for leaf in self.lowered.leaves:
            self.result.weights[leaf.value] = self.demands.pop(leaf.value, [])
        return self.result

    def is_weight(self, vid: int) -> bool:
        fact = self.facts[vid]
        return fact.weight != 0 and not fact.data

    def ask(self, vid: int, demand: Demand, use: Optional[Atom] = None) -> None:
        """Record a demand on ``vid``; a weight remembers the atom ``use`` at which it meets it."""
        if demand.use is None and self.is_weight(vid):
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

    def pass_on(self, atom: Atom, demand: Optional[Demand]) -> None:
        """Turn the demand on an atom's result into demands on its operands."""
        s = atom.structure
        if isinstance(s, (Known, Discrete, Slope)):
            return
        if isinstance(s, (LinearLike, Bounded, Exp, Log, Softmax)):
            self.ask(s.x, Demand(ZERO, ZERO, True, f"enters a {_nonlinearity(s)}", atom))
            return
        if isinstance(s, Normalise):
            # a normalised weight: its size is free (0), its update counts relative to that
            relative = min(demand.change - s.shift, ZERO) if demand is not None and self.is_weight(atom.out) else ZERO
            use = demand.use if relative < ZERO else None
            self.ask(s.x, Demand(ZERO, relative, False, "enters a norm", atom), use)
            return
        if isinstance(s, Contract) and (self.weight_operands(s) != (False, False)):
            self.weight_use(atom, s, demand)
            return
        if demand is None:
            return
        if isinstance(s, (View, Centre, Guard)):
            self.ask(s.x, demand)
        elif isinstance(s, Gather):
            self.ask(s.x, demand, atom)
        elif isinstance(s, Scale):
            if s.order is not MINUS_INFINITY:
                self.ask(s.x, demand.shifted(s.order))
        elif isinstance(s, Sum):
            demand = self.beside_pinned(s, demand)
            for x in s.xs:
                self.ask(x, demand, atom)
        elif isinstance(s, Reduce):
            self.ask(s.x, self.capped(demand.shifted(s.K), "is summed over a growing axis" if s.K else demand.law))
        elif isinstance(s, Power):
            if s.k > 0:
                self.ask(s.x, self.capped(demand._replace(init=demand.init / s.k, change=demand.change / s.k)))
            else:
                self.ask(s.x, Demand(ZERO, ZERO, False, "is divided by", atom))
        else:
            self.share(atom, s, demand)

    def before_constants(self, atom: Atom, demand: Demand) -> Demand:
        """A constant such as the 1/n of a readout multiplier leaves what it multiplies at budget 0: the weight after it makes
        up for it."""
        s = atom.structure
        if not demand.meets_weight or isinstance(s, (View, Centre, Guard, Gather, Scale, Reduce)):
            return demand
        if isinstance(s, Contract) and self.weight_operands(s) == (False, False):
            # the constant may be there for the sum (dot products divided by n): what that adds is left to it
            K = self.alignment.values(s.K)
            return demand._replace(init=min(demand.init, K), change=min(demand.change, K), meets_weight=False)
        return self.capped(demand)._replace(meets_weight=False)

    def beside_pinned(self, s: Sum, demand: Demand) -> Demand:
        """Before a norm or a weight, what joins a value that can't grow is not made larger than that."""
        pinned = max_order(*(self.facts[x].trained for x in s.xs if self.hops[x] is None and self.facts[x].data))
        if demand.tight or pinned is MINUS_INFINITY or pinned >= demand.change:
            return demand
        return demand._replace(init=min(demand.init, pinned), change=pinned)

    @staticmethod
    def capped(demand: Demand, law: str = "") -> Demand:
        """A value that enters a nonlinearity or a reduction has no budget above 0."""
        return demand._replace(init=min(demand.init, ZERO), change=min(demand.change, ZERO), law=law or demand.law)

    def weight_operands(self, s: Contract) -> tuple[bool, bool]:
        return roles(s, self.facts[s.x], self.facts[s.y])

    def weight_use(self, atom: Atom, s: Contract, demand: Optional[Demand]) -> None:
        """Laws 1 to 3, solved for the weight: A and C at this use.  What it meets keeps budget 0, less a cap."""
        x_weight, y_weight = self.weight_operands(s)
        for is_weight, w, v, rest in ((x_weight, s.x, s.y, s.rest_x), (y_weight, s.y, s.x, s.rest_y)):
            if not is_weight:
                continue
            weight, value = self.facts[w], self.facts[v]
            if demand is not None and value.trained is not MINUS_INFINITY:
                on_change = self.alignment.initial_on_change(s.K, rest)
                spread = on_change if weight.weight & value.depends else s.K / 2
                init = max_order(spread + value.init, on_change + value.change)
                change = self.alignment.weight_change(s.K) + value.trained
                self.ask(
                    w, demand._replace(init=demand.init - init, change=demand.change - change, use=atom, partner=v)
                )
        if x_weight and y_weight:
            return
        value = s.y if x_weight else s.x
        cap = self.caps.get(atom.out, ZERO)
        law = "meets a weight that a smaller use has already fixed" if cap else "enters a weight"
        self.ask(
            value, Demand(-cap, -cap, False, law, atom, excess=cap, excess_at=atom if cap else None, meets_weight=True)
        )

    def share(self, atom: Atom, s: "Product | Contract", demand: Demand) -> None:
        """Two values meet: the absorber takes what the budget leaves, the other keeps budget 0."""
        K = self.alignment.values(s.K) if isinstance(s, Contract) else ZERO
        x, y = self.facts[s.x].trained, self.facts[s.y].trained
        if self.hops[s.x] is None and self.hops[s.y] is None:
            # neither follows a weight as a whole, but a part may (the gain of 1 + w)
            for vid, met in ((s.x, y), (s.y, x)):
                if met is not MINUS_INFINITY:
                    self.ask(vid, demand.shifted(K + met, tight=False), atom)
            return
        absorber = _absorber(s, self.hops)
        other, met = (s.y, y) if absorber == s.x else (s.x, x)
        if met is MINUS_INFINITY:
            return
        if self.hops[other] is None and self.is_weight(other):
            # a normalised direction under a gain: it can't be smaller, and its change is a change of the product
            self.ask(other, demand.shifted(self.facts[absorber].trained, tight=False))
        elif self.hops[other] is None:
            self.ask(other, Demand(max(met, ZERO), max(met, ZERO), False, "multiplies another value", atom))
        else:
            # a free partner keeps the order that the code's constants give it
            own = self.shift.get(other, ZERO)
            met = min(met, own)
            # a product of weights is updated through both: each alone must keep the update of the product within its budget
            change = min(own, demand.change - self.facts[absorber].trained) if self.is_weight(atom.out) else own
            self.ask(other, Demand(own, change, True, "multiplies another value", atom), atom)
        passed = demand.shifted(K + met)
        if K > 0 and passed.change < 0 and passed.change < demand.change:
            passed = passed._replace(excess=-passed.change, excess_at=atom)
        if self.is_weight(absorber):
            passed = passed._replace(use=atom, partner=other)
        self.ask(absorber, passed)


def _nonlinearity(s) -> str:
    if isinstance(s, Softmax):
        return "log-softmax" if s.log else "softmax"
    return {LinearLike: "nonlinearity", Bounded: "bounded nonlinearity", Exp: "exponential", Log: "logarithm"}[type(s)]


def budgets(
    lowered: Lowered,
    facts: Mapping[int, Fact],
    free: Freedom,
    alignment: Alignment,
    caps: Mapping[int, Fraction],
) -> Budgets:
    """Walk the forward atoms backwards and return every value's budget.

    ``facts``: orders of the values under the present guess.  ``caps``: contraction -> how much below 0 the value that
    meets its weight must stay.
    """
    return _Walk(lowered, facts, free, alignment, caps).run()
