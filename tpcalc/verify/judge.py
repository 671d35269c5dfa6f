"""From exponents to findings: what breaks the limit, what is too small, what drifts; one finding a cause."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Optional

from tpcalc.algebra.fit import fit_scalar
from tpcalc.algebra.order import MINUS_INFINITY, ONE, ZERO, Order, max_order, order_text
from tpcalc.calculus.laws import FULL
from tpcalc.derive.solve import Need, Solution, moments, role_of, safe_rate, solve, view_of
from tpcalc.dynamics.given import Analysis, Step, analyse, gradient_order
from tpcalc.dynamics.regime import KERNEL, TRIVIAL, UNSTABLE, own_effect, regime
from tpcalc.lower.lowered import Leaf
from tpcalc.optimizers import COUPLED, DECOUPLED, LINEAR, SGD, UpdateLaw, WeightView, finite
from tpcalc.program.ir import Weight
from tpcalc.program.names import fold_names
from tpcalc.rules.structures import (
    Bounded,
    Centre,
    Contract,
    Exp,
    Guard,
    LinearLike,
    Product,
    Scale,
    Softmax,
    Sum,
    View,
    operands,
)
from tpcalc.verify.absorbed import Absorbed, absorbed, end_before
from tpcalc.verify.effective import Effective, effective
from tpcalc.verify.findings import (
    ABSORBED,
    ATTENTION,
    DECAY,
    EPS,
    EXPLODES,
    FROZEN,
    KINDS,
    NOT_MAXIMAL,
    SEVERITY,
    UNMATCHED,
    VANISHES,
    WARNING,
    Checked,
    Finding,
    Report,
)
from tpcalc.verify.gather import Gathered
from tpcalc.verify.repair import INIT, LR, SITE, Cause, Repaired, limits, repair

#: An update that moves its own result by no more than n^-1 is frozen; one between n^-1 and n^0 is not maximal.
FROZEN_FROM = ONE

QUANTITY = {INIT: "init std", LR: "lr", SITE: "multiplier"}


@dataclass
class Item:
    """A finding about one weight or site, before those of one cause are put together.  ``text``: what breaks;
    ``fix``: what to do.

    ``also``: what else must agree for two items to be one finding.
    """

    kind: str
    quantity: str
    found: Optional[Fraction]
    needed: Optional[Fraction]
    where: str
    text: str
    fix: str
    weight: str = ""
    site: str = ""
    effect: Optional[Order] = None
    also: tuple = ()
    weights: tuple[str, ...] = field(default=())
    severity: str = ""
    block: str = ""
    """The block of the weight that it is about, where blocks have inits of their own."""


class Judge:
    """One verification.  Mutable while it runs; :func:`judge` returns its report."""

    def __init__(self, gathered: Gathered) -> None:
        self.gathered = gathered
        self.program = gathered.program
        self.solution: Solution = solve(self.program)
        self.lowered = self.solution.lowered
        self.given: dict[str, Effective] = effective(gathered, self.lowered)
        self.repaired: Repaired = repair(self.lowered, self.given, self.solution.facts, FULL)
        self.facts = self.repaired.facts
        self.limits = limits(self.lowered, self.solution.facts)
        laws: dict[str, UpdateLaw] = {name: own.law or SGD for name, own in self.given.items()}
        self.regime = regime(analyse(self.lowered, {name: own.given for name, own in self.given.items()}, laws))
        self.mended = Analysis(
            self.lowered,
            {name: own.given for name, own in self.given.items()},
            FULL,
            (Step(self.repaired.C, self.facts),),
            True,
        )
        self.items: list[Item] = []
        self.notes: list[str] = []

    def run(self) -> list[Item]:
        self.explosions()
        self.small_updates()
        self.small_inits()
        self.untrained()
        self.unmatched()
        self.drifts()
        self.hints()
        return self.items

    # -- helpers ----------------------------------------------------------------------------------

    def block(self, leaf: Leaf) -> str:
        """The name of a block of a packed weight whose blocks have inits of their own."""
        inits = {self.given[other.name].b for other in self.lowered.leaves_of[leaf.weight.name]}
        return leaf.name if len(inits) > 1 else ""

    def need(self, leaf: Leaf) -> Optional[Need]:
        return self.solution.needs.get(leaf.name)

    def role(self, weight: Weight) -> str:
        found = self.solution.needs_of(weight)
        return role_of(found[0][0].shape, found[0][1]) if found else "unused"

    def value(self, vid: int) -> str:
        """``h13 (addmm in hidden1)``: a value, the op that makes it and its module."""
        atom = self.lowered.maker.get(vid)
        if atom is None:
            return self.lowered.name(vid)
        node = self.lowered.node(atom)
        made = vid if vid in self.program.values else next((out for out in node.outputs if out is not None), vid)
        op = node.short_op
        return (
            f"{self.lowered.name(made)} ({op} in {node.module})" if node.module else f"{self.lowered.name(made)} ({op})"
        )

    def breaks(self, cause: Cause) -> str:
        """``h13 (addmm in hidden1), which enters a nonlinearity, grow like n^1 after step 1``."""
        moment = "at init" if cause.step == 0 else f"after step {cause.step}"
        return f"{self.value(cause.value)}, which {cause.limit.why}, grow like {power(cause.order)} {moment}"

    def where(self, leaf: Leaf) -> str:
        need = self.need(leaf)
        use = need.demand.use if need is not None else None
        use = use or next(iter(self.lowered.forward_uses.get(leaf.value, ())), None)
        return self.lowered.where(use) if use is not None else ""

    def needed_c(self, leaf: Leaf) -> Optional[Fraction]:
        """The learning rate that the maximal parametrization gives under this optimizer."""
        own, need = self.given[leaf.name], self.need(leaf)
        if own.law is None or need is None:
            return None
        return safe_rate(own.law, moments(self.solution, self.solution.facts, [(leaf, need)]))

    def depends_on_others(self, leaf: Leaf) -> bool:
        """Whether the size of an update hangs on the gradient or on the weight (SGD, Adafactor): then what breaks it
        may be elsewhere.
        """
        law = self.given[leaf.name].law
        return law is not None and law.follows_others

    def own_c(self, leaf: Leaf, C_excess: Fraction) -> Optional[Fraction]:
        """The learning rate needed where an update is off by ``C_excess``."""
        need = self.need(leaf)
        if self.depends_on_others(leaf) and need is not None and need.demand.excess_at is None:
            return self.needed_c(leaf)
        c = self.given[leaf.name].c
        return None if c is None else c + C_excess

    def minus(self, x: Optional[Fraction]) -> Optional[Fraction]:
        return None if x is None else -x

    # -- too large --------------------------------------------------------------------------------

    def explosions(self) -> None:
        swallowed = absorbed(self.lowered, self.solution.facts, self.limits)
        explained: dict[int, list[Cause]] = {}
        for cause in self.in_order(self.repaired.causes):
            site = self.absorbed_before(cause, swallowed)
            if site is not None:
                explained.setdefault(site.atom.out, []).append(cause)
            elif cause.leaf is None:
                self.site(cause)
            else:
                self.too_large(cause)
        for site in swallowed:
            self.absorbed(site, explained.get(site.atom.out, []))

    def in_order(self, causes: list[Cause]) -> list[Cause]:
        """Causes in the order of their weights in the model."""
        place = {leaf.name: index for index, leaf in enumerate(self.lowered.leaves)}
        return sorted(causes, key=lambda cause: -1 if cause.leaf is None else place[cause.leaf.name])

    def too_large(self, cause: Cause) -> None:
        leaf, own = cause.leaf, self.given[cause.leaf.name]
        if cause.quantity == INIT:
            found, needed = -own.b, -own.b - cause.excess
        else:
            c = self.own_c(leaf, cause.excess)
            if c == own.c and self.sizeless(leaf):
                self.items.append(self.from_zero(leaf, EXPLODES, f"makes {self.breaks(cause)}", cause.order))
                return
            if c == own.c or self.follows_a_site(leaf):
                return  # its gradient or its size is wrong through another weight, which is found too
            found, needed = -own.c, self.minus(c)
        what = "its init" if cause.quantity == INIT else "one update"
        fix = f"multiply its {QUANTITY[cause.quantity]} by {power(needed - found)}"
        if self.right_elsewhere(leaf):
            self.tied(cause, what)
            return
        lost = own.weight_decay is not None and cause.quantity == LR and own.weight_decay == -needed != 0 and own.c == 0
        if lost:
            fix += (
                f"; its weight decay is scaled by {power(own.weight_decay)} all the same, so a learning-rate "
                f"multiplier was lost on the way"
            )
        self.items.append(
            Item(
                EXPLODES,
                QUANTITY[cause.quantity],
                found,
                needed,
                self.lowered.where(cause.atom),
                f"{what} makes {self.breaks(cause)}",
                fix,
                weight=leaf.weight.name,
                effect=cause.order,
                also=(self.group(leaf.weight), lost),
                block=self.block(leaf) if cause.quantity == INIT else "",
            )
        )

    def sizeless(self, leaf: Leaf) -> bool:
        """A weight that starts at zero under an optimizer that scales updates to its size."""
        own = self.given[leaf.name]
        return own.law is not None and own.law.relative and own.b is None

    def from_zero(self, leaf: Leaf, kind: str, does: str, effect: Order) -> Item:
        """The rate is right for a weight of its size, and wrong for none: what is at fault is its init."""
        own, need = self.given[leaf.name], self.need(leaf)
        return Item(
            kind,
            QUANTITY[INIT],
            None,
            None if need is None else -need.A,
            self.where(leaf),
            f"it starts at zero, where {own.law.name} has no size to scale its update to: one update {does}",
            f"start it at a size{'' if need is None else f' ~ {power(-need.A)}'}, or train it by another optimizer",
            weight=leaf.weight.name,
            effect=effect,
            also=(self.group(leaf.weight),),
        )

    def follows_a_site(self, leaf: Leaf) -> bool:
        """Under SGD the two operands of a product of values that is too large make each other's gradients too large."""
        need = self.need(leaf)
        at = need.demand.excess_at if need is not None else None
        sites = {cause.atom.out for cause in self.repaired.causes if cause.leaf is None}
        return self.depends_on_others(leaf) and at is not None and at.out in sites

    def right_elsewhere(self, leaf: Leaf) -> bool:
        """A tied weight whose exponents are those its other use needs: it is this use that needs a multiplier."""
        own, need = self.given[leaf.name], self.need(leaf)
        return bool(leaf.weight.aliases) and need is not None and own.b == need.A and own.c == self.needed_c(leaf)

    def tied(self, cause: Cause, what: str) -> None:
        """One finding for init and learning rate: the larger of what they need."""
        name = cause.leaf.weight.name
        needed = -cause.excess
        others = [item for item in self.items if item.weight == name and item.quantity == QUANTITY[SITE]]
        if others and others[0].needed <= needed:
            return
        self.items = [item for item in self.items if item not in others]
        where = self.lowered.where(cause.atom)
        self.items.append(
            Item(
                EXPLODES,
                QUANTITY[SITE],
                ZERO,
                needed,
                where,
                f"{what} makes {self.breaks(cause)}",
                f"as the weight is tied, multiply the forward pass of this use by {power(needed)} (or the gain of the "
                f"norm before it, its init and its lr)",
                weight=name,
                effect=cause.order,
                also=(self.group(cause.leaf.weight),),
            )
        )

    def group(self, weight: Weight) -> str:
        """Weights of one role fail together; a readout or a router stands for itself."""
        role = self.role(weight)
        return role if role not in ("output", "scalar") else f"{role} {_template(weight.name)}"

    def site(self, cause: Cause) -> None:
        node = self.lowered.node(cause.atom)
        attention = cause.limit.softmax and isinstance(cause.atom.structure, Contract)
        op = node.short_op
        needed = cause.scale - cause.excess
        if attention and cause.scale > -cause.atom.structure.K:
            needed = -cause.atom.structure.K  # what trained queries and keys need, however much these ones move
        what = f"its product of two trained values over a growing axis makes {self.breaks(cause)}"
        fix = (
            f"scale the logits by {power(needed)} and not by {power(cause.scale)} (or multiply init and lr of the "
            f"query weight, or of its norm's gain, by {power(needed - cause.scale)})"
            if attention
            else (f"multiply its result by {power(-cause.excess)} in the forward pass")
        )
        self.items.append(
            Item(
                ATTENTION if attention else EXPLODES,
                QUANTITY[SITE],
                cause.scale,
                needed,
                node.where,
                what,
                fix,
                site=node.module or op,
                effect=cause.order,
            )
        )

    def absorbed_before(self, cause: Cause, swallowed: list[Absorbed]) -> Optional[Absorbed]:
        """The absorbed multiplier that explains why a weight after the norm explodes, by no more than it should have
        taken off.
        """
        s = cause.atom.structure
        if cause.leaf is None or not isinstance(s, Contract):
            return None
        for x in (s.x, s.y):
            for site in swallowed:
                if (
                    self.facts[x].data
                    and 0 < cause.excess <= -site.power
                    and end_before(self.lowered, self.facts, x, site.results)
                ):
                    return site
        return None

    def absorbed(self, site: Absorbed, causes: list[Cause]) -> None:
        node = self.lowered.node(site.atom)
        names = tuple(dict.fromkeys(cause.leaf.weight.name for cause in causes))
        text = (
            f"the factor {power(site.power)} is divided out again by the norm after it, so its effect is {power(ZERO)}"
        )
        if causes:
            worst = max(causes, key=lambda cause: cause.order)
            text += f": {', '.join(fold_names(names))} makes {self.value(worst.value)} grow like {power(worst.order)}"
        self.items.append(
            Item(
                ABSORBED,
                QUANTITY[SITE],
                ZERO,
                site.power,
                node.where,
                text,
                "move it behind the norm" if causes else "move it behind the norm, or drop it",
                site=node.where or node.op,
                effect=max_order(*(cause.order for cause in causes)),
                weights=names,
                severity="" if causes else WARNING,
            )
        )

    # -- too small --------------------------------------------------------------------------------

    def caused(self, name: str, quantity: str) -> bool:
        return any(
            c.leaf is not None and c.leaf.weight.name == name and c.quantity == quantity for c in self.repaired.causes
        )

    def small_updates(self) -> None:
        for leaf in self.lowered.leaves:
            own, need, C = self.given[leaf.name], self.need(leaf), self.repaired.C[leaf.name]
            if need is None or C is None or own.law is None or self.caused(leaf.weight.name, LR):
                continue
            deficit = C - need.C
            if deficit <= 0 or not (self.too_small(leaf, C) or self.starves(leaf, need)):
                continue
            needed = self.own_c(leaf, -deficit)
            if needed == own.c and self.sizeless(leaf):
                use = need.demand.use
                moves = f"moves {self.value(use.out) if use is not None else leaf.name} by only {power(-deficit)}"
                self.items.append(self.from_zero(leaf, NOT_MAXIMAL, moves, -deficit))
            if needed is None or needed == own.c:
                continue  # what is too small is elsewhere
            if (first := self.fastest_allowed(leaf)) is not None:
                self.one_lr(leaf, first)
                continue
            self.items.append(self.small_update(leaf, need, deficit, needed))

    def fastest_allowed(self, leaf: Leaf) -> Optional[Leaf]:
        """The block of the same packed weight that bears no larger learning rate than the one they share."""
        own = self.given[leaf.name]
        others = [other for other in self.lowered.leaves_of[leaf.weight.name] if other is not leaf]
        return next((other for other in others if self.needed_c(other) == own.c), None)

    def one_lr(self, leaf: Leaf, first: Leaf) -> None:
        note = (
            f"{leaf.weight.name} has one learning rate for all its blocks, and {first.name} bears no larger one: "
            f"other blocks move less than they could; as weights of their own they would not"
        )
        if note not in self.notes:
            self.notes.append(note)

    def too_small(self, leaf: Leaf, C: Fraction) -> bool:
        """By propagation, whatever the gauge: the update moves its result, or through it the outputs, vanishingly."""
        entries = sum((size.growth for size in leaf.shape), ZERO)
        on_outputs = gradient_order(leaf.grad, self.facts) - C + entries
        return on_outputs < ZERO or own_effect(self.mended, self.facts, leaf.value) < ZERO

    def small_update(self, leaf: Leaf, need: Need, deficit: Fraction, needed: Fraction) -> Item:
        own, use = self.given[leaf.name], need.demand.use
        value = self.value(use.out) if use is not None else leaf.name
        kind, extra = NOT_MAXIMAL, ""
        text = f"one update moves {value} by only {power(-deficit)}"
        if self.starved(leaf, need):
            kind, text = (
                VANISHES,
                f"its init and its updates make {value}, which {need.demand.law}, shrink like {power(-deficit)}",
            )
            extra = f" and its init std by {power(own.b - need.A)}"
        elif self.regime.name in (KERNEL, TRIVIAL):
            kind = FROZEN
        elif deficit >= FROZEN_FROM and not self.beside_another(leaf, need):
            kind = FROZEN
        return Item(
            kind,
            QUANTITY[LR],
            -own.c,
            -needed,
            self.where(leaf),
            text,
            f"multiply its lr by {power(own.c - needed)}{extra}",
            weight=leaf.weight.name,
            effect=-deficit,
            also=(self.group(leaf.weight),),
        )

    def starved(self, leaf: Leaf, need: Need) -> bool:
        """Its result is smaller than it may be, at init and after training."""
        own, use = self.given[leaf.name], need.demand.use
        if use is None or own.b is None or own.b <= need.A or isinstance(use.structure, Sum):
            return False
        return self.facts[use.out].trained < self.solution.facts[use.out].trained

    def starves(self, leaf: Leaf, need: Need) -> bool:
        """It makes a nonlinearity further on linear in the limit: what enters there is too small, trained or not (a
        norm's gain that shrinks: whatever the weights behind it do, relative to that all of them move).
        """
        if not self.starved(leaf, need):
            return False
        after = self.nonlinearities_after(need.demand.use.out, (View, Centre, Scale, Guard, Sum, Contract, Product))
        return any(self.facts[value].trained < self.solution.facts[value].trained for value, _ in after)

    def beside_another(self, leaf: Leaf, need: Need) -> bool:
        """A bias, or one of two embeddings: what it is added to moves maximally anyhow."""
        use = need.demand.use
        if use is None or not isinstance(use.structure, Sum):
            return False
        others = [x for x in operands(use.structure) if x != leaf.value and self.facts[x].data]
        return any(self.facts[x].change >= ZERO for x in others)

    def small_inits(self) -> None:
        for leaf in self.lowered.leaves:
            own, need = self.given[leaf.name], self.need(leaf)
            use = need.demand.use if need is not None else None
            if use is None or own.b is None or own.b <= need.A or isinstance(use.structure, Sum) or not own.random:
                continue
            if any(item.weight == leaf.weight.name and item.block in ("", leaf.name) for item in self.items):
                continue
            if self.role(leaf.weight) == "output":
                continue
            value, why = next(self.nonlinearities_after(use.out, (View, Centre, Scale, Guard, Sum)), (None, ""))
            if value is not None and self.facts[value].init < self.solution.facts[value].init:
                deficit = own.b - need.A
                self.items.append(
                    Item(
                        NOT_MAXIMAL,
                        QUANTITY[INIT],
                        -own.b,
                        -need.A,
                        self.where(leaf),
                        f"{self.value(value)}, which {why}, is as small as {power(-deficit)} at init",
                        f"multiply its init std by {power(deficit)}",
                        weight=leaf.weight.name,
                        effect=-deficit,
                        also=(self.group(leaf.weight),),
                        block=self.block(leaf),
                    )
                )

    def nonlinearities_after(self, vid: int, through: tuple[type, ...]) -> Iterator[tuple[int, str]]:
        """The values that a result becomes, by structures of the kinds ``through``, where they enter a nonlinearity or
        a softmax, with what they enter; the nearest first.
        """
        queue, seen = [vid], {vid}
        while queue:
            x = queue.pop(0)
            limit = self.limits.get(x)
            if (
                limit is not None
                and limit.atom is not None
                and isinstance(limit.atom.structure, (LinearLike, Bounded, Exp, Softmax))
            ):
                yield x, limit.why
                continue
            for atom in self.lowered.forward_uses.get(x, ()):
                if isinstance(atom.structure, through) and atom.out not in seen:
                    seen.add(atom.out)
                    queue.append(atom.out)

    def untrained(self) -> None:
        for weight in self.program.weights:
            own = self.given[weight.name]
            if not weight.trainable or weight.grad is None or weight.name in self.solution.unused or own.c is not None:
                continue
            held = own.law is not None
            fix = "give it a learning rate" if held else "put it into a param group"
            self.items.append(
                Item(
                    FROZEN if held else UNMATCHED,
                    QUANTITY[LR],
                    None,
                    None,
                    self.where(self.lowered.leaves_of[weight.name][0]),
                    f"{own.why}: it never moves",
                    f"{fix}, or call requires_grad_(False) on it if that is meant",
                    weight=weight.name,
                )
            )

    # -- unmatched --------------------------------------------------------------------------------

    def unmatched(self) -> None:
        """A weight left at the default learning rate while its twins, or a group that holds nothing, have the one
        that it needs.
        """
        empty = self.empty_groups()
        wrong = {item.weight for item in self.items if item.weight and item.quantity == QUANTITY[LR]}
        for item in self.items:
            if not item.weight or item.quantity != QUANTITY[LR] or item.found != 0 or item.needed in (None, 0):
                continue
            if item.kind not in (EXPLODES, FROZEN, NOT_MAXIMAL):
                continue
            weight = next(w for w in self.program.weights if w.name == item.weight)
            twins = [
                w.name
                for w in self.program.weights
                if w.name not in wrong and self.twins(w, weight) and self.minus(self.given[w.name].c) == item.needed
            ]
            places = [place for place, exponent in empty if exponent == item.needed]
            if places:
                reason = f"{places[0]}, with lr ~ {power(item.needed)}, holds no parameter: its filter matches no name"
            elif twins:
                reason = f"its twin {twins[0]} has lr ~ {power(item.needed)}, but no group rule touched this one"
            else:
                continue
            item.kind, item.text, item.also = UNMATCHED, f"{reason}; {item.text}", (*item.also, bool(places))

    def twins(self, x: Weight, y: Weight) -> bool:
        growths = [tuple(size.growth for size in w.shape) for w in (x, y)]
        return (
            growths[0] == growths[1]
            and self.role(x) == self.role(y)
            and self.given[x.name].optimizer == self.given[y.name].optimizer
        )

    def empty_groups(self) -> list[tuple[str, Fraction]]:
        """Groups that hold no parameter at any width, with the exponent of their learning rate."""
        tables = [dict(live.empty) for live in self.gathered.live.values()]
        found = []
        for place in tables[0]:
            if all(place in table for table in tables):
                samples = tuple(
                    (width, live_empty[place]) for width, live_empty in zip(self.gathered.live, tables, strict=True)
                )
                order = fit_scalar(samples, f"the learning rate of {place}").order
                if order is not MINUS_INFINITY:
                    found.append((place, order))
        return found

    # -- drifts -----------------------------------------------------------------------------------

    def drifts(self) -> None:
        for weight in self.program.weights:
            own = self.given[weight.name]
            if own.law is None or own.c is None or weight.name in self.solution.unused:
                continue
            gradient = gradient_order(weight.grad, self.facts)
            if gradient is MINUS_INFINITY:
                continue
            self.decay(weight, own, gradient)
            if any(item.kind in (VANISHES, FROZEN) for item in self.items):
                # a gradient that another fault makes small is not held against epsilon
                gradient = max_order(gradient, gradient_order(weight.grad, self.solution.facts))
            view = self.view(weight, gradient)
            needed = None if own.law.eps is None else finite(own.law.eps.exponent(view))
            starved = any(item.kind == VANISHES and item.weight == weight.name for item in self.items)
            if own.eps is not None and needed is not None and own.eps > needed and not starved:
                self.items.append(
                    Item(
                        EPS,
                        "eps",
                        own.eps,
                        needed,
                        "",
                        self.eps_text(own, gradient, needed),
                        f"scale eps by {power(needed - own.eps)}",
                        weight=weight.name,
                        effect=needed - own.eps,
                    )
                )

    @staticmethod
    def eps_text(own: Effective, gradient: Order, needed: Fraction) -> str:
        then = "the update fades" if own.law.eps.power else "the update becomes another one"
        fades = f"beyond some width epsilon wins and {then}"
        if needed == gradient:
            return f"the gradient shrinks like {power(gradient)}, epsilon like {power(own.eps)}: {fades}"
        return (
            f"the gradient scales like {power(gradient)}, so that epsilon should like {power(needed)}; it scales like "
            f"{power(own.eps)}: {fades}"
        )

    def decay(self, weight: Weight, own: Effective, gradient: Order) -> None:
        if own.weight_decay is None:
            return
        leaves = self.lowered.leaves_of[weight.name]
        if own.law.decay not in (DECOUPLED, LINEAR):
            size = max_order(*(self.facts[leaf.value].trained for leaf in leaves))
            if size is MINUS_INFINITY:
                return
            needed = own.law.decay.exponent(replace(self.view(weight, gradient), size=-size), own.c)
            if needed == own.weight_decay:
                return
            what = "decay over gradient" if own.law.decay == COUPLED else "decay over the rest of the update"
            convention = own.law.decay.convention.partition(":")[0]
            text = f"{convention}: {what} changes like {power(own.weight_decay - needed)}"
            fix = f"make weight_decay ~ {power(needed)}"
            if own.law.decay == COUPLED:
                fix += ", or use decoupled decay with lr * weight_decay constant"
        else:
            mended = (
                {self.repaired.c[leaf.name] for leaf in leaves} | {self.needed_c(leaf) for leaf in leaves} | {own.c}
            )
            if own.weight_decay in mended:
                return
            needed = own.c
            text = f"lr * weight_decay changes like {power(own.weight_decay - needed)}"
            fix = f"make weight_decay ~ {power(needed)}, so that lr * weight_decay is constant"
        self.items.append(
            Item(
                DECAY,
                "weight_decay",
                own.weight_decay,
                needed,
                "",
                text,
                fix,
                weight=weight.name,
                effect=own.weight_decay - needed,
            )
        )

    def hints(self) -> None:
        if self.regime.name == KERNEL and not self.repaired.causes:
            for weight in self.program.weights:
                own, found = self.given[weight.name], self.solution.needs_of(weight)
                if found and own.b is not None and own.b < found[0][1].A and not self.block(found[0][0]):
                    self.notes.append(
                        f"to leave the kernel regime, also make the init std of {weight.name} ~ "
                        f"{power(-found[0][1].A)} (found {power(-own.b)})"
                    )
        strangers = {live.strangers for live in self.gathered.live.values()} - {0}
        if strangers:
            self.notes.append(f"{max(strangers)} tensors in the optimizer are no parameters of the model")
        twice = next(iter(self.gathered.live.values())).twice
        if twice:
            self.notes.append(f"held by two optimizers, of which the last was read: {', '.join(fold_names(twice))}")
        self.notes += dict.fromkeys(own.law.note for own in self.given.values() if own.law is not None and own.law.note)
        if self.gathered.measured:
            self.notes.append(
                f"init measured on real instances, not read: {', '.join(fold_names(sorted(self.gathered.measured)))}"
            )

    # -- the report -------------------------------------------------------------------------------

    def report(self, name: str) -> Report:
        items = self.run()
        broken = bool(self.repaired.causes)
        findings = sorted(
            put_together(items, len(self.program.weights)), key=lambda f: (f.severity != "error", KINDS.index(f.kind))
        )
        regime_name = UNSTABLE if broken else self.regime.name
        if self.regime.name == UNSTABLE and not broken:
            findings = [self.unexplained(), *findings]
        return Report(
            tuple(findings),
            self.checked(findings),
            regime_name,
            self.program.widths,
            self.gathered.how,
            self.gathered.why,
            None if regime_name == UNSTABLE else self.regime.r,
            tuple(self.notes),
            self.assumptions(),
            name,
        )

    def assumptions(self) -> tuple[str, ...]:
        own = dict.fromkeys(self.given[weight.name].assumption for weight in self.program.weights)
        return tuple(text for text in (*self.program.assumptions, *own) if text)

    def unexplained(self) -> Finding:
        """A value that the regime calls too large though no cause was found for it."""
        excess = self.regime.excesses[0]
        where = self.lowered.where(excess.atom) if excess.atom is not None else ""
        text = f"it {excess.why} and grows like {power(excess.order)}"
        return Finding(
            EXPLODES,
            SEVERITY[EXPLODES],
            self.lowered.name(excess.value),
            "value",
            excess.order,
            ZERO,
            where,
            text,
            (),
            excess.order,
        )

    def checked(self, findings: list[Finding]) -> Mapping[str, Checked]:
        table: dict[str, Checked] = {}
        for weight in self.program.weights:
            own, found = self.given[weight.name], self.solution.needs_of(weight)
            kinds = tuple(dict.fromkeys(f.kind for f in findings if weight.name in f.weights))
            row = Checked(
                weight.name,
                "[" + ", ".join(map(str, weight.shape)) + "]",
                self.role(weight),
                own.optimizer,
                own.b,
                own.c,
                own.weight_decay,
                own.eps,
                own.b,
                self.effective_C(weight),
                gradient_order(weight.grad, self.facts),
                (max(n.A for _, n in found), max(n.C for _, n in found)) if found else None,
                kinds,
                weight.aliases,
                tuple((x.name, self.given[x.name].b) for x in self.lowered.leaves_of[weight.name] if self.block(x)),
            )
            for name in weight.names:
                table[name] = replace(row, name=name)
        return table

    def effective_C(self, weight: Weight) -> Optional[Fraction]:
        """The update order as given, with sound gradients."""
        own = self.given[weight.name]
        gradient = gradient_order(weight.grad, self.facts)
        if own.law is None or own.c is None or gradient is MINUS_INFINITY:
            return None
        return own.law.C(own.c, self.view(weight, gradient))

    def view(self, weight: Weight, gradient: Order) -> WeightView:
        """What the update law sees of a weight as given; of a packed one as a whole."""
        b = self.given[weight.name].b
        leaf = self.lowered.leaves_of[weight.name][0]
        return replace(view_of(self.solution, self.facts, leaf, ZERO if b is None else b), gradient=gradient)


