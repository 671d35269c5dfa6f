"""Which weight's scale a value follows: free values scale with some weight upstream, pinned ones do not.

A value is *pinned* when a norm, a bounded function or a constant fixes its order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Optional

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order, max_order
from tpcalc.calculus.alignment import Alignment
from tpcalc.calculus.facts import Fact, Facts, WeightOrders, leaf_facts, on_change, roles, spread
from tpcalc.calculus.laws import interpret
from tpcalc.calculus.reading import Id, Reading, forth
from tpcalc.lower.lowered import Lowered
from tpcalc.program.queries import reach
from tpcalc.rules import structures as st
from tpcalc.rules.structures import Atom, linear_at_zero, operands

Hops = Mapping[Any, Optional[int]]
Shifts = Mapping[Any, Order]


class Follows(NamedTuple):
    """``hops``: number of atoms to the nearest weight whose scale the value follows, None for a pinned value.

    ``shift``: order that the code's own constants give a free value when the weights around it keep theirs at 0.
    """

    hops: Optional[int]
    shift: Order


PINNED = Follows(None, ZERO)

FREEDOM: Reading[Callable[[Any, Hops, Shifts, Facts], Follows]] = Reading("freedom", "which weight's scale follows it?")

FREEDOM.silent(st.Known, st.Discrete, why="a constant, an index: of order 0 whatever enters")
FREEDOM.silent(st.Slope, st.Exp, st.Log, st.Softmax, why="a nonlinearity sees inputs of order 0 only")
FREEDOM.silent(st.Normalise, why="a norm divides the scale out")


@FREEDOM.law(st.Reduce)
def reduce(s: st.Reduce, hops: Hops, shift: Shifts, facts: Facts) -> Follows:
    """A mean of the size of a weight's entries is as large as they are."""
    x = facts[s.x]
    return Follows(hops[s.x], shift.get(s.x, ZERO) + (s.K if x.is_weight and not x.cancels else ZERO))


@FREEDOM.law(st.View, st.Centre, st.Guard, st.Gather, st.Repeat)
def passes(s: Any, hops: Hops, shift: Shifts, facts: Facts) -> Follows:
    return Follows(hops[s.x], shift.get(s.x, ZERO))


@FREEDOM.law(st.LinearLike, st.Bounded)
def nonlinearity(s: Any, hops: Hops, shift: Shifts, facts: Facts) -> Follows:
    """It sees inputs of order 0 only; of a weight it may see the linear part."""
    return passes(s, hops, shift, facts) if facts[s.x].is_weight and linear_at_zero(s) else PINNED


@FREEDOM.law(st.Scale)
def scale(s: st.Scale, hops: Hops, shift: Shifts, facts: Facts) -> Follows:
    return Follows(hops[s.x], shift.get(s.x, ZERO) + s.order)


@FREEDOM.law(st.Power)
def power(s: st.Power, hops: Hops, shift: Shifts, facts: Facts) -> Follows:
    return Follows(hops[s.x], shift.get(s.x, ZERO) * s.k) if s.k > 0 else PINNED


@FREEDOM.law(st.Sum)
def total(s: st.Sum, hops: Hops, shift: Shifts, facts: Facts) -> Follows:
    """Follows where all of it does; zeros do not count."""
    counted = [x for x in s.xs if facts[x].trained is not MINUS_INFINITY]
    near = [hop for x in counted if (hop := hops[x]) is not None]
    if not near or len(near) < len(counted):
        return PINNED
    return Follows(min(near), max_order(*(shift.get(x, ZERO) for x in counted)))


def _nearest(s: Any, hops: Hops) -> Optional[int]:
    return min((hop for hop in (hops[s.x], hops[s.y]) if hop is not None), default=None)


@FREEDOM.law(st.Product)
def product(s: st.Product, hops: Hops, shift: Shifts, facts: Facts) -> Follows:
    """Follows either; what is pinned counts with the order that it has."""
    x, y = (facts[vid].trained if hops[vid] is None else shift.get(vid, ZERO) for vid in (s.x, s.y))
    return Follows(_nearest(s, hops), x + y)


@FREEDOM.law(st.Contract)
def contract(s: st.Contract, hops: Hops, shift: Shifts, facts: Facts) -> Follows:
    """The weight that it meets makes up for the constants before it; one that is pinned pins what it makes."""
    x_weight, y_weight = roles(s, facts[s.x], facts[s.y])
    if x_weight != y_weight:
        return Follows(hops[s.x if x_weight else s.y], ZERO)
    return Follows(_nearest(s, hops), ZERO)


FREEDOM.complete()


