"""Sizes and constants over a star of places: exact, over-determined where all scales have moved, else refused."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import sympy

from tpcalc.algebra.fan import generic
from tpcalc.algebra.form import Compass
from tpcalc.algebra.scales import Point, Scale, magnitude, ray, star
from tpcalc.algebra.size import Size
from tpcalc.algebra.star import StarFits
from tpcalc.errors import FitError

VALUES = {"heads": (4, 8, 16), "head_dim": (8, 16, 32), "ffn": (96, 192, 384)}
POINTS = star(VALUES)
FITS = StarFits(Compass([Scale(name) for name in VALUES], generic(3)), POINTS)


def samples(function: Callable[..., Any]) -> list[tuple[Point, Any]]:
    return [(p, function(*p)) for p in POINTS]


def test_a_star_moves_each_scale_alone_and_then_all() -> None:
    assert len(POINTS) == 2 * 3 + 2 and POINTS[0] == (4, 8, 96) and POINTS[-1] == (8, 16, 192)
    assert [x for x, _ in ray(POINTS, "ffn")] == [96, 192, 384]
    assert str(POINTS[0]) == "heads=4, head_dim=8, ffn=96" and magnitude(POINTS[0]) == 4 * 8 * 96 and magnitude(7) == 7
    assert POINTS[0].with_(ffn=7).by_name == {"heads": 4, "head_dim": 8, "ffn": 7}


@pytest.mark.parametrize(
    ("text", "function"),
    [
        ("32", lambda h, d, f: 32),
        ("h*d", lambda h, d, f: h * d),
        ("3*h*d", lambda h, d, f: 3 * h * d),
        ("h*d/2", lambda h, d, f: h * d // 2),
        ("h + d", lambda h, d, f: h + d),
        ("f + 2*h*d", lambda h, d, f: f + 2 * h * d),
        ("h*d + 2*d", lambda h, d, f: h * d + 2 * d),
        ("f + 5", lambda h, d, f: f + 5),
        ("h*d*f", lambda h, d, f: h * d * f),
        ("h^2*d^2", lambda h, d, f: (h * d) ** 2),
    ],
)
def test_sizes(text: str, function: Callable[..., int]) -> None:
    size = FITS.size(samples(function))
    terms = set(str(size).replace(" - ", " + -").split(" + "))
    assert terms == set(text.split(" + "))
    elsewhere = Point(tuple(VALUES), (6, 10, 50))
    assert size.at(elsewhere) == function(*elsewhere)
    symbols = dict(zip("hdf", sympy.symbols("h d f", positive=True)))
    assert sympy.expand(size.expr - sympy.sympify(text.replace("^", "**"), locals=symbols)) == 0


def test_the_leading_term_is_that_of_the_direction() -> None:
    size = FITS.size(samples(lambda h, d, f: f + h * d))
    compass = Compass([Scale(name) for name in VALUES], (Fraction(1), Fraction(1), Fraction(5)))
    assert str(size.along(compass).growth) == "f"
    compass = Compass([Scale(name) for name in VALUES], (Fraction(1), Fraction(1), Fraction(1, 5)))
    assert str(size.along(compass).growth) == "h + d"


def test_a_rounded_size_is_known_as_sampled() -> None:
    def rounded(h: int, d: int, f: int) -> int:
        return (8 * h * d // 3 + 15) // 16 * 16

    size = FITS.size(samples(rounded))
    assert size.rounded and str(size.growth) == "h + d" and size.at(POINTS[2]) == rounded(*POINTS[2])


@pytest.mark.parametrize(
    "function",
    [
        lambda h, d, f: h * d if f < 192 or h < 8 else h * d + 1,  # right on every ray, wrong where all move
        lambda h, d, f: {96: 7, 192: 11, 384: 18}[f],
        lambda h, d, f: max(h * d, f),
    ],
)
def test_what_fits_nothing_is_refused(function: Callable[..., int]) -> None:
    with pytest.raises(
        FitError, match=r"axis 1 is .* no sum of a few products of powers of heads and head_dim and ffn"
    ):
        FITS.size(samples(function), "axis 1")


def test_constants() -> None:
    scale = FITS.scalar(samples(lambda h, d, f: 1 / d**0.5))
    assert str(scale.order) == "-1/2 d" and scale.at(POINTS[-1]) == pytest.approx(0.25)
    both = FITS.scalar(samples(lambda h, d, f: 3 / (h * d)))
    assert str(both.order) == "-1 h + -1 d" and both.at(POINTS[-1]) == pytest.approx(3 / 128)
    assert FITS.scalar(samples(lambda h, d, f: 0.1)).order == 0
    with pytest.raises(FitError):
        FITS.scalar(samples(lambda h, d, f: 1 / (h * d + f)))
    with pytest.raises(FitError):
        FITS.scalar(samples(lambda h, d, f: h**0.5 * (1.1 if f > 96 and h > 4 else 1)))


def test_measured_sizes_in_halves() -> None:
    assert str(FITS.half(samples(lambda h, d, f: 1.02 * h**-0.5 * f))) == "-1/2 h + f"
    assert FITS.half(samples(lambda h, d, f: h**0.2)) is None
    assert isinstance(FITS.size(samples(lambda h, d, f: h)), Size)
