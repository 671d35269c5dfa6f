"""What comes out of a structure: the facts of a result, from those of the operands.

The laws of a contraction over growth ``K`` (``R``: growth of the weight's other axes) follow Yang & Hu 2021 (TP4),
Yang et al. 2022 (TP5, Appendix J) and Yang, Simon & Bernstein 2023 (spectral condition):

1. initial weight x independent value: ``K/2`` (central limit);
2. initial weight x change of a value, or x a value that depends on that weight: ``max(K/2, K - R/2)``, the operator
   norm ``sigma (sqrt(fan_in) + sqrt(fan_out))`` in rms coordinates;
3. weight update x value: ``K`` (low rank and aligned);
4. value x value: at init ``K/2`` where some initial weight gives the terms signs that cancel
   (:mod:`tpcalc.calculus.facts`), else ``K``; change ``K``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Optional

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order, max_order
from tpcalc.calculus.alignment import FULL, Alignment
from tpcalc.calculus.facts import (
    Fact,
    Facts,
    WeightOrders,
    constant,
    deviating,
    deviation,
    fixed,
    flips,
    function_of,
    leaf_facts,
    made_here,
    mean_of_product,
    mixes,
    modulated,
    of_value,
    on_change,
    over_depth,
    own_of_product,
    product_deviation,
    product_parity,
    relative_deviation,
    repeated,
    roles,
    shares,
    spread,
)
from tpcalc.calculus.reading import Reading, forth
from tpcalc.lower.lowered import Lowered
from tpcalc.rules import structures as st
from tpcalc.rules.structures import Atom

LAWS: Reading[Callable[[Any, Facts, Alignment], Fact]] = Reading("laws", "what comes out?")


@LAWS.law(st.Known)
def known(s: st.Known, facts: Facts, alignment: Alignment) -> Fact:
    fact = fixed(s.order, s.weight, s.odd)._replace(data=s.data)
    if s.centred:
        fact = fact._replace(mean=MINUS_INFINITY)
    return deviating(fact, MINUS_INFINITY if s.uniform else s.order)


@LAWS.law(st.View)
def view(s: st.View, facts: Facts, alignment: Alignment) -> Fact:
    x = facts[s.x]
    return repeated(x) if s.repeated else x


@LAWS.law(st.Guard)
def guard(s: st.Guard, facts: Facts, alignment: Alignment) -> Fact:
    x = facts[s.x]
    init = ZERO if x.init is MINUS_INFINITY else x.init
    trained = ZERO if x.trained is MINUS_INFINITY else x.trained
    return x._replace(init=init, trained=trained)


@LAWS.law(st.Gather)
def gather(s: st.Gather, facts: Facts, alignment: Alignment) -> Fact:
    x = facts[s.x]._replace(gathered=True, data=True)
    return repeated(x) if s.repeated else x


@LAWS.law(st.Scale)
def scale(s: st.Scale, facts: Facts, alignment: Alignment) -> Fact:
    x = facts[s.x]
    if s.order is MINUS_INFINITY:
        return constant(MINUS_INFINITY)
    return x.shifted(s.order)


@LAWS.law(st.Sum)
def total(s: st.Sum, facts: Facts, alignment: Alignment) -> Fact:
    """Orders take the max; a parity survives only where all summands share it, but signs where each has its own."""
    xs = [facts[x] for x in s.xs]
    depends = mixed = weight = apart = 0
    for x in xs:
        depends |= x.depends
        mixed |= x.mixed
        weight |= x.weight
        apart |= x.apart
    odd = even = depends & ~mixed
    alive = [x for x in xs if x.init is not MINUS_INFINITY]
    cover = 0
    for x in alive:
        odd &= x.odd
        even &= ~x.odd
        cover |= x.cover or x.odd
    mixed |= depends & ~odd & ~even
    fact = Fact(
        max_order(*(x.init for x in xs)),
        max_order(*(x.trained for x in xs)),
        max_order(*(x.change for x in xs)),
        depends,
        odd,
        mixed,
        weight if all(x.weight != 0 or x.is_constant for x in alive) else 0,
        any(x.gathered for x in xs),
        any(x.data for x in xs),
        cover if all(x.cancels for x in alive) else 0,
        mean=max_order(*(x.mean for x in xs)),
        own=None if all(x.own is None for x in xs) else max_order(*(x.update for x in xs)),
        fresh=made_here(*((x, ZERO) for x in xs)),
    )
    return deviating(fact, max_order(*(deviation(x) for x in xs)), apart)


@LAWS.law(st.Product)
def product(s: st.Product, facts: Facts, alignment: Alignment) -> Fact:
    x, y = facts[s.x], facts[s.y]
    depends, odd, mixed, cover = product_parity(x, y)
    # a weight times a mask or a constant is still a random weight; times data it is a value
    mixed_in = modulated(x, y) or modulated(y, x)
    weight = mixed_in if (x.data or y.data) else x.weight | y.weight
    fact = Fact(
        x.init + y.init,
        x.trained + y.trained,
        max_order(x.change + y.trained, x.init + y.change),
        depends,
        odd,
        mixed,
        weight,
        mixed_in != 0,
        x.data or y.data,
        cover,
        mean=mean_of_product(x, y, bool(odd or cover)) if weight or not depends else MINUS_INFINITY,
        coarse=x.coarse and y.coarse,
        own=None if not weight or x.coarse == y.coarse and x.own is None and y.own is None else own_of_product(x, y),
        fresh=made_here((x, y.trained), (y, x.trained)),
    )
    return deviating(fact, product_deviation(x, y), x.apart | y.apart)


@LAWS.law(st.Contract)
def contract(s: st.Contract, facts: Facts, alignment: Alignment) -> Fact:
    x, y = facts[s.x], facts[s.y]
    K = s.K
    x_weight, y_weight = roles(s, x, y)
    terms = product_parity(x, y)
    sides = ((s.rest_x, x, x_weight), (s.rest_y, y, y_weight))
    mean = MINUS_INFINITY
    if x_weight and y_weight:
        mean = mean_of_product(x, y, bool(terms.odd or terms.cover)) + K
        grows = K if x.weight & y.weight else K / 2
        grows = max_order(grows, mean - x.init - y.init)
    elif x_weight or y_weight:
        grows = spread(alignment, K, s.rest_x, x, y) if x_weight else spread(alignment, K, s.rest_y, y, x)
    else:
        grows = K / 2 if terms.odd or terms.cover else K
    init = x.init + y.init + grows
    x_adds, y_adds = (K_update(alignment, K, rest, w, is_weight) for rest, w, is_weight in sides)
    moved_x = max_order(x.update + y_adds, _carried(alignment, K, s.rest_x, x, x_weight) + y.trained)
    moved_y = max_order(y.update + x_adds, _carried(alignment, K, s.rest_y, y, y_weight) + x.trained)
    here = ((x, moved_x, y_adds), (y, moved_y, x_adds))
    change = max_order(moved_x, moved_y)
    trained = max_order(init, change)
    if not (x_weight and y_weight):
        # a transient (what a norm makes of a value that starts small) counts in init and change, not in what remains
        v, adds = (y, x_adds) if x_weight else (x, y_adds)
        trained = min(trained, v.trained + adds)
    weight = (x.weight | y.weight) if (x_weight and y_weight and not x.data and not y.data) else 0
    own = None
    gathered = x_weight != y_weight and mixes(s) == (s.x if x_weight else s.y)
    w, v = (x, y) if x_weight else (y, x)
    if gathered:
        weight, mean, own = w.weight, w.mean + v.init, w.update + v.trained
    # signs of an operand do not run along axes that only the other one has (samples that meet the same weight, an outer
    # product), unless that is a weight: each of its rows mixes the signs of the value anew, but for what rows share
    x_seen = repeated(x) if (shares(y, s.rest_y) if y_weight else s.rest_y > 0) else x
    y_seen = repeated(y) if (shares(x, s.rest_x) if x_weight else s.rest_x > 0) else y
    depends, odd, mixed, cover = product_parity(x_seen, y_seen)
    data = x.data or y.data
    fact = Fact(init, trained, change, depends, odd, mixed, weight, gathered and data, data, cover, mean=mean, own=own)
    if x.fresh is not None or y.fresh is not None:
        of_x, of_y = (moved if w.fresh is None else w.made_here + adds for w, moved, adds in here)
        fact = fact._replace(fresh=min(max_order(of_x, of_y), change))
    if x_weight != y_weight and w.mean + v.init + K >= init:
        # the mean of a weight's entries gives all of its rows one number; all entries of mixed matrices as well
        return deviating(fact, deviation(w) + v.init + K / 2, x.apart | y.apart)
    if x.deviation is None or y.deviation is None or x_weight or y_weight:
        return fact
    # two values close to one number each (an average with even weights): like the law of Reduce
    return deviating(fact, product_deviation(x, y) + K / 2, x.apart | y.apart)


def K_update(alignment: Alignment, K: Order, rest: Order, other: Fact, other_weight: bool) -> Order:
    """What the other operand contributes to the effect of a change: its initial part by law 2, its own change by law 3.

    For a value, law 4: all of it, aligned.
    """
    if other_weight:
        carried = _carried(alignment, K, rest, other, other_weight)
        moved = max_order(other.update + alignment.weight_change(K), carried)
        return max_order(on_change(alignment, K, rest, other) + other.init, moved)
    return alignment.values(K) + other.trained


def _carried(alignment: Alignment, K: Order, rest: Order, weight: Fact, is_weight: bool) -> Order:
    """The effect of that change of a weight which its init carries, by law 2."""
    if not is_weight or weight.own is None:
        return MINUS_INFINITY
    return weight.change + on_change(alignment, K, rest, weight)


@LAWS.law(st.Reduce)
def reduce(s: st.Reduce, facts: Facts, alignment: Alignment) -> Fact:
    x = facts[s.x]
    init = x.init + (s.K / 2 if x.cancels else s.K)
    change = x.change + alignment.values(s.K)
    trained = min(max_order(init, change), x.trained + alignment.values(s.K))
    # the signs of deviations may cancel: the smaller order, which makes what a norm divides by it larger
    left = None if x.deviation is None else x.deviation + s.K / 2
    gathered = x.gathered and s.K == 0
    fact = x._replace(init=init, change=change, trained=trained, gathered=gathered, deviation=left, mean=x.mean + s.K)
    return fact if x.fresh is None else fact._replace(fresh=x.fresh + alignment.values(s.K))


@LAWS.law(st.Repeat)
def repeat(s: st.Repeat, facts: Facts, alignment: Alignment) -> Fact:
    """A sum over the depth, or the product of a gain in every period.

    At init terms whose signs their own period's weights decide add K/2 (martingale differences), others K.  What a
    period's own updates change adds K: all of them push along one gradient of the stream, which varies slowly over the
    depth.  What the initial weights of a period make of the change of the stream has mixed signs again, and adds K/2.
    Of the sum any one period's weights are a vanishing part: they leave, and ``loop`` stands for all of them.
    """
    x = facts[s.x]
    aligned = alignment.values(s.K)
    signed = flips(s, x)
    grows = over_depth(s, x)
    change = max_order(x.made_here + aligned, x.change + (s.K / 2 if signed and not s.factor else aligned))
    init = x.init + grows
    trained = max_order(init, change)
    if s.back:  # a transient, as in a contraction
        trained = min(trained, x.trained + aligned)
    fact = x._replace(
        init=init,
        trained=trained,
        change=change,
        deviation=None if x.deviation is None else x.deviation + grows,
        mean=x.mean + grows,
        own=None if x.own is None else x.own + aligned,
        fresh=MINUS_INFINITY,
    )
    if not s.own & x.depends:
        return fact
    depends, odd, mixed = (bits & ~s.own for bits in (x.depends, x.odd, x.mixed))
    return fact._replace(depends=depends | s.loop, odd=odd, mixed=mixed | s.loop, cover=s.loop if signed else 0)


def _power(order: Order, k: Order) -> Order:
    if order is MINUS_INFINITY:
        return MINUS_INFINITY if k > 0 else ZERO
    return order * k


@LAWS.law(st.Power)
def power(s: st.Power, facts: Facts, alignment: Alignment) -> Fact:
    """Homogeneous of degree k.

    The change by the mean-value law, and by both ends where a value leaves its initial one.
    """
    x = facts[s.x]
    init, trained = _power(x.init, s.k), _power(x.trained, s.k)
    if x.change is MINUS_INFINITY:
        change: Order = MINUS_INFINITY
    elif x.change >= x.init:
        change = max_order(init, trained)
    else:
        change = (s.k - 1) * x.init + x.change
    return function_of(x, init, trained, change, s.parity, init + relative_deviation(x))


@LAWS.law(st.LinearLike)
def linear_like(s: st.LinearLike, facts: Facts, alignment: Alignment) -> Fact:
    x = facts[s.x]
    if s.offset:
        return function_of(x, max_order(x.init, ZERO), max_order(x.trained, ZERO), x.change, "none", deviation(x))
    return function_of(x, x.init, x.trained, x.change, "none", deviation(x), smooth=True)


def _at_most_zero(order: Order) -> Order:
    return min(order, ZERO)


def _relative(x: Fact) -> Order:
    """The change of a value over its size at init, at most order 0: what starts at zero changes as much as it can."""
    if x.change is MINUS_INFINITY:
        return MINUS_INFINITY
    if x.init is MINUS_INFINITY:
        return ZERO
    return _at_most_zero(x.change - x.init)


def _settled(x: Fact, fact: Fact) -> Fact:
    """A function with f(0) != 0 of a vanishing value is a constant, but for its deviation, which depends on weights."""
    if x.init < ZERO:
        return fact._replace(depends=0, odd=0, mixed=0, cover=0, apart=x.depends | x.apart)
    return fact


@LAWS.law(st.Bounded)
def bounded(s: st.Bounded, facts: Facts, alignment: Alignment) -> Fact:
    """f(0) + f'(0) x for small x; an even function (cos) is flat there: f(0) + f''(0) x^2 / 2."""
    x = facts[s.x]
    change, left = _at_most_zero(x.change), deviation(x)
    if s.zero:
        init, trained = _at_most_zero(x.init), _at_most_zero(x.trained)
        return function_of(x, init, trained, change, s.parity, left, smooth=True)
    if s.parity == "even":
        change = change + _at_most_zero(max_order(x.init, x.change))
        left = left + _at_most_zero(x.init)
    return _settled(x, function_of(x, ZERO, ZERO, change, s.parity, left))


