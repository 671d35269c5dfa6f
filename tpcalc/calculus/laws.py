"""The interpreter: four orders for every value, forward and backward, by one law a structure.

For a value ``x`` with trained value ``x_t`` and initial value ``x_0``:

* ``init``: order of ``x_0``;
* ``trained``: order of ``x_t`` after O(1) steps, for the worst alignment that the assumption allows;
* ``change``: order of ``x_t - x_0``;
* ``deviation``: order of what ``x_0`` holds beside one number that all its entries share, which is what a norm that
  subtracts the mean divides by.

The laws of a contraction over growth ``K`` (``R``: growth of the weight's other axes) follow Yang & Hu 2021 (TP4),
Yang et al. 2022 (TP5, Appendix J) and Yang, Simon & Bernstein 2023 (spectral condition):

1. initial weight x independent value: ``K/2`` (central limit);
2. initial weight x change of a value, or x a value that depends on that weight: ``max(K/2, K - R/2)``, the operator
   norm ``sigma (sqrt(fan_in) + sqrt(fan_out))`` in rms coordinates;
3. weight update x value: ``K`` (low rank and aligned);
4. value x value: at init ``K/2`` where some initial weight gives the terms signs that cancel, else ``K``; change ``K``.

Signs, of law 4.  An average over a growing axis has a limit, the same for every draw of the weights (the master theorem of
TP1-TP3); where flipping the sign of one weight flips the terms, that limit is zero.  Not so where the terms share
something that is random in the limit as well, for then its sign is that of the whole sum.  Hence two rules.  A value
without growing axes (one number a sample, ``g = r.z``) has no parity: terms ``g h_k^2`` add up.  And what is repeated
along a growing axis (by broadcasting; a weight, along the axes of samples that meet it) has none either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, Optional

from tpcalc.algebra.order import HALF, MINUS_INFINITY, ONE, ZERO, Order, max_order
from tpcalc.lower.lowered import Lowered
from tpcalc.program.ir import Value
from tpcalc.rules.structures import (
    Atom,
    Bounded,
    Centre,
    Contract,
    Discrete,
    Exp,
    Gather,
    Guard,
    Known,
    LinearLike,
    Log,
    Normalise,
    Power,
    Product,
    Reduce,
    Scale,
    Slope,
    Softmax,
    Structure,
    Sum,
    View,
)


class Fact(NamedTuple):
    """What the calculus knows of a value.

    ``depends``, ``odd``, ``mixed``: bit sets of weights (bit i: leaf i of the lowered program).  The initial value depends on
    ``depends``; it flips sign with a weight in ``odd``, and along every growing axis signs differ; it has no parity in one
    of ``mixed``; it is even in the rest.  ``cover``: of a sum, weights (odd or mixed) of which each summand flips with at
    least one: in a residual stream each branch has its own.
    ``weight``: bit set of the weights of which the initial value is a linear random tensor (a view, a scaled or merged
    weight), 0 for anything else.  ``gathered``: rows of a weight picked by an index.  ``data``: depends on the inputs.
    ``deviation``: order of what is left of the initial value beside one number that all its entries share, where that is
    less than its size (of 1/2 + n^-1: -1), else None.  ``apart``: bit set of the weights on which the deviation depends,
    but not the number.
    """

    init: Order
    trained: Order
    change: Order
    depends: int = 0
    odd: int = 0
    mixed: int = 0
    weight: int = 0
    gathered: bool = False
    data: bool = False
    cover: int = 0
    deviation: Optional[Order] = None
    apart: int = 0

    @property
    def cancels(self) -> bool:
        """Whether a sum over a growing axis is one of signs that cancel."""
        return bool(self.odd or self.cover)

    def shifted(self, by: Order) -> "Fact":
        """Of the value times a constant of order ``by``."""
        deviation = None if self.deviation is None else self.deviation + by
        return self._replace(
            init=self.init + by, trained=self.trained + by, change=self.change + by, deviation=deviation
        )


@dataclass(frozen=True)
class Alignment:
    """How aligned trained quantities are assumed to be, as fractions of the contracted growth ``K``.

    ``update``: law 3 (and 4 after training); ``initial``: law 2, None for the operator norm.  Everett et al. 2024
    (Section 3) call them alpha and omega; their ``full`` alignment has omega = 1/2.
    """

    name: str
    update: Fraction = ONE
    initial: Optional[Fraction] = None

    def weight_change(self, K: Fraction) -> Fraction:
        return self.update * K

    def initial_on_change(self, K: Fraction, R: Fraction) -> Fraction:
        if self.initial is not None:
            return self.initial * K
        return max(K / 2, K - R / 2)

    def values(self, K: Fraction) -> Fraction:
        return self.update * K


FULL = Alignment("full")
NONE = Alignment("none", update=HALF, initial=HALF)
OMEGA = Alignment("omega", update=ONE, initial=HALF)
ALIGNMENTS = {alignment.name: alignment for alignment in (FULL, NONE, OMEGA)}

Law = Callable[..., Fact]
LAWS: dict[type, Law] = {}


def law(structure: type) -> Callable[[Law], Law]:
    """Register the decorated function as the law of ``structure``; one each."""

    def register(function: Law) -> Law:
        if structure in LAWS:
            raise ValueError(f"{structure.__name__} already has a law")
        LAWS[structure] = function
        return function

    return register


def constant(order: Order) -> Fact:
    return Fact(order, order, MINUS_INFINITY)


def deviation(x: Fact) -> Order:
    """Order of what centring leaves of the initial value."""
    return x.init if x.deviation is None else min(x.deviation, x.init)


def _relative_deviation(x: Fact) -> Order:
    """The deviation over the size at init; 0 for what starts at zero."""
    return ZERO if x.init is MINUS_INFINITY else deviation(x) - x.init


def _deviating(fact: Fact, by: Order, apart: int = 0) -> Fact:
    """A value that is one number but for a part of order ``by``; None stands for what is as large as the value."""
    return fact._replace(deviation=by if by < fact.init else None, apart=apart)


def _function_of(x: Fact, init: Order, trained: Order, change: Order, parity: str, left: Order) -> Fact:
    """A function of one value: parity ``odd`` keeps odd weights odd, ``even`` makes them even, ``none`` mixes them.

    ``left``: its deviation.
    """
    odd = x.odd if parity == "odd" else 0
    mixed = x.mixed if parity != "none" else x.mixed | x.odd
    return _deviating(Fact(init, trained, change, x.depends, odd, mixed, data=x.data), left, x.apart)


@law(Known)
def known(s: Known, facts: Mapping[int, Fact], alignment: Alignment) -> Fact:
    fact = constant(s.order)._replace(data=s.data)
    return _deviating(fact, MINUS_INFINITY if s.uniform else s.order)


def _repeated(x: Fact) -> Fact:
    """``x`` along growing axes that it does not have: what shares a sign does not cancel."""
    return x._replace(odd=0, mixed=x.mixed | x.odd, cover=0)


@law(View)
def view(s: View, facts: Mapping[int, Fact], alignment: Alignment) -> Fact:
    x = facts[s.x]
    return _repeated(x) if s.repeated else x


@law(Guard)
def guard(s: Guard, facts: Mapping[int, Fact], alignment: Alignment) -> Fact:
    x = facts[s.x]
    init = ZERO if x.init is MINUS_INFINITY else x.init
    trained = ZERO if x.trained is MINUS_INFINITY else x.trained
    return x._replace(init=init, trained=trained)


@law(Gather)
def gather(s: Gather, facts: Mapping[int, Fact], alignment: Alignment) -> Fact:
    x = facts[s.x]._replace(gathered=True, data=True)
    return _repeated(x) if s.repeated else x


@law(Scale)
def scale(s: Scale, facts: Mapping[int, Fact], alignment: Alignment) -> Fact:
    x = facts[s.x]
    if s.order is MINUS_INFINITY:
        return constant(MINUS_INFINITY)
    return x.shifted(s.order)


@law(Sum)
def total(s: Sum, facts: Mapping[int, Fact], alignment: Alignment) -> Fact:
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
        weight if all(x.weight != 0 for x in alive) else 0,
        any(x.gathered for x in xs),
        any(x.data for x in xs),
        cover if all(x.cancels for x in alive) else 0,
    )
    return _deviating(fact, max_order(*(deviation(x) for x in xs)), apart)


class Parity(NamedTuple):
    """What a value knows of its signs, as in :class:`Fact`."""

    depends: int
    odd: int
    mixed: int
    cover: int


def _product_parity(x: Fact, y: Fact) -> Parity:
    """Signs multiply; those that cover the summands of one factor stay if the other one does not flip with them."""
    mixed = x.mixed | y.mixed
    kept = [a.cover for a, b in ((x, y), (y, x)) if a.cover and not a.cover & (b.odd | b.mixed)]
    return Parity(x.depends | y.depends, (x.odd ^ y.odd) & ~mixed, mixed, min(kept, default=0))


def _product_deviation(x: Fact, y: Fact) -> Order:
    """(c + d)(e + f) - c e = d (e + f) + c f."""
    return max_order(deviation(x) + y.init, x.init + deviation(y))


@law(Product)
def product(s: Product, facts: Mapping[int, Fact], alignment: Alignment) -> Fact:
    x, y = facts[s.x], facts[s.y]
    depends, odd, mixed, cover = _product_parity(x, y)
    # a weight times a mask or a constant is still a random weight; times data it is a value
    weight = 0 if (x.data or y.data) else x.weight or y.weight
    fact = Fact(
        x.init + y.init,
        x.trained + y.trained,
        max_order(x.change + y.trained, x.init + y.change),
        depends,
        odd,
        mixed,
        weight,
        data=x.data or y.data,
        cover=cover,
    )
    return _deviating(fact, _product_deviation(x, y), x.apart | y.apart)


def roles(s: Contract, x: Fact, y: Fact) -> tuple[bool, bool]:
    """Which operands of the contraction ``s`` count as weights.

    Rows looked up in a weight (an embedding) are values when they meet another weight, and a weight (an expert's
    matrix) when they meet a value.  A learned vector, or finitely many (a query that pools, the latents of a
    Perceiver), is a value when it meets a matrix.
    """
    x_weight, y_weight = x.weight != 0, y.weight != 0
    if not (x_weight and y_weight):
        return x_weight, y_weight
    if x.gathered or y.gathered:
        return not x.gathered, not y.gathered
    return s.rest_x > 0, s.rest_y > 0 or s.rest_x == 0


@law(Contract)
def contract(s: Contract, facts: Mapping[int, Fact], alignment: Alignment) -> Fact:
    x, y = facts[s.x], facts[s.y]
    K = s.K
    x_weight, y_weight = roles(s, x, y)
    terms = _product_parity(x, y)
    x_on_change, y_on_change = (alignment.initial_on_change(K, rest) for rest in (s.rest_x, s.rest_y))
    if x_weight and y_weight:
        spread = K if x.weight & y.weight else K / 2
    elif x_weight or y_weight:
        same = (x.weight & y.depends) if x_weight else (y.weight & x.depends)
        spread = (x_on_change if x_weight else y_on_change) if same else K / 2
    else:
        spread = K / 2 if terms.odd or terms.cover else K
    init = x.init + y.init + spread
    moved_x = x.change + K_update(alignment, K, y, y_weight, y_on_change)
    moved_y = y.change + K_update(alignment, K, x, x_weight, x_on_change)
    change = max_order(moved_x, moved_y)
    trained = max_order(init, change)
    if not (x_weight and y_weight):
        # a transient (what a norm makes of a value that starts small) counts in init and change, not in what remains
        w, v, on_change = (x, y, x_on_change) if x_weight else (y, x, y_on_change)
        trained = min(trained, v.trained + K_update(alignment, K, w, x_weight or y_weight, on_change))
    weight = (x.weight | y.weight) if (x_weight and y_weight and not x.data and not y.data) else 0
    # signs of an operand do not run along axes that only the other one has (samples that meet the same weight, an outer
    # product), unless that is a weight: each of its rows mixes the signs of the value anew
    x_seen = x if s.rest_y == 0 or y_weight else _repeated(x)
    y_seen = y if s.rest_x == 0 or x_weight else _repeated(y)
    depends, odd, mixed, cover = _product_parity(x_seen, y_seen)
    fact = Fact(init, trained, change, depends, odd, mixed, weight, data=x.data or y.data, cover=cover)
    if x.deviation is None or y.deviation is None or x_weight or y_weight:
        return fact
    # two values close to one number each (an average with even weights): like the law of Reduce
    return _deviating(fact, _product_deviation(x, y) + K / 2, x.apart | y.apart)


def K_update(alignment: Alignment, K: Fraction, other: Fact, other_weight: bool, on_change: Fraction) -> Order:
    """What the other operand contributes to the effect of a change: its initial part by law 2, its own change by law 3.

    For a value, law 4: all of it, aligned.
    """
    if other_weight:
        return max_order(on_change + other.init, alignment.weight_change(K) + other.change)
    return alignment.values(K) + other.trained


@law(Reduce)
def reduce(s: Reduce, facts: Mapping[int, Fact], alignment: Alignment) -> Fact:
    x = facts[s.x]
    init = x.init + (s.K / 2 if x.cancels else s.K)
    change = x.change + alignment.values(s.K)
    trained = min(max_order(init, change), x.trained + alignment.values(s.K))
    # the signs of deviations may cancel: the smaller order, which makes what a norm divides by it larger
    left = None if x.deviation is None else x.deviation + s.K / 2
    return x._replace(init=init, change=change, trained=trained, gathered=False, deviation=left)


def _power(order: Order, k: Fraction) -> Order:
    if order is MINUS_INFINITY:
        return MINUS_INFINITY if k > 0 else ZERO
    return order * k


@law(Power)
def power(s: Power, facts: Mapping[int, Fact], alignment: Alignment) -> Fact:
    """Homogeneous of degree k; the change by the mean-value law, and by both ends where a value leaves its initial one."""
    x = facts[s.x]
    init, trained = _power(x.init, s.k), _power(x.trained, s.k)
    if x.change is MINUS_INFINITY:
        change: Order = MINUS_INFINITY
    elif x.change >= x.init:
        change = max_order(init, trained)
    else:
        change = (s.k - 1) * x.init + x.change
    return _function_of(x, init, trained, change, s.parity, init + _relative_deviation(x))


@law(LinearLike)
def linear_like(s: LinearLike, facts: Mapping[int, Fact], alignment: Alignment) -> Fact:
    x = facts[s.x]
    if s.offset:
        return _function_of(x, max_order(x.init, ZERO), max_order(x.trained, ZERO), x.change, "none", deviation(x))
    return _function_of(x, x.init, x.trained, x.change, "none", deviation(x))


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
    """A function with f(0) != 0 of a vanishing value is a constant to leading order: only its deviation depends on weights."""
    if x.init < ZERO:
        return fact._replace(depends=0, odd=0, mixed=0, cover=0, apart=x.depends | x.apart)
    return fact


@law(Bounded)
def bounded(s: Bounded, facts: Mapping[int, Fact], alignment: Alignment) -> Fact:
    """f(0) + f'(0) x for small x; an even function (cos) is flat there: f(0) + f''(0) x^2 / 2."""
    x = facts[s.x]
    change, left = _at_most_zero(x.change), deviation(x)
    if s.zero:
        return _function_of(x, _at_most_zero(x.init), _at_most_zero(x.trained), change, s.parity, left)
    if s.parity == "even":
        change = change + _at_most_zero(max_order(x.init, x.change))
        left = left + _at_most_zero(x.init)
    return _settled(x, _function_of(x, ZERO, ZERO, change, s.parity, left))


