"""Derive the maximal parametrization of a program.

Sizes first, optimizer last: the forward program fixes the effective orders ``A`` (std of W ~ n^-A) and ``C`` (entries of
dW ~ n^-C) of each weight, independent of the optimizer, as the smallest that keep every value within its budget
(:mod:`tpcalc.calculus.demands`) under the laws of :mod:`tpcalc.calculus.laws`.  "Smallest" means maximal updates: in the linear case
these are the muP values of Yang & Hu 2021 and the spectral condition of Yang, Simon & Bernstein 2023.

One weight with two uses of different needs (a tied embedding) takes the smaller need; the excess of the other use is
pushed upstream on the value it meets there, to the nearest other weight.  Where none can absorb it, the place is reported as
a :class:`~tpcalc.derive.result.Site`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Optional, Union

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order, max_order, order_text
from tpcalc.algebra.size import Size
from tpcalc.calculus.demands import Budgets, Demand, budgets
from tpcalc.calculus.facts import ALIGNMENTS, Alignment, Fact, WeightOrders, roles
from tpcalc.calculus.freedom import absorbers, freedom
from tpcalc.calculus.laws import propagate
from tpcalc.derive.clipping import clipping
from tpcalc.derive.gauge import check_gauge, multiplier_exponent
from tpcalc.derive.result import Bound, Parametrization, Rule, Site, SliceRule
from tpcalc.errors import DeriveError
from tpcalc.lower.flatten import lower
from tpcalc.lower.lowered import Leaf, Lowered
from tpcalc.optimizers import Recipe, UpdateLaw, WeightView, finite, recipe
from tpcalc.program.ir import Program, Weight
from tpcalc.rules.structures import Atom, Contract, Gather, Product, operands

#: The walk settles in two or three rounds; more means that needs chase each other.
ROUNDS = 16


@dataclass(frozen=True)
class Need:
    """What one use asks of a weight: ``A`` and ``C``, with the demand that says why."""

    A: Fraction
    C: Fraction
    demand: Demand


@dataclass(frozen=True)
class Solution:
    """Effective orders of every weight with the facts and budgets that they give.

    ``facts``: with every block of a packed weight at its own orders.  ``applied``: as packed weights are trained, every
    block with its own init and the safe update of all; gradients of *other* weights follow these.
    """

    lowered: Lowered
    alignment: Alignment
    orders: dict[str, WeightOrders]
    needs: dict[str, Need]
    facts: dict[int, Fact]
    budgets: Budgets
    sites: tuple[Site, ...]
    applied: dict[int, Fact]

    def needs_of(self, weight: Weight) -> list[tuple[Leaf, Need]]:
        """The leaves of a weight that any output depends on, with their needs; the neediest first."""
        found = [
            (leaf, self.needs[leaf.name]) for leaf in self.lowered.leaves_of[weight.name] if leaf.name in self.needs
        ]
        return sorted(found, key=lambda pair: (-pair[1].A, -pair[1].C))

    @cached_property
    def unused(self) -> frozenset[str]:
        return frozenset(w.name for w in self.lowered.program.weights if not self.needs_of(w))


def is_random(weight: Weight) -> bool:
    """Zero-mean random at init: as its init call says, else matrices are and vectors (gains, biases) are not."""
    for _, init in weight.init:
        if init.kind == "random":
            return True
        if init.kind == "constant":
            return False
    return len(weight.shape) > 1


def safe(lowered: Lowered, orders: Mapping[str, WeightOrders]) -> dict[str, WeightOrders]:
    """Every block of a packed weight with its own init, and with the smallest update among its weight's blocks."""
    result = {}
    for leaves in lowered.leaves_of.values():
        updates = [orders[leaf.name].C for leaf in leaves]
        C = max((own for own in updates if own is not None), default=None)
        result.update({leaf.name: replace(orders[leaf.name], C=C) for leaf in leaves})
    return result


