"""Orders of several scales are linear forms, compared along one direction, with a wall for each comparison that
another direction would change."""

from __future__ import annotations

import operator
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpcalc.algebra.form import Compass, Level, coordinates, exact, vector
from tpcalc.algebra.order import HALF, MINUS_INFINITY, ONE, ZERO, Order, max_order, min_order
from tpcalc.algebra.scales import Scale
from tpcalc.algebra.text import power_text

SCALES = (Scale("width"), Scale("ffn"), Scale("depth", depth=True))
DIRECTION = (Fraction(7, 5), Fraction(11, 10), Fraction(3))
EXPONENTS = st.tuples(*[st.fractions(min_value=-3, max_value=3, max_denominator=4)] * 3)


def compass() -> Compass:
    return Compass(SCALES, DIRECTION)


def test_equal_forms_are_one_object_and_that_of_one_is_zero() -> None:
    c = compass()
    n, f = c.unit(0), c.unit(1)
    assert c.form((1, 1, 0)) is n + f and c.form((0, 0, 0)) is ZERO and n - n is ZERO
    assert n == c.unit(0) and n != f and n != 0 and hash(n) == hash(c.unit(0)) and bool(n)


@given(EXPONENTS, EXPONENTS, st.fractions(min_value=-3, max_value=3, max_denominator=4))
def test_arithmetic_is_that_of_vectors(x: tuple, y: tuple, k: Fraction) -> None:
    c = compass()
    a, b = c.form(x), c.form(y)
    assert coordinates(a + b, 3) == tuple(map(operator.add, x, y)) and coordinates(a - b, 3) == tuple(
        map(operator.sub, x, y)
    )
    assert coordinates(k * a, 3) == coordinates(a * Order(k), 3) == tuple(k * item for item in x)
    assert coordinates(-a, 3) == coordinates(0 - a, 3) == tuple(-item for item in x)
    assert a + MINUS_INFINITY is MINUS_INFINITY is MINUS_INFINITY + a
    assert ZERO + a is a + 0 is a and Order(a) is a
    if k:
        assert a / k is a * (1 / k)


@settings(max_examples=200)
@given(EXPONENTS, EXPONENTS)
def test_comparisons_follow_the_direction_widths_first(x: tuple, y: tuple) -> None:
    c = compass()
    a, b = c.form(x), c.form(y)
    d = [p - q for p, q in zip(x, y)]
    along = d[0] * DIRECTION[0] + d[1] * DIRECTION[1]
    if along == 0 and any(d[:2]):
        with pytest.raises(Level):
            _ = a < b
        return
    sign = along or d[2]
    assert (a < b, a > b, a <= b, a >= b) == (sign < 0, sign > 0, sign <= 0, sign >= 0)
    assert max_order(a, b, MINUS_INFINITY) is (a if sign >= 0 else b) and min_order(a, b) is (a if sign <= 0 else b)
    # a wall stands exactly where another direction decides otherwise
    assert c.walls == (
        {vector([*((1 if along > 0 else -1) * p for p in d[:2]), 0])} if min(d[:2]) < 0 < max(d[:2]) else set()
    )


def test_depths_put_up_no_walls_against_widths() -> None:
    c = compass()
    n, L = c.unit(0), c.unit(2)
    assert n > 100 * L and L > ZERO and not c.walls


def test_a_power_of_no_scale_has_no_meaning_beside_a_form() -> None:
    n = compass().unit(0)
    for meaningless in (lambda: n > 1, lambda: n + ONE, lambda: HALF < n, lambda: float(n), lambda: n < "1"):
        with pytest.raises(TypeError):
            meaningless()
    with pytest.raises(TypeError, match="different directions"):
        _ = n < compass().unit(0)
    with pytest.raises(TypeError):
        _ = n * n


def test_text_and_plain_numbers() -> None:
    c = compass()
    order = c.form((Fraction(-1, 2), 1, 0))
    assert power_text(order) == "n^-1/2 f" and power_text(order, style="brackets") == "n^(-1/2)*f"
    assert power_text(order, style="latex") == "n^{-1/2} f" and str(order) == "-1/2 n + f"
    assert exact(order) is order and exact(HALF) == Fraction(1, 2)
    with pytest.raises(TypeError):
        exact(MINUS_INFINITY)
