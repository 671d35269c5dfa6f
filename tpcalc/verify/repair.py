"""Root causes of what explodes: training is followed on a program that is mended wherever it breaks.

Values must stay O(1) where they enter a nonlinearity or a weight, leave as outputs, or join a residual stream; what
enters a norm may have any size, but an update must not swamp it.  The forward pass is interpreted in order; at the
first value that is too large, the walk goes back, inside the region since the last sound values, to what makes it so:
a weight's init, its update, or a product of two values (attention).  That is a cause.  It is mended by as much as it
is too large, and the pass goes on with a sound value, so that every weight is judged with sound inputs and nothing
downstream is blamed.  Then the next training step follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Optional

from tpcalc.algebra.order import ZERO, Order, max_order
from tpcalc.calculus.alignment import Alignment
from tpcalc.calculus.causes import INIT, LR, SITE, Fault, Search, TooLarge
from tpcalc.calculus.facts import Fact, WeightOrders, leaf_facts, weight_leaf
from tpcalc.calculus.laws import interpret
from tpcalc.calculus.limits import Limit
from tpcalc.calculus.limits import limits as all_limits
from tpcalc.dynamics.training import STEPS, update_order, view_of
from tpcalc.lower.lowered import Leaf, Lowered
from tpcalc.rules.structures import Atom
from tpcalc.verify.effective import Effective

#: Passes over one step at most; each mends all that it finds.
SWEEPS = 8


@dataclass
class Cause:
    """One root cause: a leaf's init or learning rate, or a site (an atom of two values).

    ``excess``: by how much its exponent is too large, summed over all that was mended.  ``value``: what breaks first,
    at training step ``step``; by this cause alone it has order ``order``; ``limit`` says why that breaks anything.
    ``scale``: at a site, the power of the code's own constants.
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


class Repairer:
    """Mutable while it runs; :func:`repair` returns what it found."""

    def __init__(
        self, lowered: Lowered, given: Mapping[str, Effective], reference: Mapping[int, Fact], alignment: Alignment
    ) -> None:
        self.lowered, self.alignment, self.given = lowered, alignment, given
        self.limits = limits(lowered, reference)
        self.A = {leaf.name: given[leaf.name].b for leaf in lowered.leaves}
        self.c = {leaf.name: given[leaf.weight.name].c if leaf.weight.trainable else None for leaf in lowered.leaves}
        self.C: dict[str, Optional[Order]] = {leaf.name: None for leaf in lowered.leaves}
        self.index = {leaf.value: i for i, leaf in enumerate(lowered.leaves)}
        self.shifts: dict[int, Order] = {}
        self.gradient_shifts: dict[int, Order] = {}
        self.causes: dict[tuple, Cause] = {}
        self.step = 0
        self.facts: dict[int, Fact] = {}

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
        self.facts[atom.out] = fact
        return fact

    def orders(self, leaf: Leaf) -> WeightOrders:
        return WeightOrders(self.A[leaf.name], self.C[leaf.name], self.given[leaf.name].random)

    def sweep(self) -> bool:
        """One forward pass, mending as it goes; whether anything was mended."""
        self.facts = leaf_facts(self.lowered, {leaf.name: self.orders(leaf) for leaf in self.lowered.leaves})
        mended = False
        for atom in self.lowered.atoms[: self.lowered.forward]:
            fact = self.interpret(atom, self.shifts)
            limit = self.limits.get(atom.out)
            if limit is None:
                continue
            allowed = max_order(fact.init, ZERO) if limit.norm else ZERO
            order = fact.change if limit.norm else max_order(fact.init, fact.trained)
            if order > allowed:
                search = Search(self.lowered, self.facts, self.alignment, self.limits)
                for fault in search.faults(TooLarge(atom.out, allowed, limit.norm)):
                    mended |= self.mend(fault, atom.out, allowed + fault.excess, limit)
                self.facts[atom.out] = fact._replace(
                    init=fact.init if limit.norm else min(fact.init, ZERO),
                    trained=min(fact.trained, allowed),
                    change=min(fact.change, allowed),
                )
        return mended

    def mend(self, fault: Fault, value: int, order: Order, limit: Limit) -> bool:
        """Take the excess of ``fault`` away, for which ``value`` has an ``order`` beyond its ``limit``."""
        leaf, excess = fault.leaf, fault.excess
        if leaf is None:
            site = fault.atom.out
            self.shifts[site] = self.shifts.get(site, ZERO) - excess
            gradient = self.lowered.program.grads.get(site)
            if gradient is not None:
                self.gradient_shifts[gradient] = self.shifts[site]
        else:
            if fault.quantity == INIT:
                _add(self.A, leaf.name, excess)
            else:
                _add(self.C, leaf.name, excess)
                _add(self.c, leaf.name, excess)
            self.facts[leaf.value] = weight_leaf(self.lowered, self.index[leaf.value], self.orders(leaf))
        if fault.key in self.causes:
            self.causes[fault.key].excess += excess
        else:
            self.causes[fault.key] = Cause(
                fault.quantity, leaf, fault.atom, excess, value, order, self.step, limit, fault.scale
            )
        return True


def _add(orders: dict[str, Optional[Order]], name: str, excess: Order) -> None:
    order = orders[name]
    assert order is not None  # what starts at zero, or never moves, is not too large
    orders[name] = order + excess


def repair(
    lowered: Lowered, given: Mapping[str, Effective], reference: Mapping[int, Fact], alignment: Alignment
) -> Repaired:
    """Follow training under ``given``, mending each cause of an explosion.

    ``reference``: facts that tell weights from values.
    """
    return Repairer(lowered, given, reference, alignment).run()


__all__ = ["INIT", "LR", "SITE", "Cause", "Limit", "Repaired", "limits", "repair"]