class _Solver:
    """The fixed-point iteration over guesses of (A, C).  Mutable while it runs, discarded afterwards."""

    def __init__(self, lowered: Lowered, alignment: Alignment) -> None:
        self.lowered = lowered
        self.program = lowered.program
        self.alignment = alignment
        self.random = {weight.name: is_random(weight) for weight in self.program.weights}
        blank = {w.name: WeightOrders(ZERO, ZERO, self.random[w.name]) for w in self.program.weights}
        self.free = freedom(lowered, blank, alignment)
        self.hops = self.free.hops
        self.caps: dict[int, Fraction] = {}
        self.capped_in: dict[int, int] = {}
        self.round = 0
        self.given_up: set[int] = set()
        self.sites: dict[tuple, Site] = {}
        self.pushing = True
        self.multipliers: dict[int, Order] = {}

    def guess(self, A: Fraction, C: Fraction, leaf: Leaf) -> WeightOrders:
        return WeightOrders(A, C if leaf.weight.trainable else None, self.random[leaf.weight.name])

    def solve(self) -> Solution:
        try:
            walked, needs, orders, facts = self.settle()
        except DeriveError:
            # uses that push at one another: leave every need where it stands and report the sites
            self.pushing = False
            self.caps.clear()
            walked, needs, orders, facts = self.settle()
        self.report_conflicts(walked)
        self.report_violations(walked, facts)
        facts = propagate(self.lowered, orders, self.alignment, multipliers=self.multipliers)
        shared = safe(self.lowered, orders)
        applied = (
            facts if shared == orders else propagate(self.lowered, shared, self.alignment, multipliers=self.multipliers)
        )
        found = Solution(self.lowered, self.alignment, orders, needs, facts, walked, tuple(self.sites.values()), applied)
        self.check_unused(found)
        return found

    def check_unused(self, solution: Solution) -> None:
        """A weight that the forward pass asks nothing of has no gradient; where autograd gave one, a law is missing."""
        for weight in self.program.weights:
            if weight.name in solution.unused and _gradient(solution.facts, weight.grad) is not MINUS_INFINITY:
                raise DeriveError(
                    f"{weight.name} has a gradient, but the ops between it and the outputs are comparisons or steps that "
                    f"pass none on: a backward pass of its own (a straight-through estimator) says nothing of sizes; "
                    f"write it as x + (f(x) - x).detach()"
                )

    def settle(self) -> tuple[Budgets, dict[str, Need], dict[str, WeightOrders], dict[int, Fact]]:
        """Iterate until needs and facts agree."""
        facts = self.free.facts
        previous: Optional[dict[str, tuple[Fraction, Fraction]]] = None
        before = previous
        for self.round in range(ROUNDS):
            if not self.pushing:
                self.forget_sites()
            walked = budgets(self.lowered, facts, self.free, self.alignment, self.caps)
            needs, pushed = self.needs(walked, facts)
            current = {name: (need.A, need.C) for name, need in needs.items()}
            orders = self.orders(needs)
            facts = propagate(self.lowered, orders, self.alignment, backward=False)
            if current == previous and not pushed:
                return walked, needs, orders, facts
            before, previous = previous, current
        raise DeriveError(
            f"the exponents of {self.moving(before, current)} do not settle: needs chase each other; if it is tied, untie it or give "
            f"its uses multipliers of their own; if two weights are multiplied into one, apply them one after the other"
        )

    def forget_sites(self) -> None:
        self.given_up.clear()
        self.sites.clear()
        self.multipliers.clear()

    @staticmethod
    def moving(previous, current) -> str:
        names = [name for name in current if previous is None or previous.get(name) != current[name]]
        return ", ".join(names[:3]) or "the weights"

    def orders(self, needs: Mapping[str, Need]) -> dict[str, WeightOrders]:
        return {
            leaf.name: self.guess(needs[leaf.name].A, needs[leaf.name].C, leaf)
            if leaf.name in needs
            else self.guess(ZERO, ZERO, leaf)
            for leaf in self.lowered.leaves
        }

    def needs(self, walked: Budgets, facts: Mapping[int, Fact]) -> tuple[dict[str, Need], bool]:
        """The need of each weight; pushes the excess of its other uses upstream (True when any was pushed)."""
        result: dict[str, Need] = {}
        pushed = False
        for leaf in self.lowered.leaves:
            demands = [d for d in walked.weights[leaf.value] if d.change is not MINUS_INFINITY]
            if not demands:
                continue
            least = min(-d.change for d in demands)
            kept = []
            for d in demands:
                excess = -d.change - least
                if excess > 0:
                    pushed |= self.push(leaf, d, excess, facts)
                else:
                    kept.append(d)
            # among uses of equal need the first in the program speaks for the weight: a tied embedding is a look-up
            kept.sort(key=lambda d: (d.use is None, d.use.out if d.use is not None else 0))
            binding = max(kept, key=lambda d: -d.init)
            update = max(kept, key=lambda d: -d.change)
            result[leaf.name] = Need(-binding.init, -update.change, binding)
        return result, pushed

    def push(self, leaf: Leaf, demand: Demand, excess: Fraction, facts: Mapping[int, Fact]) -> bool:
        """Lower the cap of what ``leaf`` meets at this use; where nothing there can absorb it, report the site."""
        use, partner = demand.use, demand.partner
        if use is None or use.out in self.given_up:
            return False
        if self.pushing and self.round - self.capped_in.get(use.out, -2) < 2:
            return True  # the cap has not reached the facts yet
        cap = self.caps.get(use.out, ZERO)
        movable = self.pushing and partner is not None and self.hops.get(partner) is not None
        if movable and not cap:
            movable = leaf.value not in absorbers(self.lowered, partner, self.hops)
        ineffective = cap > 0 and facts[partner].trained > -cap
        if not movable or ineffective or not isinstance(use.structure, Contract):
            self.given_up.add(use.out)
            self.caps.pop(use.out, None)
            self.add_site(
                use,
                excess + cap,
                ZERO,
                f"{leaf.name} is used here and elsewhere with different needs and nothing upstream can absorb it",
            )
            return self.pushing
        self.caps[use.out] = cap + excess
        self.capped_in[use.out] = self.round
        return True

    def add_site(self, atom: Atom, found: Order, needed: Order, why: str) -> None:
        node = self.lowered.node(atom)
        by = order_text(needed - found)
        message = (
            f"{node.short_op} in {node.module or '(top)'} ({node.source or 'line unknown'}) gives order "
            f"{order_text(found)} where {order_text(needed)} is needed: multiply it by n^({by}) in the forward pass; {why}"
        )
        self.multipliers[atom.out] = needed - found
        value = atom.out if atom.out in self.program.values else next(out for out in node.outputs if out is not None)
        grad = self.program.grads.get(value, dict(self.program.seeds).get(value))
        if grad is not None:
            self.multipliers[grad] = needed - found
        key = (node.index, str(found), str(needed))
        self.sites.setdefault(key, Site(node.op, node.module, node.source, found, needed, message))

    def report_conflicts(self, walked: Budgets) -> None:
        for conflict in walked.conflicts:
            atom = conflict.demand.excess_at or conflict.demand.origin
            if atom is not None:
                budget = walked.of[atom.out].change if atom.out in walked.of else ZERO
                self.add_site(
                    atom,
                    budget - conflict.needed + conflict.allowed,
                    budget,
                    "the value upstream also enters a nonlinearity that would starve",
                )

    def report_violations(self, walked: Budgets, facts: Mapping[int, Fact]) -> None:
        """Values still above a tight budget: the first of each chain is the site."""
        above: set[int] = set()
        settled = {conflict.demand.excess_at for conflict in walked.conflicts}
        for atom in self.lowered.atoms[: self.lowered.forward]:
            demand = walked.of.get(atom.out)
            if demand is None or not demand.tight or (facts[atom.out].weight and not facts[atom.out].data):
                continue
            fact = facts[atom.out]
            constant = not fact.data and fact.depends == 0
            if atom in settled:
                above.add(atom.out)
                continue
            if constant or (demand.excess_at is not None and demand.excess_at in settled):
                continue
            if fact.trained > demand.change or fact.init > demand.init:
                above.add(atom.out)
                if not any(x in above for x in operands(atom.structure)):
                    found = max_order(fact.trained, fact.init)
                    self.add_site(
                        atom, found, demand.change, f"no weight upstream can absorb it, and its result {demand.law}"
                    )


