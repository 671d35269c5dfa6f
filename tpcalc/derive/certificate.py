"""Certificates: each exponent is the smallest, shown by perturbation.

The binding use of a weight is evaluated again with a slightly smaller ``A`` or ``C``; the certificate holds when its result
then exceeds the budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tpcalc.algebra.order import MINUS_INFINITY
from tpcalc.calculus.laws import LAWS
from tpcalc.derive.solve import Need, Solution
from tpcalc.lower.lowered import Leaf
from tpcalc.program.ir import Weight
from tpcalc.rules.structures import operands

#: How much smaller the exponent is made.
STEP = Fraction(1, 8)


@dataclass(frozen=True)
class Certificate:
    """``exponent`` (``A`` or ``C``) of ``weight`` is binding at the value ``value``: with ``exponent - 1/8`` that value has
    order ``found``, above its budget ``budget``.  ``holds`` is the outcome."""

    weight: str
    exponent: str
    value: str
    where: str
    found: object
    budget: object

    @property
    def holds(self) -> bool:
        return self.found > self.budget  # type: ignore[operator]


def certify(solution: Solution, weight: Weight) -> tuple[Certificate, ...]:
    """Certificates of A and C of one weight (of each block of a packed one); empty for a weight that no output depends on or that no op reads as it is."""
    exponents = ("A", "C") if weight.trainable else ("A",)
    return tuple(
        _certify(solution, leaf, need, exponent)
        for leaf, need in solution.needs_of(weight)
        if _meets(solution, leaf, need)
        for exponent in exponents
    )


def _bit(solution: Solution, leaf: Leaf) -> int:
    return 1 << solution.lowered.leaves.index(leaf)


def _meets(solution: Solution, leaf: Leaf, need: Need) -> bool:
    """Whether the binding use reads the weight itself: a weight under a norm of its own has no size to certify."""
    use = need.demand.use
    bit = _bit(solution, leaf)
    return use is not None and any(solution.facts[x].weight & bit for x in operands(use.structure))


def _certify(solution: Solution, leaf: Leaf, need: Need, exponent: str) -> Certificate:
    atom = need.demand.use
    s = atom.structure
    bit = _bit(solution, leaf)
    facts = dict(solution.facts)
    for x in operands(s):
        fact = facts[x]
        if fact.weight & bit:
            init = fact.init + STEP if exponent == "A" else fact.init
            change = fact.change + STEP if exponent == "C" else fact.change
            facts[x] = fact._replace(init=init, change=change, trained=max(init, change))
    fact = LAWS[type(s)](s, facts, solution.alignment)
    demand = solution.budgets.of.get(atom.out)
    budget = demand.change if demand is not None else need.demand.change
    found = max(fact.init, fact.trained)
    if found is MINUS_INFINITY:
        budget = MINUS_INFINITY
    node = solution.lowered.node(atom)
    return Certificate(leaf.name, exponent, solution.lowered.name(atom.out), node.where, found, budget)
