"""Products of a few factors, worked out by hand: which norms are in them."""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction

import pytest

from tpcalc.algebra.order import HALF, MINUS_INFINITY, ONE, ZERO
from tpcalc.lower.factors import MOST, regrouped
from tpcalc.lower.recognise import Recogniser
from tpcalc.program.ir import Program
from tpcalc.rules.structures import (
    Contract,
    Gather,
    Guard,
    Normalise,
    Operand,
    Power,
    Product,
    Reduce,
    Scale,
    Structure,
    Sum,
    View,
    operands,
    with_operands,
)

TWO, QUARTER = Fraction(2), Fraction(1, 4)
X, Y, G, LEFT, RIGHT, JOINED = range(6)
SQUARE, MEAN, DIVISOR, GAINED, OTHER, SQUARES, TOTAL, ITS_DIVISOR = range(10, 18)
ROWS: list[tuple[int, Structure]] = [
    (LEFT, Gather(X)),
    (RIGHT, Gather(X)),
    (JOINED, Sum((LEFT, RIGHT), "choice")),
    (SQUARE, Power(X, TWO)),
    (MEAN, Reduce(SQUARE, ONE)),
    (DIVISOR, Power(MEAN, -HALF)),
    (GAINED, Product(G, X)),
    (OTHER, Contract(Y, Y, ONE, ZERO, ZERO)),
    (SQUARES, Power(JOINED, TWO)),
    (TOTAL, Reduce(SQUARES, ONE)),
    (ITS_DIVISOR, Power(TOTAL, -HALF)),
]
FIRST = 20
NORMED = Normalise(X, -HALF)


def found(rows: Collection[Structure], whole: Product, known: Collection[int] = ()) -> Operand:
    """What a product is after these rows, with what it writes."""
    seen = Recogniser(Program((64, 128, 256), (), {}, ()), {})
    for out, s in [*ROWS, *enumerate(rows, FIRST)]:
        seen.note(out, s, seen.homogeneous(s))
    written: list[Structure] = []

    def emit(s: Structure) -> int:
        written.append(s)
        return 99 + len(written)

    def spelled(x: Operand) -> Operand:
        s = written[x - 100] if isinstance(x, int) and x >= 100 else x
        return s if isinstance(s, int) else with_operands(s, tuple(map(spelled, operands(s))))

    result = regrouped(whole, seen, set(known), emit)
    assert all(isinstance(x, int) for s in (result, *written) for x in operands(s))
    return spelled(result)


