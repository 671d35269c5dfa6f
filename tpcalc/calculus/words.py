"""Why a value has the order it has: the rule, its operands, their parents.

Reasons are read off atoms and facts on demand, so that the interpreter stays fast and every derived order keeps one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Optional

from tpcalc.algebra.order import MINUS_INFINITY, Order
from tpcalc.algebra.text import added_text as added
from tpcalc.algebra.text import exponent_text as text
from tpcalc.algebra.text import size_text as size
from tpcalc.calculus.alignment import Alignment
from tpcalc.calculus.facts import Facts, flips, on_change, over_depth, roles
from tpcalc.calculus.reading import Reading
from tpcalc.lower.lowered import Lowered
from tpcalc.rules import structures as st
from tpcalc.rules.structures import Atom, Structure, operands


@dataclass(frozen=True)
class Reason:
    """The order of ``value`` follows by ``rule`` from the orders of ``parents``; the first parent decides."""

    value: int
    trained: Order
    rule: str
    parents: tuple[int, ...]
    atom: Optional[Atom]


WORDS: Reading[Callable[[Any, Facts, Alignment], str]] = Reading("words", "the law in words?")


def _always(*kinds: type[Structure], say: Callable[[Any], str]) -> None:
    """The words of structures that need no facts."""
    WORDS.law(*kinds)(lambda s, facts, alignment: say(s))


_always(st.Known, say=lambda s: f"a constant of order {text(s.order)}")
_always(st.View, st.Guard, say=lambda s: "a view: the order passes through")
_always(st.Centre, say=lambda s: "less its mean: what is left of a constant, and the change")
_always(st.Gather, say=lambda s: "entries picked by index: the order passes through")
_always(st.Scale, say=lambda s: f"times a constant of order {text(s.order)}")
_always(st.Sum, say=lambda s: "a sum: the largest order")
_always(st.Product, say=lambda s: "a product: orders add")
_always(st.Power, say=lambda s: f"homogeneous of degree {s.k}: {s.k} times the order")
_always(st.LinearLike, say=lambda s: "asymptotically linear: the order passes through")
_always(st.Bounded, say=lambda s: "bounded: at most order 0")
_always(st.Exp, say=lambda s: "exp: at most order 0")
_always(st.Log, say=lambda s: "log: at most order 0")
_always(st.Slope, say=lambda s: "a slope: at most order 0")
_always(st.Normalise, say=lambda s: f"a norm: order {text(s.shift)} whatever enters")
_always(st.Discrete, say=lambda s: "a comparison or index: order 0")


@WORDS.law(st.Softmax)
def softmax(s: st.Softmax, facts: Facts, alignment: Alignment) -> str:
    if s.log:
        return "log-softmax: the larger of the order and 0"
    return "softmax" if s.growth == 0 else f"softmax over growth {text(s.growth)}: entries {size(-s.growth)}"


@WORDS.law(st.Reduce)
def reduce(s: st.Reduce, facts: Facts, alignment: Alignment) -> str:
    if s.K == 0:
        return "a sum over axes that do not grow"
    return f"a sum over growth {text(s.K)}: {added(alignment.values(s.K))} when aligned"


@WORDS.law(st.Repeat)
def repeat(s: st.Repeat, facts: Facts, alignment: Alignment) -> str:
    if s.K == 0:
        return "enters every period of a stack: the order passes through"
    if s.factor:
        by = added(alignment.values(s.K))
        return f"a gain on what all periods share, over a depth of growth {text(s.K)}: changes {by}"
    x, signs = facts[s.x], flips(s, facts[s.x])
    by_init = x.init + over_depth(s, x)
    if by_init >= x.made_here + alignment.values(s.K):
        why = "whose own weights decide the signs" if signs else "that have a mean in common"
        return f"a sum of terms {why} over a depth of growth {text(s.K)}: {added(over_depth(s, x))}"
    return (
        f"a sum of updates over a depth of growth {text(s.K)}, all along one gradient: {added(alignment.values(s.K))}"
    )


@WORDS.law(st.Contract)
def contract(s: st.Contract, facts: Facts, alignment: Alignment) -> str:
    x, y = facts[s.x], facts[s.y]
    x_weight, y_weight = roles(s, x, y)
    if s.K == 0:
        return "a contraction over axes that do not grow: orders add"
    if not (x_weight or y_weight):
        return f"law 4: value x value over growth {text(s.K)}, aligned after training: {added(alignment.values(s.K))}"
    weight, value, rest = (x, y, s.rest_x) if x_weight else (y, x, s.rest_y)
    adds = on_change(alignment, s.K, rest, weight)
    by_init = adds + weight.init + value.change
    by_update = alignment.weight_change(s.K) + weight.change + value.trained
    if by_update is not MINUS_INFINITY and by_update >= by_init:
        found, by = size(weight.change), added(alignment.weight_change(s.K))
        return f"law 3: weight update ({found}) x value over growth {text(s.K)}: {by}"
    found = size(weight.init)
    if adds > alignment.initial_on_change(s.K, rest):
        return f"law 4: the mean of the entries of a weight ({found}) x value over growth {text(s.K)}: {added(adds)}"
    if by_init is not MINUS_INFINITY and adds > s.K / 2:
        return (
            f"law 2: initial weight ({found}) x changed value over growth {text(s.K)}, R = {text(rest)}: {added(adds)}"
        )
    return f"law 1: initial weight ({found}) x independent value over growth {text(s.K)}: {added(s.K / 2)}"


WORDS.complete()


def rule_text(atom: Atom, facts: Facts, alignment: Alignment) -> str:
    """The law that gives the trained order of ``atom``'s result, with its numbers."""
    return WORDS[type(atom.structure)](atom.structure, facts, alignment)


def reason_of(lowered: Lowered, facts: Facts, alignment: Alignment, vid: int) -> Reason:
    """The reason of one value's trained order."""
    atom = lowered.maker.get(vid)
    fact = facts[vid]
    if atom is None:
        value = lowered.program.values.get(vid)  # of a block of a packed weight: none
        told = f"weight {lowered.name(vid)}" if value is None else f"{value.kind} {value.name}".strip()
        return Reason(vid, fact.trained, told, (), None)
    xs = tuple(operands(atom.structure))
    if isinstance(atom.structure, (st.Contract, st.Product)):
        # the value rather than the weight carries the story further back
        xs = tuple(sorted(xs, key=lambda x: facts[x].is_weight))
    else:  # the one that is as large; of a product and its bias the product
        xs = tuple(sorted(xs, key=lambda x: (facts[x].trained != fact.trained, facts[x].is_weight)))
    return Reason(vid, fact.trained, rule_text(atom, facts, alignment), xs, atom)


def chain(lowered: Lowered, facts: Facts, alignment: Alignment, vid: int, limit: int = 12) -> Iterator[Reason]:
    """From a value back along the operand that decides its order, leaving out pass-through views."""
    seen = 0
    while seen < limit:
        reason = reason_of(lowered, facts, alignment, vid)
        if reason.atom is None or not isinstance(reason.atom.structure, (st.View, st.Centre, st.Guard)):
            yield reason
            seen += 1
        if not reason.parents:
            return
        vid = reason.parents[0]
