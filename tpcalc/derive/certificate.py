"""Certificates: each exponent is the smallest, shown by perturbation.

The binding use of a weight is evaluated again with a slightly smaller ``A`` or ``C``; the certificate holds when its
result then exceeds the budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tpcalc.algebra.order import MINUS_INFINITY, Order
from tpcalc.calculus.laws import LAWS
from tpcalc.derive.solve import Solution
from tpcalc.lower.lowered import Leaf
from tpcalc.program.ir import Weight
from tpcalc.rules.structures import Atom, operands

#: How much smaller the exponent is made.
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
        _certify(solution, leaf, use, read, exponent)
        for leaf, need in solution.needs_of(weight)
        if (use := need.demand.use) is not None and (read := _read(solution, leaf, use))
        for exponent in exponents
    )


def _read(solution: Solution, leaf: Leaf, use: Atom) -> tuple[int, ...]:
    """The operands of ``use`` that are the weight itself."""
    bit = 1 << solution.lowered.leaves.index(leaf)
    return tuple(x for x in operands(use.structure) if solution.facts[x].weight & bit)


def _certify(solution: Solution, leaf: Leaf, atom: Atom, read: tuple[int, ...], exponent: str) -> Certificate:
    s = atom.structure
    facts = dict(solution.facts)
    for x in read:
        fact = facts[x]
        init = fact.init + STEP if exponent == "A" else fact.init
        change = fact.change + STEP if exponent == "C" else fact.change
        facts[x] = fact._replace(init=init, change=change, trained=max(init, change))
    fact = LAWS[type(s)](s, facts, solution.alignment)
    demand = solution.budgets.of.get(atom.out)
    budget = demand.change if demand is not None else solution.needs[leaf.name].demand.change
    found = max(fact.init, fact.trained)
    if found is MINUS_INFINITY:
        budget = MINUS_INFINITY
    node = solution.lowered.node(atom)
    return Certificate(leaf.name, exponent, solution.lowered.name(atom.out), node.where, found, budget)