def check_alignment(alignment: str) -> str:
    """``alignment`` if there is one of this name; raises DeriveError otherwise."""
    if alignment not in ALIGNMENTS:
        raise DeriveError(f"alignment {alignment!r} is unknown; choose one of {', '.join(sorted(ALIGNMENTS))}")
    return alignment


def solve(program: Program, alignment: "str | Alignment" = "full") -> Solution:
    """The effective orders (A, C) of every weight of ``program``.

    Raises UnsupportedOpError for an op without a rule, DeriveError where no fixed point exists.
    """
    if isinstance(alignment, str):
        alignment = ALIGNMENTS[check_alignment(alignment)]
    return _Solver(lower(program), alignment).solve()


def role_of(shape: tuple[Size, ...], need: Need) -> str:
    """``input``, ``hidden``, ``output`` or ``scalar`` by the growth of fan-in and fan-out at the use that binds."""
    total = sum((size.growth for size in shape), ZERO)
    use = need.demand.use
    K = use.structure.K if use is not None and isinstance(use.structure, Contract) else ZERO
    if K > 0:
        return "hidden" if total > K else "output"
    return "input" if total > 0 else "scalar"


def _bound(lowered: Lowered, need: Need, law: str) -> Bound:
    use, origin = need.demand.use, need.demand.origin
    value = lowered.name(use.out) if use is not None else "its value"
    where = lowered.where(origin) if origin is not None else ""
    return Bound(value, f"{law}; the result {need.demand.law}", where)


