"""What is recognised in one structure at a time, worked out by hand."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest

from tpcalc.algebra.order import HALF, MINUS_INFINITY, ONE, ZERO
from tpcalc.algebra.size import Scalar, Size
from tpcalc.lower.recognise import Homogeneity as H
from tpcalc.lower.recognise import Recogniser
from tpcalc.program.ir import Program, Value, Weight
from tpcalc.rules.structures import (
    Bounded,
    Centre,
    Contract,
    Discrete,
    Exp,
    Gather,
    Guard,
    Known,
    LinearLike,
    Normalise,
    Power,
    Product,
    Reduce,
    Scale,
    Softmax,
    Structure,
    Sum,
    View,
)

TWO, OO = Fraction(2), MINUS_INFINITY
N = Size.linear()
#: A weight, buffers of [n] (of size n^-1/2), of [n, n], and of which the size is not known; values x, y, z.
W, UNIT, MATRIX, VAGUE, X, Y, Z = range(7)
SQUARE, MEAN, ROOT, TIMES, COPY, ONES, ZEROS, LEFT, RIGHT, JOINED = range(10, 20)
MEANT, MEANT_SQUARE, GIVEN, MEANT_SIZE = 20, 21, 22, 23
ROWS: list[tuple[int, Structure]] = [
    (SQUARE, Power(X, TWO)),
    (MEAN, Reduce(SQUARE, ONE)),
    (ROOT, Power(MEAN, HALF)),
    (TIMES, Scale(X, HALF)),
    (COPY, View(X)),
    (ONES, Known(ZERO, uniform=True)),
    (ZEROS, Known(OO)),
    (LEFT, Gather(X)),
    (RIGHT, Gather(X)),
    (JOINED, Sum((LEFT, RIGHT), "choice")),
    (MEANT, Reduce(X, ONE)),
    (MEANT_SQUARE, Power(MEANT, TWO)),
    (GIVEN, Known(ZERO)),
    (MEANT_SIZE, Power(MEANT, ONE, "even")),
]
FIRST = 30


def values() -> dict[int, Value]:
    size = Scalar.of(1.0)
    small = Scalar(1.0, -HALF)
    return {
        W: Value(W, (N, N), "float32", "param"),
        UNIT: Value(UNIT, (N,), "float32", "buffer", magnitude=small),
        MATRIX: Value(MATRIX, (N, N), "float32", "buffer", magnitude=size),
        VAGUE: Value(VAGUE, (N,), "float32", "buffer"),
        X: Value(X, (N,), "float32", "input", magnitude=size),
    }


def recogniser(*rows: Structure) -> Recogniser:
    held = values()
    seen = Recogniser(Program((64, 128, 256), (), held, (Weight("w", W, (N, N)),)), held)
    seen.means[MEANT] = X
    for out, s in [*ROWS, *enumerate(rows, FIRST)]:
        seen.note(out, s, seen.homogeneous(s))
    return seen


#: Structure, in what it is homogeneous.
HOMOGENEOUS = [
    (View(SQUARE), H(X, TWO, ZERO, X)),
    (View(X), H(X, ONE, ZERO)),
    (Guard(MEAN), H(X, TWO, ONE, X)),
    (Scale(SQUARE, HALF), H(X, TWO, HALF, X)),
    (Scale(MEAN, HALF), H(X, TWO, ONE + HALF, X)),
    (Scale(MEAN, OO), None),
    (Power(X, TWO), H(X, TWO, ZERO, X)),
    (Power(MEAN, HALF), H(X, ONE, HALF, X)),
    (Power(ROOT, -ONE), H(X, -ONE, -HALF, X)),
    (Power(TIMES, -ONE), H(X, -ONE, -HALF, TIMES)),
    (Reduce(TIMES, ONE), H(X, ONE, ONE + HALF)),
    (Bounded(X, True), None),
    (Known(ZERO), None),
    # the mean may be far larger than what is left
    (Centre(X), H(Centre(X), ONE, ZERO)),
    (Centre(TIMES), H(Centre(X), ONE, HALF)),
    (Centre(SQUARE), H(Centre(SQUARE), ONE, ZERO)),
    (Centre(ROOT), H(Centre(X), ONE, HALF, X)),
    # products
    (Product(X, COPY), H(X, TWO, ZERO, X)),
    (Product(TIMES, X), H(X, TWO, HALF, TIMES)),
    (Product(ROOT, X), H(X, TWO, HALF, X)),
    (Product(SQUARE, ROOT), H(X, Fraction(3), HALF, X)),
    (Product(X, Y), None),
    (Contract(TIMES, TIMES, ONE, ZERO, ZERO), H(X, TWO, TWO, TIMES)),
    (Contract(X, Y, ONE, ZERO, ZERO), None),
    # sums
    (Sum((X, COPY)), H(X, ONE, ZERO)),
    (Sum((X, TIMES)), H(X, ONE, HALF)),
    (Sum((TIMES, X)), H(X, ONE, HALF)),
    (Sum((X, SQUARE)), None),
    (Sum((X, Y)), None),
    (Sum((X, ZEROS)), H(X, ONE, ZERO)),
    (Sum((ROOT, ONES), "choice"), H(X, ONE, HALF, X)),
    (Sum((ROOT, ONES)), None),
    (Sum((ROOT, GIVEN), "choice"), None),
    (Sum((ZEROS, ZEROS)), None),
    (Sum((MEAN, MEANT_SQUARE), "difference"), H(Centre(X), TWO, TWO, X)),
    (Sum((X, MEANT_SIZE), "difference"), H(X, ONE, ONE)),
    (Sum((MEAN, MEANT_SQUARE)), H(X, TWO, TWO, X)),
    (Sum((MEAN, SQUARE), "difference"), H(X, TWO, ONE, X)),
    # of the parts of one value
    (Sum((LEFT, RIGHT)), H(JOINED, ONE, ZERO)),
    (Sum((LEFT, Y)), None),
    (Sum((Y, LEFT)), None),
    (Sum((X, JOINED)), None),
]


@pytest.mark.parametrize("structure, expected", HOMOGENEOUS)
def test_in_what_a_result_is_homogeneous(structure, expected):
    assert recogniser().homogeneous(structure) == expected


def test_parts_that_are_measured_are_measured_together():
    seen = recogniser(Power(LEFT, TWO), Power(RIGHT, TWO), Scale(31, HALF), View(Z))
    assert seen.homogeneous(Sum((30, 32))) == H(JOINED, TWO, HALF, JOINED)
    assert seen.homogeneous(Sum((30, LEFT))) is None
    seen.note(40, Sum((Z, Y), "choice"), None)
    assert seen.homogeneous(Sum((33, LEFT))) is None  # of two wholes
    seen.note(41, Sum((Z, LEFT), "choice"), None)
    assert seen.whole[Z] == 40  # the first
    seen.note(42, Sum((51, Y)), None)
    assert 51 not in seen.whole  # a sum joins nothing


def test_a_product_of_degree_zero_is_homogeneous_in_nothing():
    assert recogniser(Power(X, -ONE)).homogeneous(Product(X, FIRST)) is None


def test_a_centred_value_that_is_centred_again():
    seen = recogniser(Centre(X), Power(FIRST, TWO))
    assert seen.of(FIRST) == H(Centre(X), ONE, ZERO)
    assert seen.homogeneous(Centre(FIRST)) == H(Centre(Centre(X)), ONE, ZERO)
    assert seen.homogeneous(Centre(31)) == H(Centre(31), ONE, ZERO)
    copy = recogniser(Power(X, TWO), View(FIRST))
    assert copy.homogeneous(Centre(31)) == H(Centre(SQUARE), ONE, ZERO)  # of what is the same


#: Rows, and the value that the last is the same as.
SAME = [
    ([View(X)], X),
    ([View(COPY)], X),
    ([Power(X, TWO)], SQUARE),
    ([Power(COPY, TWO)], SQUARE),
    ([Power(X, HALF)], FIRST),
    ([Product(X, Y), Product(Y, COPY)], FIRST),
    ([Sum((X, Y)), Sum((Y, X))], FIRST),
    ([Sum((X, Y), "difference"), Sum((Y, X), "difference")], FIRST + 1),
    ([Contract(X, Y, ONE, ZERO, ZERO), Contract(Y, X, ONE, ZERO, ZERO)], FIRST + 1),
    # these hold more than their operands tell
    ([Gather(X)], None),
    ([Discrete((X,)), Discrete((X,))], None),
    ([Known(ZERO), Known(ZERO)], None),
]


@pytest.mark.parametrize("rows, first", SAME)
def test_what_is_computed_twice_is_one(rows, first):
    seen = recogniser(*rows)
    assert seen.same.get(FIRST + len(rows) - 1) == first
    assert seen.made[FIRST] == rows[0]


def test_vectors_of_a_known_size():
    """Buffers, and what is normalised, through views and sums of one."""
    seen = recogniser(
        Normalise(TIMES, HALF), View(FIRST), Sum((31,)), Sum((31, 31)), Scale(31, ONE), View(X), Sum((Y,))
    )
    assert seen.units == {
        UNIT: (None, -HALF),
        MATRIX: (None, ZERO),
        **dict.fromkeys((30, 31, 32), (X, HALF)),
    }


#: A contraction, by how much it exceeds the weight that is found in it, and which that is.
SPECTRAL = [
    (Contract(W, UNIT, ONE, ONE, ZERO), (W, HALF - HALF)),
    (Contract(UNIT, W, ONE, ZERO, ONE), (W, HALF - HALF)),
    (Contract(W, UNIT, ONE, ZERO, ZERO), (W, ONE - HALF)),
    (Contract(W, UNIT, ONE, Fraction(3), ZERO), (W, HALF - HALF)),
    (Contract(W, UNIT, TWO, ONE, ZERO), (W, ONE + HALF - HALF)),
    (Contract(UNIT, W, TWO, ZERO, ONE), (W, ONE + HALF - HALF)),
    (Contract(W, MATRIX, ONE, ONE, ONE), None),
    (Contract(W, VAGUE, ONE, ONE, ZERO), None),
    (Contract(W, X, ONE, ONE, ZERO), None),
    (Contract(X, UNIT, ONE, ONE, ZERO), None),
]


@pytest.mark.parametrize("structure, expected", SPECTRAL)
def test_a_weight_meets_a_vector_that_is_kept_for_it(structure, expected):
    assert recogniser().spectral(structure) == expected


def test_the_vector_of_power_iteration():
    """``u (W v)`` for what ``W`` makes of a vector, normalised; of another weight's it is none."""
    rows = [Reduce(W, ONE), Normalise(FIRST, ZERO), Power(W, TWO), Scale(W, HALF), Normalise(Y, ZERO)]
    seen = recogniser(*rows)
    seen.values.update({31: values()[UNIT], 34: values()[UNIT]})  # type: ignore[attr-defined]
    assert seen.spectral(Contract(W, 31, ONE, ONE, ZERO)) == (W, HALF)
    assert seen.spectral(Contract(FIRST, UNIT, ONE, ONE, ZERO)) == (FIRST, ONE - HALF)  # ``W v`` is not all of W
    assert seen.spectral(Contract(33, UNIT, ONE, ONE, ZERO)) == (33, ONE - HALF)
    assert seen.spectral(Contract(32, UNIT, ONE, ONE, ZERO)) is None
    assert seen.spectral(Contract(W, 34, ONE, ONE, ZERO)) is None
    del seen.values[31]  # type: ignore[attr-defined]
    assert seen.spectral(Contract(W, 31, ONE, ONE, ZERO)) is None
    assert recogniser(Normalise(W, ZERO)).spectral(Contract(W, FIRST, ONE, ONE, ZERO)) is None
    seen.units[Product(X, X)] = (None, ZERO)
    assert seen.spectral(Contract(W, Product(X, X), ONE, ONE, ZERO)) is None


