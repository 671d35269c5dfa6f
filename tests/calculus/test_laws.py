"""Every law of the calculus on single operands: what it must give, worked out by hand.

The tables cover the corners that models seldom reach: zeros, values that start small or fade, ties, what is forgotten.
``tests/house/mutate.py`` changes each law, one term at a time, and counts on these tables to notice.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from tpcalc.algebra.order import HALF, MINUS_INFINITY, ONE, ZERO
from tpcalc.algebra.size import Scalar, Size
from tpcalc.calculus.alignment import ALIGNMENTS, FULL, NONE, OMEGA, Alignment
from tpcalc.calculus.facts import (
    Fact,
    WeightOrders,
    _number,
    constant,
    deviation,
    leaf_fact,
    relative_deviation,
    roles,
    weight_fact,
)
from tpcalc.calculus.laws import LAWS, _settled, propagate
from tpcalc.lower.lowered import Leaf, Lowered
from tpcalc.program.ir import Program, Value, Weight
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

OO = MINUS_INFINITY
TWO, QUARTER = Fraction(2), Fraction(1, 4)


def law(structure: Structure, *facts: Fact) -> Fact:
    """The law of a structure whose operands are numbered from 0."""
    return LAWS[type(structure)](structure, dict(enumerate(facts)), FULL)


def value(bits: int = 0, odd: int = 0) -> Fact:
    return Fact(ZERO, ZERO, ZERO, bits, odd, 0, 0, False, True)


def weight(bit: int) -> Fact:
    """A random weight of std n^-1/2 with updates of n^-1."""
    return weight_fact(bit, WeightOrders(HALF, ONE))


# -- one value in, one value out -------------------------------------------------------------------

#: Odd in weight 0, without parity in weight 1, even in weight 2.
SMALL = Fact(-ONE, -HALF, -HALF, 0b111, 0b001, 0b010, 0, False, True)
"""Starts at n^-1, ends at n^-1/2."""
LARGE = SMALL._replace(init=HALF, trained=ONE, change=ONE)
"""Starts at n^1/2, ends at n."""
PLAIN = SMALL._replace(init=ZERO, trained=ZERO, change=-ONE)
STILL = PLAIN._replace(change=OO)
ABSENT = SMALL._replace(init=OO, trained=ZERO, change=ZERO)
"""Zero at init."""
ZEROS = constant(OO)
FADING = SMALL._replace(init=ONE, trained=ZERO, change=ONE)
"""Large at init, gone after the first step: what a norm makes of the gradient of what starts small."""
#: A view of a weight that rows were looked up in, each part unlike all others.
LOADED = Fact(-ONE, HALF, Fraction(3, 4), 0b1111, 0b0001, 0b0010, 0b0100, True, True)

#: Initial, trained, change.
ORDERS = [
    (Known(-HALF), (), (-HALF, -HALF, OO)),
    (Scale(0, HALF), (SMALL,), (-HALF, ZERO, ZERO)),
    (Scale(0, OO), (SMALL,), (OO, OO, OO)),
    # sums over growing axes: n^1/2 for signs that cancel, n for what training has aligned
    (Reduce(0, ONE), (PLAIN,), (HALF, HALF, ZERO)),
    (Reduce(0, ONE), (PLAIN._replace(odd=0),), (ONE, ONE, ZERO)),
    (Reduce(0, ONE), (SMALL,), (-HALF, HALF, HALF)),
    (Reduce(0, ONE), (FADING,), (Fraction(3, 2), ONE, TWO)),
    # (x + d)^k - x^k = k x^(k-1) d for small d, else the larger of both ends
    (Power(0, TWO), (PLAIN,), (ZERO, ZERO, -ONE)),
    (Power(0, TWO), (LARGE._replace(change=ZERO),), (ONE, TWO, HALF)),
    (Power(0, TWO), (LARGE,), (ONE, TWO, TWO)),
    (Power(0, Fraction(3)), (LARGE._replace(change=ZERO),), (Fraction(3, 2), Fraction(3), ONE)),
    (Power(0, -ONE), (SMALL,), (ONE, HALF, ONE)),
    (Power(0, TWO), (PLAIN._replace(init=HALF, trained=ONE / 8, change=QUARTER),), (ONE, QUARTER, HALF + QUARTER)),
    (Power(0, TWO), (PLAIN._replace(trained=OO, change=ZERO),), (ZERO, OO, ZERO)),  # vanishes
    (Power(0, ONE), (LARGE,), (HALF, ONE, ONE)),
    (Power(0, ONE), (PLAIN,), (ZERO, ZERO, -ONE)),
    (Power(0, TWO), (STILL,), (ZERO, ZERO, OO)),
    (Power(0, TWO), (ABSENT,), (OO, ZERO, ZERO)),
    (Power(0, HALF), (ABSENT,), (OO, ZERO, ZERO)),
    (Power(0, -ONE), (ABSENT,), (ZERO, ZERO, ZERO)),  # 1 / (0 + eps)
    (Power(0, -ONE), (ZEROS,), (ZERO, ZERO, OO)),  # what stays zero leaves eps alone
    (Power(0, -ONE), (FADING,), (-ONE, ZERO, ZERO)),  # 1/x rises from n^-1 to 1
    (LinearLike(0), (SMALL,), (-ONE, -HALF, -HALF)),
    (LinearLike(0, True), (SMALL,), (ZERO, ZERO, -HALF)),  # softplus(0) = log 2
    (LinearLike(0, True), (LARGE,), (HALF, ONE, ONE)),
    (Bounded(0, True), (SMALL,), (-ONE, -HALF, -HALF)),
    (Bounded(0, True), (LARGE,), (ZERO, ZERO, ZERO)),
    (Bounded(0, False), (SMALL,), (ZERO, ZERO, -HALF)),
    (Bounded(0, False), (LARGE,), (ZERO, ZERO, ZERO)),
    # cos(x + d) - cos(x) = -x d - d^2 / 2 for small x
    (Bounded(0, False, "even"), (SMALL,), (ZERO, ZERO, -ONE)),
    (Bounded(0, False, "even"), (SMALL._replace(change=-TWO),), (ZERO, ZERO, -ONE - TWO)),
    (Bounded(0, False, "even"), (ABSENT._replace(change=-TWO),), (ZERO, ZERO, -TWO - TWO)),
    (Bounded(0, False, "even"), (PLAIN,), (ZERO, ZERO, -ONE)),
    (Bounded(0, False, "even"), (LARGE._replace(change=-HALF),), (ZERO, ZERO, -HALF)),
    (Bounded(0, False, "even"), (LARGE,), (ZERO, ZERO, ZERO)),
    (Bounded(0, False, "even"), (STILL,), (ZERO, ZERO, OO)),
    (Exp(0), (SMALL,), (ZERO, ZERO, -HALF)),
    (Exp(0), (LARGE,), (ZERO, ZERO, ZERO)),
    # log(x + d) - log(x) = log(1 + d/x)
    (Log(0), (SMALL,), (ZERO, ZERO, ZERO)),
    (Log(0), (PLAIN,), (ZERO, ZERO, -ONE)),
    (Log(0), (LARGE._replace(change=ZERO),), (ZERO, ZERO, -HALF)),
    (Log(0), (STILL,), (ZERO, ZERO, OO)),
    (Log(0), (ZEROS,), (ZERO, ZERO, OO)),
    (Log(0), (ABSENT,), (ZERO, ZERO, ZERO)),
    (Log(0), (ABSENT._replace(trained=ONE, change=ONE),), (ZERO, ZERO, ZERO)),  # log n counts as 0
    (Softmax(0, ONE), (PLAIN,), (-ONE, -ONE, -TWO)),
    (Softmax(0, ONE), (LARGE,), (-ONE, -ONE, -ONE)),
    (Softmax(0, ONE, log=True), (LARGE,), (HALF, ONE, ONE)),
    (Softmax(0, ONE, log=True), (SMALL,), (ZERO, ZERO, -HALF)),
    # (x + d) / |x + d| - x / |x| = d / |x|, at most 2
    (Normalise(0, ZERO), (SMALL,), (ZERO, ZERO, ZERO)),
    (Normalise(0, -HALF), (PLAIN,), (-HALF, -HALF, Fraction(-3, 2))),
    (Normalise(0, ZERO), (LARGE._replace(change=ZERO),), (ZERO, ZERO, -HALF)),
    (Normalise(0, ZERO), (STILL,), (ZERO, ZERO, OO)),
    (Normalise(0, HALF), (ABSENT,), (OO, HALF, HALF)),
    (Normalise(0, ZERO), (ABSENT._replace(trained=-ONE, change=-ONE),), (OO, ZERO, ZERO)),
    (Normalise(0, HALF), (ZEROS,), (OO, OO, OO)),
    (Normalise(0, ZERO), (PLAIN._replace(trained=OO),), (ZERO, OO, -ONE)),
    (Discrete((0,)), (PLAIN,), (ZERO, ZERO, -ONE)),
    (Discrete((0,)), (LARGE,), (ZERO, ZERO, ZERO)),
    (Discrete((0,)), (LARGE._replace(change=ZERO),), (ZERO, ZERO, -HALF)),
    (Discrete((0,)), (ABSENT,), (ZERO, ZERO, ZERO)),
    (Discrete((0,)), (STILL,), (ZERO, ZERO, OO)),
    (Discrete((0, 1)), (PLAIN, PLAIN._replace(change=-HALF)), (ZERO, ZERO, -HALF)),
    (Discrete((0, 1)), (PLAIN._replace(change=-HALF), PLAIN), (ZERO, ZERO, -HALF)),
    (Sum(()), (), (OO, OO, OO)),
    (Sum((0, 1)), (SMALL, LARGE), (HALF, ONE, ONE)),
    (Sum((0, 1)), (LARGE._replace(change=-ONE), SMALL), (HALF, ONE, -HALF)),
    # (x + d)(y + e) - x y = d (y + e) + x e
    (Product(0, 1), (SMALL, LARGE), (-HALF, HALF, HALF)),
    (Product(0, 1), (LARGE, SMALL), (-HALF, HALF, HALF)),
    (Product(0, 1), (PLAIN, LARGE._replace(change=-ONE)), (HALF, ONE, ZERO)),
    (Product(0, 1), (LARGE._replace(change=-ONE), PLAIN._replace(change=-HALF)), (HALF, ONE, ZERO)),
    (Product(0, 1), (STILL, LARGE), (HALF, ONE, ONE)),
    (Product(0, 1), (LARGE, STILL), (HALF, ONE, ONE)),
    (Product(0, 1), (STILL, LARGE._replace(change=-ONE)), (HALF, ONE, -ONE)),
]


@pytest.mark.parametrize("structure, facts, orders", ORDERS)
def test_orders(structure, facts, orders):
    assert law(structure, *facts)[:3] == orders


#: All that is known of the result, for operands of which all is known.
FUNCTION = LOADED._replace(weight=0, gathered=False)  # of a value: no weight any more
#: A function of a weight is one.
MADE = weight(0)._replace(deviation=None)
WHOLE = [
    (View(0), (LOADED,), LOADED),
    (Guard(0), (LOADED,), LOADED),
    (Gather(0), (LOADED._replace(gathered=False, data=False),), LOADED),
    (Scale(0, HALF), (LOADED,), LOADED._replace(init=-HALF, trained=ONE, change=Fraction(5, 4))),
    (Scale(0, OO), (LOADED,), ZEROS),
    # sums of Gaussian entries are Gaussian: still a weight, but no rows
    (
        Reduce(0, ONE),
        (LOADED,),
        LOADED._replace(init=-HALF, trained=Fraction(3, 2), change=Fraction(7, 4), gathered=False),
    ),
    (Known(-HALF), (), constant(-HALF, -HALF)),
    (Known(-HALF, centred=True), (), constant(-HALF)),
    (Known(-HALF, data=True), (), constant(-HALF, -HALF)._replace(data=True)),
    (Power(0, Fraction(3), "odd"), (LOADED,), FUNCTION._replace(init=Fraction(-3), trained=HALF * 3, change=HALF * 3)),
    (Power(0, ONE, "even"), (PLAIN,), PLAIN._replace(odd=0)),
    (Power(0, ONE), (PLAIN,), PLAIN._replace(odd=0, mixed=0b011)),
    (LinearLike(0), (LOADED,), FUNCTION._replace(odd=0, mixed=0b0011)),
    (
        LinearLike(0, True),
        (LOADED,),
        FUNCTION._replace(init=ZERO, trained=HALF, odd=0, mixed=0b0011, deviation=-ONE),
    ),
    (Bounded(0, True, "odd"), (PLAIN,), PLAIN),
    (Bounded(0, False, "even"), (PLAIN,), PLAIN._replace(odd=0)),
    (Exp(0), (PLAIN,), PLAIN._replace(odd=0, mixed=0b011)),
    (Log(0), (PLAIN,), PLAIN._replace(odd=0, mixed=0b011)),
    (Softmax(0, ZERO), (PLAIN,), PLAIN._replace(odd=0, mixed=0b011)),
    (Softmax(0, ZERO, log=True), (PLAIN,), PLAIN._replace(odd=0, mixed=0b011)),
    (Normalise(0, ZERO), (PLAIN,), PLAIN),
    (Normalise(0, ZERO), (weight(0),), Fact(ZERO, ZERO, -HALF, 1, 1, 0, 1)),
    (Normalise(0, ZERO), (LOADED,), FUNCTION._replace(init=ZERO, trained=ZERO, change=ZERO)),  # rows are values
    (Discrete((0,)), (LOADED,), FUNCTION._replace(init=ZERO, trained=ZERO, change=ZERO, odd=0, mixed=0b0011)),
    (Discrete((0,)), (weight(0),), Fact(ZERO, ZERO, -HALF, 1, 0, 1, 1, mean=ZERO)),
    (Discrete((0,), "odd"), (weight(0),), Fact(ZERO, ZERO, -HALF, 1, 1, 0, 1)),
    (Discrete((0, 1)), (weight(0), PLAIN), Fact(ZERO, ZERO, -HALF, 0b111, 0, 0b11, data=True, mean=ZERO)),
    (Discrete((0, 1)), (weight(0), weight(1)), Fact(ZERO, ZERO, -HALF, 0b11, 0, 0b11, 0b11, mean=ZERO)),
    (Discrete(()), (), constant(ZERO, ZERO)),
    # the mean of a function's entries: none of an odd one, x^2 of one that is smooth at 0, else its size
    (Bounded(0, True, "odd"), (weight(0),), MADE),
    (LinearLike(0), (weight(0),), MADE._replace(odd=0, mixed=1, mean=-ONE)),
    (Power(0, ONE, "even"), (weight(0),), MADE._replace(odd=0, mean=-HALF)),
    (Power(0, ONE), (weight(0),), MADE._replace(odd=0, mixed=1, mean=-HALF)),
    (Power(0, TWO, "even"), (weight(0),), MADE._replace(init=-ONE, trained=-ONE, change=-HALF - 1, odd=0, mean=-ONE)),
    (Exp(0), (weight(0),), Fact(ZERO, ZERO, -ONE, weight=1, deviation=-HALF, apart=1, mean=ZERO)),
    (Slope(0), (weight(0),), Fact(ZERO, ZERO, -ONE, deviation=-HALF, apart=1)),
    (Centre(0), (weight(0)._replace(mean=-HALF),), MADE),
    # f(0) != 0 of what vanishes at init is a constant then, whatever becomes of it
    (Exp(0), (PLAIN._replace(init=-ONE),), Fact(ZERO, ZERO, -ONE, data=True, deviation=-ONE, apart=0b111)),
    (Softmax(0, ZERO), (PLAIN._replace(init=-ONE),), Fact(ZERO, ZERO, -ONE, data=True, deviation=-ONE, apart=0b111)),
    (
        Bounded(0, False, "odd"),
        (PLAIN._replace(init=-ONE),),
        Fact(ZERO, ZERO, -ONE, data=True, deviation=-ONE, apart=0b111),
    ),
    (Bounded(0, True, "odd"), (PLAIN._replace(init=-ONE),), PLAIN._replace(init=-ONE)),
]


@pytest.mark.parametrize("structure, facts, expected", WHOLE)
def test_all_that_is_known(structure, facts, expected):
    assert law(structure, *facts) == expected


@pytest.mark.parametrize("init", [OO, -ONE, ZERO, HALF])
@pytest.mark.parametrize("trained", [OO, -ONE, ZERO, HALF])
def test_a_guard_stands_for_zero_only(init, trained):
    fact = law(Guard(0), Fact(init, trained, OO, 1, data=True))
    assert fact.init == (ZERO if init is OO else init)
    assert fact.trained == (ZERO if trained is OO else trained)


def test_a_zeroth_power_is_one():
    """0^0 = 1, as torch has it."""
    assert law(Power(0, ZERO), ZEROS).init == ZERO and law(Power(0, ZERO), LARGE).init == ZERO


def test_what_settles_only_loses_its_weights():
    fact = LOADED._replace(odd=0b1, cover=0b1)
    assert _settled(SMALL, fact) == fact._replace(depends=0, odd=0, mixed=0, apart=0b111, cover=0)
    assert _settled(SMALL._replace(apart=0b1000), fact).apart == 0b1111
    assert _settled(PLAIN, fact) == fact


# -- what is one number in all entries but for a small part ---------------------------------------

#: 1/2 and a part of n^-1/2 that depends on weight 4; the half of n^-1/2 and a part of n^-3/2 (weight 5); n and a part
#: of order 0 (weight 6).
CLOSE = Fact(ZERO, ZERO, -QUARTER, data=True, deviation=-HALF, apart=0b010000)
CLOSER = Fact(-HALF, -HALF, -ONE, data=True, deviation=Fraction(-3, 2), apart=0b100000)
HIGH = Fact(ONE, ONE, ZERO, data=True, deviation=ZERO, apart=0b1000000)
ONES = constant(ZERO)._replace(deviation=OO)
SQUARE = Contract(0, 1, ONE, ONE, ONE)
#: Structure, operands, what the result deviates by from one number (None: by all it is), and the weights of that part.
DEVIATIONS = [
    (Known(HALF), (), None, 0),
    (Known(HALF, uniform=True), (), OO, 0),
    (Known(OO, uniform=True), (), None, 0),
    (View(0), (CLOSE,), -HALF, CLOSE.apart),
    (Guard(0), (CLOSE,), -HALF, CLOSE.apart),
    (Gather(0), (CLOSE,), -HALF, CLOSE.apart),
    (Scale(0, HALF), (CLOSE,), ZERO, CLOSE.apart),
    (Scale(0, HALF), (PLAIN,), None, 0),
    (Sum((0, 1)), (CLOSE, CLOSER), -HALF, CLOSE.apart | CLOSER.apart),
    (Sum((0, 1)), (CLOSER, CLOSE), -HALF, CLOSE.apart | CLOSER.apart),
    (Sum((0, 1)), (SMALL, ONES), -ONE, 0),  # 1 + x for a small x
    (Sum((0, 1)), (CLOSE, PLAIN), None, CLOSE.apart),
    # (c + d)(e + f) - c e = d e + c f
    (Product(0, 1), (CLOSE, CLOSER), -ONE, CLOSE.apart | CLOSER.apart),
    (Product(0, 1), (CLOSER, CLOSE), -ONE, CLOSE.apart | CLOSER.apart),
    (Product(0, 1), (HIGH, CLOSER), -HALF, HIGH.apart | CLOSER.apart),
    (Product(0, 1), (CLOSER, HIGH), -HALF, HIGH.apart | CLOSER.apart),
    # of what the values are at init, whatever becomes of them
    (Product(0, 1), (CLOSE, CLOSE._replace(trained=ONE)), -HALF, CLOSE.apart),
    (Product(0, 1), (CLOSE._replace(trained=ONE), CLOSE), -HALF, CLOSE.apart),
    (Product(0, 1), (CLOSE, ONES), -HALF, CLOSE.apart),
    (Product(0, 1), (ONES, CLOSE), -HALF, CLOSE.apart),
    (Product(0, 1), (CLOSE, PLAIN), None, CLOSE.apart),
    (Product(0, 1), (PLAIN, CLOSE), None, CLOSE.apart),
    (Product(0, 1), (weight(0), CLOSE), None, CLOSE.apart),
    # an average of n values close to 1/2: what signs may cancel does
    (Reduce(0, ONE), (CLOSE,), ZERO, CLOSE.apart),
    (Reduce(0, ZERO), (CLOSE,), -HALF, CLOSE.apart),
    (Reduce(0, ONE), (PLAIN,), None, 0),
    (SQUARE, (CLOSE, CLOSER), -HALF, CLOSE.apart | CLOSER.apart),
    (Contract(0, 1, ZERO, ONE, ONE), (CLOSE, CLOSER), -ONE, CLOSE.apart | CLOSER.apart),
    (SQUARE, (CLOSE, value(0b1)), None, 0),
    (SQUARE, (value(0b1), CLOSE), None, 0),
    (SQUARE, (weight(0), CLOSE), None, 0),
    (SQUARE, (CLOSE, weight(0)), None, 0),
    (SQUARE, (weight(0)._replace(deviation=OO), CLOSE), None, 0),  # a gain that is contracted: as any weight
    (SQUARE, (CLOSE, weight(0)._replace(deviation=OO)), None, 0),
    # the mean of a weight's entries gives all rows one number, the rest of them is random
    (SQUARE, (weight(0)._replace(init=-ONE, mean=-ONE), CLOSE), -HALF, CLOSE.apart),
    (SQUARE, (CLOSE, weight(0)._replace(init=-ONE, mean=-ONE)), -HALF, CLOSE.apart),
    (SQUARE, (weight(0)._replace(mean=ZERO, deviation=-ONE), PLAIN), -HALF, 0),
    (SQUARE, (weight(0)._replace(init=-ONE, mean=-TWO), PLAIN), None, 0),
    (SQUARE, (weight(0)._replace(init=-ONE, mean=-ONE), CLOSE._replace(init=HALF, trained=ONE)), ZERO, CLOSE.apart),
    (SQUARE, (weight(0)._replace(init=-ONE, mean=-TWO), CLOSE._replace(trained=ONE)), None, 0),
    # matrices 1 + n^-1 mixed by finitely many numbers, still matrices, have it as well
    (Contract(0, 1, ZERO, TWO, ZERO), (weight(0)._replace(init=ZERO, mean=ZERO, deviation=-ONE), SMALL), -TWO, 0),
    # of constants nothing is known beside their size: a wave times a value has as many parts as the sum
    (SQUARE, (value(0b1), constant(ZERO, ZERO)), None, 0),
    # the matrix that is made of two weights is one
    (SQUARE, (weight(0)._replace(init=-ONE, mean=-ONE), weight(1)), None, 0),
    # (c + d)^k - c^k = k c^(k-1) d
    (Power(0, TWO), (CLOSER,), -TWO, CLOSER.apart),
    (Power(0, -ONE), (CLOSER,), -HALF, CLOSER.apart),
    (Power(0, ONE), (CLOSER,), Fraction(-3, 2), CLOSER.apart),
    (Power(0, -ONE), (PLAIN,), None, 0),
    (Power(0, -ONE), (ABSENT,), None, 0),
    (Power(0, TWO), (ONES,), OO, 0),
    (LinearLike(0), (CLOSER,), Fraction(-3, 2), CLOSER.apart),
    (LinearLike(0), (HIGH,), ZERO, HIGH.apart),
    (LinearLike(0, True), (CLOSER,), Fraction(-3, 2), CLOSER.apart),
    (LinearLike(0, True), (HIGH,), ZERO, HIGH.apart),
    (LinearLike(0, True), (PLAIN,), None, 0),
    (Bounded(0, True), (CLOSER,), Fraction(-3, 2), CLOSER.apart),
    (Bounded(0, True), (CLOSE,), -HALF, CLOSE.apart),
    (Bounded(0, True, "even"), (CLOSER,), Fraction(-3, 2), CLOSER.apart),
    (Bounded(0, True), (HIGH,), None, HIGH.apart),
    (Bounded(0, False), (CLOSE,), -HALF, CLOSE.apart),
    (Bounded(0, False), (CLOSER,), Fraction(-3, 2), CLOSER.apart),
    (Bounded(0, False), (SMALL,), -ONE, 0b111),
    (Bounded(0, False), (HIGH,), None, HIGH.apart),
    (Bounded(0, False), (PLAIN,), None, 0),
    (Bounded(0, False), (ABSENT,), OO, 0b111),
    # an even function is flat at zero, and only there
    (Bounded(0, False, "even"), (SMALL,), -TWO, 0b111),
    (Bounded(0, False, "even"), (CLOSER,), -TWO, CLOSER.apart),
    (Bounded(0, False, "even"), (CLOSE,), -HALF, CLOSE.apart),
    (Bounded(0, False, "even"), (HIGH._replace(deviation=-ONE),), -ONE, HIGH.apart),
    (Exp(0), (SMALL,), -ONE, 0b111),
    (Exp(0), (CLOSE,), -HALF, CLOSE.apart),
    # log(c + d) - log(c) = d / c
    (Log(0), (CLOSER,), -ONE, CLOSER.apart),
    (Log(0), (SMALL,), None, 0),
    (Log(0), (ABSENT,), None, 0),
    (Softmax(0, ONE), (SMALL,), -TWO, 0b111),
    (Softmax(0, ONE), (CLOSE,), Fraction(-3, 2), CLOSE.apart),
    (Softmax(0, ONE), (PLAIN,), None, 0),
    (Softmax(0, ONE, log=True), (SMALL,), -ONE, 0b111),
    (Softmax(0, ONE, log=True), (CLOSER,), Fraction(-3, 2), CLOSER.apart),
    (Softmax(0, ONE, log=True), (HIGH,), ZERO, HIGH.apart),
    # an rms norm makes 1 + d / c of c + d
    (Normalise(0, ZERO), (CLOSER,), -ONE, CLOSER.apart),
    (Normalise(0, -HALF), (CLOSER,), Fraction(-3, 2), CLOSER.apart),
    (Normalise(0, -HALF), (SMALL,), None, 0),
    (Normalise(0, HALF), (ABSENT,), None, 0),
    (Discrete((0,)), (CLOSE,), None, 0),
    (Centre(0), (CLOSE,), None, 0),
]


@pytest.mark.parametrize("structure, facts, by, apart", DEVIATIONS)
def test_deviations(structure, facts, by, apart):
    fact = law(structure, *facts)
    assert (fact.deviation, fact.apart) == (by, apart)


def test_a_deviation_is_never_larger_than_the_value():
    assert deviation(PLAIN) == ZERO == deviation(CLOSE._replace(deviation=HALF))
    assert deviation(CLOSE) == -HALF and deviation(ONES) is OO is deviation(ZEROS)
    assert relative_deviation(CLOSER) == -ONE and relative_deviation(ONES) is OO
    assert relative_deviation(PLAIN) == relative_deviation(LARGE) == relative_deviation(ZEROS) == ZERO


def test_centring_leaves_the_deviation():
    """It is what the change is relative to, and what depends on weights."""
    assert law(Centre(0), CLOSE) == Fact(-HALF, -QUARTER, -QUARTER, 0b010000, 0, 0b010000, data=True)
    assert law(Centre(0), CLOSER) == Fact(Fraction(-3, 2), -ONE, -ONE, 0b100000, 0, 0b100000, data=True)
    assert law(Centre(0), CLOSE._replace(change=-ONE))[:3] == (-HALF, -HALF, -ONE)
    assert law(Centre(0), CLOSE._replace(change=OO))[:3] == (-HALF, -HALF, OO)
    assert law(Centre(0), CLOSE._replace(trained=-ONE, change=ZERO))[:3] == (-HALF, -ONE, ZERO)  # it fades
    # less its mean a sum is one still; what a constant hid has signs of its own
    assert law(Centre(0), PLAIN._replace(cover=0b010)) == PLAIN._replace(cover=0b010)
    assert law(Centre(0), CLOSE._replace(depends=0b010, mixed=0b010, cover=0b010)).cover == 0
    assert law(Centre(0), ONES)[:3] == (OO, OO, OO)
    assert law(Centre(0), ONES._replace(change=-ONE))[:3] == (OO, -ONE, -ONE)
    for plain in (PLAIN, SMALL, LARGE, ABSENT, ZEROS, LOADED, weight(0)):
        assert law(Centre(0), plain) == plain
    shared = PLAIN._replace(deviation=-ONE, apart=0b1001)
    fact = law(Centre(0), shared)
    assert (fact.depends, fact.odd, fact.mixed) == (0b1111, 0, 0b1011)


def test_a_norm_that_centres_moves_with_the_deviation():
    """LayerNorm of 1/2 + n^-1/2 that moves by n^-3/4: by n^-1/4 of itself, where an rms norm moves by n^-3/4."""
    moving = CLOSE._replace(change=-HALF - QUARTER)
    assert law(Normalise(0, ZERO), law(Centre(0), moving)).change == -QUARTER
    assert law(Normalise(0, ZERO), moving).change == -HALF - QUARTER
    assert law(Power(0, -ONE), law(Centre(0), moving))[:3] == (HALF, HALF, QUARTER)


def test_functions_of_a_weight_near_zero():
    """x + O(x^2): as much of a mean as either has; of a derivative nothing is known."""
    w = weight(0)._replace(mean=-ONE * 3, own=-TWO)
    for near_zero in (Bounded(0, True, "none"), LinearLike(0)):
        assert (law(near_zero, w).mean, law(near_zero, w).weight) == (-ONE, 0b1)
    found = law(Slope(0), w)
    assert (found.weight, found.mean, found.own) == (0, OO, None)


def test_a_discrete_function_of_weights_alone_is_one():
    w, rows = weight(0), weight(1)._replace(data=True)
    assert law(Discrete((0, 1)), w, weight(1)).weight == 0b11
    assert law(Discrete((0, 1)), w, constant(ZERO)).weight == 0b1
    for other in (rows, value(0b10), value(0b10)._replace(data=False)):
        assert law(Discrete((0, 1)), w, other).weight == 0 == law(Discrete((0, 1)), other, w).weight


# -- sums ------------------------------------------------------------------------------------------


def test_a_sum_of_weights_is_a_weight_and_with_data_is_not():
    moving = ZEROS._replace(trained=ZERO, change=ZERO, depends=0b100, mixed=0b100)  # a bias that starts at zero
    assert law(Sum((0, 1)), weight(0), weight(1)).weight == 0b11
    for nothing in (ZEROS, moving):
        assert law(Sum((0, 1)), weight(0), nothing).weight == 0b1 == law(Sum((0, 1)), nothing, weight(0)).weight
    assert law(Sum((0, 1)), weight(0), value(0b100)).weight == 0 == law(Sum((0, 1)), value(0b100), weight(0)).weight


def test_a_sum_keeps_a_parity_that_all_share():
    odd, even, mixed = (Fact(ZERO, ZERO, ZERO, 1, o, m, 0, False, True) for o, m in ((1, 0), (0, 0), (0, 1)))
    apart = value(0b10, 0b10)
    assert (law(Sum((0, 1)), odd, odd).odd, law(Sum((0, 1)), odd, odd).mixed) == (1, 0)
    assert (law(Sum((0, 1)), even, even).odd, law(Sum((0, 1)), even, even).mixed) == (0, 0)
    for pair in ((odd, even), (odd, mixed), (even, mixed)):
        assert (law(Sum((0, 1)), *pair).odd, law(Sum((0, 1)), *pair).mixed) == (0, 1)
    assert (law(Sum((0, 1)), odd, apart).odd, law(Sum((0, 1)), odd, apart).mixed) == (0, 0b11)  # flips only in part
    assert law(Sum((0, 1)), odd, apart).depends == 0b11
    still = Fact(OO, ZERO, ZERO, 1, 0, 1, 0, False, True)  # zero at init, without parity after
    assert (law(Sum((0, 1)), odd, still).odd, law(Sum((0, 1)), odd, still).mixed) == (0, 1)


def test_zeros_flip_their_sign_with_what_they_depend_on_and_nothing_else():
    nothing = ZEROS._replace(depends=0b101, odd=0b101)
    assert law(Sum((0, 1)), nothing, nothing) == nothing


def test_a_sum_with_data_is_data_and_with_rows_is_rows():
    plain, data, rows = constant(ZERO), value(), LOADED
    for pair in ((plain, data), (data, plain)):
        assert law(Sum((0, 1)), *pair).data and not law(Sum((0, 1)), *pair).gathered
    for pair in ((plain, rows), (rows, plain)):
        assert law(Sum((0, 1)), *pair).gathered
    assert not law(Sum((0, 1)), plain, plain).data
    assert law(Discrete((0, 1)), data, plain).data and law(Discrete((0, 1)), plain, data).data
    assert not law(Discrete((0, 1)), plain, plain).data


def test_discrete_functions_of_several_values():
    other = Fact(ZERO, ZERO, -HALF, 0b1000, 0b1000, 0, 0, False, False)
    fact = law(Discrete((0, 1)), PLAIN, other)
    assert (fact.depends, fact.odd, fact.mixed, fact.change, fact.data) == (0b1111, 0, 0b1011, -HALF, True)


def test_means_and_own_parts_of_a_sum():
    """Means add up, whatever it meets; where all of the change of one is its own, that counts."""
    x, y = weight(0)._replace(mean=-ONE, own=-TWO), weight(1)._replace(mean=-TWO)
    assert (law(Sum((0, 1)), x, y).mean, law(Sum((0, 1)), x, y).own) == (-ONE, -ONE)
    assert law(Sum((0, 1)), x, y._replace(own=-QUARTER)).own == -QUARTER
    assert law(Sum((0, 1)), y, y).own is None
    assert (
        law(Sum((0, 1)), weight(0), constant(ZERO)).weight == 0b1 == law(Sum((0, 1)), constant(ZERO), weight(0)).weight
    )


def test_a_sum_over_an_axis_adds_up_means_and_mixes_what_was_picked():
    picked = weight(0)._replace(gathered=True, mean=-ONE)
    assert (law(Reduce(0, HALF), picked).mean, law(Reduce(0, HALF), picked).gathered) == (-HALF, False)
    assert law(Reduce(0, ZERO), picked).gathered and not law(Reduce(0, ZERO), weight(0)).gathered


# -- products --------------------------------------------------------------------------------------


def test_products():
    fact = law(Product(0, 1), SMALL, LARGE)
    assert (fact.depends, fact.odd, fact.mixed) == (0b111, 0, 0b010)
    other = PLAIN._replace(depends=0b1011, odd=0b1010, mixed=0b0001)
    for pair in ((PLAIN, other), (other, PLAIN)):
        met = law(Product(0, 1), *pair)
        assert (met.depends, met.odd, met.mixed) == (0b1111, 0b1000, 0b0011)
        met = law(Contract(0, 1, ZERO, ZERO, ZERO), *pair)
        assert (met.depends, met.odd, met.mixed, met.gathered) == (0b1111, 0b1000, 0b0011, False)
    mask = constant(ZERO)
    assert law(Product(0, 1), weight(0), mask).weight == 0b1 == law(Product(0, 1), mask, weight(0)).weight
    assert law(Product(0, 1), weight(0), PLAIN).weight == 0 == law(Product(0, 1), PLAIN, weight(0)).weight
    assert not law(Product(0, 1), LOADED, mask).gathered
    for structure in (Product(0, 1), Contract(0, 1, ONE, ONE, ONE)):
        assert not law(structure, mask, mask).data
        assert law(structure, mask, PLAIN).data and law(structure, PLAIN, mask).data


def test_a_weight_times_a_number_of_the_data_is_a_mixed_weight():
    number = value()._replace(coarse=True)
    for pair in ((weight(0), number), (number, weight(0))):
        found = law(Product(0, 1), *pair)
        assert (found.weight, found.gathered, found.data) == (0b1, True, True)
        assert found.own == weight(0).change
    both = law(Product(0, 1), weight(0), value())
    assert (both.weight, both.gathered, both.own) == (0, False, None)


def test_means_of_products():
    """Of weights and constants alone; a sign that differs from entry to entry leaves none."""
    x, y = (weight(bit)._replace(odd=0, mean=-HALF) for bit in (0, 1))
    assert law(Product(0, 1), x, y).mean == -ONE
    assert law(Product(0, 1), x._replace(odd=1), y).mean is OO
    assert law(Product(0, 1), x._replace(cover=1), y).mean is OO
    assert law(Product(0, 1), constant(ZERO, ZERO), constant(-HALF, -HALF)).mean == -HALF
    assert law(Product(0, 1), x, constant(-HALF, -HALF)).mean == -ONE
    assert law(Product(0, 1), x._replace(weight=0), constant(ZERO, ZERO)).mean is OO  # a value that depends on one
    assert law(Product(0, 1), x._replace(depends=0), constant(ZERO, ZERO)).mean == -HALF


def test_a_product_is_one_number_where_both_factors_are():
    x, y = weight(0), weight(1)
    for pair, coarse in (((1, 1), True), ((1, 0), False), ((0, 1), False)):
        assert law(Product(0, 1), *(f._replace(coarse=bool(c)) for f, c in zip((x, y), pair))).coarse == coarse


def test_own_parts_of_a_product():
    """A gain of rows carries the init of the entries along, which is none of their updates."""
    entries, rows = weight(0), weight(1)._replace(coarse=True)
    assert law(Product(0, 1), entries, rows).own == -ONE - HALF == law(Product(0, 1), rows, entries).own
    assert law(Product(0, 1), entries, weight(1)).own is None
    assert law(Product(0, 1), rows, rows).own is None
    assert law(Product(0, 1), entries._replace(own=-TWO), weight(1)).own == max(-TWO - HALF, -ONE - HALF)
    assert law(Product(0, 1), weight(1), entries._replace(own=-TWO)).own == max(-TWO - HALF, -ONE - HALF)


# -- contractions ----------------------------------------------------------------------------------


def test_two_weights_meet():
    """B A of two adapters is again a random weight; of one with itself all terms add up."""
    merged = law(SQUARE, weight(0), weight(1))
    assert merged.init == -ONE + HALF and merged.weight == 0b11 and merged.depends == 0b11
    assert merged.gathered is False and merged.data is False
    own = law(SQUARE, weight(0), weight(0))
    assert own.init == own.trained == -ONE + ONE
    assert law(SQUARE, weight(0), value()).weight == 0
    assert law(SQUARE, value(), weight(0)).weight == 0


@pytest.mark.parametrize("beside", [constant(ZERO), value()])
def test_what_a_weight_makes_of_a_constant_or_of_data_is_no_weight(beside):
    """Entries of C W share the rows of W: they are not independent, and no operator norm of a random matrix holds."""
    for pair in ((weight(0), beside), (beside, weight(0))):
        assert law(SQUARE, *pair).weight == 0
    rows = weight(0)._replace(gathered=True, data=True)
    for pair in ((rows, rows), (weight(1)._replace(data=True), weight(0)), (weight(0), weight(1)._replace(data=True))):
        assert law(SQUARE, *pair).weight == 0


#: Growth of what x and y have alone -> which of them count as weights.
VECTORS = [
    ((ONE, ONE), (True, True)),
    ((ZERO, ONE), (False, True)),  # a learned query meets a matrix
    ((ONE, ZERO), (True, False)),
    ((ZERO, ZERO), (False, True)),  # of two vectors the second is the weight
    ((HALF, HALF), (True, True)),
    ((ZERO, HALF), (False, True)),
    ((HALF, ZERO), (True, False)),
]


@pytest.mark.parametrize("rest, expected", VECTORS)
def test_a_learned_vector_is_a_value_where_it_meets_a_matrix(rest, expected):
    contract = Contract(0, 1, ONE, *rest)
    assert roles(contract, weight(0), weight(1)) == expected
    # beside a value a vector is a weight
    assert roles(contract, weight(0), value()) == (True, False)
    assert roles(contract, value(), weight(0)) == (False, True)
    assert roles(contract, value(), value()) == (False, False)


def test_rows_are_values_where_they_meet_a_weight_and_weights_where_they_meet_a_value():
    rows, matrix = weight(0)._replace(gathered=True, data=True), weight(1)
    for rest in ((ONE, ONE), (ZERO, ONE), (ONE, ZERO), (ZERO, ZERO)):
        contract = Contract(0, 1, ONE, *rest)
        assert roles(contract, rows, matrix) == (False, True)
        assert roles(contract, matrix, rows) == (True, False)
        assert roles(contract, rows, rows) == (False, False)
        assert roles(contract, rows, value()) == (True, False)
        assert roles(contract, value(), rows) == (False, True)
        assert roles(contract, value()._replace(gathered=True), matrix) == (False, True)
        assert roles(contract, matrix, value()._replace(gathered=True)) == (True, False)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("rest, spread", [(ONE, HALF), (ZERO, ONE), (HALF, Fraction(3, 4)), (TWO, HALF)])
def test_a_weight_meets_a_value_that_depends_on_it(swap, rest, spread):
    def meet(other: Fact) -> Fact:
        return (
            law(Contract(1, 0, ONE, ZERO, rest), weight(0), other)
            if swap
            else law(Contract(0, 1, ONE, rest, ZERO), weight(0), other)
        )

    assert meet(value(0b1)).init == -HALF + spread  # law 2
    assert meet(value(0b10)).init == -HALF + HALF  # law 1
    moved = meet(value(0b10)._replace(change=Fraction(3), trained=Fraction(3)))
    assert moved.change == Fraction(3) - HALF + spread and moved.trained == moved.change
    assert meet(value(0b10)._replace(change=OO)).change == -ONE + ONE  # law 3


@pytest.mark.parametrize("odd, spread", [(0b1, HALF), (0, ONE)])
def test_two_values_meet(odd, spread):
    met = law(SQUARE, value(0b1, odd), value(0b10))
    assert met.init == spread and met.change == ONE and met.data
    # along the axes that only the other value has, their signs are the same
    assert (met.depends, met.odd, met.mixed) == (0b11, 0, odd)


#: Growths of what x and y have alone, whether x, y is a weight (each odd in its own) -> in which the result is odd.
SHARED = [
    ((ZERO, ZERO), (False, False), 0b11),
    ((ONE, ZERO), (False, False), 0b01),
    ((ZERO, ONE), (False, False), 0b10),
    ((ONE, ONE), (False, False), 0b00),
    # each row of a weight mixes the signs of a value anew; samples share those of the weight
    ((ONE, ZERO), (True, False), 0b11),
    ((ZERO, ONE), (False, True), 0b11),
    ((ONE, ONE), (True, False), 0b10),
    ((ONE, ONE), (False, True), 0b01),
    ((ZERO, ONE), (True, False), 0b10),
    ((ONE, ZERO), (False, True), 0b01),
    ((ONE, ONE), (True, True), 0b11),
]


@pytest.mark.parametrize("rests, weights, odd", SHARED)
def test_signs_run_along_own_axes(rests, weights, odd):
    x, y = (weight(i) if is_weight else value(1 << i, 1 << i) for i, is_weight in enumerate(weights))
    met = law(Contract(0, 1, ONE, *rests), x, y)
    assert (met.odd, met.mixed, met.init - x.init - y.init) == (odd, 0b11 & ~odd, HALF)
    # what covers a sum runs where signs do
    sums = (fact if w else fact._replace(odd=0, mixed=fact.odd, cover=fact.odd) for fact, w in zip((x, y), weights))
    bits = {1 << i for i, is_weight in enumerate(weights) if not is_weight and odd & 1 << i}
    assert law(Contract(0, 1, ONE, *rests), *sums).cover == min(bits, default=0)


def test_what_is_repeated_shares_its_signs():
    x = PLAIN._replace(cover=0b010)
    assert law(View(0, repeated=True), x) == PLAIN._replace(odd=0, mixed=0b011, coarse=True)
    assert law(View(0), x) == x
    rows = LOADED._replace(cover=0b0010)
    assert law(Gather(0, repeated=True), rows) == LOADED._replace(odd=0, mixed=0b0011, coarse=True)
    assert law(Gather(0), rows) == rows


A, B = value(0b001, 0b001), value(0b010, 0b010)
#: A residual stream: each summand flips with its own weight.
STREAM = law(Sum((0, 1)), A, B)


def test_a_sum_of_signs_cancels():
    assert (STREAM.odd, STREAM.mixed, STREAM.cover, STREAM.cancels) == (0, 0b011, 0b011, True)
    assert law(Sum((0, 1)), STREAM, value(0b100, 0b100)).cover == 0b111
    assert law(Sum((0, 1)), STREAM, ZEROS).cover == 0b011
    for rest in (value(), value(0b100)._replace(mixed=0b100), constant(ZERO)):
        assert law(Sum((0, 1)), STREAM, rest).cover == 0 == law(Sum((0, 1)), rest, STREAM).cover
    assert not value().cancels and A.cancels and not law(Sum((0, 1)), STREAM, value()).cancels
    assert law(Reduce(0, ONE), STREAM).init == HALF and law(Reduce(0, ONE), value()).init == ONE
    assert law(Reduce(0, ONE), STREAM).cover == 0b011


def test_what_covers_a_sum_stays_beside_what_does_not_flip_with_it():
    other, even = value(0b100, 0b100), value(0b011)
    for factor, cover in (
        (other, 0b011),
        (even, 0b011),
        (constant(ZERO), 0b011),
        (A, 0),
        (even._replace(mixed=0b010), 0),
    ):
        for pair in ((STREAM, factor), (factor, STREAM)):
            for structure in (Product(0, 1), Contract(0, 1, ONE, ZERO, ZERO)):
                assert law(structure, *pair).cover == cover
    apart = law(Sum((0, 1)), other, value(0b1000, 0b1000))
    for pair in ((STREAM, apart), (apart, STREAM)):
        assert law(Product(0, 1), *pair).cover == 0b011  # either would do
        assert law(Contract(0, 1, ONE, ZERO, ZERO), *pair).init == HALF
    apart = law(Sum((0, 1)), value(0b010, 0b010), other)  # shares a summand's weight
    assert law(Product(0, 1), STREAM, apart).cover == 0 == law(Product(0, 1), apart, STREAM).cover
    assert law(Product(0, 1), STREAM, STREAM).cover == 0
    assert law(Contract(0, 1, ONE, ZERO, ZERO), STREAM, STREAM).init == ONE


def test_a_function_of_a_sum_has_no_summands():
    for structure in (
        Power(0, Fraction(3), "odd"),
        Bounded(0, True, "odd"),
        LinearLike(0),
        Exp(0),
        Log(0),
        Softmax(0, ONE),
        Discrete((0,)),
    ):
        assert law(structure, STREAM).cover == 0
    for structure in (View(0), Guard(0), Scale(0, ONE), Gather(0), Normalise(0, ZERO)):
        assert law(structure, STREAM).cover == 0b011


def test_a_change_meets_the_trained_value_and_the_initial_weight():
    """Law 4: d (y + e) + x e over growth 1, all aligned; laws 2 and 3: W d by W at init, dW by the trained value."""
    grown = value()._replace(init=-ONE, trained=HALF, change=HALF)
    held = value()._replace(change=OO)
    for pair in ((held, grown), (grown, held)):
        assert law(SQUARE, *pair)[:3] == (ZERO, Fraction(3, 2), Fraction(3, 2))
    other = value()._replace(change=ZERO)
    assert law(SQUARE, other, grown).change == Fraction(3, 2) == law(SQUARE, grown, other).change
    # a weight that starts at n^-2 and is moved by n^0: W_0 d is n^(-2 + 1/2), dW x is n^(0 + 1)
    waking = weight_fact(0, WeightOrders(TWO, ZERO))
    for pair in ((waking, other), (other, waking)):
        assert law(SQUARE, *pair)[:3] == (-TWO + HALF, ONE, ONE)


def test_what_remains_of_a_contraction():
    frozen = law(SQUARE, value(0b01, 0b01)._replace(change=OO), value(0b10, 0b10)._replace(change=OO))
    assert frozen[:3] == (HALF, HALF, OO)
    held = law(SQUARE, weight_fact(0, WeightOrders(HALF, None)), STILL._replace(depends=0b10))
    assert held[:3] == (ZERO, ZERO, OO)  # nothing moves: what there was remains
    fades = Fact(ONE, ZERO, ONE, 0b10, 0b10, 0, 0, False, True)
    assert law(SQUARE, weight(0), fades).trained == ZERO == law(SQUARE, fades, weight(0)).trained
    assert law(Reduce(0, ONE), fades._replace(odd=0)).trained == ONE
    for lopsided in (Contract(0, 1, ONE, ONE, ZERO), Contract(0, 1, ONE, ONE, TWO)):
        assert law(lopsided, weight(0), fades).trained == ZERO
    for lopsided in (Contract(0, 1, ONE, ZERO, ONE), Contract(0, 1, ONE, TWO, ONE)):
        assert law(lopsided, fades, weight(0)).trained == ZERO
    assert law(SQUARE, PLAIN, LARGE).change == ONE + ONE
    fast = weight_fact(0, WeightOrders(TWO, -ONE))
    moving = Fact(OO, ZERO, ZERO, 0, 0, 0, 0, False, True)
    assert law(SQUARE, fast, moving).change == ONE + ONE == law(SQUARE, moving, fast).change


def test_means_of_two_weights_add_up_where_they_meet():
    x, y = (weight(bit)._replace(odd=0, mean=-HALF) for bit in (0, 1))
    structure = Contract(0, 1, ONE, ONE, ONE)
    assert law(structure, x, y)[:1] == (ZERO,) and law(structure, x, y).mean == ZERO
    for other in (y._replace(odd=2), y._replace(cover=2)):  # signs cancel, law 1
        assert law(structure, x, other)[:1] == (-HALF,) and law(structure, x, other).mean is OO
    small = law(structure, x._replace(mean=-TWO), y)
    assert (small.init, small.mean) == (-HALF, -TWO - HALF + ONE)
    # relative to what they are at init, whatever that is
    low, high = (
        x._replace(init=-TWO, mean=-TWO - ONE / 8, trained=ONE),
        y._replace(init=ONE, mean=ONE - ONE / 8, trained=TWO),
    )
    assert law(structure, low, high).init == -QUARTER == law(structure, high, low).init
    nothing = weight_fact(0, WeightOrders(None, ONE))
    assert law(structure, nothing, y).init is OO and law(structure, y, nothing).init is OO
    # what shares a weight is aligned with it, even where another one gives it signs
    both = Fact(-HALF, -HALF, -ONE, 0b11, 0b11, 0, 0b11)
    assert law(structure, both, weight(0)).init == ZERO == law(structure, weight(0), both).init


@pytest.mark.parametrize("swap", [False, True])
def test_matrices_mixed_by_numbers_are_a_weight(swap):
    """sum_b c_b V_b, of numbers that the inputs give: rows picked by them, in effect."""
    w, numbers = weight(0)._replace(mean=-ONE), Fact(-QUARTER, ONE / 8, -TWO, data=True)
    structure = Contract(0, 1, ZERO, ZERO, TWO) if swap else Contract(0, 1, ZERO, TWO, ZERO)
    found = law(structure, *((numbers, w) if swap else (w, numbers)))
    assert (found.weight, found.gathered, found.mean) == (0b1, True, -ONE - QUARTER)
    assert found.own == -ONE + ONE / 8
    fixed_ = law(structure, *((constant(ZERO), w) if swap else (w, constant(ZERO))))
    assert (fixed_.weight, fixed_.gathered, fixed_.data) == (0b1, False, False)
    # two values are none, nor is what is summed over a growing axis
    values = law(structure, numbers, numbers)
    assert (values.weight, values.gathered, values.own) == (0, False, None)
    summed = replace(structure, K=ONE)
    found = law(summed, *((numbers, w) if swap else (w, numbers)))
    assert (found.weight, found.gathered, found.own) == (0, False, None)


@pytest.mark.parametrize("swap", [False, True])
def test_a_change_that_a_weights_init_carries_adds_up_by_law_2(swap):
    """A gain of the rows changes by n^-1, and the entries alone by n^-3."""
    w, x = weight(0)._replace(own=-ONE * 3), Fact(-QUARTER, ONE / 8, -TWO, data=True)
    structure = Contract(0, 1, ONE, ZERO, ONE) if swap else Contract(0, 1, ONE, ONE, ZERO)
    assert law(structure, *((x, w) if swap else (w, x))).change == -ONE + HALF + ONE / 8
    # and of a change of the value, what it meets there
    low, moving = w._replace(init=-TWO), Fact(-TWO, -TWO, ZERO, data=True)
    assert law(structure, *((moving, low) if swap else (low, moving))).change == -ONE + HALF


# -- alignment -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "alignment, on_change, on_update", [("full", HALF, ONE), ("none", HALF, HALF), ("omega", HALF, ONE)]
)
def test_alignments(alignment, on_change, on_update):
    assumed = ALIGNMENTS[alignment]
    assert assumed.initial_on_change(ONE, ONE) == on_change
    assert assumed.weight_change(ONE) == assumed.values(ONE) == on_update


@pytest.mark.parametrize("K", [HALF, ONE, TWO])
def test_alignment_counts_growth(K):
    assert OMEGA.initial_on_change(K, ZERO) == K / 2 and OMEGA.weight_change(K) == K and NONE.values(K) == K / 2
    assert FULL.initial_on_change(K, ZERO) == K and FULL.initial_on_change(K, K) == K / 2  # one number; a square


def test_law_2_is_of_the_initial_weight():
    """Everett et al.'s alpha and omega are free of each other: here W_0 d is n^(-2 + 1), and dW x is n^(0 + 1/2)."""
    assumed = Alignment("initial weights only", update=HALF, initial=ONE)
    waking = weight_fact(0, WeightOrders(TWO, ZERO))
    assert LAWS[Contract](SQUARE, {0: waking, 1: value()}, assumed).change == HALF


