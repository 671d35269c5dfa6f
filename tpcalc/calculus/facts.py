"""What the calculus knows of a value: four orders, and its signs.

For a value ``x`` with trained value ``x_t`` and initial value ``x_0``:

* ``init``: order of ``x_0``;
* ``trained``: order of ``x_t`` after O(1) steps, for the worst alignment that the assumption allows;
* ``change``: order of ``x_t - x_0``;
* ``deviation``: order of what ``x_0`` holds beside one number that all its entries share, which is what a norm that
  subtracts the mean divides by.

Signs.  An average over a growing axis has a limit, the same for every draw of the weights (the master theorem of
TP1-TP3); where flipping the sign of one weight flips the terms, that limit is zero.  Not so where the terms share
something that is random in the limit as well, for then its sign is that of the whole sum.  Hence two rules.  A value
without growing axes (one number a sample, ``g = r.z``) has no parity: terms ``g h_k^2`` add up.  And what is repeated
along a growing axis (by broadcasting; a weight, along the axes of samples that meet it) has none either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

from tpcalc.algebra.form import Form
from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order, max_order
from tpcalc.calculus.alignment import Alignment
from tpcalc.lower.lowered import Lowered
from tpcalc.program.ir import Value
from tpcalc.rules.structures import Contract, Powers, Repeat


class Fact(NamedTuple):
    """What the calculus knows of a value.

    ``depends``, ``odd``, ``mixed``: bit sets of weights (bit i: leaf i of the lowered program).  The initial value
    depends on ``depends``; it flips sign with a weight in ``odd``, and along every growing axis signs differ; it has no
    parity in one of ``mixed``; it is even in the rest.  ``cover``: of a sum, weights (odd or mixed) of which each
    summand flips with at least one: in a residual stream each branch has its own.
    ``weight``: bit set of the weights of which the value is made, along axes of theirs: a view, a merged or disturbed
    weight, a function of its entries; 0 for anything else.  ``gathered``: rows of a weight picked by an index, or
    weights mixed by numbers that depend on the inputs.  ``data``: depends on the inputs.
    ``deviation``: order of what is left of the initial value beside one number that all its entries share, where that
    is less than its size (of 1/2 + n^-1: -1), else None.  ``apart``: bit set of the weights on which the deviation
    depends, but not the number.  ``mean``: of what is made of weights and constants alone, order of the mean of its
    initial entries, which adds up in a sum whatever meets it; minus infinity where their signs cancel.  ``coarse``: one
    number for all entries along some growing axis (broadcast), or without growing axes.  ``own``: order of that part of
    the change of a weight which laws 3 and 4 are about; the rest is what it is at init times a change of ``coarse``
    numbers (a gain of its rows, the numbers by which matrices are mixed).  None: all of it.  ``fresh``: in a stack of
    growing depth, order of that part of the change which the updates of one period's weights make; the rest is what
    their init makes of what the stream has changed.  None: all of it.
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
    mean: Order = MINUS_INFINITY
    coarse: bool = False
    own: Optional[Order] = None
    fresh: Optional[Order] = None

    @property
    def made_here(self) -> Order:
        """The part of the change that this period's own updates make."""
        return self.change if self.fresh is None else min(self.fresh, self.change)

    @property
    def update(self) -> Order:
        """The part of the change of a weight that is an update of its entries."""
        return self.change if self.own is None else self.own

    @property
    def is_weight(self) -> bool:
        """Whether it is a weight, or made of weights alone: its init and its update are judged apart."""
        return self.weight != 0 and not self.data

    @property
    def is_constant(self) -> bool:
        """Whether neither weights nor inputs enter it."""
        return not (self.weight or self.depends or self.apart or self.data)

    @property
    def cancels(self) -> bool:
        """Whether a sum over a growing axis is one of signs that cancel."""
        return bool(self.odd or self.cover)

    def shifted(self, by: Order) -> "Fact":
        """Of the value times a constant of order ``by``."""
        if by is ZERO:
            return self
        deviation = None if self.deviation is None else self.deviation + by
        return self._replace(
            init=self.init + by,
            trained=self.trained + by,
            change=self.change + by,
            deviation=deviation,
            mean=self.mean + by,
            own=None if self.own is None else self.own + by,
            fresh=None if self.fresh is None else self.fresh + by,
        )