def axes(mean: int | None) -> Any:
    return SimpleNamespace(mean=mean)


def test_means_and_what_has_the_entries_of_what():
    seen = recogniser()
    seen.means.clear()
    seen.see(axes(1), X, (Y, Z))
    assert seen.means == {Z: X} and not seen.arranged
    seen.see(axes(0), X, (None, Y))
    seen.see(axes(1), X, (Y, None))
    assert seen.means == {Z: X}
    seen.see(axes(None), X, (COPY,))
    seen.see(axes(None), COPY, (50,))
    seen.see(axes(None), Z, (51,))
    assert seen.arranged == {COPY: X, 50: X, 51: Z} and seen.means == {Z: X, 51: X}
    seen.see(axes(0), 50, (52,))
    assert seen.means[52] == X


def test_a_value_less_its_own_mean_is_centred():
    seen = recogniser()
    seen.arranged[COPY] = X
    for s, value in (
        (Sum((X, MEANT), "difference"), X),
        (Sum((MEANT, X), "difference"), X),
        (Sum((COPY, MEANT), "difference"), COPY),
        (Sum((X, MEANT)), None),
        (Sum((X, MEANT, X), "difference"), None),
        (Sum((Y, MEANT), "difference"), None),
        (Sum((X, MEAN), "difference"), None),
        (Sum((X, Power(X, ONE)), "difference"), None),
    ):
        assert seen.centred(s) == (s if value is None else Centre(value))