# -- leaves ----------------------------------------------------------------------------------------


def test_a_change_larger_than_the_init_counts():
    assert weight_fact(2, WeightOrders(ONE, HALF)) == Fact(-ONE, -HALF, -HALF, 0b100, 0b100, 0, 0b100)
    assert weight_fact(0, WeightOrders(HALF, ONE)) == Fact(-HALF, -HALF, -ONE, 0b1, 0b1, 0, 0b1)
    # a gain has no mean zero: no sign to flip
    gain = Fact(-ONE, -HALF, -HALF, 0b10, 0, 0b10, 0b10, deviation=OO)
    assert weight_fact(1, WeightOrders(ONE, HALF, random=False)) == gain
    assert weight_fact(1, WeightOrders(HALF, ONE, random=False)) == gain._replace(init=-HALF, change=-ONE)
    assert weight_fact(1, WeightOrders(None, None, random=False)) == Fact(OO, OO, OO, 0b10, 0, 0b10, 0b10)


N, FEW, NONE_AT_ALL = Size.linear(), Size.constant(8), Size.constant(0)
VALUES = [
    (Value(0, (FEW, N), "float32", "input"), constant(ZERO)._replace(data=True)),
    # a loss that averages over n outputs gives each a gradient of n^-1
    (Value(0, (FEW, N), "float32", "seed"), constant(-ONE)._replace(data=True)),
    (Value(0, (N, N), "float32", "seed"), constant(-TWO)._replace(data=True)),
    (Value(0, (FEW,), "float32", "seed"), constant(ZERO)._replace(data=True)),
    (Value(0, (FEW, NONE_AT_ALL), "float32", "input"), ZEROS),
    (Value(0, (NONE_AT_ALL,), "float32", "seed"), ZEROS),
    (Value(0, (N,), "float32", "buffer"), constant(ZERO, ZERO)),
    (Value(0, (N,), "float32", "buffer", magnitude=Scalar(3.0, HALF)), constant(HALF, HALF)),
    (Value(0, (N,), "float32", "constant", magnitude=Scalar.of(0.0)), ZEROS),
]