@law(Slope)
def slope(s: Slope, facts: Mapping[int, Fact], alignment: Alignment) -> Fact:
    """Of order 0, and a constant to leading order for small x."""
    x = facts[s.x]
    return _settled(x, _function_of(x, ZERO, ZERO, _at_most_zero(x.change), "none", deviation(x)))


@law(Exp)
def exponential(s: Exp, facts: Mapping[int, Fact], alignment: Alignment) -> Fact:
    x = facts[s.x]
    return _settled(x, _function_of(x, ZERO, ZERO, _at_most_zero(x.change), "none", deviation(x)))


@law(Log)
def logarithm(s: Log, facts: Mapping[int, Fact], alignment: Alignment) -> Fact:
    """log of n^e is e log n, order 0; the change is relative."""
    x = facts[s.x]
    return _function_of(x, ZERO, ZERO, _relative(x), "none", _relative_deviation(x))


@law(Softmax)
def softmax(s: Softmax, facts: Mapping[int, Fact], alignment: Alignment) -> Fact:
    x = facts[s.x]
    if s.log:
        fact = _function_of(x, max_order(ZERO, x.init), max_order(ZERO, x.trained), x.change, "none", deviation(x))
    else:
        change = _at_most_zero(x.change) - s.growth
        fact = _function_of(x, -s.growth, -s.growth, change, "none", deviation(x) - s.growth)
    return _settled(x, fact)


