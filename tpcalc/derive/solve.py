"""The effective orders of every weight: a fixed point of facts, budgets and needs.

Sizes first, optimizer last: the forward program fixes the effective orders ``A`` (std of W ~ n^-A) and ``C`` (entries
of dW ~ n^-C) of each weight, independent of the optimizer, as the smallest that keep every value within its budget
(:mod:`tpcalc.calculus.demands`) under the laws of :mod:`tpcalc.calculus.laws`.  "Smallest" means maximal updates: in
the linear case these are the muP values of Yang & Hu 2021 and the spectral condition of Yang, Simon & Bernstein 2023.

One weight with two uses of different needs (a tied embedding) takes the smaller need; the excess of the other use is
pushed upstream on the value it meets there, to the nearest other weight.  Where none can absorb it, the place is
reported as a :class:`~tpcalc.derive.result.Site`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Optional, Union

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order
from tpcalc.calculus.alignment import ALIGNMENTS, Alignment
from tpcalc.calculus.demands import Budgets, Demand, budgets
from tpcalc.calculus.facts import Fact, WeightOrders
from tpcalc.calculus.freedom import absorbers, freedom
from tpcalc.calculus.laws import propagate
from tpcalc.calculus.weights import entries, gradient_order, is_random, trained, weight_orders
from tpcalc.derive.depth import check_periods, slowed
from tpcalc.derive.result import Site
from tpcalc.derive.sites import FixedSizes, Sites
from tpcalc.errors import DeriveError
from tpcalc.lower.depth import Depth
from tpcalc.lower.flatten import lower
from tpcalc.lower.lowered import Leaf, Lowered
from tpcalc.program.ir import Program, Weight
from tpcalc.program.queries import first_met
from tpcalc.rules.structures import Atom, Contract, Gather, Scale, Structure, Sum, View, operands

#: What feeds back settles in two or three rounds; more means that needs chase each other.
ROUNDS = 16


@dataclass(frozen=True)
class Need:
    """What one use asks of a weight: ``A`` and ``C``, with the demand that says why."""

    A: Order
    C: Order
    demand: Demand

    @property
    def structure(self) -> Optional[Structure]:
        """The structure of that use; None for a weight whose own value is an output."""
        return None if self.demand.use is None else self.demand.use.structure

    @property
    def contracted(self) -> Order:
        """Growth that the weight contracts there."""
        return self.structure.K if isinstance(self.structure, Contract) else ZERO

    @property
    def shift(self) -> Order:
        """By what order its update differs from that of a plain weight there: what it absorbs, or a constant undoes."""
        return self.demand.change + self.contracted

    def role(self, leaf: Leaf) -> str:
        """``input``, ``hidden``, ``output`` or ``scalar`` by the growth of fan-in and fan-out."""
        if self.contracted > 0:
            return "hidden" if entries(leaf) > self.contracted else "output"
        return "input" if entries(leaf) > 0 else "scalar"


@dataclass(frozen=True)
class Solution:
    """Effective orders of every weight with the facts and budgets that they give.

    ``facts``: with every block of a packed weight at its own orders.  ``applied``: as packed weights are trained, every
    block with its own init and the safe update of all; gradients of *other* weights follow these.
    ``multipliers``: value -> exponent of that which its site asks for.
    """

    lowered: Lowered
    alignment: Alignment
    orders: dict[str, WeightOrders]
    needs: dict[str, Need]
    facts: dict[int, Fact]
    budgets: Budgets
    sites: tuple[Site, ...]
    applied: dict[int, Fact]
    multipliers: Mapping[int, Order] = field(default_factory=dict)

    def blocks_of(self, weight: Weight) -> list[tuple[Leaf, Need]]:
        """The leaves of a weight that any output depends on, with their needs, in the order of the weight."""
        leaves = self.lowered.leaves_of[weight.name]
        return [(leaf, self.needs[leaf.name]) for leaf in leaves if leaf.name in self.needs]

    def needs_of(self, weight: Weight) -> list[tuple[Leaf, Need]]:
        """The blocks of a weight with their needs; the neediest first, of those alike the one that grows most."""
        return sorted(self.blocks_of(weight), key=lambda pair: (-pair[1].A, -pair[1].C, -entries(pair[0])))

    def role(self, weight: Weight) -> str:
        """The role of the neediest block, ``unused`` for a weight that no output depends on."""
        found = self.needs_of(weight)
        return found[0][1].role(found[0][0]) if found else "unused"

    @cached_property
    def unused(self) -> frozenset[str]:
        return frozenset(w.name for w in self.lowered.program.weights if not self.blocks_of(w))


def as_trained(
    lowered: Lowered,
    orders: Mapping[str, WeightOrders],
    facts: dict[int, Fact],
    alignment: Alignment,
    multipliers: Optional[Mapping[int, Order]] = None,
) -> dict[int, Fact]:
    """Facts with the smallest update of a packed weight's blocks in them all; ``facts``: each block with its own."""
    shared = {}
    for leaves in lowered.leaves_of.values():
        updates = [orders[leaf.name].C for leaf in leaves]
        C = max((own for own in updates if own is not None), default=None)
        shared.update({leaf.name: replace(orders[leaf.name], C=C) for leaf in leaves})
    return facts if shared == orders else propagate(lowered, shared, alignment, multipliers=multipliers)


