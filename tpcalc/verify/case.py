"""What is known of a setup written by hand: its program, the exponents in force, what they come to, what is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Optional

from tpcalc.algebra.order import ONE, ZERO, Order, order
from tpcalc.calculus.alignment import FULL
from tpcalc.calculus.facts import Fact, WeightOrders
from tpcalc.calculus.laws import propagate
from tpcalc.calculus.weights import gradient_order, weight_view
from tpcalc.derive.api import solve_along
from tpcalc.derive.rates import moments, safe_rate
from tpcalc.derive.solve import Need, Solution, solve_lowered
from tpcalc.dynamics.regime import Regime, regime
from tpcalc.dynamics.training import analyse
from tpcalc.lower.lowered import Leaf, Lowered
from tpcalc.lower.multiplied import multiplied
from tpcalc.optimizers import SGD, UpdateLaw, WeightView
from tpcalc.program.ir import Program, Weight
from tpcalc.program.names import starred
from tpcalc.rules.structures import Atom, operands
from tpcalc.verify.effective import Effective, effective
from tpcalc.verify.findings import RATE, Fix
from tpcalc.verify.gather import Gathered
from tpcalc.verify.repair import Cause, Limit, Repaired, limits, repair


@dataclass(frozen=True)
class Case:
    """A setup in the infinite-width limit.

    ``solution``: what the program needs.  ``given``: the exponents in force, by weight and by block.  ``regime``: what
    they lead to.  ``repaired``: the same training, mended wherever it breaks.  ``limits``: the values that must stay
    O(1).  ``followed``: facts of the training as given.
    """

    gathered: Gathered
    solution: Solution
    given: Mapping[str, Effective]
    regime: Regime
    repaired: Repaired
    limits: Mapping[int, Limit]
    followed: Mapping[int, Fact]

    @staticmethod
    def of(gathered: Gathered, alpha: Order = ONE) -> Case:
        """``alpha``: along a depth L, the branches ought to start at L^-alpha."""
        solution = solve_along(gathered.program, FULL.name, alpha)
        return Case.under(gathered, solution, effective(gathered, solution.lowered))

    @staticmethod
    def under(gathered: Gathered, solution: Solution, given: Mapping[str, Effective]) -> Case:
        """With exponents as ``given``, whatever the setup has."""
        lowered = solution.lowered
        exponents = {name: own.given for name, own in given.items()}
        followed = analyse(lowered, exponents, {name: own.law or SGD for name, own in given.items()})
        repaired = repair(lowered, given, solution.needs, solution.facts, FULL)
        limited = limits(lowered, solution.facts)
        return Case(gathered, solution, given, regime(followed), repaired, limited, followed.facts)

    def with_(self, fixes: Iterable[Fix]) -> Case:
        """The same setup with ``fixes`` applied.

        Raises DeriveError where a multiplier leaves exponents that do not settle.
        """
        given, multipliers = dict(self.given), dict[int, Order]()
        for fix in fixes:
            by = ZERO if fix.by is None else order(fix.by)
            multipliers |= {value: multipliers.get(value, ZERO) + by for value in fix.values}
            leaves = self.lowered.leaves_of.get(fix.target)
            for name in {fix.target, *(leaf.name for leaf in leaves or ())} if fix.target in given else ():
                own = given[name].fixed(fix)
                given[name] = replace(own, law=self.usual_law) if own.law is None and fix.quantity == RATE else own
        for weight, leaves in self.lowered.leaves_of.items():  # of blocks, the largest stands for all
            sizes = [b for leaf in leaves if (b := given[leaf.name].b) is not None]
            given[weight] = replace(given[weight], b=min(sizes, default=None))
        solution = self.solution
        if multipliers:
            solution = solve_lowered(multiplied(self.lowered, multipliers), solution.alignment)
        return Case.under(self.gathered, solution, given)

    @property
    def program(self) -> Program:
        return self.gathered.program

    @property
    def unit(self) -> Order:
        """The order of the width, or of the scale that comes first."""
        return self.gathered.numbers.unit

    @property
    def lowered(self) -> Lowered:
        return self.solution.lowered

    @property
    def mended(self) -> Mapping[int, Fact]:
        """Facts of the mended training, by which each weight is judged: nothing is blamed for what others break."""
        return self.repaired.facts

    @property
    def maximal(self) -> Mapping[int, Fact]:
        """Facts of the maximal parametrization."""
        return self.solution.facts

    @cached_property
    def causes(self) -> tuple[Cause, ...]:
        """Sites first, then weights in the order of the model."""
        place = {leaf.name: index for index, leaf in enumerate(self.lowered.leaves)}
        return tuple(sorted(self.repaired.causes, key=lambda c: -1 if c.leaf is None else place[c.leaf.name]))

    # -- weights -------------------------------------------------------------------------------------

    def need(self, leaf: Leaf) -> Optional[Need]:
        """None for a leaf that no output depends on."""
        return self.solution.needs.get(leaf.name)

    def role(self, weight: Weight) -> str:
        return self.solution.role(weight)

    def group(self, weight: Weight) -> str:
        """Weights of one role fail together; a readout or a router stands for itself."""
        role = self.role(weight)
        return role if role not in ("output", "scalar") else f"{role} {starred(weight.name)}"

    def block(self, leaf: Leaf) -> str:
        """The name of a block of a packed weight whose blocks have inits of their own, else empty."""
        return leaf.name if len({self.given[x.name].b for x in self.lowered.leaves_of[leaf.weight.name]}) > 1 else ""

    def part(self, leaf: Leaf) -> str:
        """The name of a block of a packed weight whose blocks have, or need, inits of their own, else empty."""
        needed = {None if need is None else need.A for need in map(self.need, self.lowered.leaves_of[leaf.weight.name])}
        return leaf.name if len(needed) > 1 else self.block(leaf)

    def where(self, leaf: Leaf) -> str:
        """Module and line of the use that binds a weight, or of its first."""
        need = self.need(leaf)
        use = need.demand.use if need is not None else None
        use = use or next(iter(self.lowered.forward_uses.get(leaf.value, ())), None)
        return self.lowered.where(use) if use is not None else ""

    def multiplier_at(self, atom: Atom) -> int:
        """The value behind which a multiplier for ``atom`` stands: its result, or where that is a part of an op (a
        product before its bias) the value that enters it.
        """
        values = self.program.values
        entering = (x for x in operands(atom.structure) if x in values and self.mended[x].data)
        return atom.out if atom.out in values else next(entering, atom.out)

    def value(self, vid: int) -> str:
        """``h13 (addmm in hidden1)``: a value, the op that makes it and its module."""
        atom = self.lowered.maker.get(vid)
        if atom is None:
            return self.lowered.name(vid)
        node = self.lowered.node(atom)
        first = next((out for out in node.outputs if out is not None), vid)
        name = self.lowered.name(vid if vid in self.program.values else first)
        return f"{name} ({node.short_op} in {node.module})" if node.module else f"{name} ({node.short_op})"

    def gradient(self, weight: Weight) -> Order:
        return gradient_order(weight.grad, self.mended)

    def view(self, weight: Weight, gradient: Order) -> WeightView:
        """What the update law sees of a weight as given; of a packed one as a whole."""
        size = self.given[weight.name].b
        leaf = self.lowered.leaves_of[weight.name][0]
        return replace(weight_view(self.lowered, leaf, self.mended, ZERO if size is None else size), gradient=gradient)

    # -- learning rates --------------------------------------------------------------------------------

    @cached_property
    def usual_law(self) -> Optional[UpdateLaw]:
        laws = Counter(own.law for own in self.given.values() if own.law is not None)
        return max(laws, key=lambda law: laws[law], default=None)

    def maximal_c(self, leaf: Leaf, smaller: Order = ZERO) -> Optional[Order]:
        """The learning rate that the maximal parametrization gives under this optimizer (where none holds the weight:
        that of most others); of a weight whose scale is divided out, where it is ``smaller`` by this order.
        """
        law, need = self.given[leaf.name].law or self.usual_law, self.need(leaf)
        if law is None or need is None:
            return None
        seen = moments(self.solution, self.maximal, [(leaf, need)])
        return safe_rate(law, [(replace(need, C=need.C + smaller), _smaller(view, smaller)) for need, view in seen])

    def needed_c(self, leaf: Leaf, excess: Order, as_it_is: bool = True) -> Optional[Order]:
        """The learning rate needed where an update is too large by ``n^excess``.

        Under a law that follows the gradient or the weight (SGD, Adafactor) it is the maximal one, and may be the one
        in force: then what is at fault is elsewhere.  ``as_it_is``: at the size that the weight has.
        """
        need, c = self.need(leaf), self.given[leaf.name].c
        if self.follows_others(leaf) and need is not None and need.demand.excess_at is None:
            return self.maximal_c(leaf, self.resized(leaf) if as_it_is else ZERO)
        return None if c is None else c + excess

    def resized(self, leaf: Leaf) -> Order:
        """By how much a weight is smaller than in the maximal parametrization, where its scale is divided out: then
        its gradient is as much larger there, and nothing else changes.
        """
        need, b = self.need(leaf), self.repaired.A[leaf.name]
        own = self.solution.orders.get(leaf.name)
        if need is None or b is None or b == need.A or own is None or own.A is None or own.C is None:
            return ZERO
        by = b - need.A
        orders = {**self.solution.orders, leaf.name: WeightOrders(own.A + by, own.C + by, own.random)}
        facts = propagate(self.lowered, orders, self.solution.alignment, multipliers=self.solution.multipliers)
        expected = {x.name: gradient_order(x.grad, self.maximal) for x in self.lowered.leaves}
        expected[leaf.name] = expected[leaf.name] + by
        return by if all(gradient_order(x.grad, facts) == expected[x.name] for x in self.lowered.leaves) else ZERO

    def follows_others(self, leaf: Leaf) -> bool:
        """Whether the size of an update hangs on the gradient or on the weight."""
        law = self.given[leaf.name].law
        return law is not None and law.follows_others

    def sizeless(self, leaf: Leaf) -> bool:
        """A weight that starts at zero under an optimizer that scales updates to its size."""
        own = self.given[leaf.name]
        return own.law is not None and own.law.relative and own.b is None


def _smaller(view: WeightView, by: Order) -> WeightView:
    return replace(view, gradient=view.gradient + by, size=view.size + by)


__all__ = ["Case"]