def init_law_text(facts: Mapping[int, Fact], alignment: Alignment, need: Need) -> str:
    """Why A is what it is, in one clause."""
    use = need.demand.use
    if use is None:
        return "law of sums"
    s = use.structure
    if isinstance(s, Contract):
        x_weight, _ = roles(s, facts[s.x], facts[s.y])
        rest = s.rest_x if x_weight else s.rest_y
        if s.K == 0:
            return "law 1: nothing growing is contracted"
        on_change = alignment.initial_on_change(s.K, rest)
        return f"law 2: initial weight x changed value over growth {s.K} with R = {rest}: {on_change}"
    if isinstance(s, Gather):
        return "look-up: entries pass through"
    if isinstance(s, Product):
        return "entrywise product: orders add"
    return "sum: the order is the max"


def update_law_text(need: Need) -> str:
    use = need.demand.use
    if use is not None and isinstance(use.structure, Contract):
        return f"law 3: weight update x value over growth {use.structure.K}"
    return "entrywise: the update passes through"


def reason(solution: Solution, need: Optional[Need], role: str) -> str:
    """One line for the table."""
    if need is None:
        return "no output depends on it"
    use = need.demand.use
    structure = use.structure if use is not None else None
    if isinstance(structure, Contract):
        kind = {
            "hidden": "growing to growing",
            "output": "growing to finite",
            "input": "finite to growing",
            "scalar": "finite to finite",
        }[role]
        text = f"contraction, {kind}"
    elif isinstance(structure, Gather):
        text = "look-up"
    elif isinstance(structure, Product):
        text = "entrywise gain"
    else:
        text = "added"
    demand = need.demand
    shift = demand.change - _plain(structure)
    if demand.excess_at is not None and shift < 0:
        site = demand.excess_at
        node = solution.lowered.node(site)
        what = f"{node.short_op} in {node.module or '(top)'}"
        text += f"; absorbs n^{_power_text(shift)} for {what}" + (f" ({node.source})" if node.source else "")
    elif shift != 0:
        text += f"; a constant n^{_power_text(-shift)} follows in the code"
    return text


def _plain(structure) -> Fraction:
    return -structure.K if isinstance(structure, Contract) else ZERO


def plain_change(need: Need) -> Fraction:
    """What the demand on a weight's update is where nothing is absorbed and no constant follows."""
    return _plain(need.demand.use.structure if need.demand.use is not None else None)


def _power_text(p: Order) -> str:
    text = order_text(p)
    return f"({text})" if "/" in text or text.startswith("-") else text