class _Solver:
    """The fixed-point iteration over guesses of (A, C).  Mutable while it runs, discarded afterwards.

    ``caps``: output of a use -> how far below 0 the value that meets its weight must stay.  ``deriving``: the sizes of
    weights are known, and so those of gradients that the forward pass takes.
    """

    def __init__(self, lowered: Lowered, alignment: Alignment) -> None:
        self.lowered = lowered
        self.alignment = alignment
        self.blank = {w.name: WeightOrders(ZERO, ZERO, is_random(w)) for w in lowered.program.weights}
        self.fixed = FixedSizes(lowered, alignment)
        self.free = freedom(lowered, self.blank, alignment)
        self.slowed = slowed(lowered, self.free.facts)
        self.sites = Sites(lowered)
        self.caps: dict[int, Order] = {}
        self.capped_in: dict[int, int] = {}
        self.round = 0
        self.given_up: set[int] = set()
        self.pushing = True
        self.deriving = not any(node.derivative for node in lowered.program.nodes)  # then it says nothing

    def solve(self) -> Solution:
        try:
            walked, needs, orders, facts = self.settle()
        except DeriveError:
            # uses that push at one another: leave every need where it stands and report the sites
            self.pushing = False
            self.caps.clear()
            walked, needs, orders, facts = self.settle()
        while self.fixed.find(orders, facts):
            # everything behind them follows from what they leave
            self.free = freedom(self.lowered, self.blank, self.alignment, self.fixed.multipliers)
            walked, needs, orders, facts = self.settle()
        for site in self.fixed.found:
            self.sites.add(*site)
        while True:
            known = set(self.sites.multipliers)
            self.sites.add_conflicts(walked)
            self.sites.add_violations(walked, facts)
            new = self.sites.multipliers.keys() - known
            if not self.read_by_weights(new) and self.sites.deep.isdisjoint(new):
                break
            # what reads them must not make up for them as well, nor what a branch is made of
            self.fixed.multipliers.update({x: self.sites.multipliers[x] for x in self.sites.multipliers.keys() - known})
            self.free = freedom(self.lowered, self.blank, self.alignment, self.fixed.multipliers)
            found_so_far, multipliers = dict(self.sites.found), dict(self.sites.multipliers)
            walked, needs, orders, facts = self.settle()
            self.sites.found = found_so_far | self.sites.found
            self.sites.multipliers |= multipliers
        multipliers = self.sites.multipliers
        forward = facts if multipliers == self.fixed.multipliers else None
        facts = propagate(self.lowered, orders, self.alignment, multipliers=multipliers, known=forward)
        applied = as_trained(self.lowered, orders, facts, self.alignment, multipliers)
        sites = tuple(self.sites.found.values())
        found = Solution(self.lowered, self.alignment, orders, needs, facts, walked, sites, applied, multipliers)
        _check_unused(found)
        return found

    def read_by_weights(self, sites: Iterable[int]) -> bool:
        """Whether a weight meets one of these values, or views of them and parts joined to them."""
        maker = self.lowered.maker

        def passed(x: int) -> bool:
            return isinstance(maker[x].structure, (View, Gather, Scale, Sum))

        met = [maker[out].structure for site in sites for _, out in first_met(self.lowered.flow, site, passed)]
        return any(isinstance(s, Contract) and any(self.free.facts[x].is_weight for x in operands(s)) for s in met)

    def settle(self) -> tuple[Budgets, dict[str, Need], dict[str, WeightOrders], dict[int, Fact]]:
        """Iterate until needs and facts agree."""
        facts = self.free.facts
        previous: dict[str, tuple[Order, Order]] = {}
        before = previous
        for self.round in range(ROUNDS):
            if not self.pushing:
                self.given_up.clear()
                self.sites.clear()
            waived = frozenset() if self.deriving else self.lowered.slopes
            walked = budgets(self.lowered, facts, self.free, self.alignment, self.caps, self.fixed.multipliers, waived)
            needs, pushed = self.needs(walked, facts)
            current = {name: (need.A, need.C) for name, need in needs.items()}
            if not self.round or current != previous:
                orders, multipliers = self.orders(current), self.fixed.multipliers
                facts = propagate(self.lowered, orders, self.alignment, backward=False, multipliers=multipliers)
            elif not pushed:
                if self.deriving:
                    return walked, needs, orders, facts
                self.deriving = True
            before, previous = previous, current
        moving = [name for name in previous if before.get(name) != previous[name]]
        raise DeriveError(
            f"the exponents of {', '.join(moving[:3]) or 'the weights'} do not settle: needs chase each other; if it "
            f"is tied, untie it or give its uses multipliers of their own; if two weights are multiplied into one, "
            f"apply them one after the other"
        )

    def orders(self, found: Mapping[str, tuple[Order, Order]]) -> dict[str, WeightOrders]:
        return {
            leaf.name: weight_orders(leaf.weight, *found.get(leaf.name, (ZERO, ZERO))) for leaf in self.lowered.leaves
        }

    def needs(self, walked: Budgets, facts: Mapping[int, Fact]) -> tuple[dict[str, Need], bool]:
        """The need of each weight; pushes the excess of its other uses upstream (True when any was pushed)."""
        result: dict[str, Need] = {}
        pushed = False
        for leaf in self.lowered.leaves:
            demands = [d for d in walked.weights[leaf.value] if d.change is not MINUS_INFINITY]
            if not demands:
                continue
            demands, bounds = _by_use(demands)
            # what autograd makes of a weight follows its size elsewhere: once that is known it may limit it, no more
            own = [d for d in demands if not self.derivative(d)] or demands
            most = max(d.change for d in own)
            for d in demands if self.deriving else own:
                if d.change < most:
                    pushed |= self.push(leaf, d, most - d.change, facts)
            # among uses of equal need the first in the program speaks for the weight: a tied embedding is a look-up
            equal = [d for d in own if d.change == most]
            equal.sort(key=lambda d: (d.use is None, d.use.out if d.use is not None else 0))
            binding = min(equal, key=lambda d: d.init)
            init = min([binding.init, *(bound.init for bound in bounds)])
            change = min([most, *(bound.change for bound in bounds)])
            result[leaf.name] = Need(-init, -change + self.slowed.get(leaf.value, ZERO), binding)
        return result, pushed

    def derivative(self, demand: Demand) -> bool:
        """Whether the use is one of a gradient that the forward pass takes, or makes what only that reads."""
        return demand.use is not None and demand.use.out in self.lowered.derivatives

    def push(self, leaf: Leaf, demand: Demand, excess: Order, facts: Mapping[int, Fact]) -> bool:
        """Lower the cap of what ``leaf`` meets at this use; where nothing there can absorb it, report the site."""
        use = demand.use
        if use is None or use.out in self.given_up:
            return False
        if self.pushing and self.round - self.capped_in.get(use.out, -2) < 2:
            return True  # the cap has not reached the facts yet
        cap = self.caps.get(use.out, ZERO)
        if not self.can_push(leaf, use, demand.partner, cap, facts):
            self.given_up.add(use.out)
            self.caps.pop(use.out, None)
            why = f"{leaf.name} is used here and elsewhere with different needs and nothing upstream can absorb it"
            self.sites.add(use, excess + cap, ZERO, why)
            return self.pushing
        self.caps[use.out] = cap + excess
        self.capped_in[use.out] = self.round
        return True

    def can_push(self, leaf: Leaf, use: Atom, met: Optional[int], cap: Order, facts: Mapping[int, Fact]) -> bool:
        """Whether the value ``met`` at ``use`` follows another weight, and has followed the cap that it has."""
        if not self.pushing or met is None or not isinstance(use.structure, Contract):
            return False
        if self.free.hops.get(met) is None:
            return False
        if cap > 0:
            return facts[met].trained <= -cap
        return leaf.value not in absorbers(self.lowered, met, self.free.hops)


