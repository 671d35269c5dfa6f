"""Predictions of one learning rate for all widths: orders beside an infinitesimal rate."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import nn

import tpcalc
from tpcalc.algebra.order import MINUS_INFINITY
from tpcalc.check.predict import INFINITESIMAL, in_width


def test_orders_beside_an_infinitesimal_rate():
    for power in (-2, -1, 0, 1, 2):
        for order in (Fraction(-3), Fraction(1, 2), Fraction(0), Fraction(7, 4)):
            assert in_width(order - power * INFINITESIMAL) == order
    assert in_width(MINUS_INFINITY) is MINUS_INFINITY


def test_layers_that_start_at_zero_wake_up_in_turn():
    """Orders of a change of second or third order in the learning rate are those in the width all the same."""

    class Zeros(nn.Module):
        def __init__(self, n: int):
            super().__init__()
            self.input, self.hidden, self.output = nn.Linear(24, n), nn.Linear(n, n), nn.Linear(n, 10, bias=False)
            nn.init.zeros_(self.output.weight)

        def forward(self, x):
            return self.output(torch.relu(self.hidden(torch.relu(self.input(x)))))

    def factory(width):
        return Zeros(width), (torch.linspace(-1, 1, 4 * 24).reshape(4, 24),)

    result = tpcalc.check(factory, (64, 128, 256, 512), "sgd", parametrization="standard", lr=1e-3, steps=3)
    effects = {e.subject: e for e in result.of("effect")}
    # the readout grows to entries of order 0, as its gradient is; so does what it hands back, on and through W ~ n^-1/2
    assert {name: str(e.predicted) for name, e in effects.items() if name.endswith("weight")} == {
        "input.weight": "0",
        "hidden.weight": "1",
        "output.weight": "1",
    }
    for effect in (effects[name] for name in ("input.weight", "hidden.weight", "output.weight")):
        assert abs(effect.slope.value - float(effect.predicted)) <= 0.15 + effect.slope.margin
