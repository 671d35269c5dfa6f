"""Forms of cones, put together to one formula."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import sympy

from tests.support.scaled import directions
from tpcalc.algebra.fan import fan
from tpcalc.algebra.form import Compass, coordinates
from tpcalc.algebra.formula import Formula, formula
from tpcalc.algebra.order import Order, max_order, min_order
from tpcalc.algebra.scales import Scale
from tpcalc.errors import DeriveError

SCALES = tuple(map(Scale, ("width", "ffn", "heads")))


def put_together(exponent: Callable[..., Order]) -> Formula:
    """The formula of an exponent that is computed along directions."""
    cells = fan(SCALES, lambda compass: exponent(*map(compass.unit, range(3))))
    return formula(SCALES, [(cell.walls, coordinates(cell.found, 3)) for cell in cells], "it")


EXPONENTS = {
    "n^-1/2 Min(1, sqrt(f/n))": lambda n, f, h: min_order(-n / 2, f / 2 - n),
    "n^1/2 Max(1, sqrt(n/f))": lambda n, f, h: max_order(n / 2, n - f / 2),
    "n^-1 f": lambda n, f, h: f - n,
    "1": lambda n, f, h: 0 * n,
    "n Max(1, f/n, h/n)": lambda n, f, h: max_order(n, f, h),
}


@pytest.mark.parametrize("text", EXPONENTS)
def test_text_and_values(text: str) -> None:
    found = put_together(EXPONENTS[text])
    assert str(found) == text
    values = {"width": 64.0, "ffn": 9.0, "heads": 3.0}
    expr = found.expr.subs({sympy.Symbol(s.symbol, positive=True): values[s.name] for s in SCALES})
    assert float(expr) == pytest.approx(found.at(values))


@pytest.mark.parametrize(
    "exponent",
    [
        *EXPONENTS.values(),
        lambda n, f, h: max_order(min_order(n, f), h),
        lambda n, f, h: max_order(n, f) - max_order(f, h) / 2,
        lambda n, f, h: min_order(max_order(n - h, f / 2), max_order(h, f), n),
        lambda n, f, h: max_order(n - f, 0 * n) + min_order(h - f, 0 * n) + min_order(n, h) / 2,
    ],
)
def test_a_formula_is_what_each_direction_gives(exponent: Callable[..., Order]) -> None:
    """Evaluated along a direction it is the exponent derived along that direction alone."""
    found = put_together(exponent)
    for direction in directions(3, 60, seed=1):
        compass = Compass(SCALES, direction)
        own = coordinates(exponent(*map(compass.unit, range(3))), 3)
        assert found.along(direction) == sum((x * y for x, y in zip(own, direction)), Fraction(0))


def test_a_jump_is_refused() -> None:
    def jumps(n: Order, f: Order, h: Order) -> Order:
        return n if n > f else h

    with pytest.raises(DeriveError, match="it jumps where scales grow alike"):
        put_together(jumps)


def test_monomials_are_told_by_symbol() -> None:
    assert put_together(lambda n, f, h: f / 2 - n).monomial == {"n": -1, "f": Fraction(1, 2), "h": 0}
    assert put_together(lambda n, f, h: max_order(n, f)).monomial is None
    assert put_together(lambda n, f, h: f / 2 - n).text("latex") == "n^{-1} f^{1/2}"


def test_depths_come_after_widths() -> None:
    """A larger power of the depth is larger only where the powers of the widths are even."""
    scales = (Scale("width"), Scale("depth", depth=True))
    cells = fan(scales, lambda c: max_order(c.unit(0), c.unit(1) * 5))
    assert len(cells) == 1
    assert str(formula(scales, [(c.walls, coordinates(c.found, 2)) for c in cells], "it")) == "n"