def test_the_exponential_of_an_entry_less_the_total_of_all_is_a_part():
    total = LinearLike(X, total=ONE)
    rows = [total, Sum((X, FIRST), "difference"), Sum((FIRST, X), "difference"), Sum((X, FIRST)), LinearLike(X)]
    rows += [Sum((X, 34), "difference"), Sum((X, Y), "difference"), Sum((X, FIRST, Y), "difference")]
    rows += [Sum((Y, FIRST), "difference"), View(31), Sum((COPY, FIRST), "difference"), LinearLike(COPY, total=ONE)]
    rows += [Sum((X, 41), "difference"), View(FIRST), Sum((X, 43), "difference"), LinearLike(X, total=ZERO)]
    rows += [Sum((X, 45), "difference"), Bounded(X, True)]
    seen = recogniser(*rows)
    seen.arranged.update({39: 31, COPY: X, 43: FIRST})
    parts = {31: Softmax(X, ONE), 39: Softmax(X, ONE), 40: Softmax(COPY, ONE), 42: Softmax(X, ONE), 44: Softmax(X, ONE)}
    parts[46] = Softmax(X, ZERO)
    for x in range(FIRST, FIRST + len(rows)):
        assert seen.weighed(Exp(x)) == parts.get(x, Exp(x)), x
    assert seen.weighed(Exp(99)) == Exp(99)


def test_what_stands_in_for_zero():
    seen = recogniser(View(ONES), View(ZEROS))
    for x, how, found in (
        (ZEROS, "sum", True),
        (31, "sum", True),
        (ONES, "choice", True),
        (30, "choice", True),
        (ONES, "sum", False),
        (GIVEN, "choice", False),
        (X, "choice", False),
        (SQUARE, "choice", False),
    ):
        assert seen.stands_in(x, how) is found