#: Value id -> fact.
Facts = Mapping[Any, Fact]


def constant(order: Order, mean: Order = MINUS_INFINITY) -> Fact:
    return Fact(order, order, MINUS_INFINITY, mean=mean)


def fixed(order: Order, weight: int, odd: bool) -> Fact:
    """Numbers that do not train; where ``weight`` is not 0, they act as a weight that is frozen."""
    if not weight or order is MINUS_INFINITY:
        return constant(order, order)
    return constant(order)._replace(depends=weight, odd=weight if odd else 0, mixed=0 if odd else weight, weight=weight)


def deviation(x: Fact) -> Order:
    """Order of what centring leaves of the initial value."""
    return x.init if x.deviation is None else min(x.deviation, x.init)


def relative_deviation(x: Fact) -> Order:
    """The deviation over the size at init; 0 for what starts at zero."""
    return ZERO if x.init is MINUS_INFINITY else deviation(x) - x.init


def deviating(fact: Fact, by: Order, apart: int = 0) -> Fact:
    """A value that is one number but for a part of order ``by``; None stands for what is as large as the value."""
    left = by if by < fact.init else None
    return fact if left is fact.deviation and apart == fact.apart else fact._replace(deviation=left, apart=apart)


def made_here(*parts: tuple[Fact, Order]) -> Optional[Order]:
    """The fresh part of a result, of operands and what each of them adds to its own; None where no depth grows."""
    if all(x.fresh is None for x, _ in parts):
        return None
    return max_order(*(x.made_here + adds for x, adds in parts))


def flips(s: Repeat, x: Fact) -> bool:
    """Whether the terms of a sum over the depth have signs of their own: each flips with a weight of its own period.

    Given what came before, such a term has mean zero, so that the sum is one of martingale differences.  On the way
    back a matrix acts as one that is independent of the forward pass (gradient independence: Yang 2020, TP2).
    """
    return bool(s.signed or x.odd & s.own or (x.cover and not x.cover & ~s.own))


def over_depth(s: Repeat, x: Fact) -> Order:
    """What a sum over the depth adds to its terms at init: K/2 where signs are mixed, else K."""
    return ZERO if s.factor else s.K / 2 if flips(s, x) else s.K


def repeated(x: Fact) -> Fact:
    """``x`` along growing axes that it does not have: what shares a sign does not cancel."""
    return x._replace(odd=0, mixed=x.mixed | x.odd, cover=0, coarse=True)


def shares(weight: Fact, rest: Order) -> bool:
    """Whether the mean of its entries, which makes one number of a value for all of its rows, is what a sum over the
    rows is of, as the other parts of the entries cancel there.  ``rest`` may be less than all rows (picked outputs)."""
    return weight.mean >= weight.init or weight.mean + rest / 2 > weight.init


class Parity(NamedTuple):
    """What a value knows of its signs, as in :class:`Fact`."""

    depends: int
    odd: int
    mixed: int
    cover: int


def product_parity(x: Fact, y: Fact) -> Parity:
    """Signs multiply; those that cover the summands of one factor stay if the other one does not flip with them."""
    mixed = x.mixed | y.mixed
    kept = [a.cover for a, b in ((x, y), (y, x)) if a.cover and not a.cover & (b.odd | b.mixed)]
    return Parity(x.depends | y.depends, (x.odd ^ y.odd) & ~mixed, mixed, min(kept, default=0))


def product_deviation(x: Fact, y: Fact) -> Order:
    """(c + d)(e + f) - c e = d (e + f) + c f."""
    return max_order(deviation(x) + y.init, x.init + deviation(y))