@law(Normalise)
def normalise(s: Normalise, facts: Mapping[int, Fact], alignment: Alignment) -> Fact:
    """Order ``shift`` whatever the order of x; the change is relative and at most that."""
    x = facts[s.x]
    init: Order = MINUS_INFINITY if x.init is MINUS_INFINITY else s.shift
    trained: Order = MINUS_INFINITY if x.trained is MINUS_INFINITY else s.shift
    fact = _function_of(x, init, trained, _relative(x) + s.shift, "odd", _relative_deviation(x) + s.shift)
    fact = fact._replace(cover=x.cover)
    return fact if x.data else fact._replace(weight=x.weight)


@law(Centre)
def centre(s: Centre, facts: Mapping[int, Fact], alignment: Alignment) -> Fact:
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
    )


@law(Discrete)
def discrete(s: Discrete, facts: Mapping[int, Fact], alignment: Alignment) -> Fact:
    """Flips for a fraction of its entries when an input moves as much as it is large."""
    xs = [facts[vid] for vid in s.xs]
    depends = mixed = 0
    for x in xs:
        depends |= x.depends
        mixed |= x.mixed | x.odd
    change = max_order(*(_relative(x) for x in xs))
    return Fact(ZERO, ZERO, change, depends, 0, mixed, data=any(x.data for x in xs))


