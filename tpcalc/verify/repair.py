"""Root causes of what explodes: training is followed on a program that is mended wherever it breaks.

Values must stay O(1) where they enter a nonlinearity or a weight, leave as outputs, or join a residual stream; what
enters a norm may have any size, but an update must not swamp it.  The forward pass is interpreted in order; at the
first value that is too large, the walk goes back, inside the region since the last sound values, to what makes it so:
a weight's init, its update, or a product of two values (attention).  That is a cause.  It is mended by as much as it
is too large, what follows from it is read anew, and the pass goes on with sound values, so that every weight is judged
with sound inputs, nothing downstream is blamed, and what has been mended is not mended again.  Then the next training
step follows.

A weight with two uses of different needs (an encoder that is also the decoder) is mended no further than the neediest
bears; beyond that, it is the other use that needs a multiplier.
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Optional

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order, max_order
from tpcalc.calculus.alignment import Alignment
from tpcalc.calculus.causes import INIT, LR, SITE, Back, Fault, Search, TooLarge
from tpcalc.calculus.facts import Fact, WeightOrders, leaf_facts, weight_leaf
from tpcalc.calculus.laws import interpret
from tpcalc.calculus.limits import Limit, passes
from tpcalc.calculus.limits import limits as all_limits
from tpcalc.derive.solve import Need
from tpcalc.dynamics.training import STEPS, update_order, view_of
from tpcalc.lower.lowered import Leaf, Lowered
from tpcalc.program.queries import first_met
from tpcalc.rules.structures import Atom, Contract
from tpcalc.verify.effective import Effective

#: Passes over one step at most; each mends all that it finds.
SWEEPS = 8
#: Searches at one value at most: a cause may hide another one.
SEARCHES = 4


@dataclass
class Cause:
    """One root cause: a leaf's init or learning rate, or a site (an atom of two values).

    ``excess``: by how much its exponent is too large, summed over all that was mended.  ``value``: what breaks first,
    at training step ``step``; by this cause alone it has order ``order``; ``limit`` says why that breaks anything.
    ``scale``: at a site, the power of the code's own constants.  A site of a ``leaf`` is one use of a weight that is
    right for another one.
    """

    quantity: str
    leaf: Optional[Leaf]
    atom: Atom
    excess: Order
    value: int
    order: Order
    step: int
    limit: Limit
    scale: Order = ZERO


@dataclass
class Repaired:
    """The program as mended: causes, and the orders and facts that remain.

    ``C``: leaf name -> effective update order.
    """

    lowered: Lowered
    alignment: Alignment
    causes: list[Cause]
    A: dict[str, Optional[Order]]
    c: dict[str, Optional[Order]]
    C: dict[str, Optional[Order]]
    facts: Mapping[int, Fact] = field(default_factory=dict)


def limits(lowered: Lowered, facts: Mapping[int, Fact]) -> dict[int, Limit]:
    """The values that must stay O(1), with the first reason; a norm's (any size) counts only without another one.

    ``facts`` only tell weights from values.
    """
    found: dict[int, Limit] = {}
    for limit in all_limits(lowered, facts):
        known = found.get(limit.value)
        if known is None or (known.norm and not limit.norm):
            found[limit.value] = limit
    return found


class Mended(Search):
    """Where values are mended by multipliers, ``shifts``: an op is asked for what its result is before its own."""

    def __init__(
        self,
        lowered: Lowered,
        facts: Mapping[int, Fact],
        alignment: Alignment,
        limited: Container[int],
        shifts: Mapping[int, Order],
    ) -> None:
        super().__init__(lowered, facts, alignment, limited)
        self.shifts = shifts

    def step(self, large: TooLarge) -> Back:
        return super().step(large._replace(allowed=large.allowed - self.by(large.value)))

    def excess(self, large: TooLarge) -> Order:
        return super().excess(large) - self.by(large.value)

    def by(self, vid: int) -> Order:
        """The multiplier behind a value of the forward pass."""
        return ZERO if self.facts[vid].is_weight else self.shifts.get(vid, ZERO)


class Repairer:
    """Mutable while it runs; :func:`repair` returns what it found."""

    def __init__(
        self,
        lowered: Lowered,
        given: Mapping[str, Effective],
        needs: Mapping[str, Need],
        reference: Mapping[int, Fact],
        alignment: Alignment,
    ) -> None:
        self.lowered, self.alignment, self.given = lowered, alignment, given
        self.needs, self.reference = needs, reference
        self.limits = limits(lowered, reference)
        self.norms = {limit.value: limit for limit in all_limits(lowered, reference) if limit.norm}
        self.A = {leaf.name: given[leaf.name].b for leaf in lowered.leaves}
        self.c = {leaf.name: given[leaf.weight.name].c if leaf.weight.trainable else None for leaf in lowered.leaves}
        self.C: dict[str, Optional[Order]] = {leaf.name: None for leaf in lowered.leaves}
        self.index = {leaf.value: i for i, leaf in enumerate(lowered.leaves)}
        self.shifts: dict[int, Order] = {}
        self.gradient_shifts: dict[int, Order] = {}
        self.held: dict[int, tuple[Order, Order, Order]] = {}
        self.causes: dict[tuple, Cause] = {}
        self.step = 0
        self.facts: dict[int, Fact] = {}

    @cached_property
    def place(self) -> dict[int, int]:
        """Value id -> the place of the atom that makes it."""
        return {atom.out: place for place, atom in enumerate(self.lowered.atoms)}

    def run(self) -> Repaired:
        for self.step in range(STEPS + 1):
            self.settle()
            updated = {leaf.name: self.updated(leaf) for leaf in self.lowered.leaves}
            if updated == self.C:
                break
            self.C = updated
        return Repaired(self.lowered, self.alignment, list(self.causes.values()), self.A, self.c, self.C, self.facts)

    def updated(self, leaf: Leaf) -> Optional[Order]:
        own = self.given[leaf.name]
        before = self.C[leaf.name]
        if own.law is None or self.c[leaf.name] is None:
            return before
        given = replace(own.given, b=self.A[leaf.name], c=self.c[leaf.name])
        after = update_order(given, own.law, view_of(self.lowered, leaf, given, self.facts))
        return before if after is None else after if before is None else min(before, after)

    def settle(self) -> None:
        for _ in range(SWEEPS):
            if not self.sweep():
                break
        for atom in self.lowered.atoms[self.lowered.forward :]:
            self.interpret(atom, self.gradient_shifts)

    def interpret(self, atom: Atom, shifts: Mapping[int, Order]) -> Fact:
        fact = interpret(self.lowered, atom, self.facts, self.alignment)
        by = shifts.get(atom.out)
        if by is not None:
            fact = fact.shifted(by)
        held = self.held.get(atom.out)
        if held is not None:
            init, trained, change = held
            fact = fact._replace(
                init=min(fact.init, init), trained=min(fact.trained, trained), change=min(fact.change, change)
            )
        self.facts[atom.out] = fact
        return fact

    def orders(self, leaf: Leaf) -> WeightOrders:
        return WeightOrders(self.A[leaf.name], self.C[leaf.name], self.given[leaf.name].random)

    def sweep(self) -> bool:
        """One forward pass, mending as it goes; whether anything was mended."""
        self.facts = leaf_facts(self.lowered, {leaf.name: self.orders(leaf) for leaf in self.lowered.leaves})
        for site, by in self.gradient_shifts.items():
            if site in self.facts:
                self.facts[site] = self.facts[site].shifted(by)
        self.held.clear()
        mended = False
        for atom in self.lowered.atoms[: self.lowered.forward]:
            self.interpret(atom, self.shifts)
            limit, norm = self.limits.get(atom.out), self.norms.get(atom.out)
            if limit is not None and not limit.norm:
                mended |= self.keep(atom, limit)
            if norm is not None:
                mended |= self.keep(atom, norm)
        return mended

    def allowed(self, vid: int, limit: Limit) -> Order:
        """What a value may be; before a norm, its change: no more than its size, but for what the maximal one has."""
        init, reference = self.facts[vid].init, self.reference[vid]
        if not limit.norm or init is MINUS_INFINITY:
            return ZERO
        if reference.init is MINUS_INFINITY:
            return max_order(init, ZERO)
        return init + max_order(reference.change - reference.init, ZERO)

    def keep(self, atom: Atom, limit: Limit) -> bool:
        """Mend what makes a value exceed its limit, one cause after the other; whether there was any."""
        mended = False
        for _ in range(SEARCHES):
            fact, allowed = self.facts[atom.out], self.allowed(atom.out, limit)
            if (fact.change if limit.norm else max_order(fact.init, fact.trained)) <= allowed:
                return mended
            search = Mended(self.lowered, self.facts, self.alignment, self.limits, self.shifts)
            faults = search.faults(TooLarge(atom.out, allowed, limit.norm))
            if not faults:
                break
            changed = [x for fault in faults for x in self.mend(fault, atom.out, allowed + fault.excess, limit)]
            mended = True
            self.refresh(changed, self.place[atom.out])
        fact, allowed = self.facts[atom.out], self.allowed(atom.out, limit)
        held = min(fact.init, ZERO), min(fact.trained, allowed), min(fact.change, allowed)
        if limit.norm:
            held = fact.init, fact.trained, held[2]
        if held != (fact.init, fact.trained, fact.change):
            self.held[atom.out] = held
            self.facts[atom.out] = fact._replace(init=held[0], trained=held[1], change=held[2])
        return mended

    def refresh(self, changed: Iterable[int], last: int) -> None:
        """Read anew what follows from values that have ``changed``, up to the atom at place ``last``."""
        atoms, place, uses = self.lowered.atoms, self.place, self.lowered.forward_uses
        queue: list[int] = []
        seen: set[int] = set()

        def later(positions: Iterable[int]) -> None:
            for position in positions:
                if position <= last and position not in seen:
                    seen.add(position)
                    heapq.heappush(queue, position)

        for vid in changed:
            later((place[vid],) if vid in place else (place[use.out] for use in uses.get(vid, ())))
        while queue:
            atom = atoms[heapq.heappop(queue)]
            before = self.facts[atom.out]
            if self.interpret(atom, self.shifts) != before:
                later(place[use.out] for use in uses.get(atom.out, ()))

    def mend(self, fault: Fault, value: int, order: Order, limit: Limit) -> list[int]:
        """Take away the excess of ``fault``, which gives ``value`` an ``order`` beyond its ``limit``; what changed."""
        leaf, excess = fault.leaf, fault.excess
        if leaf is None:
            self.shift(fault.atom, excess)
            self.blame(fault, excess, value, order, limit)
            return [fault.atom.out]
        changed = []
        of_use = self.beyond_other_use(fault, leaf)
        if of_use > ZERO:
            self.shift(fault.atom, of_use)
            self.blame(fault._replace(quantity=SITE), of_use, value, order, limit)
            changed.append(fault.atom.out)
            excess = excess - of_use
        if excess > ZERO:
            if fault.quantity == INIT:
                _add(self.A, leaf.name, excess)
            else:
                _add(self.C, leaf.name, excess)
                _add(self.c, leaf.name, excess)
            self.facts[leaf.value] = weight_leaf(self.lowered, self.index[leaf.value], self.orders(leaf))
            self.blame(fault, excess, value, order, limit)
            changed.append(leaf.value)
        return changed

    def shift(self, atom: Atom, excess: Order) -> None:
        """Put a multiplier behind what an atom makes, which the gradient passes too."""
        site, program = atom.out, self.lowered.program
        self.shifts[site] = self.shifts.get(site, ZERO) - excess
        value = (
            site if site in program.values else next(out for out in self.lowered.node(atom).outputs if out is not None)
        )
        gradient = program.grads.get(value, dict(program.seeds).get(value))
        if gradient is not None:
            self.gradient_shifts[gradient] = self.shifts[site]

    def blame(self, fault: Fault, excess: Order, value: int, order: Order, limit: Limit) -> None:
        known = self.causes.get(key := (*fault.key, fault.atom.out if fault.quantity == SITE else None))
        if known is not None:
            known.excess += excess
        else:
            self.causes[key] = Cause(
                fault.quantity, fault.leaf, fault.atom, excess, value, order, self.step, limit, fault.scale
            )

    def beyond_other_use(self, fault: Fault, leaf: Leaf) -> Order:
        """What of a fault a weight can't make up for, because another use of it needs it as large as that."""
        need = self.needs.get(leaf.name)
        use = None if need is None else need.demand.use
        if need is None or use is None or not self.apart(leaf, use, fault.atom):
            return ZERO
        has = self.A[leaf.name] if fault.quantity == INIT else self.C[leaf.name]
        bears = need.A if fault.quantity == INIT else need.C
        return ZERO if has is None else min(max_order(has + fault.excess - bears, ZERO), fault.excess)

    def apart(self, leaf: Leaf, use: Atom, other: Atom) -> bool:
        """Whether a weight has these two uses, and each may ask something else of it: steps of a recurrence do not."""
        s, t = use.structure, other.structure
        alike = s.K == t.K if isinstance(s, Contract) and isinstance(t, Contract) else type(s) is type(t)
        met = {out for _, out in first_met(self.lowered.flow, leaf.value, passes(self.lowered))}
        return not alike and {use.out, other.out} <= met


def _add(orders: dict[str, Optional[Order]], name: str, excess: Order) -> None:
    order = orders[name]
    assert order is not None  # what starts at zero, or never moves, is not too large
    orders[name] = order + excess


def repair(
    lowered: Lowered,
    given: Mapping[str, Effective],
    needs: Mapping[str, Need],
    reference: Mapping[int, Fact],
    alignment: Alignment,
) -> Repaired:
    """Follow training under ``given``, mending each cause of an explosion.

    ``needs``, ``reference``: what each leaf needs in the maximal parametrization, and the facts of that.
    """
    return Repairer(lowered, given, needs, reference, alignment).run()


__all__ = ["INIT", "LR", "SITE", "Cause", "Limit", "Repaired", "limits", "repair"]
