"""What must stay O(1), and why.

Theory: what enters a nonlinearity of larger order saturates it or explodes, of smaller order leaves it linear; what
enters a weight, joins a residual stream or leaves as an output is what TP4 (Yang & Hu 2021, Section 3) asks to be O(1)
of a stable net.  What enters a norm may have any size, but an update must not swamp it.

Not everybody holds to all of them.  Budgets (:mod:`tpcalc.calculus.demands`) take the loss for the output where there
is one, and keep what enters a weight at 0 whatever that contracts; a stream is theirs to pass on.  A regime and the
largest updates take neither norms nor streams, for TP4 does not.  A hand-written case (:mod:`tpcalc.verify.repair`) is
held to all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Optional

from tpcalc.calculus.facts import Fact, Facts, given_operand, roles
from tpcalc.calculus.reading import Id, Reading
from tpcalc.lower.lowered import Lowered
from tpcalc.program.queries import trail
from tpcalc.rules import structures as st
from tpcalc.rules.structures import Atom, operands

NONLINEARITY, SOFTMAX = "enters a nonlinearity", "enters a softmax"
WEIGHT, NORM = "enters a weight", "enters a norm"
STREAM, OUTPUT = "joins a residual stream", "leaves as an output"
#: Of budgets alone: what is differentiated has the size of an output, so that its gradient has.
DERIVATIVE = "is differentiated"


class Limit(NamedTuple):
    """A value that must stay O(1), why, and at which atom (None: an output).  ``words``: of a nonlinearity, which."""

    value: Id
    why: str
    atom: Optional[Atom]
    words: str = ""

    @property
    def norm(self) -> bool:
        """Only its change is limited, to its own size."""
        return self.why == NORM

    @property
    def softmax(self) -> bool:
        return self.why == SOFTMAX


LIMITS: Reading[Callable[[Any, Atom, Facts, Any], Iterator[Limit]]] = Reading("limits", "what must stay O(1)?")

LIMITS.silent(st.Known, st.Discrete, why="no value enters as a number")
LIMITS.silent(
    st.View,
    st.Gather,
    st.Guard,
    st.Centre,
    st.Scale,
    st.Product,
    st.Reduce,
    st.Repeat,
    st.Power,
    why="homogeneous: its result may be limited",
)
LIMITS.silent(st.Slope, why="the function itself is limited, in the forward pass")


def _words(words: str) -> Callable[[Any, Atom, Facts, Any], Iterator[Limit]]:
    def nonlinearity(s: Any, atom: Atom, facts: Facts, lowered: Any) -> Iterator[Limit]:
        yield Limit(s.x, NONLINEARITY, atom, words)

    return nonlinearity


LIMITS.law(st.LinearLike)(_words("nonlinearity"))
LIMITS.law(st.Bounded)(_words("bounded nonlinearity"))
LIMITS.law(st.Exp)(_words("exponential"))
LIMITS.law(st.Log)(_words("logarithm"))


@LIMITS.law(st.Softmax)
def softmax(s: st.Softmax, atom: Atom, facts: Facts, lowered: Any) -> Iterator[Limit]:
    yield Limit(s.x, SOFTMAX, atom, "log-softmax" if s.log else "softmax")


@LIMITS.law(st.Contract)
def contract(s: st.Contract, atom: Atom, facts: Facts, lowered: Lowered) -> Iterator[Limit]:
    x_weight, y_weight = roles(s, facts[s.x], facts[s.y])
    if s.K > 0 and x_weight != y_weight and given_operand(s, facts, lowered) is None:
        yield Limit(base(lowered, s.y if x_weight else s.x), WEIGHT, atom)


@LIMITS.law(st.Normalise)
def normalise(s: st.Normalise, atom: Atom, facts: Facts, lowered: Lowered) -> Iterator[Limit]:
    x: Id = s.x
    yield Limit(lowered.before_centring(x), NORM, atom)


@LIMITS.law(st.Sum)
def total(s: st.Sum, atom: Atom, facts: Facts, lowered: Lowered) -> Iterator[Limit]:
    """Where it adds two values of the program: blocks of a packed value are joined by sums too, and biases added."""
    whole = (lowered.program.values, lowered.summed)
    added = [x for x in s.xs if facts[x].data and any(x in some for some in whole)]
    if len(added) > 1 and s.how not in ("choice", "put"):
        yield Limit(atom.out, STREAM, atom)


LIMITS.complete()


def limits(lowered: Lowered, facts: Mapping[int, Fact], but: tuple[str, ...] = ()) -> Iterator[Limit]:
    """All limits of values that depend on the inputs, in order of execution, outputs last.

    ``facts`` only tell weights from values.  ``but``: not for these reasons.
    """
    for atom in lowered.atoms[: lowered.forward]:
        law = LIMITS.of(atom.structure)
        if law is not None:
            yield from (
                x for x in law(atom.structure, atom, facts, lowered) if facts[x.value].data and x.why not in but
            )
    yield from (Limit(vid, OUTPUT, None) for vid in lowered.program.results if facts[vid].data)


def passes(lowered: Lowered) -> Callable[[int], bool]:
    """Whether a value is another one times a constant, arranged anew."""
    return lambda vid: (
        isinstance(lowered.maker[vid].structure, (st.View, st.Scale, st.Guard)) if vid in lowered.maker else False
    )


def base(lowered: Lowered, vid: Id) -> int:
    """The value before constant multipliers and views: only what they act on has a size of its own."""
    *_, first = trail(lowered.flow, vid, passes(lowered))
    return int(first)


def weighs(lowered: Lowered, facts: Facts, vid: Id) -> bool:
    """Whether a value is others times weights, entry by entry: what a weighted sum adds up."""
    atom, fact = lowered.maker.get(vid), facts[vid]
    if atom is None or not fact.data:
        return fact.is_weight and not lowered.is_given(fact.weight)
    s = atom.structure
    if isinstance(s, (st.View, st.Scale, st.Guard, st.Reduce, st.Sum)):
        return all(weighs(lowered, facts, x) for x in operands(s))
    if not isinstance(s, st.Product) and not (isinstance(s, st.Contract) and s.K == 0):
        return False
    x, y = facts[s.x], facts[s.y]
    w = x if x.is_weight else y
    return x.is_weight != y.is_weight and not lowered.is_given(w.weight)


__all__ = [
    "LIMITS",
    "NONLINEARITY",
    "NORM",
    "OUTPUT",
    "SOFTMAX",
    "STREAM",
    "WEIGHT",
    "Limit",
    "base",
    "limits",
    "passes",
    "weighs",
]
