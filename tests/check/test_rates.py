"""The learning rate that a check chooses, and samples that share one update."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import tpcalc
from tests.support.zoo import ZOO
from tpcalc.check.rates import BENT, bearable
from tpcalc.check.training import Trainer


class Descent:
    """Stands for a trainer whose loss falls by ``fall(slower, width)`` of what its gradients foretell."""

    def __init__(self, fall):
        self.fall, self.tried = fall, []

    def descent(self, slower, width, seed):
        self.tried.append((slower, width))
        return self.fall(slower, width) * slower, slower, 1.0


@pytest.mark.parametrize("curvature", [0.0, 0.1, 3.0, 40.0, 1e4])
def test_the_rate_of_a_parabola(curvature):
    """On ``curvature x^2 / 2`` a step at rate r falls by ``1 - r curvature / 2`` of its first order."""
    trainer = Descent(lambda slower, width: 1 - slower * curvature / 2)
    slower = bearable(trainer, [64], 0, 0.1)
    assert slower * curvature <= 0.2 and math.log2(slower) == int(math.log2(slower))
    assert slower == 1.0 or 2 * slower * curvature > 0.2
    assert len(trainer.tried) <= 7


def test_the_hardest_width_decides():
    trainer = Descent(lambda slower, width: 1 - slower * width / 2)
    assert bearable(trainer, [16, 64], 0, 0.1) == 2**-9
    assert [width for _, width in trainer.tried] == sorted(width for _, width in trainer.tried)


@pytest.mark.parametrize("fall", [0.1, 10.0, math.nan, -math.inf])
def test_gradients_that_are_not_those_of_the_loss(fall):
    """No rate helps: the usual one is kept."""
    trainer = Descent(lambda slower, width: fall)
    assert bearable(trainer, [64], 0, 0.1) == 1.0 and len(trainer.tried) <= 8


def test_a_loss_that_does_not_fall_is_not_followed():
    trainer = Descent(lambda slower, width: 1e9)
    trainer.descent = lambda slower, width, seed: (0.5, 1e-9, 1.0)
    assert bearable(trainer, [64, 128], 0, 0.1) == 1.0


class Steep(nn.Module):
    """Two classes and logits that move by tens in one step of the usual rate."""

    def __init__(self, n: int):
        super().__init__()
        self.input, self.hidden, self.output = nn.Linear(8, n), nn.Linear(n, n), nn.Linear(n, 2)

    def forward(self, x):
        return 30 * self.output(torch.relu(self.hidden(torch.relu(self.input(x)))))


def steep(width: int):
    return Steep(width), (torch.linspace(-1, 1, 32).reshape(4, 8),)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_model_that_learns_at_once_gets_smaller_steps(optimizer):
    result = tpcalc.check(steep, (64, 128, 256), optimizer)
    assert result.ok and result.slower < 1 and f"are 1/{1 / result.slower:g} of the usual ones" in str(result)
    assert result.json()["slower"] == result.slower
    given = tpcalc.check(steep, (64, 128, 256), optimizer, seeds=1, lr=0.01)
    assert given.slower == 1 and "usual ones" not in str(given)


def test_the_chosen_rate_follows_the_gradient(monkeypatch):
    """The loss's fall, taken from the run itself, is that of its first order but for a tenth."""
    found = []
    honest = Trainer.descent

    def descent(self, slower, width, seed):
        found.append((slower, width, *honest(self, slower, width, seed)))
        return found[-1][2:]

    monkeypatch.setattr(Trainer, "descent", descent)
    result = tpcalc.check(steep, (64, 128, 256), "sgd", seeds=1)
    assert [width for _, width, *_ in found] == [64] * len(found) and len(found) > 1
    slower, _, fell, foretold, _ = found[-1]
    assert slower == result.slower and abs(fell / foretold - 1) <= BENT
    assert all(abs(fell / foretold - 1) > BENT for _, _, fell, foretold, _ in found[:-1])
    losses = result.losses[64]
    assert losses[0] - losses[-1] == pytest.approx(fell * 4 / 5, rel=0.25)  # four of the five steps are listed


def test_a_custom_gradient_keeps_the_usual_rate():
    assert tpcalc.check(ZOO["gradients_made_larger"], (32, 64, 128), seeds=1, steps=2).slower == 1