@dataclass(frozen=True)
class WeightOrders:
    """Effective orders of one weight: entries ~ n^-A at init, updates ~ n^-C.

    ``A`` None: the weight starts at zero.  ``C`` None: it does not train.  ``random``: zero-mean random entries (False
    for a constant such as a norm's gain).
    """

    A: Optional[Fraction]
    C: Optional[Fraction]
    random: bool = True


def weight_fact(index: int, orders: WeightOrders) -> Fact:
    init = MINUS_INFINITY if orders.A is None else -orders.A
    change = MINUS_INFINITY if orders.C is None else -orders.C
    bit = 1 << index
    if orders.random:
        return Fact(init, max_order(init, change), change, bit, bit, 0, bit)
    # a gain starts as one number
    return _deviating(Fact(init, max_order(init, change), change, bit, 0, bit, bit), MINUS_INFINITY)


def leaf_fact(value: Value) -> Fact:
    """Inputs and loss gradients are of order 0 (a gradient on growing axes is averaged over them); buffers and
    constants of the order of their content; an empty tensor is zero."""
    if any(not size.terms for size in value.shape):
        return constant(MINUS_INFINITY)
    if value.kind == "seed":
        return constant(-value.growth)._replace(data=True)
    if value.kind == "input":
        return constant(ZERO)._replace(data=True)
    return constant(ZERO if value.magnitude is None else value.magnitude.order)