def function_of(
    x: Fact, init: Order, trained: Order, change: Order, parity: str, left: Order, smooth: bool = False
) -> Fact:
    """A function of one value: parity ``odd`` keeps odd weights odd, ``even`` makes them even, ``none`` mixes them.

    ``left``: its deviation.  ``smooth``: f(x) = x + O(x^2) near zero.  A function of the entries of a weight is one.
    """
    odd = x.odd if parity == "odd" else 0
    mixed = x.mixed if parity != "none" else x.mixed | x.odd
    fact = Fact(init, trained, change, x.depends, odd, mixed, data=x.data, coarse=x.coarse)
    if x.fresh is not None and x.change is not MINUS_INFINITY:
        fact = fact._replace(fresh=min(x.fresh + (change - x.change), change))
    if not x.data:
        own = None if x.own is None else x.own + (change - x.change)
        fact = fact._replace(weight=x.weight, mean=_mean_of(x, init, parity, smooth), own=own)
    return deviating(fact, left, x.apart)


def _mean_of(x: Fact, init: Order, parity: str, smooth: bool) -> Order:
    """Of the entries of a function, of order ``init``, of a weight: an odd one passes the mean on."""
    if x.init is MINUS_INFINITY:
        return init
    if parity == "odd":
        return x.mean + (init - x.init)
    return min(max_order(x.mean, 2 * x.init), init) if smooth else init


def modulated(weight: Fact, by: Fact) -> int:
    """The weights in a weight that is multiplied, along some axes only, by what the inputs say: still random."""
    return weight.weight if weight.is_weight and not weight.coarse and by.data and not by.weight and by.coarse else 0


def own_of_product(x: Fact, y: Fact) -> Order:
    """A change of one number for many entries carries their init along."""
    return max_order(*(a.update + b.trained for a, b in ((x, y), (y, x)) if b.coarse or not a.coarse))


def mean_of_product(x: Fact, y: Fact, cancels: bool) -> Order:
    """The product of the means, where the factors are independent; of a number for many entries its size."""
    if cancels:
        return MINUS_INFINITY
    if x.depends & y.depends and x.coarse == y.coarse:
        return x.init + y.init
    return sum((f.init if f.coarse or f.data else f.mean for f in (x, y)), ZERO)


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


def mixes(s: Contract) -> Optional[Any]:
    """The matrices of which a contraction mixes finitely many by numbers: ``sum_b c_b V_b``, still matrices."""
    of_x, of_y = ((), ()) if s.sizes is None else (s.sizes.rest_x, s.sizes.rest_y)
    for v, rest, axes, rest_other in ((s.x, s.rest_x, of_x, s.rest_y), (s.y, s.rest_y, of_y, s.rest_x)):
        if s.K == 0 and _is_matrix(rest, axes) and rest_other == 0:
            return v
    return None


def _is_matrix(rest: Order, axes: Powers) -> bool:
    """Whether axes that are not contracted are those of matrices: more than one, or one as long as the square of a
    scale.  One of ``h*d`` entries is that of a vector."""
    if isinstance(rest, Form):
        return sum(size.growth > 0 for size, _ in axes) > 1 or any(x > 1 for x in rest.coordinates)
    return rest > 1


class Given(NamedTuple):
    """A contraction of a value with fixed numbers that act as a weight: their fact, the value, the growths."""

    fact: Fact
    value: Any
    K: Order
    rest: Order


def given_operand(s: Contract, facts: Facts, lowered: Lowered) -> Optional[Given]:
    """The fixed numbers that a value meets in a contraction; None where it meets a weight or another value."""
    x, y = facts[s.x], facts[s.y]
    kinds = roles(s, x, y)
    for is_weight, other, weight, value, rest in (
        (kinds[0], kinds[1], x, s.y, s.rest_x),
        (kinds[1], kinds[0], y, s.x, s.rest_y),
    ):
        if is_weight and not other and lowered.is_given(weight.weight):
            return Given(weight, value, s.K, rest)
    return None


