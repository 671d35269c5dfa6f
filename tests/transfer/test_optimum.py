"""Best learning rates of curves whose optimum is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tpcalc.errors import TpcalcError
from tpcalc.transfer import optimum
from tpcalc.transfer.optimum import Optimum, optimum_of

RATES = tuple(2.0**x for x in range(-12, -3))
#: Half as far apart.
FINE = tuple(2.0 ** (x / 2) for x in range(-24, -7))
INF = math.inf


def parabola(vertex: float, bend: float = 0.1, rates=RATES) -> list[float]:
    return [2 + bend * (math.log2(rate) - vertex) ** 2 for rate in rates]


@pytest.mark.parametrize("vertex", [-10.3, -9.0, -8.49, -8.51, -6.2, -5.1])
def test_a_parabola_gives_its_vertex(vertex):
    for rates in (RATES, FINE):
        found = optimum_of(rates, [parabola(vertex, rates=rates)] * 2)
        assert math.log2(found.rate) == pytest.approx(vertex, abs=1e-6) and not found.edge
        assert found.error == pytest.approx(0, abs=1e-9), "seeds that agree"


def test_a_grid_need_not_be_even():
    rates = (1e-4, 3e-4, 1e-3, 4e-3, 8e-3, 2e-2)
    assert math.log2(optimum_of(rates, [parabola(-9.1, rates=rates)]).rate) == pytest.approx(-9.1)


def noisy(rates, size: float) -> tuple[list[float], list[float]]:
    """The optima of many sweeps of three seeds, and the errors as told; the true one is at -8.2."""
    rng, curve = np.random.default_rng(1), np.array(parabola(-8.2, rates=rates))
    found = [optimum_of(rates, curve + size * rng.standard_normal((3, len(rates)))) for _ in range(100)]
    return [math.log2(one.rate) for one in found], [one.error for one in found]


@pytest.mark.parametrize("rates, size", [(RATES, 0.01), (FINE, 0.003)])
def test_errors_as_told_are_those_that_are_met(rates, size):
    found, told = noisy(rates, size)
    assert abs(np.mean(found) + 8.2) < 0.01
    assert 0.6 < np.sqrt(np.mean(np.square(told))) / np.std(found) < 1.7


def test_five_points_of_a_fine_grid_average_noise(monkeypatch):
    five = np.std(noisy(FINE, 0.003)[0])
    monkeypatch.setattr(optimum, "WIDEST", 1.0)
    assert five < 0.7 * np.std(noisy(FINE, 0.003)[0])


def test_three_points_of_a_coarse_grid_stay_at_the_vertex():
    """A curve that is flat below its optimum and steep above it, on seven points of three decades."""
    rates = tuple(1e-4 * 1000 ** (x / 6) for x in range(7))
    curve = [0.25 * math.log1p(math.exp(-0.9 * (x + 1))) + 0.02 * math.exp(x) for x in np.log2(rates) + 8]
    found = math.log2(optimum_of(rates, [curve]).rate)
    assert abs(found + 7.303) < 0.1, found


def test_what_seeds_share_is_no_uncertainty():
    """A seed whose losses are all higher moves no optimum."""
    curve = np.array(parabola(-8.2))
    assert optimum_of(RATES, [curve, curve + 1]).error == pytest.approx(0, abs=1e-9)
    assert optimum_of(RATES, [parabola(-8.4), parabola(-8.0)]).error == pytest.approx(0.2, rel=0.05)


def test_one_seed_has_no_error():
    assert optimum_of(RATES, [parabola(-8.2)]).error is None


def test_a_wall_does_not_push_the_optimum_away():
    """Two steps above the optimum the loss jumps: the middle three alone say where it is."""
    curve = parabola(-8.0, rates=FINE)
    for jump in (3.0, INF):
        walled = [*curve[:10], *[loss + jump for loss in curve[10:]]]
        assert math.log2(optimum_of(FINE, [walled]).rate) == pytest.approx(-8.0, abs=1e-6), jump


def test_beside_a_diverged_neighbour_the_grid_decides():
    curve = [*parabola(-7.6)[:5], *[INF] * 4]
    assert optimum_of(RATES, [curve]) == Optimum(RATES[4], None, False)
    assert optimum_of(RATES, [[INF] * 4 + parabola(-8.4)[4:]]).rate == RATES[4]


def test_a_rate_at_which_one_seed_diverges_has_diverged():
    good, bad = parabola(-7.0), [*parabola(-7.0)[:5], *[INF] * 4]
    found = optimum_of(RATES, [good, bad, good])
    assert found.rate == RATES[4] and not found.edge
    assert found.error > 0.3, "resamples without that seed have their optimum elsewhere"


@pytest.mark.parametrize("vertex, index", [(-14.0, 0), (-12.4, 0), (-3.0, -1)])
def test_an_end_of_the_grid_is_an_edge(vertex, index):
    assert optimum_of(RATES, [parabola(vertex)] * 3) == Optimum(RATES[index], None, True)


def test_the_last_rate_before_divergence_at_the_end_of_the_grid_is_no_edge():
    curve = [*parabola(-3.0)[:-1], INF]
    assert optimum_of(RATES, [curve]) == Optimum(RATES[-2], None, False)


def test_flat_curves():
    assert optimum_of(RATES, [[2.0] * len(RATES)] * 2) == Optimum(RATES[0], None, True)
    flat_bottom = [3, 3, 2, 2, 2, 3, 3, 3, 3]
    assert optimum_of(RATES, [flat_bottom]).rate == pytest.approx(2**-9.5), "kept within half a step of the first"


def test_wings_that_bend_down_are_left_out():
    rates = FINE[:9]
    found = optimum_of(rates, [[2.1, 2.1, 2.1, 3, 2, 2.9, 2.2, 2.2, 2.2]]).rate
    assert math.log2(found / rates[4]) == pytest.approx(0.5 / 38)  # of a step, from rises of 1 and 0.9


def test_few_rates_have_edges_alone():
    assert optimum_of((1e-3, 1e-2), [[2.0, 1.0]]) == Optimum(1e-2, None, True)
    assert optimum_of((1e-3,), [[2.0]]) == Optimum(1e-3, None, True)


def test_the_same_numbers_each_time():
    noisy = np.array(parabola(-8.2)) + 0.05 * np.random.default_rng(3).standard_normal((4, len(RATES)))
    assert optimum_of(RATES, noisy) == optimum_of(RATES, noisy.copy())


def test_where_all_diverges_there_is_none():
    with pytest.raises(TpcalcError, match="diverged at every learning rate; try smaller"):
        optimum_of(RATES, [[INF] * 9, parabola(-8.0)])
    with pytest.raises(TpcalcError, match="diverged"):
        optimum_of(RATES, [[math.nan] * 9])