def power(x: Optional[Order]) -> str:
    """``n^(-1/2)``, ``n^1``; ``1`` for the zeroth power, ``0`` for no power at all."""
    if x is None or x is MINUS_INFINITY:
        return "0"
    text = order_text(x)
    return f"n^({text})" if "/" in text or text.startswith("-") else f"n^{text}"


def _template(name: str) -> str:
    return ".".join("*" if part.isdecimal() else part for part in name.split("."))


def put_together(items: list[Item], total: int) -> list[Finding]:
    """One finding for all items of one cause: same kind, quantity, exponents and group; the first speaks for it."""
    groups: dict[tuple, list[Item]] = {}
    for item in items:
        key = (
            item.kind,
            item.quantity,
            item.found,
            item.needed,
            item.also,
            item.severity,
            _template(item.site) if item.site else "",
        )
        groups.setdefault(key, []).append(item)
    found = []
    for group in groups.values():
        first = group[0]
        names = tuple(
            dict.fromkeys(name for item in group for name in ((item.weight,) if item.weight else item.weights))
        )
        if first.site:
            sites = list(dict.fromkeys(item.site for item in group))
            subject = ", ".join(fold_names(sites)) if len(sites) > 1 else sites[0]
        elif any(item.block for item in group):
            subject = _subject(tuple(dict.fromkeys(item.block or item.weight for item in group)))
        else:
            subject = f"all {len(names)} weights" if len(names) == total > 1 else _subject(names)
        numbers = ""
        if first.found is not None and first.needed is not None:
            numbers = f"{first.quantity} ~ {power(first.found)}, needs {power(first.needed)}: "
        found.append(
            Finding(
                first.kind,
                first.severity or SEVERITY[first.kind],
                subject,
                first.quantity,
                first.found,
                first.needed,
                first.where,
                f"{numbers}{first.text}; {first.fix}",
                names,
                first.effect,
            )
        )
    return found


