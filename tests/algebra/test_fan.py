"""Cones cover every direction, and in each a derivation holds as a whole."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import pytest

from tests.support.scaled import directions
from tpcalc.algebra.fan import fan, generic, point, possible
from tpcalc.algebra.form import Compass, coordinates
from tpcalc.algebra.order import Order, max_order
from tpcalc.algebra.scales import Scale
from tpcalc.errors import DeriveError

SCALES = tuple(map(Scale, ("width", "ffn", "heads", "vocab")))


def largest(compass: Compass) -> Order:
    """Some comparisons of the kind that laws make."""
    n, f, h, v = map(compass.unit, range(4))
    return max_order(n / 2, n - f / 2) + max_order(h, v - n) + max_order(f, h + v / 2, 0 * n)


def test_cones_cover_all_directions_and_what_they_hold_is_right() -> None:
    cells = fan(SCALES, largest)
    assert len(cells) > 4
    for direction in directions(len(SCALES), 300):
        here = [c for c in cells if all(_dot(wall, direction) > 0 for wall in c.walls)]
        assert here, f"no cone holds {direction}"
        n, f, h, v = direction
        expected = max(n / 2, n - f / 2) + max(h, v - n) + max(f, h + v / 2, Fraction(0))
        assert {_dot(coordinates(c.found, 4), direction) for c in here} == {expected}


def _dot(x: tuple, y: tuple) -> Fraction:
    return sum((a * b for a, b in zip(x, y)), Fraction(0))


@pytest.mark.parametrize("walls", [(), ((1, -1, 0),), ((1, -2, 0), (0, 1, -3)), ((-1, 1, 1), (1, -1, 1), (1, 1, -1))])
def test_a_point_is_inside(walls: tuple) -> None:
    for shift in range(3):
        x = point(walls, 3, shift)
        assert x is not None and min(x) > 0 and all(_dot(wall, x) > 0 for wall in walls)


def test_what_is_impossible_is_found_exactly() -> None:
    assert not possible([(1, -1, 0), (0, 1, -1), (-1, 0, 1)], 3)  # n > f > h > n
    assert not possible([(1, -1, 0), (-1, 1, 0)], 3) and not possible([(-1, 0, 0)], 3)
    assert possible([(1, -1, 0), (0, 1, -1)], 3)


def test_elimination_agrees_with_a_search_over_whole_directions() -> None:
    """Of all pairs of small walls: a solution among whole directions exists only where one is found, and a point that
    is given solves them."""
    small = [wall for wall in product((-2, -1, 1, 2), repeat=3) if min(wall) < 0 < max(wall)]
    grid = list(product(range(1, 8), repeat=3))
    for a, b in zip(small, reversed(small[7:] + small[:7])):
        seen = any(_dot(a, x) > 0 and _dot(b, x) > 0 for x in grid)
        x = point((a, b), 3)
        assert not seen or x is not None
        assert x is None or (_dot(a, x) > 0 and _dot(b, x) > 0)


def test_too_many_cones_are_refused() -> None:
    def many(compass: Compass) -> Order:
        n, f = compass.unit(0), compass.unit(1)
        return max_order(*(n * k - f * k * k for k in range(20)))

    with pytest.raises(DeriveError, match="width, ffn grow beside one another"):
        fan(SCALES[:2], many, most=5)


def test_a_generic_direction_has_no_simple_ties() -> None:
    for count in range(1, 6):
        x = generic(count)
        ties = [v for v in product(range(-4, 5), repeat=count) if any(v) and _dot(v, x) == 0]
        assert not ties
