"""Slopes and their error bars."""

from __future__ import annotations

import math

import pytest
import torch

from tpcalc.check.slopes import fit, quantile


def test_slope_and_error():
    widths = (64, 128, 256)
    exact = fit(widths, [[3 * n**-0.5 for n in widths]])
    assert math.isclose(exact.value, -0.5) and exact.error < 1e-9
    # each point is 0.1 log(2) off the line at one end or the other: 4 points, 3 degrees of freedom
    noisy = fit(widths, [[n**0.9 for n in widths], [n**1.1 for n in widths]])
    assert math.isclose(noisy.value, 1.0) and noisy.freedom == 3
    assert math.isclose(noisy.error, math.sqrt(4 * 0.01 / 3 / 4))
    levels = fit(widths, [[n**0.9 for n in widths], [50 * n**1.1 for n in widths]])
    assert math.isclose(levels.value, 1.0) and math.isclose(levels.error, noisy.error)
    curved = fit(widths, [[1.0, 2.0, 1.0]] * 100)
    assert math.isclose(curved.error, fit(widths, [[1.0, 2.0, 1.0]]).error)
    assert fit(widths, [[1.0, 0.0, 1.0]]) is None and fit(widths, [[1.0, math.inf, 1.0]]) is None


def test_students_t():
    """Tables of the 99th percentile (Abramowitz & Stegun, 26.10)."""
    table = {1: 31.821, 2: 6.965, 3: 4.541, 4: 3.747, 5: 3.365, 10: 2.764, 11: 2.718, 30: 2.457, 120: 2.358}
    assert all(math.isclose(quantile(freedom), t, abs_tol=5e-4) for freedom, t in table.items())


@pytest.mark.parametrize("seeds, widths", [(1, 4), (2, 3), (3, 3), (3, 4)])
def test_a_true_slope_is_inside_its_margin(seeds, widths):
    """But for one noisy measurement in a hundred."""
    noise = torch.randn(2000, seeds, widths, generator=torch.Generator().manual_seed(0))
    level = torch.randn(2000, seeds, 1, generator=torch.Generator().manual_seed(1))
    sizes = (0.2 * noise + level).exp().tolist()
    slopes = [fit([64 * 2**i for i in range(widths)], rows) for rows in sizes]
    above = sum(slope.value - slope.margin > 0 for slope in slopes)
    assert 0 < above <= 20 + 3 * math.sqrt(20)
