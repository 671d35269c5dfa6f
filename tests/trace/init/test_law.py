"""Laws: their moments, their quantiles, and mixtures of them."""

import math

import pytest
import torch

from tpcalc.program.ir import InitLaw
from tpcalc.trace.init import measured_law
from tpcalc.trace.init.law import (
    constant,
    mixture,
    normal,
    of_entries,
    truncated_normal,
    truncated_normal_moments,
    uniform,
    unknown,
)


@pytest.mark.parametrize("mean, std, low, high", [(0, 1, -2, 2), (0.5, 1, 0, 1), (0, 1, 5, 6), (-3, 2, -1, math.inf)])
def test_truncated_normal_moments(mean, std, low, high):
    x = torch.linspace(low, min(high, mean + 40 * std), 2_000_001, dtype=torch.float64)
    density = torch.exp(-(((x - mean) / std) ** 2) / 2)
    expected = float((x * density).sum() / density.sum())
    spread = math.sqrt(float(((x - expected) ** 2 * density).sum() / density.sum()))
    assert truncated_normal_moments(mean, std, low, high) == pytest.approx((expected, spread), rel=1e-3)


def test_measured_law():
    torch.manual_seed(0)
    assert measured_law(torch.full((3, 3), 0.5)) == InitLaw("constant", 0.0, 0.5, "measured")
    law = measured_law(torch.randn(200, 200) * 0.1)
    assert (law.kind, law.mean) == ("random", 0.0) and law.std == pytest.approx(0.1, rel=0.02)
    assert measured_law(torch.randn(200, 200) + 1).mean == pytest.approx(1, rel=0.05)
    assert measured_law(torch.tensor([1.0, math.nan])).kind == "unknown"


LAWS = [normal(0.5, 2.0, "a"), uniform(-1.0, 3.0, "b"), truncated_normal(0.0, 1.0, -1.0, 2.0, "c")]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.call)
def test_moments_are_those_of_the_quantiles(law):
    for each in (law, law.affine(-3.0, 1.0, ""), law.scaled(0.25)):
        entries = each.sample()
        assert each.mean == pytest.approx(float(entries.mean()), abs=1e-3)
        assert each.std == pytest.approx(float(entries.std()), rel=2e-3)
        assert each.square == pytest.approx(float(entries.square().mean()), rel=4e-3)


def test_scaling_says_so_and_keeps_what_is_unknown():
    assert (law := normal(0, 1, "x")).scaled(1.0) is law
    assert law.scaled(0.5).call == "x * 0.5" and law.scaled(0.0).summary() == constant(0, "zeros_()").summary()
    assert unknown("why").scaled(2.0).summary() == InitLaw("unknown", call="why")


def test_mixtures():
    same = normal(0, 2, "x")
    assert mixture([(5, same), (7, normal(0, 2, "y")), (3, constant(0, "z"))]) is same
    both = mixture([(3, normal(0, 1, "x")), (1, constant(2, "c"))])
    assert (both.mean, both.square, both.call) == (0.5, pytest.approx(7 / 4), "parts: x and c")
    assert not mixture([(3, same), (1, unknown("?"))]).known
    assert mixture([(0, same)]).call == "no entries"
    assert of_entries(torch.tensor([1.0, 3.0]), "d").summary() == InitLaw("random", 1.0, 2.0, "d")