def parametrize(solution: Solution, optimizer: Union[str, UpdateLaw, Recipe], gauge: str = "init") -> Parametrization:
    """Turn effective orders into (a, b, c), decay and eps for one optimizer or recipe, in one gauge.

    Raises DeriveError for an optimizer or a gauge that does not exist.
    """
    how, gauge = recipe(optimizer), check_gauge(gauge)
    program = solution.lowered.program
    rules: dict[str, Rule] = {}
    for weight in program.weights:
        rule = _rule(solution, weight, how, gauge)
        for name in weight.names:
            rules[name] = rule
    used = [law for law in how.laws if any(rule.optimizer == law.name for rule in rules.values())] or [*how.laws]
    notes = (
        ["gradients, and so the eps column, count on the multipliers that the sites above ask for"]
        if solution.sites
        else []
    )
    packed = [
        w.name
        for w in program.weights
        if len(solution.lowered.leaves_of[w.name]) == 1 and any(s.is_mixed for s in w.shape)
    ]
    notes += [
        f"{name} has a packed axis whose blocks could not be told apart; it is treated as one block" for name in packed
    ]
    notes += _shared_rate_notes(solution, rules, how.by_name)
    blurred = [
        w.name
        for w in program.weights
        if w.grad is not None
        and len(leaves := solution.lowered.leaves_of[w.name]) > 1
        and all(leaf.grad == w.grad for leaf in leaves)
    ]
    notes += [
        f"the gradients of the blocks of {name} could not be told apart: eps, and gradients upstream, are those of the largest"
        for name in blurred
    ]
    notes += [
        f"{name} has no path to an output: its exponents are 0 and nothing was derived"
        for name in sorted(solution.unused)
    ]
    notes += [law.note for law in used if law.note]
    return Parametrization(
        rules=rules,
        optimizer=how.name,
        widths=program.widths,
        sites=solution.sites,
        assumptions=program.assumptions,
        notes=tuple(notes),
        symbol=program.symbol,
        conventions=_conventions(used),
        gauge=gauge,
        alignment=solution.alignment.name,
        clipping=clipping(
            (weight.name, WeightView(rules[weight.name].gradient, ZERO, _growths(weight)).norm)
            for weight in program.weights
            if weight.trainable
        ),
    )


def _conventions(laws: Sequence[UpdateLaw]) -> tuple[str, ...]:
    """How decay and epsilon are meant; of several laws with the name of each."""
    told: dict[str, list[str]] = {}
    for law in laws:
        for sentence in law.conventions:
            told.setdefault(sentence, []).append(law.name)
    return tuple(
        sentence if len(names) == len(laws) else f"{', '.join(names)}: {sentence}" for sentence, names in told.items()
    )


def _rule(solution: Solution, weight: Weight, how: Recipe, gauge: str) -> Rule:
    """The rule of one weight.  Blocks with different needs share the safe, largest exponents, with their own in ``slices``.

    Only the init can be made for each block: the learning rate, epsilon and decay of one parameter are one number, and
    the safe one keeps every block within its budget.
    """
    found = solution.needs_of(weight)
    need = found[0][1] if found else None
    role = role_of(found[0][0].shape, need) if found else "unused"
    axes = _growths(weight)
    # a packed matrix is trained as one: a block that is hidden makes it so
    hidden = any(role_of(leaf.shape, n) == "hidden" for leaf, n in found)
    law = how.law_for("hidden" if hidden else role, axes)
    A = max((n.A for _, n in found), default=ZERO)
    C = max((n.C for _, n in found), default=ZERO)
    if law.relative:  # an update larger than the weight would make it, and so the next update, grow without end
        C = max(C, A)
    a = multiplier_exponent(gauge, A, role, contracted(need), any(growth > 0 for growth in axes))
    gradient = _gradient(solution.applied, weight.grad)
    c = safe_rate(law, moments(solution, solution.applied, found), a)
    # an eps below the gradient does no harm, one above it freezes the block; so does a decay above it
    views = [view_of(solution, solution.applied, leaf, n.A).at(a) for leaf, n in found]
    least = min(views, key=lambda view: finite(view.gradient), default=WeightView(gradient, A, axes).at(a))
    decay = min((law.decay.exponent(view, c) for view in views), default=ZERO)
    lowered, facts = solution.lowered, solution.facts
    return Rule(
        name=weight.name,
        shape=weight.shape,
        role=role,
        a=a,
        b=A - a,
        c=c,
        weight_decay=decay,
        eps=None if law.eps is None else finite(law.eps.exponent(least)),
        A=A,
        C=C,
        gradient=gradient - a,
        reason=reason(solution, need, role) + ("" if weight.trainable else "; frozen"),
        init_bound=_bound(lowered, need, init_law_text(facts, solution.alignment, need)) if need else None,
        update_bound=_bound(lowered, need, update_law_text(need)) if need else None,
        aliases=weight.aliases,
        slices=_slices(solution, found, law, a),
        trainable=weight.trainable,
        optimizer=law.name,
    )


