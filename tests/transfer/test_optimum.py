"""Best learning rates of curves whose optimum is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tpcalc.errors import TpcalcError
from tpcalc.transfer.optimum import Optimum, optimum_of

RATES = tuple(2.0**x for x in range(-12, -3))
INF = math.inf


def parabola(vertex: float, bend: float = 0.1, rates=RATES) -> list[float]:
    return [2 + bend * (math.log2(rate) - vertex) ** 2 for rate in rates]


@pytest.mark.parametrize("vertex", [-10.3, -9.0, -8.49, -8.51, -6.2, -5.1])
def test_a_parabola_gives_its_vertex(vertex):
    """Also where only three points can be taken (-5.1)."""
    found = optimum_of(RATES, [parabola(vertex)] * 2)
    assert math.log2(found.rate) == pytest.approx(vertex, abs=1e-6) and not found.edge
    assert found.error == 0.0, "seeds that agree"


def test_a_grid_need_not_be_even():
    rates = (1e-4, 3e-4, 1e-3, 4e-3, 8e-3, 2e-2)
    assert math.log2(optimum_of(rates, [parabola(-9.1, rates=rates)]).rate) == pytest.approx(-9.1)


def test_noise_is_averaged_by_five_points_and_told():
    """Errors as told are those that are met, and smaller than those of three points."""
    rng = np.random.default_rng(1)
    curve = np.array(parabola(-8.2))
    found, told, three = [], [], []
    for _ in range(100):
        noisy = curve + 0.01 * rng.standard_normal((3, len(RATES)))
        optimum = optimum_of(RATES, noisy)
        found.append(math.log2(optimum.rate))
        told.append(optimum.error)
        middle = slice(3, 6)  # nothing else
        three.append(math.log2(optimum_of(RATES[middle], noisy[:, middle]).rate))
    spread = np.std(found)
    assert abs(np.mean(found) + 8.2) < 0.01 and spread < 0.7 * np.std(three)
    assert 0.6 < np.sqrt(np.mean(np.square(told))) / spread < 1.5


def test_what_seeds_share_is_no_uncertainty():
    """A seed whose losses are all higher moves no optimum."""
    curve = np.array(parabola(-8.2))
    assert optimum_of(RATES, [curve, curve + 1]).error == pytest.approx(0, abs=1e-9)
    assert optimum_of(RATES, [parabola(-8.4), parabola(-8.0)]).error == pytest.approx(0.2, rel=0.05)


def test_one_seed_has_no_error():
    assert optimum_of(RATES, [parabola(-8.2)]).error is None


def test_a_wall_does_not_push_the_optimum_away():
    """Two steps above the optimum the loss jumps: the middle three alone say where it is."""
    curve = parabola(-8.0)
    for jump in (3.0, INF):
        walled = [*curve[:6], *[loss + jump for loss in curve[6:]]]
        assert math.log2(optimum_of(RATES, [walled]).rate) == pytest.approx(-8.0, abs=1e-6), jump


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
    assert optimum_of(RATES, [[2.1, 2.1, 2.1, 3, 2, 2.9, 2.2, 2.2, 2.2]]).rate == pytest.approx(
        RATES[4] * 2**0.026, rel=1e-2
    )


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