@LAWS.law(st.Exp, st.Slope)
def exponential(s: Any, facts: Facts, alignment: Alignment) -> Fact:
    """Of order 0, and a constant to leading order for small x."""
    x = facts[s.x]
    fact = _settled(x, function_of(x, ZERO, ZERO, _at_most_zero(x.change), "none", deviation(x)))
    return fact._replace(weight=0, mean=MINUS_INFINITY, own=None) if isinstance(s, st.Slope) else fact


@LAWS.law(st.Log)
def logarithm(s: st.Log, facts: Facts, alignment: Alignment) -> Fact:
    """log of n^e is e log n, order 0; the change is relative."""
    x = facts[s.x]
    return function_of(x, ZERO, ZERO, _relative(x), "none", relative_deviation(x))


@LAWS.law(st.Softmax)
def softmax(s: st.Softmax, facts: Facts, alignment: Alignment) -> Fact:
    x = facts[s.x]
    if s.log:
        fact = function_of(x, max_order(ZERO, x.init), max_order(ZERO, x.trained), x.change, "none", deviation(x))
    else:
        change = _at_most_zero(x.change) - s.growth
        fact = function_of(x, -s.growth, -s.growth, change, "none", deviation(x) - s.growth)
    return _settled(x, fact)


@LAWS.law(st.Normalise)
def normalise(s: st.Normalise, facts: Facts, alignment: Alignment) -> Fact:
    """Order ``shift`` whatever the order of x; the change is relative and at most that."""
    x = facts[s.x]
    init: Order = MINUS_INFINITY if x.init is MINUS_INFINITY else s.shift
    trained: Order = MINUS_INFINITY if x.trained is MINUS_INFINITY else s.shift
    change, left = _relative(x) + s.shift, relative_deviation(x) + s.shift
    return function_of(x, init, trained, change, "odd", left)._replace(cover=x.cover)