def _subject(names: tuple[str, ...], most: int = 5) -> str:
    """Names with repeated blocks folded, and siblings in braces: ``layers.{0,1}.attention.{wq,wk}.weight``."""
    siblings: dict[tuple[str, str], list[str]] = {}
    for name in fold_names(names):
        parts = _components(name)
        before, last = (parts[:-2], parts[-1]) if len(parts) > 1 else ((), "")
        siblings.setdefault((".".join(before), last), []).append(parts[-2] if len(parts) > 1 else parts[0])
    joined = [
        ".".join(
            part for part in (before, middle[0] if len(middle) == 1 else "{" + ",".join(middle) + "}", last) if part
        )
        for (before, last), middle in siblings.items()
    ]
    return ", ".join(joined[:most]) + (f" and {len(joined) - most} more" if len(joined) > most else "")


def _components(name: str) -> list[str]:
    """Parts between dots, those inside braces apart (``{0..3}`` is one part)."""
    parts, depth = [""], 0
    for char in name:
        depth += (char == "{") - (char == "}")
        if char == "." and not depth:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def judge(gathered: Gathered, name: str) -> Report:
    """The report on a gathered setup."""
    return Judge(gathered).report(name)


__all__ = ["FROZEN_FROM", "Judge", "judge", "power"]
