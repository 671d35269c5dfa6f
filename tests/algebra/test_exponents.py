"""Exponents of numbers known at a few widths: what counts as a power, side by side with what does not."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpcalc.algebra.exponents import NEAR, initial_size, is_flat, power, snapped
from tpcalc.algebra.order import MINUS_INFINITY, Order
from tpcalc.algebra.size import Size
from tpcalc.errors import FitError

WIDTHS = (128, 256, 512, 1024)
#: A feed-forward dimension rounded up to a multiple of 256.
ROUNDED = Size(((1, Fraction(8, 3)),), True, tuple((n, math.ceil(n / 96) * 256) for n in WIDTHS))


def samples(function):
    return {n: function(n) for n in WIDTHS}


@given(st.sampled_from([0.003, 1.0, 7.5]), st.fractions(min_value=-2, max_value=2, max_denominator=4))
def test_powers(k, p):
    values = samples(lambda n: k * n ** float(p))
    assert power(values, "lr") == p == initial_size(values, "std") and isinstance(power(values, "lr"), Order)


def test_nothing_has_no_power():
    zero = samples(lambda n: 0.0)
    assert power(zero, "lr") is initial_size(zero, "std") is snapped(zero, "std") is MINUS_INFINITY


@pytest.mark.parametrize("p, q", [(-1, 0), (-0.5, 0), (0.5, -1), (1, -0.5)])
def test_powers_of_rounded_axes(p, q):
    shape = (ROUNDED, Size.linear())
    values = samples(lambda n: 3 * ROUNDED.at(n) ** float(p) * n ** float(q))
    assert power(values, "lr", shape) == Fraction(p) + Fraction(q)
    if q == 0:
        with pytest.raises(FitError, match="lr is .* which is no power of n; check that the same rule applies"):
            power(values, "lr", (Size.constant(7),))


def test_an_initial_size_may_settle():
    """xavier on a readout, log-linear tables."""
    xavier = samples(lambda n: math.sqrt(2 / (n + 96)))
    assert initial_size(xavier, "std") == Fraction(-1, 2)
    with pytest.raises(FitError, match="std is .* which is no power of n"):
        initial_size(samples(math.log), "std")


@pytest.mark.parametrize("rule", [math.log, lambda n: n if n > 200 else 7.0, lambda n: 2.0 if n > 200 else 1.0])
def test_a_rule_that_changes_is_no_power(rule):
    with pytest.raises(FitError, match="lr is .* check that the same rule applies to it at every width"):
        power(samples(rule), "lr")


@given(st.integers(-4, 4), st.randoms(use_true_random=False))
def test_measured_powers_snap_to_halves(twice, rng: random.Random):
    noisy = samples(lambda n: n ** (twice / 2) * math.exp(rng.uniform(-0.04, 0.04)))
    assert snapped(noisy, "std") is Order(twice) / 2 is snapped(noisy, "std", NEAR)


@pytest.mark.parametrize("p, near", [(0.25, 0.2), (-0.75, 0.2), (0.1, NEAR)])
def test_measured_powers_between_halves_are_refused(p, near):
    with pytest.raises(FitError, match=rf"std, measured on real instances, grows like n\^{p:.2f}, .*no clear power"):
        snapped(samples(lambda n: n**p), "std", near)
    with pytest.raises(FitError, match="no clear power"):
        snapped({128: 1.0, 256: 1.0, 512: 0.0}, "std")


@pytest.mark.parametrize(
    "function, flat", [(math.log, True), (lambda n: n**0.24, True), (lambda n: n**0.26, False), (lambda n: 0.0, False)]
)
def test_flat(function, flat):
    assert is_flat(samples(function)) is flat
    assert is_flat(dict(reversed(samples(function).items()))) is flat, "in whatever order the widths come"
