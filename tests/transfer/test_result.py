"""What a sweep says of itself: optima, drift, losses at the largest size."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.report.made import RATES, curve, transferred
from tpcalc.transfer.result import Behind, Curve, Ending

INF = math.inf


def made(parametrization="derived", width=64, *losses) -> Curve:
    """Seeds at three rates."""
    return Curve(parametrization, {"width": width}, (1e-3, 2e-3, 4e-3), losses)


def swept(*curves):
    return replace(transferred(), curves=curves)


def test_a_curve():
    own = made("derived", 64, (3.0, 2.0, INF), (2.0, 2.2, 2.5))
    assert (own.means, own.best, own.loss, own.diverged) == ((2.5, 2.1, INF), 1, 2.1, 1)
    assert own.by_seed(2e-3) == (2.0, 2.2)
    assert own.at(2e-3) == (2.1, pytest.approx(0.1)), "half their difference"
    assert own.at(4e-3) == (INF, 0.0)
    assert made("derived", 64, (3.0, 2.0, 2.5)).at(1e-3) == (3.0, 0.0), "of one seed there is no error"
    nothing = made("derived", 64, (INF, 2.0, INF), (2.0, INF, INF))
    assert nothing.optimum is None and math.isinf(nothing.loss)


def test_places_and_parametrizations():
    result = transferred()
    assert result.places == ({"width": 64}, {"width": 256}) and result.parametrizations == ("standard", "derived")
    assert result.curve("derived", {"width": 256}) is result.curves[3]
    assert result.find("tuned", {"width": 256}) is None
    with pytest.raises(KeyError, match="tuned at {'width': 256}"):
        result.curve("tuned", {"width": 256})


def test_drift():
    result = transferred()
    assert result.drift("standard") == pytest.approx(-1, abs=1e-3)
    assert result.drift("derived") == pytest.approx(math.log2(31 / 30), abs=1e-3)
    errors = [result.curve("derived", place).optimum.error for place in result.places]
    assert result.drift_error("derived") == pytest.approx(math.hypot(*errors)) and min(errors) > 0
    assert result.drift("tuned") is None and result.drift_error("tuned") is None
    one = swept(*(replace(own, losses=own.losses[:1]) for own in result.curves))
    assert one.drift("derived") is not None and one.drift_error("derived") is None
    nothing = swept(made("derived", 64, (2.0, 1.0, 2.0)), made("derived", 256, (INF,) * 3))
    assert nothing.drift("derived") is None


def test_a_drift_between_bounds_is_not_known():
    inside, rising = (2.0, 1.0, 2.0), (1.0, 2.0, 3.0)
    ends = {
        (inside, inside): True, (rising, rising): False, (inside, rising): False, (inside, (INF,) * 3): False
    }  # fmt: skip
    for (small, large), known in ends.items():
        own = swept(made("derived", 64, small), made("derived", 256, large))
        assert own.drifts_within("derived", 20.0) is known, (small, large)
    result = transferred()
    assert not result.drifts_within("standard", 0.9) and result.drifts_within("standard", 1.1), "it halves"


def test_the_rate_of_the_smallest_size_at_the_largest():
    small, large = (
        made("derived", 64, (3.0, 2.0, 2.5), (3.0, 2.2, 2.5)),
        made("derived", 256, (1.0, 2.0, 3.0), (1.0, 2.2, 3.0)),
    )
    assert swept(small, large).ending("derived") == Ending(2e-3, 2.1, pytest.approx(0.1), 1e-3, 1.0, 0.0)
    assert swept(small, large).ending("standard") is None
    other = replace(large, rates=(1e-3, 3e-3, 4e-3))
    assert swept(small, other).ending("derived") is None, "the rate was not tried there"
    assert swept(made("derived", 64, (INF,) * 3), large).ending("derived") is None


def test_ours_against_theirs():
    """Seed by seed: what seeds share is no uncertainty."""
    small = made("derived", 64, (3.0, 1.9, 2.5), (3.0, 2.1, 2.5))
    carried = made("derived", 256, (3.0, 2.0, 1.0), (3.0, 4.0, 1.0))
    theirs = made("standard", 256, (1.9, 5.0, 6.0), (3.8, 5.0, 6.0))
    found = swept(small, carried, theirs).behind()
    assert (found.ours, found.other, found.no_worse) == ("derived", "standard", False)
    assert (found.difference, found.error) == (pytest.approx(0.15), pytest.approx(0.05))
    noisier = replace(theirs, losses=((1.9, 5.0, 6.0), (4.0, 5.0, 6.0)))
    assert swept(small, carried, noisier).behind().no_worse, "within one standard error"
    more = replace(theirs, losses=(*theirs.losses, (1.9, 5.0, 6.0)))
    unlike = swept(small, carried, more).behind()
    assert unlike.difference == pytest.approx(3 - 7.6 / 3) and unlike.error > 1
    assert swept(small, carried).behind() is None and swept(small, theirs).behind() is None


def test_ours_against_theirs_where_runs_diverge():
    small, fine, none = (
        made("derived", 64, (3.0, 2.0, 2.5)),
        made("derived", 256, (3.0, 2.0, 1.0)),
        made("derived", 256, (3.0, INF, 1.0)),
    )
    for ours, theirs, difference in (
        (fine, (INF,) * 3, -INF),
        (none, (INF,) * 3, INF),
        (none, (2.0, 2.0, 2.0), INF),
    ):
        behind = swept(small, ours, made("standard", 256, theirs)).behind()
        assert behind == Behind("derived", "standard", difference, 0.0)
        assert behind.no_worse is (difference < 0)


def test_the_made_curves_have_the_optima_they_are_made_for():
    for vertex in (0.002, 0.003):
        assert curve("derived", 64, vertex, 2.0).optimum.rate == pytest.approx(vertex, rel=1e-3)
    assert RATES[0] == pytest.approx(1e-4) and RATES[-1] == pytest.approx(1e-1)
