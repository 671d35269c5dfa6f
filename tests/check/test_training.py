"""A check trains with the numbers that ``tpcalc.scale`` gives to users: where one of them is wrong, it fails."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

import tpcalc
from tests.scaling.test_scaling_slices import factory as packed
from tests.support.models import example
from tpcalc.check.training import Training
from tpcalc.errors import TpcalcError
from tpcalc.scaling import Scaling, entries

MLP, WIDTHS = example("mlp.py", "mlp"), (64, 128, 256, 512)
#: A weight decay and an epsilon that are felt.
FELT = {"lr": {}, "weight_decay": {"weight_decay": 300.0, "lr": 1e-4}, "eps": {"eps": 0.1, "lr": 0.1}}


def wrong(monkeypatch, name: str, number: str, power: float) -> None:
    """From here on one multiplier of one weight is exported wrong by ``(target / base) ** power``."""
    honest = entries.numbers

    def numbers(way, of, law, shapes):
        found = honest(way, of, law, shapes)
        if of == name:
            found[number] *= (way.target / way.base) ** power
        return found

    monkeypatch.setattr(entries, "numbers", numbers)


def failed(result: tpcalc.check.Result, quantity: str) -> set[tuple[str, str]]:
    return {(entry.subject, entry.verdict) for entry in result.failures if entry.quantity == quantity}


@pytest.mark.parametrize("number", FELT)
def test_right_numbers_pass(number):
    assert tpcalc.check(MLP, WIDTHS, seeds=2, **FELT[number]).ok


@pytest.mark.parametrize(
    "number, power, verdict",
    [
        ("lr", 0.5, "above"),
        ("lr", -0.5, "below"),
        ("weight_decay", 0.5, "above"),
        ("eps", -0.5, "above"),
    ],
)
def test_a_wrong_number_fails_and_names_the_weight(monkeypatch, number, power, verdict):
    right = getattr(tpcalc.scale(MLP, 64, 256)["hidden.weight"], number)
    wrong(monkeypatch, "hidden.weight", number, power)
    assert getattr(tpcalc.scale(MLP, 64, 256)["hidden.weight"], number) == pytest.approx(right * 4**power)
    result = tpcalc.check(MLP, WIDTHS, seeds=2, **FELT[number])
    assert ("hidden.weight", verdict) in failed(result, "effect"), result


@pytest.mark.parametrize(
    "name, quantity, where",
    [
        ("input.weight", "init", "input"),
        ("hidden.weight", "init", "hidden"),
        ("output.weight", "gradient", "hidden"),  # the logits of a readout at n^-1/2 start at 1: its gradients do not
    ],
)
def test_a_wrong_init_fails_where_the_weight_is_met(monkeypatch, name, quantity, where):
    wrong(monkeypatch, name, "init", 0.5)
    result = tpcalc.check(MLP, WIDTHS, seeds=2)
    assert where in {e.module for e in result.failures if (e.quantity, e.verdict) == (quantity, "above")}, result


def test_blocks_of_a_packed_weight_have_their_own_init(monkeypatch):
    """The queries of growing heads divided by sqrt(d) start as ``1/n``, the values in the same matrix do not."""
    assert tpcalc.check(packed(), WIDTHS, seeds=2).ok
    honest = entries.block_init

    def plain(way, name, *arguments):
        more = (way.target / way.base) ** 0.5 if name.startswith("layers.0.qkv.weight[") else 1.0
        return honest(way, name, *arguments) * more

    monkeypatch.setattr(entries, "block_init", plain)
    logits = [entry.op for entry in tpcalc.check(packed(), WIDTHS, seeds=2).failures if entry.quantity == "init"]
    assert any("bmm" in op for op in logits)


class Rounded(nn.Module):
    """A feed-forward dimension rounded up to a multiple of 80."""

    def __init__(self, n: int) -> None:
        super().__init__()
        inner = -(-8 * n // 3 // 80) * 80
        self.input, self.up, self.down = nn.Linear(8, n), nn.Linear(n, inner), nn.Linear(inner, n)
        self.output = nn.Linear(n, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(torch.relu(self.down(torch.relu(self.up(torch.relu(self.input(x)))))))


def test_true_sizes_are_trained_with(monkeypatch):
    widths, seen = (64, 128, 256), {}
    honest = Training.optimizers

    def optimizers(training, model, width):
        found = honest(training, model, width)
        (group,) = (g for o in found for g in o.param_groups if any(p is model.down.weight for p in g["params"]))
        seen[width] = group["lr"] / training.slower
        return found

    monkeypatch.setattr(Training, "optimizers", optimizers)
    assert tpcalc.check(lambda n: (Rounded(n), (torch.linspace(-1, 1, 32).reshape(4, 8),)), widths, seeds=2).ok
    inner = {n: Rounded(n).down.in_features for n in widths}
    assert inner[128] / inner[64] != 2
    for width in widths:
        assert seen[width] == pytest.approx(1e-3 * inner[64] / inner[width], rel=1e-12)


def test_the_standard_parametrization_multiplies_nothing(monkeypatch):
    """One learning rate, one decay, one epsilon, and the code's own init."""
    groups, inits = [], []
    honest = Training.optimizers

    def optimizers(training, model, width):
        inits.append(float(model.hidden.weight.detach().std()) * math.sqrt(3 * width))
        found = honest(training, model, width)
        groups.extend((group["lr"], group["weight_decay"], group["eps"]) for o in found for group in o.param_groups)
        return found

    monkeypatch.setattr(Training, "optimizers", optimizers)
    options = {"lr": 0.01, "weight_decay": 0.1, "eps": 1e-6}
    tpcalc.check(MLP, WIDTHS, seeds=1, steps=1, parametrization="standard", **options)
    assert groups == [(0.01, 0.1, 1e-6)] * len(WIDTHS)
    assert inits == pytest.approx([1.0] * len(WIDTHS), rel=0.05)


def test_a_model_that_scale_refuses_is_refused():
    def factory(n: int):
        model, inputs = MLP(n)
        if n > 64:
            nn.init.zeros_(model.hidden.weight)
        return model, inputs

    message = "hidden.weight is initialised to zero at the target"
    for run in (lambda: tpcalc.scale(factory, 64, 128), lambda: tpcalc.check(factory, WIDTHS)):
        with pytest.raises(TpcalcError, match=message):
            run()


def test_an_init_that_can_only_be_measured(monkeypatch):
    """As ``tpcalc.scale`` does, on small real instances, each of them built once."""
    built: list[tuple[int, bool]] = []

    def factory(n: int):
        model, inputs = MLP(n)
        with torch.no_grad():
            keep = torch.rand(n, n) < 0.5
            model.hidden.weight.copy_(torch.where(keep, torch.randn(n, n), torch.zeros(())) / n**0.5)
        built.append((n, type(model.hidden.weight.data) is torch.Tensor))
        return model, inputs

    scaling: Callable[[], Scaling] = lambda: tpcalc.scale(factory, 64, 128, widths=WIDTHS)  # noqa: E731
    assert scaling()["hidden.weight"].init == pytest.approx(1.0)
    built.clear()
    assert tpcalc.check(factory, WIDTHS, seeds=1, lr=1e-3).ok
    assert all(built.count((width, True)) <= 2 for width in WIDTHS)  # to measure, and to train