@pytest.mark.parametrize("value, expected", VALUES)
def test_leaves(value, expected):
    assert leaf_fact(value) == expected


def test_buffers_that_act_as_a_weight():
    """By their bit, without parity where their signs are mixed; others are constants."""
    made, drawn = (Value(7, (N, N), "float32", "buffer", signs=signs) for signs in ("", "mixed"))
    assert (leaf_fact(made, 4).odd, leaf_fact(made, 4).mixed) == (4, 0)
    assert (leaf_fact(drawn, 4).odd, leaf_fact(drawn, 4).mixed) == (0, 4)
    lowered, orders = small_program(), {"W": WeightOrders(HALF, ONE)}
    lowered.program.values[7] = made
    assert propagate(lowered, orders)[7].weight == 0
    assert propagate(replace(lowered, given={7: 4}), orders)[7] == leaf_fact(made, 4)


def small_program() -> Lowered:
    """``y = W x``, ``z = y y``, and a backward pass of ``t = g y``; W in two blocks, the first one is used."""
    values = {
        0: Value(0, (FEW, N), "float32", "input"),
        1: Value(1, (N, N), "float32", "param"),
        2: Value(2, (FEW,), "float32", "seed"),
    }
    W = Weight("W", 1, (N, N))
    program = Program((64, 128, 256), (), values, (W,), inputs=(0,))
    leaves = tuple(Leaf(f"W[{i}]", W, vid, (N, N), None) for i, vid in enumerate((10, 11)))
    atoms = (
        Atom(20, Contract(10, 0, ONE, ONE, ZERO), 0),
        Atom(21, Product(20, 20), 0),
        Atom(22, Product(2, 20), 0),
    )
    return Lowered(program, atoms, 2, leaves)