def spread(alignment: Alignment, K: Order, R: Order, weight: Fact, value: Fact) -> Order:
    """What a sum over ``K`` adds to an initial weight on an initial value: law 2 if the value depends on it, else 1.

    The mean of a weight's entries sums the value up, by law 4.
    """
    by_entries = alignment.initial_on_change(K, R) if weight.weight & value.depends else K / 2
    return _with_mean(weight, by_entries, K / 2 if value.cancels else K)


def on_change(alignment: Alignment, K: Order, R: Order, weight: Fact) -> Order:
    """What a sum over ``K`` adds to an initial weight on a change of a value: law 2; the mean of its entries, law 4."""
    return _with_mean(weight, alignment.initial_on_change(K, R), alignment.values(K))


def _with_mean(weight: Fact, by_entries: Order, by_mean: Order) -> Order:
    """What is added to the size of a weight by its entries, and by the mean that they share."""
    if weight.mean is MINUS_INFINITY:
        return by_entries
    return max_order(deviation(weight) - weight.init + by_entries, weight.mean - weight.init + by_mean)


@dataclass(frozen=True)
class WeightOrders:
    """Effective orders of one weight: entries ~ n^-A at init, updates ~ n^-C.

    ``A`` None: the weight starts at zero.  ``C`` None: it does not train.  ``random``: zero-mean random entries (False
    for a constant such as a norm's gain).
    """

    A: Optional[Order]
    C: Optional[Order]
    random: bool = True


def weight_fact(index: int, orders: WeightOrders) -> Fact:
    init = MINUS_INFINITY if orders.A is None else -orders.A
    change = MINUS_INFINITY if orders.C is None else -orders.C
    bit = 1 << index
    if orders.random:
        return Fact(init, max_order(init, change), change, bit, bit, 0, bit)
    # a gain starts as one number
    return deviating(Fact(init, max_order(init, change), change, bit, 0, bit, bit), MINUS_INFINITY)


def leaf_fact(value: Value, weight: int = 0) -> Fact:
    """Inputs and loss gradients are of order 0 (a gradient on growing axes is averaged over them); buffers and
    constants of the order of their content, ``weight`` being the bit of one that acts as a weight; an empty tensor is
    zero."""
    if any(not size.terms for size in value.shape):
        return constant(MINUS_INFINITY)
    if value.kind == "seed":
        return constant(-value.growth)._replace(data=True)
    if value.kind == "input":
        return constant(ZERO)._replace(data=True)
    return fixed(ZERO if value.magnitude is None else value.magnitude.order, weight, value.signs != "mixed")


def _number(fact: Fact) -> Fact:
    """A value without growing axes: random even in the limit, it is taken as it is, and its sign cancels nothing."""
    return fact._replace(odd=0, mixed=0, cover=0, coarse=True)


def of_value(lowered: Lowered, vid: int, fact: Fact) -> Fact:
    return _number(fact) if vid in lowered.finite else fact


def weight_leaf(lowered: Lowered, index: int, orders: WeightOrders) -> Fact:
    """The fact of a leaf, by its place among the leaves of the program."""
    return of_value(lowered, lowered.leaves[index].value, weight_fact(index, orders))


def leaf_facts(lowered: Lowered, orders: Mapping[str, WeightOrders]) -> dict[int, Fact]:
    """Facts of everything that no node makes.  A block of a packed weight has its own orders or those of the whole."""
    values = lowered.program.values
    given = lowered.given
    facts = {
        vid: of_value(lowered, vid, leaf_fact(value, given.get(vid, 0)))
        for vid, value in values.items()
        if value.kind != "op"
    }
    for index, leaf in enumerate(lowered.leaves):
        own = orders.get(leaf.name)
        facts[leaf.value] = weight_leaf(lowered, index, orders[leaf.weight.name] if own is None else own)
    return facts
