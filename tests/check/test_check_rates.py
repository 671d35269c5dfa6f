"""The learning rate that a check chooses, and samples that share one update."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from torch import nn

import tpcalc
from tests.check.test_check import hidden_rate
from tests.support.zoo import ZOO
from tpcalc.check import run
from tpcalc.check.rates import BENT, bearable
from tpcalc.check.slopes import fit
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


# -- samples that share one update -----------------------------------------------------------------


@pytest.mark.parametrize("samples", [4, 64])
def test_the_effect_of_a_shared_update(samples):
    """One gradient step of W[n, n] made from T independent samples, on themselves: larger by sqrt(1 + T / n)."""
    generator = torch.Generator().manual_seed(0)
    widths, rows = (32, 64, 128, 256), []
    for _ in range(8):
        row = []
        for n in widths:
            x, error = (torch.randn(samples, n, generator=generator) for _ in range(2))
            row.append(float((x @ (x.T @ error / n)).square().mean().sqrt()))
        rows.append(row)
    expected = fit(widths, [[math.sqrt(1 + samples / n) for n in widths]]).value
    assert fit(widths, rows).value == pytest.approx(expected, abs=0.05)


class Crowd(nn.Module):
    """A hidden layer that reads many positions of one sequence."""

    def __init__(self, n: int):
        super().__init__()
        self.input, self.hidden, self.output = nn.Linear(24, n), nn.Linear(n, n), nn.Linear(n, 10)

    def forward(self, x):
        return self.output(torch.tanh(self.hidden(torch.tanh(self.input(x)))))


def crowd(width: int, positions: int = 192):
    return Crowd(width), (torch.randn(1, positions, 24, generator=torch.Generator().manual_seed(0)),)


def own(result, name="hidden.weight"):
    (effect,) = result.of("effect", name)
    return effect


def test_a_crowded_update_is_not_judged():
    narrow = own(tpcalc.check(crowd, (16, 32, 64, 128), seeds=4, steps=2))
    assert narrow.slope.value + narrow.slope.margin < -0.15
    assert narrow.verdict == "skipped" and "share its update" in narrow.reason
    few = own(tpcalc.check(lambda width: crowd(width, 4), (16, 32, 64, 128), seeds=4, steps=2))
    assert few.verdict == "ok"
    wide = own(tpcalc.check(crowd, (256, 512, 1024), seeds=2, steps=2))
    assert wide.verdict == "ok"


def test_a_crowd_hides_no_wrong_rate(monkeypatch):
    monkeypatch.setattr(run, "parametrize", hidden_rate(run.parametrize, "3/2"))
    effect = own(tpcalc.check(crowd, (16, 32, 64), seeds=3, steps=2))
    assert effect.verdict == "below" and effect.floor == 0


# -- one learning rate for all widths --------------------------------------------------------------


def test_orders_beside_an_infinitesimal_rate():
    from tpcalc.algebra.order import MINUS_INFINITY
    from tpcalc.check.predict import INFINITESIMAL, in_width

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