def test_blocks_have_orders_of_their_own_or_those_of_the_whole():
    facts = propagate(small_program(), {"W": WeightOrders(HALF, ONE), "W[0]": WeightOrders(ONE, None)})
    assert facts[10] == weight_fact(0, WeightOrders(ONE, None)) and facts[11] == weight_fact(1, WeightOrders(HALF, ONE))
    assert facts[20] == Fact(-HALF, -HALF, OO, 0b1, 0b1, data=True)
    assert facts[21] == Fact(-ONE, -ONE, OO, 0b1, data=True)


def test_numbers_have_no_parity():
    """Values without growing axes: leaves and what ops make of them.  All else that is known of them stays."""
    lowered, orders = small_program(), {"W": WeightOrders(HALF, ONE)}
    plain = propagate(lowered, orders)
    leaves = propagate(replace(lowered, finite=frozenset((10, 11, 99))), orders)
    assert plain[10] == weight_fact(0, orders["W"]) and leaves[10] == plain[10]._replace(odd=0, coarse=True)
    assert leaves[11].odd == 0 and leaves[11].weight == 2
    made = propagate(replace(lowered, finite=frozenset((20,))), orders)
    assert plain[20].odd == plain[22].odd == made[10].odd == 1
    assert made[20] == plain[20]._replace(odd=0, coarse=True) and made[22] == plain[22]._replace(odd=0)
    assert _number(LOADED._replace(cover=0b1)) == LOADED._replace(odd=0, mixed=0, coarse=True)