def contracted(need: Optional[Need]) -> Fraction:
    """Growth that a weight contracts at the use that binds it."""
    use = need.demand.use if need is not None else None
    return use.structure.K if use is not None and isinstance(use.structure, Contract) else ZERO


def _gradient(facts: Mapping[int, Fact], grad: Optional[int]) -> Order:
    return MINUS_INFINITY if grad is None else facts[grad].trained


def view_of(
    solution: Solution, facts: Mapping[int, Fact], leaf: Leaf, size: Fraction, at_init: bool = False
) -> WeightView:
    """What an update law may know of a derived weight or block, after training or at init."""
    return weight_view(solution.lowered, leaf, lambda vid: facts[vid].init if at_init else facts[vid].trained, size)


def weight_view(
    lowered: Lowered, leaf: Leaf, order: Callable[[int], Order], size: Fraction, zero: bool = False
) -> WeightView:
    """What an update law may know of a weight or block: its own gradient, the axes of the whole parameter.

    ``order``: the order of a value that the law goes by.
    """
    fan_in, met = lowered.meets(leaf)
    gradient = MINUS_INFINITY if leaf.grad is None else order(leaf.grad)
    inputs = ZERO if met is None else order(met)
    return WeightView(gradient, size, _growths(leaf.weight), fan_in, inputs, zero)


def _growths(weight: Weight) -> tuple[Fraction, ...]:
    return tuple(size.growth for size in weight.shape)


def _views(
    solution: Solution, facts: Mapping[int, Fact], found: list[tuple[Leaf, Need]], at_init: bool = False
) -> list[tuple[Need, WeightView]]:
    """What the law sees of each block that has a gradient; a weight is as large as the largest of its blocks."""
    size = min((need.A for _, need in found), default=ZERO)
    pairs = [(need, view_of(solution, facts, leaf, size, at_init)) for leaf, need in found]
    alive = [pair for pair in pairs if pair[1].gradient is not MINUS_INFINITY]
    return alive or ([] if at_init else pairs)


def moments(
    solution: Solution, facts: Mapping[int, Fact], found: list[tuple[Leaf, Need]]
) -> list[tuple[Need, WeightView]]:
    """What the law sees of each block, after training and at init.

    At init gradients and inputs may be smaller than later, which some laws (K-FAC) turn into larger updates.
    """
    return [*_views(solution, facts, found), *_views(solution, facts, found, at_init=True)]


def safe_rate(law: UpdateLaw, seen: Iterable[tuple[Need, WeightView]], a: Fraction = ZERO) -> Fraction:
    """The learning rate, ~ n^-c, that keeps each need with what the law has ``seen`` of it, under multiplier n^-a.

    A relative law's rate never grows: an update larger than the weight would make it, and so the next update, grow
    without end.
    """
    c = max((law.c(need.C, view.at(a), a) for need, view in seen), default=-a)
    return max(c, ZERO) if law.relative else c


def _shared_rate_notes(solution: Solution, rules: Mapping[str, Rule], laws: Mapping[str, UpdateLaw]) -> list[str]:
    """One sentence for all packed weights whose blocks stand alike: what they share, which ones are slow for it, the remedy."""
    alike: dict[str, list[str]] = {}
    for weight in solution.lowered.program.weights:
        rule = rules[weight.name]
        sentence = _shared_rate(solution, weight, rule, laws[rule.optimizer]) if rule.slices else None
        if sentence is not None and weight.trainable:
            alike.setdefault(sentence, []).append(weight.name)
    notes = []
    for sentence, names in alike.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        notes.append(f"{', '.join(names[:3])}{more}: {sentence}")
    return notes


