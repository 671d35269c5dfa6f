"""Fits over widths: what is recognised, side by side with what must be refused."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpcalc.algebra.fit import fit_scalar, fit_size
from tpcalc.errors import FitError

WIDTHS = (128, 256, 512)


def up(value, multiple):
    return math.ceil(value / multiple) * multiple


def nearest(value, multiple):
    return max(multiple, int(value + multiple / 2) // multiple * multiple)


def size(function, widths=WIDTHS):
    return fit_size([(n, function(n)) for n in widths])


def scalar(function, widths=WIDTHS):
    return fit_scalar([(n, function(n)) for n in widths])


@pytest.mark.parametrize(
    "function, widths, text",
    [
        (lambda n: 0, WIDTHS, "0"),
        (lambda n: 50257, WIDTHS, "50257"),
        (lambda n: n, WIDTHS, "n"),
        (lambda n: 4 * n, WIDTHS, "4*n"),
        (lambda n: 43 * n // 16, WIDTHS, "43*n/16"),
        (lambda n: 3 * n * n, WIDTHS, "3*n^2"),
        (lambda n: n**3 // 2, WIDTHS, "n^3/2"),
        (lambda n: math.isqrt(n), (64, 256, 1024), "n^(1/2)"),
        (lambda n: 4096 // n, WIDTHS, "4096*n^(-1)"),
        (lambda n: n // 16 + 32, WIDTHS, "n/16 + 32"),
        (lambda n: 3 * n + 64, WIDTHS, "3*n + 64"),
        (lambda n: n - 128, WIDTHS, "n - 128"),
        (lambda n: 2 * n * n + n, WIDTHS, "2*n^2 + n"),
        (lambda n: n * (n // 16 + 32), WIDTHS, "n^2/16 + 32*n"),
        (lambda n: n * n + 5, WIDTHS, "n^2 + 5"),
        (lambda n: -n, WIDTHS, "-1*n"),
        (lambda n: (n + 32) * (n + 1), (128, 256, 384, 512), "n^2 + 33*n + 32"),
        (lambda n: n + 7, (100, 130, 170), "n + 7"),
    ],
)
def test_exact_sizes(function, widths, text):
    fitted = size(function, widths)
    assert str(fitted) == text
    assert not fitted.rounded
    assert [fitted.at(n) for n in widths] == [function(n) for n in widths]


@pytest.mark.parametrize(
    "function, widths, growth",
    [
        (lambda n: up(8 * n / 3, 256), WIDTHS, 1),
        (lambda n: up(8 * n / 3, 256), (256, 512, 1024), 1),
        (lambda n: up(8 * n / 3, 64), WIDTHS, 1),
        (lambda n: int(8 * n / 3), WIDTHS, 1),
        (lambda n: nearest(1.3 * n, 8), WIDTHS, 1),
        (lambda n: n * up(8 * n / 3, 256), WIDTHS, 2),
        (lambda n: 2 * n * n * int(8 * n / 3), WIDTHS, 3),
        (lambda n: round(math.sqrt(2 * n)), WIDTHS, Fraction(1, 2)),
        (lambda n: int(math.sqrt(3 * n)), (1000, 3000, 9000), Fraction(1, 2)),
    ],
)
def test_rounded_sizes_keep_their_growth_and_their_samples(function, widths, growth):
    fitted = size(function, widths)
    assert fitted.growth == growth
    assert fitted.rounded
    assert str(fitted).startswith("~")
    assert [fitted.at(n) for n in widths] == [function(n) for n in widths]
    with pytest.raises(FitError):
        fitted.at(999)


@pytest.mark.parametrize(
    "function",
    [
        lambda n: int(math.log2(n)),
        lambda n: int(20 * math.log(n)),
        lambda n: int(n**0.3),
        lambda n: int(10 * n**0.3),
        lambda n: {128: 3, 256: 5, 512: 3}[n],
        lambda n: {128: 1, 256: 1, 512: 2}[n],
        lambda n: min(n, 256),
        lambda n: max(n, 256),
        lambda n: 2 ** (n // 64),
        lambda n: {128: 0, 256: 1, 512: 100}[n],
    ],
)
def test_other_growth_is_refused(function):
    with pytest.raises(FitError):
        size(function)


def test_two_widths_prove_nothing():
    with pytest.raises(FitError):
        fit_size([(128, 128), (256, 256)])
    assert str(fit_size([(128, 7), (256, 7)])) == "7"


def test_the_message_says_what_where_and_how():
    with pytest.raises(FitError) as error:
        fit_size([(128, 7), (256, 8), (512, 9)], "axis 1 of buffer table")
    assert str(error.value) == (
        "axis 1 of buffer table is 7, 8, 9 at widths 128, 256, 512, which is no power of n; choose widths "
        "(larger, more, or "
        "all multiples of one number) at which it is k*n^p + d, or make it one in the model"
    )


@pytest.mark.parametrize(
    "function, order",
    [
        (lambda n: 0.0, "-oo"),
        (lambda n: 1e-5, "0"),
        (lambda n: math.inf, "0"),
        (lambda n: math.nan, "0"),
        (lambda n: n**-0.5, "-1/2"),
        (lambda n: -(n**0.5), "1/2"),
        (lambda n: 2.5 * n ** (-1 / 3), "-1/3"),
        (lambda n: n ** (7 / 12), "7/12"),
        (lambda n: float(n * n - n), "2"),
        (lambda n: 3.0 / (n - 1), "-1"),
        (lambda n: 1 / math.sqrt(n + 32), "-1/2"),
        (lambda n: math.sqrt(n + 3), "1/2"),
        (lambda n: 1 - 2 / n, "0"),
        (lambda n: 2.0 * n - 256, "1"),
        (lambda n: 1 / math.sqrt(int(8 * n / 3)), "-1/2"),
        (lambda n: -1 / up(8 * n / 3, 256), "-1"),
        (lambda n: 2.0 ** (-8 / (n // 32)), "0"),
        (lambda n: 1 / math.sqrt(n) * (1 + (n % 3 - 1) * 5e-8), "-1/2"),  # rounded to float32 once
    ],
)
def test_scalar_orders(function, order):
    assert str(scalar(function).order) == order


@pytest.mark.parametrize(
    "function",
    [
        lambda n: math.log(n),
        lambda n: math.sin(n),
        lambda n: 1 + 1e-7 * math.sin(n),
        lambda n: {128: 1.0, 256: -1.0, 512: 1.0}[n],
        lambda n: {128: 1.0, 256: math.inf, 512: 1.0}[n],
        lambda n: n**0.5 + n**0.25,
        lambda n: n ** (1 / 17),
    ],
)
def test_other_scalars_are_refused(function):
    with pytest.raises(FitError):
        scalar(function)


@pytest.mark.parametrize("function", [lambda n: 3 * n**-0.5, lambda n: 2.0 * n + 7, lambda n: 0.3 - 5 / n])
def test_scalars_reproduce_their_samples(function):
    fitted = scalar(function)
    assert [fitted.at(n) for n in WIDTHS] == pytest.approx([function(n) for n in WIDTHS], rel=1e-9)


def widths_strategy():
    return st.lists(st.integers(1, 64), min_size=3, max_size=5, unique=True).map(
        lambda ks: [16 * k for k in sorted(ks)]
    )


@settings(max_examples=200, deadline=None)
@given(widths_strategy(), st.integers(1, 200), st.sampled_from([1, 2, 4, 8, 16]), st.integers(-8, 500))
def test_any_linear_size_is_found_exactly(widths, numerator, denominator, offset):
    coefficient = Fraction(numerator, denominator)
    fitted = fit_size([(n, int(coefficient * n) + offset) for n in widths])
    assert fitted.terms == tuple((p, k) for p, k in ((1, coefficient), (0, Fraction(offset))) if k)


@settings(max_examples=200, deadline=None)
@given(widths_strategy(), st.lists(st.integers(1, 10**6), min_size=5, max_size=5))
def test_a_size_is_refused_or_holds_at_every_width(widths, lengths):
    samples = list(zip(widths, lengths))
    try:
        fitted = fit_size(samples)
    except FitError:
        return
    assert [fitted.at(n) for n, _ in samples] == [length for _, length in samples]


@settings(max_examples=200, deadline=None)
@given(
    widths_strategy(),
    st.floats(1e-3, 1e3),
    st.fractions(-3, 3, max_denominator=12).filter(lambda p: p != 0),
    st.sampled_from([-1, 1]),
)
def test_any_float_power_is_found_exactly(widths, k, p, sign):
    fitted = fit_scalar([(n, sign * k * n ** float(p)) for n in widths])
    assert fitted.order == p