def _by_use(demands: list[Demand]) -> tuple[list[Demand], list[Demand]]:
    """What each use asks of a weight, and what its statistics bound.

    A weight that reaches one use in several ways (``w + (round(w) - w)``) is asked for the least of them.
    """
    uses: dict[Optional[int], list[Demand]] = {}
    for d in demands:
        if not d.statistic:
            uses.setdefault(None if d.use is None else d.use.out, []).append(d)
    bounds = [d for d in demands if d.statistic]
    ways, bounds = (list(uses.values()), bounds) if uses else ([bounds], [])
    least = [min(way, key=lambda d: d.change)._replace(init=min(d.init for d in way)) for way in ways]
    return least, bounds


def _check_unused(solution: Solution) -> None:
    """A weight that the forward pass asks nothing of has no gradient; where autograd gave one, a law is missing."""
    for weight in solution.lowered.program.weights:
        gradient = gradient_order(weight.grad, solution.facts, trained)
        if weight.name in solution.unused and gradient is not MINUS_INFINITY:
            raise DeriveError(
                f"{weight.name} has a gradient, but the ops between it and the outputs are comparisons or steps that "
                f"pass none on: a backward pass of its own (a straight-through estimator) says nothing of sizes; "
                f"write it as x + (f(x) - x).detach()"
            )