@LAWS.law(st.Centre)
def centre(s: st.Centre, facts: Facts, alignment: Alignment) -> Fact:
    """What is left of a value beside the number that all its entries share; the change is taken to have no such part.

    Of 1/2 + d only d is left: that is the size to which the change is relative, and it depends on weights on which 1/2
    does not, by what parity is not known.
    """
    x = facts[s.x]
    init = deviation(x)
    return x._replace(
        init=init,
        trained=min(max_order(init, x.change), x.trained),
        depends=x.depends | x.apart,
        odd=x.odd & ~x.apart,
        mixed=x.mixed | x.apart,
        cover=0 if x.apart else x.cover,
        deviation=None,
        apart=0,
        mean=MINUS_INFINITY,
    )


@LAWS.law(st.Discrete)
def discrete(s: st.Discrete, facts: Facts, alignment: Alignment) -> Fact:
    """Flips for a fraction of its entries when an input moves as much as it is large."""
    xs = [facts[vid] for vid in s.xs]
    if len(xs) == 1:
        return function_of(xs[0], ZERO, ZERO, _relative(xs[0]), s.parity, ZERO)._replace(apart=0)
    depends = mixed = weight = 0
    for x in xs:
        depends |= x.depends
        mixed |= x.mixed | x.odd
        weight |= x.weight
    data = any(x.data for x in xs)
    change = max_order(*(_relative(x) for x in xs))
    made = not data and all(x.weight or x.is_constant for x in xs)
    return Fact(ZERO, ZERO, change, depends, 0, mixed, weight if made else 0, data=data, mean=ZERO)