def test_the_backward_pass_is_interpreted_on_request():
    orders = {"W": WeightOrders(HALF, ONE)}
    both, forward = propagate(small_program(), orders), propagate(small_program(), orders, backward=False)
    assert set(both) - set(forward) == {22} and both[22] == Fact(ZERO, ZERO, ZERO, 0b1, 0b1, data=True)


def test_what_is_known_of_the_forward_pass_is_taken_as_it_is():
    """Neither read again nor multiplied once more; the backward pass follows it."""
    lowered, orders, multipliers = small_program(), {"W": WeightOrders(HALF, ONE)}, {10: ONE, 20: HALF}
    forward = propagate(lowered, orders, backward=False, multipliers=multipliers)
    assert propagate(lowered, orders, multipliers=multipliers, known=forward) == propagate(
        lowered, orders, multipliers=multipliers
    )
    told = forward | {20: forward[20].shifted(ONE)}
    both = propagate(lowered, orders, multipliers=multipliers, known=told)
    assert both[20] == told[20] and both[22].init == told[20].init and 22 not in told


def test_values_without_a_maker_are_the_leaves():
    """A value that an op makes has no fact before that op."""
    lowered = small_program()
    lowered.program.values[20] = Value(20, (FEW, NONE_AT_ALL), "float32", "op")
    assert propagate(lowered, {"W": WeightOrders(HALF, ONE)}, backward=False)[20].init == ZERO
    assert 20 not in propagate(Lowered(lowered.program, (), 0, lowered.leaves), {"W": WeightOrders(HALF, ONE)})


