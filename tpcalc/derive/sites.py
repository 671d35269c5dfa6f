"""Places whose excess no weight can absorb: each needs a multiplier in the forward pass, and says which."""

from __future__ import annotations

from collections.abc import Mapping

from tpcalc.algebra.order import ZERO, Order, max_order, order_text
from tpcalc.calculus.demands import Budgets
from tpcalc.calculus.facts import Fact
from tpcalc.derive.result import Site
from tpcalc.lower.lowered import Lowered
from tpcalc.rules.structures import Atom, operands


class Sites:
    """Collects the sites of one program, each once.  ``multipliers``: value -> exponent of what its site asks for."""

    def __init__(self, lowered: Lowered) -> None:
        self.lowered = lowered
        self.found: dict[tuple[int, str, str], Site] = {}
        self.multipliers: dict[int, Order] = {}

    def clear(self) -> None:
        self.found.clear()
        self.multipliers.clear()

    def add(self, atom: Atom, found: Order, needed: Order, why: str) -> None:
        node, program = self.lowered.node(atom), self.lowered.program
        factor = needed - found
        message = (
            f"{node.short_op} in {node.module or '(top)'} ({node.source or 'line unknown'}) gives order "
            f"{order_text(found)} where {order_text(needed)} is needed: multiply it by n^({order_text(factor)}) in the "
            f"forward pass; {why}"
        )
        self.multipliers[atom.out] = factor
        value = atom.out if atom.out in program.values else next(out for out in node.outputs if out is not None)
        grad = program.grads.get(value, dict(program.seeds).get(value))
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
                self.add(atom, budget - conflict.needed + conflict.allowed, budget, why)

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
                    self.add(atom, max_order(fact.trained, fact.init), demand.change, why)
