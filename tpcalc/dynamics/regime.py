"""What the infinite-width limit of a given parametrization does, for the net and for each weight.

Definitions of Yang & Hu 2021 (TP4, Sections 3 and 5) for MLPs, read on any program:

* *stable*: features and outputs stay O(1), at init and in training;
* *trivial*: the outputs do not move;
* ``r``: the features that enter the readout move by ``n^-r``, relative to their size at init;
* a stable nontrivial net with ``r = 0`` learns features, with ``r > 0`` it stays in the *kernel* regime (the dynamical
  dichotomy); Yang & Littwin 2023 (TP4b) prove the same for Adam-like optimizers, where the kernel is nonlinear
  ("operator");
* *maximal*: every weight is updated maximally, so that its update alone moves what it makes by as much as that is
  large.  Theorem 5.6: muP is the only stable parametrization that is maximal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order, max_order
from tpcalc.calculus.alignment import Alignment
from tpcalc.calculus.effects import EFFECTS
from tpcalc.calculus.facts import Fact, Facts, on_change, roles
from tpcalc.calculus.limits import NONLINEARITY, NORM, STREAM, base, limits
from tpcalc.calculus.reading import Id
from tpcalc.calculus.weights import on_outputs
from tpcalc.dynamics.training import Analysis
from tpcalc.lower.lowered import Leaf, Lowered
from tpcalc.program.queries import upstream
from tpcalc.rules.structures import Atom, Contract, Gather, Product, View

UNSTABLE, TRIVIAL, KERNEL, LEARNING, MAXIMAL = "unstable", "trivial", "kernel", "feature learning", "maximal"


@dataclass(frozen=True)
class Excess:
    """A value that must stay O(1), ``why``, and does not: its order, whether it is too large at init already."""

    value: int
    order: Order
    at_init: bool
    why: str
    atom: Optional[Atom] = None


@dataclass(frozen=True)
class Regime:
    """``name``: unstable, trivial, kernel, feature learning or maximal.  ``r``: features that enter the readout move by
    ``n^-r`` of their size at init (of an unstable net: as seen at ``step``); None where the program has no readout or
    nothing moves.

    ``per_weight``: ``maximal`` (its update moves its result as much as it is large), ``lazy`` (it moves the outputs,
    its own result vanishingly), ``vanishing`` (its update has no effect), ``frozen`` (no update), ``unstable`` (its own
    update is too large).  ``excesses``: what makes the net unstable, in program order.  ``step``: training step at
    which that is seen, or the last followed.
    """

    name: str
    r: Optional[Order]
    per_weight: Mapping[str, str]
    output_init: Order = ZERO
    output_change: Order = ZERO
    excesses: tuple[Excess, ...] = ()
    step: int = 0
    features: tuple[int, ...] = field(default=(), repr=False)

    @property
    def stable(self) -> bool:
        return not self.excesses


def _values_met(s: Contract, facts: Facts) -> Optional[tuple[Id, ...]]:
    """The values that a weight contraction contracts a weight with; None for a contraction of values only."""
    x_weight, y_weight = roles(s, facts[s.x], facts[s.y])
    if not (x_weight or y_weight):
        return None
    return tuple(v for v, is_weight in ((s.x, x_weight), (s.y, y_weight)) if not is_weight)


def features(lowered: Lowered, facts: Facts) -> tuple[int, ...]:
    """The last hidden features: values that a weight contracts over a growing axis on the way to an output, with no
    such weight after it.
    """

    def met(vid: int) -> Optional[tuple[Id, ...]]:
        s = lowered.maker[vid].structure if vid in lowered.maker else None
        return _values_met(s, facts) if isinstance(s, Contract) and s.K > 0 else None

    reached = upstream(lowered.flow, lowered.program.results, lambda vid: met(vid) is None)
    return tuple(sorted({base(lowered, value) for vid in reached for value in met(vid) or ()}))


def excesses(lowered: Lowered, facts: Facts) -> tuple[Excess, ...]:
    """What is larger than O(1) and must not be, each value once."""
    found: dict[int, Excess] = {}
    for limit in limits(lowered, facts, but=(NORM, STREAM)):
        fact = facts[limit.value]
        order = max_order(fact.init, fact.trained)
        if order > ZERO:
            why = NONLINEARITY if limit.words else limit.why
            found.setdefault(limit.value, Excess(limit.value, order, fact.init > ZERO, why, limit.atom))
    return tuple(found.values())


def relative_change(fact: Fact) -> Order:
    """Change over the size at init; 0 for what starts at zero and moves."""
    if fact.change is MINUS_INFINITY:
        return MINUS_INFINITY
    return ZERO if fact.init is MINUS_INFINITY else fact.change - fact.init


def own_effect(lowered: Lowered, alignment: Alignment, facts: Facts, vid: int) -> Order:
    """The change that a weight's own update makes where it enters, relative to the size of the result; the largest use.

    Views and products with constants are followed until the weight meets a value.  What other weights blow up does not
    count as size.
    """
    best: Order = MINUS_INFINITY
    stack = [(vid, facts[vid].change, False)]
    while stack:
        x, change, carries = stack.pop()
        for atom in lowered.forward_uses.get(x, ()):
            s = atom.structure
            if isinstance(s, Contract) and not roles(s, facts[s.x], facts[s.y])[0 if s.x == x else 1]:
                continue  # rows looked up in an embedding meet the next weight as values
            effect = EFFECTS[type(s)](s, x, change, facts, alignment)
            result = facts[atom.out]
            if carries and isinstance(s, Contract):  # the gain of a weight's rows moves them along with their init
                weight, value, rest = (s.x, s.y, s.rest_x) if s.x == x else (s.y, s.x, s.rest_y)
                effect = change + on_change(alignment, s.K, rest, facts[weight]) + facts[value].trained
            if result.weight and (not result.data or isinstance(s, (Gather, View))):
                along = isinstance(s, Product) and result.own is not None and facts[x].coarse
                stack.append((atom.out, effect, carries or along))
            if effect is not MINUS_INFINITY and (result.data or not result.weight):
                best = max_order(best, effect - max_order(result.init, min(result.trained, ZERO)))
    return best


#: Of the blocks of one packed weight the first of these that any block has stands for the weight.
WORST = ("unstable", "vanishing", "lazy", "frozen", "maximal")


def _status(analysis: Analysis, facts: Facts, leaf: Leaf, unstable: bool) -> str:
    change = facts[leaf.value].change
    if change is MINUS_INFINITY:
        return "frozen"
    does = on_outputs(leaf, facts, change)
    if does > ZERO and unstable:
        return "unstable"
    if does < ZERO:
        return "vanishing"
    moves = own_effect(analysis.lowered, analysis.alignment, facts, leaf.value)
    return "maximal" if moves >= ZERO else "lazy"


def regime(analysis: Analysis) -> Regime:
    """The regime of ``analysis``: read at the first step that is unstable, else at the last."""
    lowered = analysis.lowered
    for step, state in enumerate(analysis.trail):  # noqa: B007
        facts = state.facts
        broken = excesses(lowered, facts)
        if broken:
            break
    last = features(lowered, facts)
    moved = max_order(*(relative_change(facts[vid]) for vid in last))
    ends = [facts[vid] for vid in lowered.program.results]
    out_init, out_change = max_order(*(f.init for f in ends)), max_order(*(f.change for f in ends))
    per_weight = {
        name: min((_status(analysis, facts, leaf, bool(broken)) for leaf in leaves), key=WORST.index)
        for name, leaves in lowered.leaves_of.items()
    }
    r = None if moved is MINUS_INFINITY else -moved
    if broken:
        name = UNSTABLE
    elif out_change < ZERO:
        name = TRIVIAL
    elif r is not None and r > ZERO:
        name = KERNEL
    elif all(status in ("maximal", "frozen") for status in per_weight.values()):
        name = MAXIMAL
    else:
        name = LEARNING
    return Regime(name, r, per_weight, out_init, out_change, broken, step, last)