LAWS.complete()


def interpret(lowered: Lowered, atom: Atom, facts: Facts, alignment: Alignment = FULL) -> Fact:
    """The fact of what ``atom`` makes, by the law of its structure, from the facts of its operands."""
    return of_value(lowered, atom.out, LAWS[type(atom.structure)](atom.structure, facts, alignment))


def propagate(
    lowered: Lowered,
    orders: Mapping[str, WeightOrders],
    alignment: Alignment = FULL,
    *,
    backward: bool = True,
    multipliers: Optional[Mapping[int, Order]] = None,
    known: Optional[Mapping[int, Fact]] = None,
) -> dict[int, Fact]:
    """Facts of every value for the given effective orders of the weights.

    ``orders``: weight name -> WeightOrders, one for each weight of the program (or for each block of a packed one).
    With ``backward=False`` only the forward pass is interpreted.  ``multipliers``: value -> exponent of a multiplier
    supposed to stand right behind it.  ``known``: the facts of the forward pass under the same orders and multipliers.
    """
    multipliers = multipliers or {}
    if known is None:
        start, facts = 0, leaf_facts(lowered, orders)
        for vid in multipliers.keys() & facts.keys():
            facts[vid] = facts[vid].shifted(multipliers[vid])
    else:
        start, facts = lowered.forward, dict(known)

    def keep(atom: Atom, fact: Fact) -> None:
        fact = of_value(lowered, atom.out, fact)
        facts[atom.out] = fact.shifted(multipliers[atom.out]) if atom.out in multipliers else fact

    forth(LAWS, lowered.atoms[start : None if backward else lowered.forward], (facts, alignment), keep)
    return facts


__all__ = ["LAWS", "interpret", "propagate"]
