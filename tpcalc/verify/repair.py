"""Root causes of what explodes: training is followed on a program that is mended wherever it breaks.

Values must stay O(1) where they enter a nonlinearity or a weight, leave as outputs, or join a residual stream; what
enters a norm may have any size, but an update must not swamp it.  The forward pass is interpreted in order; at the
first value that is too large, the walk goes back, inside the region since the last sound values, to what makes it so:
a weight's init, its update, or a product of two values (attention).  That is a cause.  It is mended by as much as it
is too large, and the pass goes on with a sound value, so that every weight is judged with sound inputs and nothing
downstream is blamed.  Then the next training step follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Optional

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order, max_order
from tpcalc.calculus.laws import Alignment, Fact, WeightOrders, interpret, leaf_facts, roles, weight_leaf
from tpcalc.dynamics.given import STEPS, update_order, view_of
from tpcalc.dynamics.regime import base
from tpcalc.lower.lowered import Leaf, Lowered
from tpcalc.rules.structures import (
    Atom,
    Bounded,
    Centre,
    Contract,
    Exp,
    Gather,
    Guard,
    LinearLike,
    Log,
    Normalise,
    Power,
    Product,
    Reduce,
    Scale,
    Softmax,
    Sum,
    View,
    operands,
)
from tpcalc.verify.effective import Effective

#: Passes over one step at most; each mends all that it finds.
SWEEPS = 8

INIT, LR, SITE = "init", "lr", "multiplier"


@dataclass(frozen=True)
class Limit:
    """Why a value must stay O(1), and at which atom.

    ``norm``: only its change is limited, to its own size.  ``softmax``: the atom is one.
    """

    why: str
    atom: Optional[Atom]
    norm: bool = False
    softmax: bool = False


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
    excess: Fraction
    value: int
    order: Order
    step: int
    limit: Limit
    scale: Fraction = ZERO


@dataclass
class Repaired:
    """The program as mended: causes, and the orders and facts that remain.  ``C``: leaf name -> effective update
    order.
    """

    lowered: Lowered
    alignment: Alignment
    causes: list[Cause]
    A: dict[str, Optional[Fraction]]
    c: dict[str, Optional[Fraction]]
    C: dict[str, Optional[Fraction]]
    facts: Mapping[int, Fact] = field(default_factory=dict)


def limits(lowered: Lowered, facts: Mapping[int, Fact]) -> dict[int, Limit]:
    """The values that must stay O(1).  ``facts`` only tell weights from values."""
    found: dict[int, Limit] = {}
    norms: dict[int, Limit] = {}

    def add(vid: int, limit: Limit) -> None:
        if facts[vid].data:
            found.setdefault(vid, limit)

    for atom in lowered.atoms[: lowered.forward]:
        s = atom.structure
        if isinstance(s, Softmax):
            add(s.x, Limit("enters a softmax", atom, softmax=True))
        elif isinstance(s, (LinearLike, Bounded, Exp, Log)):
            add(s.x, Limit("enters a nonlinearity", atom))
        elif isinstance(s, Contract) and s.K > 0:
            x_weight, y_weight = roles(s, facts[s.x], facts[s.y])
            if x_weight != y_weight:
                add(base(lowered, s.y if x_weight else s.x), Limit("enters a weight", atom))
        elif isinstance(s, Sum) and _is_residual(lowered, atom, facts):
            add(atom.out, Limit("joins a residual stream", atom))
        elif isinstance(s, Normalise):
            norms.setdefault(lowered.before_centring(s.x), Limit("enters a norm", atom, norm=True))
    program = lowered.program
    for vid in (
        (program.loss,) if program.loss is not None and not program.outputs else [vid for _, vid in program.outputs]
    ):
        add(vid, Limit("leaves as an output", None))
    return {**{vid: limit for vid, limit in norms.items() if facts[vid].data}, **found}


def _is_residual(lowered: Lowered, atom: Atom, facts: Mapping[int, Fact]) -> bool:
    """Whether an atom adds two values of the program (the blocks of a packed value are joined by sums too, and biases
    added).
    """
    added = [x for x in operands(atom.structure) if facts[x].data and x in lowered.program.values]
    return len(added) > 1 and lowered.node(atom).op.split(".")[1].rstrip("_") in ("add", "sub")


class Repairer:
    """Mutable while it runs; :func:`repair` returns what it found."""

    def __init__(
        self, lowered: Lowered, given: Mapping[str, Effective], reference: Mapping[int, Fact], alignment: Alignment
    ) -> None:
        self.lowered, self.alignment, self.given = lowered, alignment, given
        self.limits = limits(lowered, reference)
        self.A = {leaf.name: given[leaf.name].b for leaf in lowered.leaves}
        self.c = {leaf.name: given[leaf.weight.name].c if leaf.weight.trainable else None for leaf in lowered.leaves}
        self.C: dict[str, Optional[Fraction]] = {leaf.name: None for leaf in lowered.leaves}
        self.index = {leaf.value: i for i, leaf in enumerate(lowered.leaves)}
        self.shifts: dict[int, Fraction] = {}
        self.gradient_shifts: dict[int, Fraction] = {}
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

    def updated(self, leaf: Leaf) -> Optional[Fraction]:
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

    def interpret(self, atom: Atom, shifts: Mapping[int, Fraction]) -> Fact:
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
                for cause in self.walk(atom.out, allowed, limit.norm):
                    mended |= self.mend(replace(cause, value=atom.out, order=allowed + cause.excess, limit=limit))
                self.facts[atom.out] = fact._replace(
                    init=fact.init if limit.norm else min(fact.init, ZERO),
                    trained=min(fact.trained, allowed),
                    change=min(fact.change, allowed),
                )
        return mended

    def mend(self, cause: Cause) -> bool:
        if cause.leaf is None:
            key = (SITE, cause.atom.out)
            self.shifts[cause.atom.out] = self.shifts.get(cause.atom.out, ZERO) - cause.excess
            gradient = self.lowered.program.grads.get(cause.atom.out)
            if gradient is not None:
                self.gradient_shifts[gradient] = self.shifts[cause.atom.out]
        else:
            name = cause.leaf.name
            key = (cause.quantity, name)
            if cause.quantity == INIT:
                self.A[name] += cause.excess
            else:
                self.C[name] += cause.excess
                self.c[name] += cause.excess
            self.facts[cause.leaf.value] = weight_leaf(
                self.lowered, self.index[cause.leaf.value], self.orders(cause.leaf)
            )
        if key in self.causes:
            self.causes[key].excess += cause.excess
        else:
            self.causes[key] = cause
        return True

    # -- back to the cause ------------------------------------------------------------------------

    def walk(self, vid: int, allowed: Order, change: bool) -> list[Cause]:
        """The causes that make ``vid`` larger than ``allowed``, one each; with ``change`` only its change is too
        large.
        """
        found: dict[tuple, Cause] = {}
        stack: list[tuple[int, Order, bool, Fraction]] = [(vid, allowed, change, ZERO)]
        seen: set[tuple[int, bool]] = set()
        while stack:
            x, limit, only, scale = stack.pop()
            if (x, only) in seen:
                continue
            seen.add((x, only))
            for item in self.back(x, limit, only, scale):
                if isinstance(item, Cause):
                    key = (item.quantity, item.leaf.name if item.leaf else item.atom.out)
                    if key not in found or found[key].excess < item.excess:
                        found[key] = item
                else:
                    stack.append(item)
        return list(found.values())

    def size(self, vid: int, change: bool) -> Order:
        fact = self.facts[vid]
        return fact.change if change else max_order(fact.init, fact.trained)

    def is_weight(self, vid: int) -> bool:
        fact = self.facts[vid]
        return fact.weight != 0 and not fact.data

    def back(
        self, vid: int, limit: Order, change: bool, scale: Fraction
    ) -> Iterator["Cause | tuple[int, Order, bool, Fraction]"]:
        """One step back from a value that is too large: causes, or operands that are too large in turn."""
        excess = self.size(vid, change) - limit
        if excess is MINUS_INFINITY or excess <= ZERO:
            return
        if self.is_weight(vid):
            fact = self.facts[vid]
            yield from self.of_weight(
                vid, ZERO if change else fact.init - limit, fact.change - limit, self.lowered.maker.get(vid)
            )
            return
        atom = self.lowered.maker.get(vid)
        if atom is None:
            return
        s = atom.structure
        if isinstance(s, Gather):
            fact = self.facts[s.x]
            if self.is_weight(s.x):
                yield from self.of_weight(s.x, ZERO if change else fact.init - limit, fact.change - limit, atom)
            else:
                yield s.x, limit, change, scale
        elif isinstance(s, (View, Centre, Guard)):
            yield s.x, limit, change, scale
        elif isinstance(s, Scale):
            yield s.x, limit - s.order, change, scale + s.order
        elif isinstance(s, (LinearLike, Bounded, Exp, Log)):
            yield s.x, limit, change, scale
        elif isinstance(s, Sum):
            for x in s.xs:
                yield x, limit, change, scale
        elif isinstance(s, Power) and s.k > 0:
            init = self.facts[s.x].init
            within = limit - (s.k - 1) * init if change and init is not MINUS_INFINITY else limit / s.k
            yield s.x, within, change, scale * s.k
        elif isinstance(s, Contract) and (kinds := roles(s, self.facts[s.x], self.facts[s.y])) != (False, False):
            yield from self.contraction(atom, s, kinds, limit, change)
        elif isinstance(s, Product) and (self.is_weight(s.x) != self.is_weight(s.y)):
            w, v = (s.x, s.y) if self.is_weight(s.x) else (s.y, s.x)
            weight, value = self.facts[w], self.facts[v]
            at_init = weight.init + (value.change if change else max_order(value.init, value.trained)) - limit
            updated = weight.change + value.trained - limit
            if self.size(v, change) > ZERO and v not in self.limits:
                yield v, ZERO, change, scale
            else:
                yield from self.of_weight(w, at_init, updated, atom)
        elif isinstance(s, (Product, Contract)):
            too_large = [x for x in (s.x, s.y) if self.size(x, change) > ZERO and x not in self.limits]
            if too_large:
                for x in too_large:
                    yield x, ZERO, change, scale
            else:
                own = scale + self.constants(s.x) + self.constants(s.y)
                yield Cause(SITE, None, atom, excess, vid, ZERO, self.step, Limit("", None), own)
        elif isinstance(s, Reduce) and self.size(s.x, change) > ZERO and s.x not in self.limits:
            yield s.x, ZERO, change, scale
        else:
            yield Cause(SITE, None, atom, excess, vid, ZERO, self.step, Limit("", None), scale)

    def constants(self, vid: int) -> Fraction:
        """The power of the constants on the way to a value from what they act on."""
        power = ZERO
        while (atom := self.lowered.maker.get(vid)) is not None and isinstance(atom.structure, (View, Scale, Guard)):
            if isinstance(atom.structure, Scale) and atom.structure.order is not MINUS_INFINITY:
                power += atom.structure.order
            vid = atom.structure.x
        return power

    def contraction(
        self, atom: Atom, s: Contract, kinds: tuple[bool, bool], limit: Order, change: bool
    ) -> Iterator["Cause | tuple"]:
        """Laws 1 to 3 term by term: which of them is too large."""
        for is_weight, w, v, rest, partner_weight in (
            (kinds[0], s.x, s.y, s.rest_x, kinds[1]),
            (kinds[1], s.y, s.x, s.rest_y, kinds[0]),
        ):
            if not is_weight:
                continue
            weight, value = self.facts[w], self.facts[v]
            on_change = self.alignment.initial_on_change(s.K, rest)
            if partner_weight:
                spread = s.K if weight.weight & value.weight else s.K / 2
            else:
                spread = on_change if weight.weight & value.depends else s.K / 2
            on_values = weight.init + on_change + value.change
            at_init = on_values if change else max_order(weight.init + spread + value.init, on_values)
            updated = weight.change + self.alignment.weight_change(s.K) + value.trained
            if not partner_weight and self.size(v, change) > ZERO and base(self.lowered, v) not in self.limits:
                yield v, ZERO, change, ZERO
            yield from self.of_weight(w, at_init - limit, updated - limit, atom)

    def of_weight(self, vid: int, init: Order, change: Order, use: Optional[Atom]) -> Iterator[Cause]:
        """Blame a weight (through views, scales, blocks): its init is too large by ``init``, its update by
        ``change``.
        """
        leaf = self.lowered.leaves[self.index[vid]] if vid in self.index else None
        if leaf is not None:
            atom = use or next(iter(self.lowered.forward_uses.get(vid, ())), None)
            if atom is None:
                return
            if init is not MINUS_INFINITY and init > ZERO and self.A[leaf.name] is not None:
                yield Cause(INIT, leaf, atom, init, vid, ZERO, self.step, Limit("", None))
            if change is not MINUS_INFINITY and change > ZERO and self.C[leaf.name] is not None:
                yield Cause(LR, leaf, atom, change, vid, ZERO, self.step, Limit("", None))
            return
        atom = self.lowered.maker.get(vid)
        if atom is None:
            return
        s, fact = atom.structure, self.facts[vid]
        if isinstance(s, (View, Centre, Guard, Gather, Scale)):
            yield from self.of_weight(s.x, init, change, use)
        elif isinstance(s, Sum):
            for x in s.xs:
                own = self.facts[x]
                yield from self.of_weight(x, init + own.init - fact.init, change + own.change - fact.change, use)
        elif isinstance(s, (Product, Contract)):
            # a merged weight (LoRA's B A, a gain times a direction): the factor that moved, the first one for the init
            x, y = self.facts[s.x], self.facts[s.y]
            if self.is_weight(s.x):
                yield from self.of_weight(
                    s.x, init, change if x.change + y.trained >= y.change + x.init else MINUS_INFINITY, use
                )
            if self.is_weight(s.y):
                yield from self.of_weight(
                    s.y,
                    init if not self.is_weight(s.x) else MINUS_INFINITY,
                    change if y.change + x.trained >= x.change + y.init else MINUS_INFINITY,
                    use,
                )


def repair(
    lowered: Lowered, given: Mapping[str, Effective], reference: Mapping[int, Fact], alignment: Alignment
) -> Repaired:
    """Follow training under ``given``, mending each cause of an explosion.  ``reference``: facts that tell weights
    from values.
    """
    return Repairer(lowered, given, reference, alignment).run()


__all__ = ["INIT", "LR", "SITE", "Cause", "Limit", "Repaired", "limits", "repair"]
