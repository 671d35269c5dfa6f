"""Wrong rules are noticed; what these widths can't show is skipped, and hides no wrong rule."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import nn

import tpcalc
from tests.support.models import example
from tpcalc.check import plan
from tpcalc.check.slopes import fit
from tpcalc.check.training import Trainer

# -- a wrong rule is noticed -----------------------------------------------------------------------


def hidden_rate(parametrization, c):
    """The rules with another learning-rate exponent for the hidden layer."""

    def changed(*arguments):
        rules = parametrization(*arguments)
        table = dict(rules.rules)
        table["hidden.weight"] = replace(table["hidden.weight"], c=Fraction(c))
        return replace(rules, rules=table)

    return changed


@pytest.mark.parametrize("c, verdict", [("1/2", "above"), ("3/2", "below")])
def test_a_wrong_exponent_fails(monkeypatch, c, verdict):
    monkeypatch.setattr(plan, "parametrize", hidden_rate(plan.parametrize, c))
    result = tpcalc.check(example("mlp.py", "mlp"), seeds=2)
    (effect,) = result.of("effect", "hidden.weight")
    assert effect.verdict == verdict and not result.ok


# -- gradients of rounding ---------------------------------------------------------------------------


class Shifted(nn.Module):
    """The bias in front of the batch norm has a gradient of zero, and no code can say so but in exact numbers."""

    def __init__(self, n: int, dtype: torch.dtype = None):
        super().__init__()
        self.first, self.hidden, self.norm = nn.Linear(8, n), nn.Linear(n, n), nn.BatchNorm1d(n)
        self.last, self.dtype = nn.Linear(n, 4), dtype

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.hidden(torch.relu(self.first(x.to(self.dtype or x.dtype)))))))


@pytest.mark.parametrize("dtype, verdict", [(None, "skipped"), (torch.float32, "above")])
def test_gradients_of_rounding_are_no_failures(monkeypatch, dtype, verdict):
    """Noise that happens to grow is told from a gradient that does, where the code can be run in float64."""
    trained = Trainer.run

    def grown(trainer, width, seed):
        found = trained(trainer, width, seed)
        for name in ("hidden.bias", "last.bias"):
            found.sizes["gradient", name] *= (width / 64) ** 2
        return found

    monkeypatch.setattr(Trainer, "run", grown)
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    result = tpcalc.check(lambda n: (Shifted(n, dtype), (x,)), (64, 128, 256))
    verdicts = {entry.subject: entry.verdict for entry in result.of("gradient")}
    assert verdicts["hidden.bias"] == verdict and verdicts["last.bias"] == "above"
    assert all(verdicts[name] == "ok" for name in verdicts if name not in ("hidden.bias", "last.bias"))
    assert torch.get_default_dtype() == torch.float32


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
    monkeypatch.setattr(plan, "parametrize", hidden_rate(plan.parametrize, "3/2"))
    effect = own(tpcalc.check(crowd, (16, 32, 64), seeds=3, steps=2))
    assert effect.verdict == "below" and effect.floor == 0
