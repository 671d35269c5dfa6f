"""The code's own init, where it is hard to read: measured, or refused by name."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import tpcalc
from tests.scaling.test_compute import BASE, TARGET, Net, scaled
from tpcalc.scaling import ScalingError


class Opaque(nn.Module):
    """Drawn by numpy and read as data, or thinned out through a random mask, which no recorder can follow."""

    def __init__(self, width, power, masked, wobble=0.0):
        super().__init__()
        generator = np.random.default_rng(0)
        std = width**power * (1 + wobble * math.sin(width))
        self.first = nn.Linear(8, width)
        self.second = nn.Linear(width, width)
        self.out = nn.Linear(width, 4)
        if masked:
            nn.init.normal_(self.second.weight, std=std)
            with torch.no_grad():
                self.second.weight[torch.rand(width, width) < 0.5] = 0.0
        else:
            self.second.weight = nn.Parameter(torch.from_numpy(generator.normal(0, std, (width, width))).float())

    def forward(self, x):
        return self.out(self.second(self.first(x).relu()).relu())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("power, wanted", [(-0.5, 1.0), (0.0, 0.5), (-1.0, 2.0)])
def test_an_init_that_cannot_be_read_is_measured_and_snapped(power, wanted, masked):
    scaling = tpcalc.scale(lambda width: (Opaque(width, power, masked), (torch.randn(2, 8),)), BASE, TARGET)
    assert scaling["second.weight"].init == wanted


def test_a_measured_init_that_is_no_power_is_refused():
    with pytest.raises(ScalingError, match="second.weight can't be read .* no clear power"):
        tpcalc.scale(lambda width: (Opaque(width, -0.5, True, wobble=0.3), (torch.randn(2, 8),)), BASE, TARGET)


def test_the_same_few_numbers_at_every_width_are_no_estimate():
    """Streams are mixed by ones, zeros and an identity: so few entries, if drawn, would tell no powers apart."""

    class Mixed(nn.Module):
        def __init__(self, width):
            super().__init__()
            first = torch.zeros(2, 1)
            first[1, :] = 1.0
            self.mix = nn.Parameter(torch.cat((first, torch.eye(2)), dim=1))
            self.first, self.out = nn.Linear(8, width), nn.Linear(width, 4)

        def forward(self, x):
            streams = torch.stack((x, 2 * x), dim=-1) @ self.mix
            return self.out(self.first(streams.sum(-1)).relu())

    scaling = tpcalc.scale(lambda width: (Mixed(width), (torch.randn(2, 8),)), BASE, TARGET)
    assert scaling["mix"].init == 1.0


def test_data_that_is_no_power_counts_as_it_is():
    scaling = tpcalc.scale(lambda width: (Opaque(width, -0.5, False, wobble=0.3), (torch.randn(2, 8),)), BASE, TARGET)
    exact = (1 + 0.3 * math.sin(BASE)) / (1 + 0.3 * math.sin(TARGET))
    assert scaling["second.weight"].init == pytest.approx(exact, rel=0.03)


def test_an_init_that_starts_at_zero_only_at_one_width_is_refused():
    def factory(width):
        model = nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))
        if width > 100:
            nn.init.zeros_(model[2].weight)
        return model, (torch.randn(2, 8),)

    with pytest.raises(ScalingError, match="2.weight is initialised to zero at the target "):
        tpcalc.scale(factory, BASE, TARGET)


def test_in_place_scaling_and_depth_scaled_residuals():
    """GPT-2's 1/sqrt(2L) on the residual projections is part of the code's own std."""

    def build(width):
        model = Net(width, nn.Linear(width, width, bias=False))
        nn.init.normal_(model.middle.weight, std=0.02)
        with torch.no_grad():
            model.middle.weight.mul_(24**-0.5)
        return model

    scaling, values = scaled(build)
    entry = next(e for e in scaling.document["weights"] if e["name"] == "middle.weight")
    assert entry["init_std"]["base"] == pytest.approx(0.02 * 24**-0.5)
    assert scaling["middle.weight"].init == 1 / 2
    assert values["middle.weight"].std().item() == pytest.approx(0.01 * 24**-0.5, rel=0.02)
