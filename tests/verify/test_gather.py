"""Setups that run on real instances, and those that can't run."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

import tpcalc
from tests.support import verify_setups as setups
from tests.support.verify_reports import WIDTHS, told, weights

H = Fraction(1, 2)


def numpy_setup(width: int, std: float | None = None):
    """Writes real data: impossible under fake tensors."""
    model, optimizer, inputs = setups.tp5_table3_adam(width)
    draw = np.random.default_rng(0).normal(size=(width, width)) * (width**-0.5 if std is None else std)
    model.hidden1.weight.data.numpy()[:] = draw
    return model, optimizer, inputs


def test_falls_back_to_real_instances_and_says_so():
    report = tpcalc.verify(numpy_setup, WIDTHS)
    assert report.how == "real small instances" and report.findings == ()
    assert "on real small instances" in str(report) and "read-only" in report.why


def test_wrong_init_on_real_instances():
    report = tpcalc.verify(lambda width: numpy_setup(width, 1.0), WIDTHS)
    assert told(report) == [("explodes", "init std", 0, -H)] and weights(report, "explodes") == {"hidden1.weight"}
    assert any("hidden1.weight" in note for note in report.notes)


def test_an_error_of_the_setup_names_its_line():
    def setup(width):
        raise ValueError("no such dataset")

    with pytest.raises(
        tpcalc.TargetError, match=r"setup\(64\) raised ValueError: no such dataset \(test_gather.py:\d+\)"
    ):
        tpcalc.verify(setup, WIDTHS)


class Packed(torch.nn.Module):
    """A packed weight [n + 8, n] whose last 8 rows need an init of their own."""

    def __init__(self, width: int):
        super().__init__()
        self.inp, self.pack = torch.nn.Linear(24, width), torch.nn.Linear(width, width + 8, bias=False)
        self.low, self.out = torch.nn.Linear(8, width, bias=False), torch.nn.Linear(width, 10, bias=False)
        for layer, std in ((self.inp, 0.2), (self.pack, width**-0.5), (self.low, 0.3), (self.out, 1 / width)):
            torch.nn.init.normal_(layer.weight, std=std)

    def forward(self, x):
        a, b = self.pack(self.inp(x).relu()).tanh().split([self.out.in_features, 8], -1)
        return self.out(a + self.low(b))


@pytest.mark.parametrize("steps", [(2.0, "rows"), ("rows", 2.0), ("rows", 1.0), ("rows", 2.0, 0.5), (2.0,)])
def test_rows_of_a_packed_weight_keep_their_own_init(steps):
    """Whatever the whole is multiplied by afterwards; without an init of their own they explode."""

    def setup(width):
        model, m = Packed(width), width / 64
        with torch.no_grad():
            for step in steps:
                model.pack.weight[width:].mul_(m**-0.5) if step == "rows" else model.pack.weight.mul_(step)
        groups = [
            {"params": [model.pack.weight, model.out.weight], "lr": 1e-3 / m, "eps": 1e-8},
            {"params": [*model.inp.parameters(), model.low.weight], "lr": 1e-3, "eps": 1e-8 / m},
        ]
        return model, torch.optim.AdamW(groups, weight_decay=0.0), (torch.linspace(-1, 1, 96).reshape(4, 24).sin(),)

    report = tpcalc.verify(setup, WIDTHS)
    assert report.how == "fake tensors" and not report.notes
    assert weights(report, "explodes") == (set() if "rows" in steps else {"pack.weight"})