def test_multipliers_stand_behind_their_values():
    plain = propagate(small_program(), {"W": WeightOrders(HALF, ONE)})
    facts = propagate(small_program(), {"W": WeightOrders(HALF, ONE)}, multipliers={2: -ONE, 21: HALF, 99: ONE})
    assert facts[2] == constant(-ONE)._replace(data=True)
    assert facts[20] == plain[20]
    assert facts[21] == plain[21]._replace(init=HALF, trained=HALF, change=HALF)
    assert facts[22] == plain[22]._replace(init=-ONE, trained=-ONE, change=-ONE)
    assert CLOSE.shifted(-ONE) == CLOSE._replace(init=-ONE, trained=-ONE, change=-ONE - QUARTER, deviation=-ONE - HALF)
    assert LOADED.shifted(QUARTER) == LOADED._replace(init=QUARTER - 1, trained=HALF + QUARTER, change=ONE)
    moved = propagate(small_program(), {"W": WeightOrders(TWO, ZERO)}, multipliers={20: -HALF})
    assert moved[20] == Fact(-TWO, HALF, HALF, 0b1, 0b1, data=True)
    grown = propagate(small_program(), {"W": WeightOrders(HALF, TWO)}, multipliers={20: -HALF})
    assert grown[20][:3] == (-HALF, -HALF, -ONE - HALF)
