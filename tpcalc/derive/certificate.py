"""Certificates: each exponent is the smallest, shown by perturbation.

The binding use of a weight is evaluated again with a slightly smaller ``A`` or ``C``; the certificate holds when its
result then exceeds the budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush

from tpcalc.algebra.form import Compass
from tpcalc.algebra.order import MINUS_INFINITY, Order
from tpcalc.calculus.facts import Fact
from tpcalc.calculus.laws import interpret
from tpcalc.derive.solve import Solution
from tpcalc.lower.lowered import Leaf
from tpcalc.program.ir import Weight
from tpcalc.rules.structures import Atom, operands

#: How much smaller the exponent is made; of several scales, the power of a size.
STEP = Fraction(1, 8)


@dataclass(frozen=True)
class Certificate:
    """``exponent`` (``A`` or ``C``) of ``weight`` is binding at the value ``value``.

    With ``exponent - 1/8`` that value has order ``found``, above its budget ``budget``.  ``holds`` is the outcome.
    """

    weight: str
    exponent: str
    value: str
    where: str
    found: Order
    budget: Order

    @property
    def holds(self) -> bool:
        return self.found > self.budget


def certify(solution: Solution, weight: Weight) -> tuple[Certificate, ...]:
    """Certificates of A and C of one weight (of each block of a packed one).

    Empty for a weight that no output depends on.  A block whose binding use does not read it as it is, such as a weight
    under a norm of its own, has no size to certify.
    """
    exponents = ("A", "C") if weight.trainable else ("A",)
    return tuple(
        _certify(solution, leaf, use, exponent)
        for leaf, need in solution.needs_of(weight)
        if (use := need.demand.use) is not None and _has_size(solution, leaf, use)
        for exponent in exponents
    )


def _has_size(solution: Solution, leaf: Leaf, use: Atom) -> bool:
    """Whether what ``use`` reads of a weight is larger for a larger weight."""
    facts = _smaller(solution, leaf, "A")
    return any(facts[x].init > solution.facts[x].init for x in operands(use.structure))


def _smaller(solution: Solution, leaf: Leaf, exponent: str) -> dict[int, Fact]:
    """Facts with a smaller exponent of a weight, as far as they are of what is made of it."""
    facts, lowered = dict(solution.facts), solution.lowered
    fact, compass = facts[leaf.value], lowered.program.compass
    step = Order(STEP) if compass is None else compass.unit(_size(compass)) * STEP
    init = fact.init + step if exponent == "A" else fact.init
    change = fact.change + step if exponent == "C" else fact.change
    facts[leaf.value] = fact._replace(init=init, change=change, trained=max(init, change))
    reached = {leaf.value}
    waiting = [lowered.turn[atom.out] for atom in lowered.forward_uses.get(leaf.value, ())]  # sorted: a heap
    while waiting:
        atom = lowered.atoms[heappop(waiting)]
        if facts[atom.out].weight and atom.out not in reached:
            reached.add(atom.out)
            facts[atom.out] = interpret(lowered, atom, facts, solution.alignment)
            for use in lowered.forward_uses.get(atom.out, ()):
                heappush(waiting, lowered.turn[use.out])
    return facts


def _size(compass: Compass) -> int:
    """The place of a scale that is no depth: its powers outweigh those of depths, by which some weights are slowed."""
    return next(index for index, scale in enumerate(compass.scales) if not scale.depth)


def _certify(solution: Solution, leaf: Leaf, atom: Atom, exponent: str) -> Certificate:
    facts = _smaller(solution, leaf, exponent)
    fact = interpret(solution.lowered, atom, facts, solution.alignment)
    demand = solution.budgets.of.get(atom.out)
    budget = demand.change if demand is not None else solution.needs[leaf.name].demand.change
    found = max(fact.init, fact.trained)
    if found is MINUS_INFINITY:
        budget = MINUS_INFINITY
    node = solution.lowered.node(atom)
    return Certificate(leaf.name, exponent, solution.lowered.name(atom.out), node.where, found, budget)