class Freedom(NamedTuple):
    """How far each forward value follows the scale of weights (:class:`Follows`), with its nominal orders.

    ``shift``: of free values, and the size of those that a pinned weight makes but for its updates.  ``facts``: nominal
    facts, in which every free value has order 0 and pinned ones what follows from that.
    """

    hops: dict[int, Optional[int]]
    shift: dict[int, Order]
    facts: dict[int, Fact]


def freedom(
    lowered: Lowered,
    orders: Mapping[str, WeightOrders],
    alignment: Alignment,
    multipliers: Mapping[int, Order] = MappingProxyType({}),
) -> Freedom:
    """Which forward values are free; ``orders`` only tell which weights are random and which train.

    ``multipliers``: value -> exponent of a multiplier supposed to stand right behind it.
    """
    facts = leaf_facts(lowered, orders)
    hops: dict[int, Optional[int]] = {vid: None for vid in facts}
    shift: dict[int, Order] = {}
    for leaf in lowered.leaves:
        hops[leaf.value] = 0

    def sized(atom: Atom, by: Order) -> Optional[Order]:
        """The size of what a pinned weight makes but for its updates, and of views of it."""
        s: Any = atom.structure
        if isinstance(s, (st.View, st.Guard, st.Scale)):
            return by if s.x in shift else None
        if not isinstance(s, st.Contract):
            return None
        pair: Any = s
        x, y = facts[pair.x], facts[pair.y]
        kinds = roles(s, x, y)
        if kinds[0] == kinds[1]:
            return None
        w, v, rest = (x, y, s.rest_x) if kinds[0] else (y, x, s.rest_y)
        moved = on_change(alignment, s.K, rest, w) + v.change
        return w.init + max_order(spread(alignment, s.K, rest, w, v) + v.init, moved)

    def keep(atom: Atom, follows: Optional[Follows]) -> None:
        near, by = follows or PINNED
        fact = interpret(lowered, atom, facts, alignment).shifted(multipliers.get(atom.out, ZERO))
        hops[atom.out] = None
        if near is None and (size := sized(atom, by)) is not None:
            shift[atom.out] = size + multipliers.get(atom.out, ZERO)
        if near is not None and fact.trained is not MINUS_INFINITY:
            hops[atom.out] = near + 1
            shift[atom.out] = by
            change = fact.change if fact.change is MINUS_INFINITY else ZERO
            mean = fact.mean - fact.init
            fact = fact._replace(init=ZERO, trained=ZERO, change=change, deviation=None, mean=mean, own=None)
        facts[atom.out] = fact

    forth(FREEDOM, lowered.atoms[: lowered.forward], (hops, shift, facts), keep)
    return Freedom(hops, shift, facts)


ABSORBING: Reading[Callable[[Any, Hops], tuple[Id, ...]]] = Reading("absorbing", "which operands take an excess?")

ABSORBING.silent(*FREEDOM.silent_on, why="pinned: less of an operand is not less of it")


@ABSORBING.law(
    st.View,
    st.Centre,
    st.Guard,
    st.Gather,
    st.Reduce,
    st.Repeat,
    st.Scale,
    st.Power,
    st.Sum,
    st.LinearLike,
    st.Bounded,
)
def all_of_it(s: Any, hops: Hops) -> tuple[Id, ...]:
    return operands(s)


@ABSORBING.law(st.Product)
def nearer_factor(s: st.Product, hops: Hops) -> tuple[Id, ...]:
    """The only free one; of two the nearer to its weight (a gain), the first of two as near."""
    x, y = hops[s.x], hops[s.y]
    if x is None or y is None:
        return (s.x if y is None else s.y,)
    return (s.y if y < x else s.x,)


@ABSORBING.law(st.Contract)
def weight_or_first(s: st.Contract, hops: Hops) -> tuple[Id, ...]:
    """The only free one; of two the weight itself, else the first (``q`` of ``q k``)."""
    x, y = hops[s.x], hops[s.y]
    if x is None or y is None:
        return (s.x if y is None else s.y,)
    return (s.y if y <= 2 < x else s.x,)


ABSORBING.complete()


def absorbers(lowered: Lowered, start: int, hops: Hops) -> set[int]:
    """The weight values that would absorb a smaller budget of the value ``start``."""

    def onward(vid: int) -> Iterable[int]:
        atom = lowered.maker.get(vid) if vid in lowered.flow else None
        if atom is None or hops.get(vid) is None:
            return ()
        return ABSORBING[type(atom.structure)](atom.structure, hops)

    reached: set[int] = set(reach([start], onward))
    return {leaf.value for leaf in lowered.leaves} & reached


__all__ = ["ABSORBING", "FREEDOM", "PINNED", "Follows", "Freedom", "Hops", "absorbers", "freedom"]