def alignment_called(alignment: Union[str, Alignment]) -> Alignment:
    """The alignment of this name, or the one that is given; raises DeriveError where there is none."""
    if isinstance(alignment, Alignment):
        return alignment
    if alignment not in ALIGNMENTS:
        raise DeriveError(f"alignment {alignment!r} is unknown; choose one of {', '.join(sorted(ALIGNMENTS))}")
    return ALIGNMENTS[alignment]


def solve(program: Program, alignment: Union[str, Alignment] = "full", *, depth: Optional[Depth] = None) -> Solution:
    """The effective orders (A, C) of every weight of ``program``.

    ``depth``: growths of the scales along which the program repeats itself (``program.repeats``), which stay fixed
    without it.  Raises UnsupportedOpError for an op without a rule, DeriveError where no fixed point exists, where
    blocks have no residual stream, or where those that were traced do not agree.
    """
    solution = solve_lowered(lower(program, depth=depth), alignment_called(alignment))
    check_periods(solution.lowered, solution.orders, solution.facts)
    return solution


def solve_lowered(lowered: Lowered, alignment: Alignment) -> Solution:
    """The same of a program as atoms, which may have multipliers of its own (:mod:`tpcalc.lower.multiplied`)."""
    return _Solver(lowered, alignment).solve()