def _shared_rate(solution: Solution, weight: Weight, rule: Rule, law: UpdateLaw) -> Optional[str]:
    """None where the common learning rate is maximal for every block."""
    found = sorted(solution.needs_of(weight), key=lambda pair: solution.lowered.leaves.index(pair[0]))
    slow = {
        id(need)
        for need, view in _views(solution, solution.applied, found)
        if law.C(rule.c, view.at(rule.a), rule.a) > need.C
    }

    def spans(pairs: list[tuple[Leaf, Need]]) -> str:
        texts = [leaf.name.removeprefix(weight.name) for leaf, _ in pairs]
        return " and ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))

    behind = [pair for pair in found if id(pair[1]) in slow]
    if not behind:
        return None
    shared = "weight decay" if rule.eps is None else "eps and weight decay"
    text = (
        f"the blocks {spans(found)} have each their own init but share one learning rate, the smallest (and {shared}), so that "
        f"{spans(behind)} learn{'s' * (len(behind) == 1)} slower than maximal; split the parameter to give each its own"
    )
    demand = max(found, key=lambda pair: pair[1].C)[1].demand
    shift = demand.change - _plain(demand.use.structure if demand.use is not None else None)
    if demand.excess_at is not None and shift < 0:
        op = solution.lowered.node(demand.excess_at).short_op
        text += f", or multiply the result of {op} by n^{_power_text(shift)} in the forward pass (attention logits: 1/d for 1/sqrt(d))"
    return text


def _slices(solution: Solution, found: list[tuple[Leaf, Need]], law: UpdateLaw, a: Fraction) -> tuple[SliceRule, ...]:
    """The blocks of a packed weight, where they differ."""
    order = {leaf.name: index for index, leaf in enumerate(solution.lowered.leaves)}
    result = []
    for leaf, need in sorted(found, key=lambda pair: order[pair[0].name]):
        view = view_of(solution, solution.facts, leaf, need.A)
        result.append(
            SliceRule(
                dim=leaf.dim,
                start=leaf.start,
                length=leaf.length,
                A=need.A,
                C=need.C,
                role=role_of(leaf.shape, need),
                b=need.A - a,
                c=law.c(need.C, view.at(a), a),
            )
        )
    return tuple(result) if len({(s.A, s.C, s.c) for s in result}) > 1 else ()


def derive(
    program: Program,
    optimizer: Union[str, UpdateLaw, Recipe] = "adamw",
    *,
    alignment: str = "full",
    gauge: Optional[str] = None,
    parametrization: str = "derived",
) -> Parametrization:
    """Derive how init, learning rate, weight decay and epsilon of every weight must scale with width.

    ``optimizer``: the name of an update law (``adamw``, ``sgd``, ``lion``, ...), a recipe (``muon+adamw``: the first for
    hidden matrices), or an :class:`~tpcalc.optimizers.UpdateLaw` of one's own.  ``alignment``: ``full``, ``omega`` or
    ``none`` (:class:`tpcalc.calculus.laws.Alignment`).  ``parametrization``: ``derived``, or one whose init is given, with the
    largest learning rates that stay stable under that alignment: ``sp``, ``ntp``, ``mfp`` or ``mup`` (:mod:`tpcalc.derive.named`).
    ``gauge``: where the sizes stand, ``init`` (no forward multipliers), ``mup``, ``symmetric`` or ``ntk``
    (:mod:`tpcalc.derive.gauge`); by default that in which the parametrization is written, ``init`` for ``derived``.

    Returns a mapping from parameter name to Rule; exponents follow the conventions of :mod:`tpcalc.derive.result`.

    Raises UnsupportedOpError for an op without a rule, DeriveError for an unknown name or where the uses of a weight
    have no common solution.
    """
    how = recipe(optimizer)
    if parametrization == "derived":
        return parametrize(solve(program, alignment), how, gauge or "init")
    from tpcalc.derive.named import NAMED, named_solution

    solution = named_solution(program, parametrization, check_alignment(alignment))
    rules = parametrize(solution, how, gauge or NAMED[parametrization])
    return replace(rules, parametrization=parametrization)


__all__ = ["Need", "Solution", "derive", "is_random", "parametrize", "solve", "view_of", "weight_view"]