#: Rows before it, a product, what it is (None: itself).
PRODUCTS = {
    "a value over its norm": ([], Product(X, DIVISOR), NORMED),
    "a norm's inverse times a value": ([], Product(DIVISOR, X), NORMED),
    "gain first": ([], Product(GAINED, DIVISOR), Product(G, NORMED)),
    "gain last": ([Product(X, G)], Product(20, DIVISOR), Product(NORMED, G)),
    "gain over norm": ([Product(G, DIVISOR)], Product(X, 20), Product(NORMED, G)),
    "a copy": ([View(X)], Product(20, DIVISOR), Normalise(20, -HALF)),
    "scaled": ([Scale(X, HALF)], Product(20, DIVISOR), Normalise(X, ZERO)),
    "of a scaled one": (
        [Scale(X, HALF), Power(20, TWO), Reduce(21, ONE), Power(22, -HALF)],
        Product(X, 23),
        Normalise(X, -ONE),
    ),
    "a scaled one over its own": (
        [Scale(X, HALF), Power(20, TWO), Reduce(21, ONE), Power(22, -HALF)],
        Product(20, 23),
        Normalise(20, -HALF),
    ),
    "scaled gain": ([Scale(G, HALF), Product(20, X)], Product(21, DIVISOR), Product(G, Scale(NORMED, HALF))),
    "scaled gain last": ([Scale(G, HALF), Product(X, 20)], Product(21, DIVISOR), Product(NORMED, Scale(G, HALF))),
    "scaled product": ([Scale(GAINED, HALF)], Product(20, DIVISOR), Product(G, Scale(NORMED, HALF))),
    "scaled gain of three": (
        [Scale(G, HALF), Product(20, X), Product(21, Y)],
        Product(22, DIVISOR),
        Product(Product(G, NORMED), Scale(Y, HALF)),
    ),
    "scaled twice": ([Scale(X, HALF), Scale(20, QUARTER)], Product(21, DIVISOR), Normalise(X, QUARTER)),
    "copies of gains": ([View(Y), Product(20, X)], Product(21, DIVISOR), Product(20, NORMED)),
    "powers of gains": ([Power(Y, -ONE), Product(20, X)], Product(21, DIVISOR), Product(20, NORMED)),
    "a root of a product": ([Power(GAINED, HALF), Power(MEAN, -QUARTER)], Product(20, 21), None),
    "zero gain": (
        [Scale(G, MINUS_INFINITY), Product(20, X)],
        Product(21, DIVISOR),
        Product(20, NORMED),
    ),
    "root times gain below": (
        [Power(MEAN, HALF), Product(20, G), Power(21, -ONE)],
        Product(X, 22),
        Product(NORMED, Power(G, -ONE)),
    ),
    "odd function": (
        [Power(MEAN, HALF), Product(20, G), Power(21, -ONE, "odd")],
        Product(X, 22),
        Product(NORMED, Power(G, -ONE, "odd")),
    ),
    "even function inside": (
        [Product(G, Y), Power(20, -ONE, "even"), Product(21, MEAN), Power(22, -HALF, "odd")],
        Product(X, 23),
        Product(Product(NORMED, Power(G, HALF, "even")), Power(Y, HALF, "even")),
    ),
    "inverse of an inverse": (
        [Product(G, Y), Power(20, -ONE), Scale(21, ZERO), Power(22, -HALF, "even"), Product(23, X)],
        Product(24, DIVISOR),
        Product(Product(Power(G, HALF, "even"), Power(Y, HALF, "even")), NORMED),
    ),
    "a root of what is scaled": (
        [Scale(MEAN, HALF), Power(20, -HALF)],
        Product(X, 21),
        Normalise(X, -HALF - QUARTER),
    ),
    "a square over the mean": ([Power(MEAN, -ONE)], Product(SQUARE, 20), Normalise(SQUARE, -ONE)),
    "a square over the root": ([], Product(SQUARE, DIVISOR), None),
    "written out": ([Product(X, X), Power(MEAN, -ONE)], Product(20, 21), Normalise(Product(X, X), -ONE)),
    "repeated": (
        [Product(G, DIVISOR), View(20, repeated=True)],
        Product(X, 21),
        Product(NORMED, View(G, repeated=True)),
    ),
    "seen otherwise": ([Product(G, DIVISOR), View(20)], Product(X, 21), Product(NORMED, G)),
    "guarded": ([Product(G, DIVISOR), Guard(20)], Product(X, 21), Product(NORMED, G)),
    "seen twice": (
        [Product(G, DIVISOR), View(20, repeated=True), Guard(21)],
        Product(X, 22),
        Product(NORMED, View(G, repeated=True)),
    ),
    "seen twice, other way round": (
        [Product(G, DIVISOR), Guard(20), View(21, repeated=True), View(22)],
        Product(X, 23),
        Product(NORMED, View(G, repeated=True)),
    ),
    "repeated, then guarded": (
        [Product(G, DIVISOR), Product(20, Y), Guard(21), View(22, repeated=True)],
        Product(X, 23),
        Product(Product(NORMED, View(G, repeated=True)), View(Y, repeated=True)),
    ),
    "repeated below": (
        [Power(MEAN, HALF), Product(20, G), View(21, repeated=True), Power(22, -ONE)],
        Product(X, 23),
        Product(NORMED, View(Power(G, -ONE), repeated=True)),
    ),
    "a norm of the product": (
        [Power(GAINED, TWO), Reduce(20, ONE), Power(21, -HALF)],
        Product(GAINED, 22),
        Normalise(GAINED, -HALF),
    ),
    "a norm of a copy of the product": (
        [View(GAINED), Power(20, TWO), Reduce(21, ONE), Power(22, -HALF)],
        Product(GAINED, 23),
        Normalise(GAINED, -HALF),
    ),
    "a norm of the product, by a copy": (
        [Power(GAINED, TWO), Reduce(20, ONE), Power(21, -HALF), View(GAINED)],
        Product(23, 22),
        Normalise(23, -HALF),
    ),
    "a part over the norm of the whole": ([], Product(LEFT, ITS_DIVISOR), Normalise(LEFT, -HALF)),
    "a part over another norm": ([], Product(LEFT, DIVISOR), None),
    "a part over the norm of another part": (
        [Power(RIGHT, TWO), Reduce(20, ONE), Power(21, -HALF)],
        Product(LEFT, 22),
        None,
    ),
    "the whole over a part": ([Power(LEFT, -ONE)], Product(JOINED, 20), None),
    "the whole over its norm": ([], Product(JOINED, ITS_DIVISOR), Normalise(JOINED, -HALF)),
    "two norms": (
        [Power(OTHER, -HALF), Product(X, DIVISOR), Product(Y, 20)],
        Product(21, 22),
        Product(NORMED, Normalise(Y, -HALF)),
    ),
    "beside a product": (
        [Product(G, Y), Product(X, DIVISOR)],
        Product(20, 21),
        Product(20, NORMED),
    ),
    "two values": ([], Product(X, Y), None),
    "of another": ([], Product(Y, DIVISOR), None),
    "no divisor": ([], Product(X, MEAN), None),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_norms_in_products(name):
    rows, whole, expected = PRODUCTS[name]
    assert found(rows, whole) == (whole if expected is None else expected)


def test_a_norm_of_known_numbers_alone():
    assert found([], Product(X, DIVISOR), known={X}) == NORMED
    assert found([], Product(GAINED, DIVISOR), known={X}) == Product(GAINED, DIVISOR)
    assert found([], Product(GAINED, DIVISOR), known={G}) == Product(G, NORMED)


def test_a_product_of_many_factors_is_not_taken_apart_further():
    """A scan multiplies one gate a step."""
    for gates in (MOST, MOST + 1):
        first = [Product(G, X), *(Product(G, FIRST + step) for step in range(gates - 1))]
        last = [Product(X, G), *(Product(FIRST + step, G) for step in range(gates - 1))]
        whole = Product(FIRST + gates - 1, DIVISOR)
        assert [found(rows, whole) == whole for rows in (first, last)] == [gates > MOST] * 2