def _number(fact: Fact) -> Fact:
    """A value without growing axes: random even in the limit, it is taken as it is, and its sign cancels nothing."""
    return fact._replace(odd=0, mixed=0, cover=0)


def _of_value(lowered: Lowered, vid: int, fact: Fact) -> Fact:
    return _number(fact) if vid in lowered.finite else fact


def weight_leaf(lowered: Lowered, index: int, orders: WeightOrders) -> Fact:
    """The fact of a leaf, by its place among the leaves of the program."""
    return _of_value(lowered, lowered.leaves[index].value, weight_fact(index, orders))


def leaf_facts(lowered: Lowered, orders: Mapping[str, WeightOrders]) -> dict[int, Fact]:
    """Facts of everything that no node makes.  A block of a packed weight has its own orders or those of the whole."""
    values = lowered.program.values
    facts = {vid: _of_value(lowered, vid, leaf_fact(value)) for vid, value in values.items() if value.kind != "op"}
    for index, leaf in enumerate(lowered.leaves):
        own = orders.get(leaf.name)
        facts[leaf.value] = weight_leaf(lowered, index, orders[leaf.weight.name] if own is None else own)
    return facts


def interpret(lowered: Lowered, atom: Atom, facts: Mapping[int, Fact], alignment: Alignment = FULL) -> Fact:
    """The fact of what ``atom`` makes, by the law of its structure, from the facts of its operands."""
    return _of_value(lowered, atom.out, LAWS[type(atom.structure)](atom.structure, facts, alignment))


def propagate(
    lowered: Lowered,
    orders: Mapping[str, WeightOrders],
    alignment: Alignment = FULL,
    *,
    backward: bool = True,
    multipliers: Optional[Mapping[int, Order]] = None,
) -> dict[int, Fact]:
    """Facts of every value for the given effective orders of the weights.

    ``orders``: weight name -> WeightOrders, one for each weight of the program (or for each block of a packed one).  With
    ``backward=False`` only the forward pass is interpreted.  ``multipliers``: value -> exponent of a multiplier supposed to
    stand right behind it.
    """
    multipliers = multipliers or {}
    facts = leaf_facts(lowered, orders)
    for vid in multipliers.keys() & facts.keys():
        facts[vid] = facts[vid].shifted(multipliers[vid])
    atoms = lowered.atoms if backward else lowered.atoms[: lowered.forward]
    for atom in atoms:
        fact = interpret(lowered, atom, facts, alignment)
        facts[atom.out] = fact.shifted(multipliers[atom.out]) if atom.out in multipliers else fact
    return facts


__all__ = [
    "ALIGNMENTS",
    "FULL",
    "LAWS",
    "NONE",
    "OMEGA",
    "Alignment",
    "Fact",
    "Structure",
    "WeightOrders",
    "constant",
    "deviation",
    "interpret",
    "leaf_facts",
    "propagate",
    "roles",
    "weight_fact",
    "weight_leaf",
]
