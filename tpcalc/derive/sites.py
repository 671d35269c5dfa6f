"""Places whose excess no weight can absorb: each needs a multiplier in the forward pass, and says which."""

from __future__ import annotations

from collections.abc import Mapping

from tpcalc.algebra.order import ZERO, Order, max_order, order_text
from tpcalc.algebra.text import power_text
from tpcalc.calculus.alignment import Alignment
from tpcalc.calculus.causes import SITE, Fault, Search, TooLarge
from tpcalc.calculus.demands import Budgets
from tpcalc.calculus.facts import Fact, WeightOrders
from tpcalc.calculus.laws import propagate
from tpcalc.calculus.limits import NORM, STREAM, WEIGHT, base, limits
from tpcalc.derive.depth import depth_power
from tpcalc.derive.result import Site
from tpcalc.lower.lowered import Lowered
from tpcalc.rules.structures import Atom, Contract, operands


class FixedSizes:
    """Weights whose size is that of a function or a constant, and makes what is too large.

    ``exp(W)`` or ``W + 0.1`` sums n features up to order n, and no init makes that less.  The next weight could, but
    features that grow are what the width is not to change: each such use is a site, and everything else is derived as
    if its multiplier were written.  ``found``: use, order found, needed, and why; ``multipliers`` as of :class:`Sites`.
    """

    def __init__(self, lowered: Lowered, alignment: Alignment) -> None:
        self.lowered, self.alignment = lowered, alignment
        self.found: list[tuple[Atom, Order, Order, str]] = []
        self.multipliers: dict[int, Order] = {}

    def find(self, orders: Mapping[str, WeightOrders], facts: Mapping[int, Fact]) -> bool:
        """Collect the uses that are not yet known, one after the other; True where there was any.  ``facts``: those of
        the ``orders``."""
        known = len(self.found)
        while self.first(facts):
            facts = propagate(self.lowered, orders, self.alignment, backward=False, multipliers=self.multipliers)
        return len(self.found) > known

    def first(self, facts: Mapping[int, Fact]) -> bool:
        search = Search(self.lowered, facts, self.alignment, ())
        for limit in limits(self.lowered, facts, but=(NORM, STREAM)):
            value = limit.value
            if limit.why == WEIGHT and limit.atom is not None:  # behind the code's constants: these may be there for it
                value = next(x for x in operands(limit.atom.structure) if base(self.lowered, x) == value)
            if facts[value].init <= ZERO:
                continue
            faults = [f for f in search.faults(TooLarge(value, ZERO, False)) if self.new(f, facts)]
            if faults:
                fault = min(faults, key=lambda f: (f.atom.node, f.atom.out))
                size = facts[fault.atom.out].init
                why = f"no init changes the size of the weight that it meets, and its result {limit.why}"
                self.found.append((fault.atom, size, size - fault.excess, why))
                self.multipliers[fault.atom.out] = -fault.excess
                return True
        return False

    def new(self, fault: Fault, facts: Mapping[int, Fact]) -> bool:
        """Whether it is the use of such a weight, and has no multiplier yet."""
        s = fault.atom.structure
        used = isinstance(s, Contract) and any(facts[x].is_weight for x in operands(s))
        return fault.quantity == SITE and used and fault.atom.out not in self.multipliers


class Sites:
    """Collects the sites of one program, each once.  ``multipliers``: value -> exponent of what its site asks for.

    ``deep``: those that a sum over the depth asks for.
    """

    def __init__(self, lowered: Lowered) -> None:
        self.lowered = lowered
        self.found: dict[tuple[int, str, str], Site] = {}
        self.multipliers: dict[int, Order] = {}
        self.deep: set[int] = set()

    def clear(self) -> None:
        self.found.clear()
        self.multipliers.clear()
        self.deep.clear()

    def add(self, atom: Atom, found: Order, needed: Order, why: str, depth: Order = ZERO) -> None:
        """``depth``: what a sum over the depth asks for, where that is why."""
        node, program = self.lowered.node(atom), self.lowered.program
        factor = needed - found
        place = f"{node.short_op} in {node.module or '(top)'} ({node.source or 'line unknown'})"
        orders = order_text(found), order_text(needed), f"n^({order_text(factor)})"
        if program.compass is not None:
            orders = power_text(found), power_text(needed), power_text(factor)
        message = (
            f"{place} gives order {orders[0]} where {orders[1]} is needed: multiply it by {orders[2]} in the forward "
            f"pass; {why}"
        )
        power = depth_power(self.lowered, -factor) if depth else None
        if power is not None:
            message = (
                f"{place} ends a branch that every period adds, and none of its weights can absorb {power}: multiply "
                f"it by {power} in the forward pass"
            )
        if depth:
            self.deep.add(atom.out)
        self.multipliers[atom.out] = factor
        value = atom.out if atom.out in program.values else next(out for out in node.outputs if out is not None)
        grad = self.lowered.grads.get(value, program.grads.get(value, dict(program.seeds).get(value)))
        if grad is not None:
            self.multipliers[grad] = factor
        key = (node.index, str(found), str(needed))
        self.found.setdefault(key, Site(node.op, node.module, node.source, found, needed, message))

    def add_conflicts(self, walked: Budgets) -> None:
        """Products that would need a value smaller than another consumer of it can bear."""
        for conflict in walked.conflicts:
            atom = conflict.demand.excess_at or conflict.demand.origin
            if atom is not None:
                budget = walked.of[atom.out].change if atom.out in walked.of else ZERO
                why = "the value upstream also enters a nonlinearity that would starve"
                above = conflict.allowed - conflict.needed
                self.add(atom, budget + (above * 2 if conflict.demand.squared else above), budget, why)

    def add_violations(self, walked: Budgets, facts: Mapping[int, Fact]) -> None:
        """Values still above a tight budget: the first of each chain is the site."""
        above: set[int] = set()
        settled = {conflict.demand.excess_at for conflict in walked.conflicts}
        for atom in self.lowered.atoms[: self.lowered.forward]:
            demand, fact = walked.of.get(atom.out), facts[atom.out]
            # of a weight, or of rows picked out of one, init and update are judged apart
            if demand is None or not demand.tight or fact.is_weight or (fact.weight and fact.gathered):
                continue
            if atom in settled:
                above.add(atom.out)
                continue
            constant = not fact.data and fact.depends == 0
            if constant or (demand.excess_at is not None and demand.excess_at in settled):
                continue
            if fact.trained > demand.change or fact.init > demand.init:
                above.add(atom.out)
                if not any(x in above for x in operands(atom.structure)):
                    why = f"no weight upstream can absorb it, and its result {demand.law}"
                    self.add(atom, max_order(fact.trained, fact.init), demand.change, why, demand.depth)
