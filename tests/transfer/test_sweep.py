"""The learning rate swept at several sizes."""

from __future__ import annotations

import functools
import math
from collections import Counter
from unittest.mock import MagicMock

import pytest
import torch
from torch import nn

from tests.support.small import VOCABULARY, deep, small, tokens
from tpcalc.errors import TpcalcError
from tpcalc.trace.target import factory_of
from tpcalc.transfer.jobs import Here, Memory
from tpcalc.transfer.result import DERIVED, STANDARD, TUNED, UNSCALED
from tpcalc.transfer.run import trainer
from tpcalc.transfer.sweep import Sweep, Sweeping, along, rates_between, transfer
from tpcalc.transfer.training import Outcome

WIDTHS = {"width": (8, 16, 32)}
OPTIMUM = 0.01


def bowl(model, optimizer, context) -> float:
    """No training: least where the largest rate of a group is OPTIMUM, and it is so for ours at every size."""
    hidden = context.multipliers["blocks.0.out.weight"].lr
    rate = max(group["lr"] for group in optimizer.param_groups)
    drift = 0.0 if hidden != 1.0 else math.log2(context.scales.get("width", 8) / 8)
    return 1.0 + math.log2(rate / OPTIMUM * 2**drift) ** 2 / 8 + 0.001 * context.seed


class Counted:
    """Here, and what was run."""

    def __init__(self):
        self.ran = []

    def __call__(self, run):
        def noted(job):
            self.ran.append(job)
            return run(job)

        return Here(noted)


def swept(factory=small, scales=WIDTHS, train=bowl, **options):
    given = {"lr": (OPTIMUM / 16, OPTIMUM * 16), "points": 5, "steps": 2, "seeds": 2, **options}
    return transfer(factory, scales, train=train, **given)


# -- what is run, and what comes of it -------------------------------------------------------------


def test_optima_and_drift_and_runs_that_are_shared():
    counted, told = Counted(), []
    found = swept(executor=counted, told=lambda *now: told.append(now))
    assert found.drift(DERIVED) == pytest.approx(0.0, abs=0.01) and found.drift(STANDARD) == pytest.approx(
        -2.0, abs=0.05
    )
    assert found.places == ({"width": 8}, {"width": 16}, {"width": 32})
    assert (found.name, found.optimizer, found.steps, found.seeds) == ("small", "adamw", 2, 2)
    runs = 5 * 2 * (1 + 2 + 2)
    assert len(counted.ran) == len(set(counted.ran)) == runs, "at the base both parametrizations are one run"
    assert told[0] == (0, runs) and told[-1] == (runs, runs)
    assert [job.scales[0][1] for job in counted.ran] == sorted(job.scales[0][1] for job in counted.ran)
    base = [found.curve(name, {"width": 8}) for name in (STANDARD, DERIVED)]
    assert base[0].losses == base[1].losses and base[0].rates == rates_between((OPTIMUM / 16, OPTIMUM * 16), 5)
    assert found.cost.share == pytest.approx(5 * 2 * found.cost.base / found.cost.target) and not found.advice


def test_it_trains():
    """Not only a bowl: losses of real runs are those of the default loop, and a rate that is far too large is worse."""
    found = swept(train=None, scales={"width": (8, 16)}, lr=(1e-3, 10.0), points=3, steps=8)
    for curve in found.curves:
        assert 0 < curve.loss < math.log(VOCABULARY) * 1.1 and curve.means[-1] > curve.loss


def test_a_ledger_keeps_what_is_done():
    ledger, again = Memory(), Counted()
    first = swept(ledger=ledger)
    assert swept(ledger=ledger, executor=again).curves == first.curves and not again.ran


def test_scales_that_grow_together():
    seen = []

    def train(model, optimizer, context):
        seen.append(dict(context.scales))
        return bowl(model, optimizer, context)

    found = swept(deep, {"width": (8, 16), "depth": (2, 3)}, train, seeds=1, points=3)
    assert found.places == ({"width": 8, "depth": 2}, {"width": 16, "depth": 3})
    assert Counter(place["depth"] for place in seen) == {2: 3, 3: 6} and found.drift(DERIVED) is not None
    assert all((place["width"], place["depth"]) in {(8, 2), (16, 3)} for place in seen)


def test_constants_add_two_parametrizations():
    counted = Counted()
    constants = {"hidden": {"lr": 0.5}, "head.weight": {"init": 2.0}}
    found = swept(scales={"width": (8, 16)}, constants=constants, executor=counted, seeds=1)
    assert found.parametrizations == (STANDARD, DERIVED, TUNED, UNSCALED)
    assert len(counted.ran) == 5 * (2 + 4)
    with_constants = [job for job in counted.ran if job.parametrization in (TUNED, UNSCALED)]
    assert len(with_constants) == 5 * 3 and all(job.constants == constants for job in with_constants)
    assert not any(job.constants for job in counted.ran if job.parametrization in (STANDARD, DERIVED))


# -- advice ----------------------------------------------------------------------------------------


def luck(model, optimizer, context) -> float:
    """Ours is worse, and another init of the embedding is better for one seed, by as much as it is worse for others."""
    changed = context.multipliers["table.weight"].init not in (1.0,) and context.scales["width"] == 8
    powers = context.multipliers["blocks.0.qkv.weight"].lr != context.multipliers["norm.weight"].lr
    lucky = (-1.0 if context.seed == 0 else 0.4) if changed else 0.0
    return bowl(model, optimizer, context) + lucky + (1.0 if powers and context.scales["width"] > 8 else 0.0)


def test_luck_of_one_seed_is_no_advice():
    found = swept(scales={"width": (8, 16)}, train=luck, seeds=3, executor=(counted := Counted()))
    assert any(job.constants for job in counted.ran) and not found.advice


def loses(model, optimizer, context) -> float:
    """Ours is worse at larger sizes, and the embedding's init four times too large."""
    weights = context.multipliers
    powers = weights["blocks.0.qkv.weight"].lr != weights["norm.weight"].lr and context.scales["width"] > 8
    worst = math.log2(weights["table.weight"].init * 4) ** 2 / 8
    return bowl(model, optimizer, context) + worst + (1.0 if powers else 0.0)


def test_advice_names_the_module():
    counted = Counted()
    found = swept(scales={"width": (8, 16)}, train=loses, executor=counted)
    advice = found.advice[0]
    assert (advice.module, advice.kind, advice.factor) in {("embedding", "init", 0.25), ("readout", "init", 0.25)}
    assert advice.before == pytest.approx(1.5005) and advice.loss == pytest.approx(1.0005)
    assert [one.loss for one in found.advice] == sorted(one.loss for one in found.advice)
    assert len({one.module for one in found.advice}) == len(found.advice), "the best of each module"
    assert all(one.loss < one.before for one in found.advice)
    tried = counted.ran[5 * 2 * 3 :]
    modules = {"embedding", "hidden", "projection", "readout", "norm", "bias", "router"}
    assert {(m, k, x) for job in tried for m, own in job.constants.items() for k, x in own.items()} == {
        (module, kind, factor) for module in modules for kind in ("lr", "init") for factor in (0.25, 4.0)
    }
    assert all(job.scales == (("width", 8),) and dict(job.numbers)["lr"] == OPTIMUM for job in tried)


class Table(nn.Module):
    """Embeddings of a ``size`` that drowns what is to be learned."""

    def __init__(self, n, size):
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, n)
        self.hidden = nn.Linear(n, n)
        self.head = nn.Linear(n, VOCABULARY, bias=False)
        with torch.no_grad():
            self.table.weight *= size

    def forward(self, tokens):
        x = self.table(tokens)
        return self.head(x + torch.relu(self.hidden(x)))


def test_advice_of_real_training():
    """That of the module that is wrong lowers the loss most, but for the readout, in which its size goes on."""
    sweep = Sweep.of({"width": (8, 16)}, (1e-3, 1e-2), 3, 20, 1)
    factory = lambda width: (Table(width, 30.0), tokens())  # noqa: E731
    sweeping = Sweeping(sweep, trainer(factory))
    run, done = sweeping.run(), {}
    for job in dict.fromkeys(
        job for name in (STANDARD, DERIVED) for place in sweep.places for job in sweep.row(name, place)[0]
    ):
        done[job] = Outcome(9.0) if job.parametrization == DERIVED else run(job)
    trials = [job for job in sweep.jobs(done, sweeping.sizes.modules) if job not in done]
    assert len(trials) == 4 * len(set().union(*sweeping.sizes.modules.values())) > 0
    done.update({job: run(job) for job in trials})
    found = {advice.module: advice for advice in sweep.advice(done)}
    wrong = found.pop("embedding")
    assert (wrong.kind, wrong.factor) == ("init", 0.25) and wrong.loss < 0.5 * wrong.before
    assert all(other.loss > wrong.loss for module, other in found.items() if module != "readout"), found


# -- what can't be ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scales, words",
    [
        ({"width": (8,)}, "no scale moves; give one of them two or more values, as width=64,128,256"),
        ({}, "no scale moves"),
        (
            {"width": (8, 16), "depth": (1, 2, 3)},
            "as many values each, and here width 2 and depth 3; give as many, or one",
        ),
        ({"width": (16, 8)}, "width=16,8 does not grow; give ascending values, the base first"),
        ({"width": (8, 8)}, "width=8,8 does not grow"),
        ({"width": (8, 16), "depth": ()}, r"the scale depth has the values \(\); give one or more"),
        ({"width": (8, 16), "depth": 2}, "the scale depth has the values 2; give one or more"),
    ],
)
def test_sizes_that_are_none(scales, words):
    with pytest.raises(TpcalcError, match=words):
        along(scales)


def test_sizes():
    assert along({"width": (8, 16), "depth": (2,)}) == ({"width": 8, "depth": 2}, {"width": 16, "depth": 2})
    assert along({"width": [8, 16, 32], "depth": [2, 3, 4]})[2] == {"width": 32, "depth": 4}


@pytest.mark.parametrize(
    "lr, points, words",
    [
        ((0.0, 1.0), 5, "learning rates 0:1 are no range; give two positive ones, the smaller first, as 1e-4:1e-1"),
        ((-1.0, 1.0), 5, "no range"),
        ((1.0, 0.1), 5, "no range"),
        ((1.0, 1.0), 5, "no range"),
        ((1.0, math.inf), 5, "no range"),
        ((math.nan, 1.0), 5, "no range"),
        ((0.1, 1.0), 2, "2 learning rates show no optimum; give three points or more"),
        ((1.0, 1.0000001), 5, "too near for 5 points"),
    ],
)
def test_rates_that_are_none(lr, points, words):
    with pytest.raises(TpcalcError, match=words):
        rates_between(lr, points)


def test_rates():
    assert rates_between((1e-4, 1e-1), 4) == (1e-4, 1e-3, 1e-2, 1e-1)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"steps": 0}, "one step and one seed or more"),
        ({"seeds": 0}, "one step and one seed or more"),
        ({"weight_decay": -1.0}, "weight_decay -1 is no hyperparameter"),
        ({"eps": math.nan}, "eps nan is no hyperparameter"),
        ({"constants": {"nothing": {"lr": 1.0}}}, "the model has no weights of a module or parameter 'nothing'"),
        ({"device": "nowhere"}, "device 'nowhere' can't be used"),
        ({"optimizer": "adamv"}, "has no update law here"),
        ({"train": lambda model: 0}, "can't be called as train"),
        ({"factory": lambda width: small(8)}, "nothing in the model grows with the width"),
        ({"factory": "nowhere.py:small"}, "no file nowhere.py"),
    ],
)
def test_what_is_refused_before_a_run(options, words):
    counted = Counted()
    with pytest.raises(TpcalcError, match=words) as caught:
        swept(**{"executor": counted, **options})
    assert "\n" not in str(caught.value) and not counted.ran


def test_a_loop_that_diverges_everywhere():
    counted = Counted()
    with pytest.raises(TpcalcError, match="^every run at width=8 diverged, at the learning rates 0.000625:0.16; try"):
        swept(train=lambda *_: math.nan, executor=counted)
    assert {job.scales for job in counted.ran} == {(("width", 8),)}, "larger ones are not tried"


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_loop_that_does_not_use_its_rate(seeds):
    """One with an optimizer of its own: no optimum is read off a flat line."""

    def flat(model, optimizer, context):
        return 1.0 + context.seed

    def nearly(model, optimizer, context):
        return 1.0 + (context.seed == 0 and optimizer.param_groups[0]["lr"] > 0.01)

    with pytest.raises(TpcalcError, match="^the loss is 1 whatever the learning rate: the loop does not train with"):
        swept(train=flat, seeds=seeds)
    assert swept(train=nearly, seeds=seeds).seeds == seeds


def test_a_cost_that_cannot_be_counted_is_a_note():
    class Gains(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(n))

        def forward(self, x):
            return (self.gain * x).square().mean()

    def gains(width):
        return Gains(width), torch.ones(2, width)

    found = swept(gains, train=None, seeds=1, points=3, scales={"width": (8, 16)})
    assert found.cost is None
    (note,) = found.notes
    assert note.startswith("the cost can't be counted: gains gives a model without products of matrices at")


def test_what_runs_are_of(monkeypatch):
    monkeypatch.setattr("tpcalc.transfer.sweep.Sizes", MagicMock())  # nothing is traced for this
    how = trainer(small)
    asked = functools.partial(Sweep.of, WIDTHS, (1e-3, 1e-1), 3, 5, 2)
    one = Sweeping(asked(), how).asked
    assert one["target"] == "small" and one["train"] == "default_train" and one["optimizer"] == "adamw"
    assert one != Sweeping(asked(weight_decay=0.1), how).asked and one == Sweeping(asked(), trainer(small)).asked
    assert Sweeping(asked(), how).bounds == {"lr": (1e-3, 1e-1)}
    grown = Sweep.of({"width": (8, 16), "depth": (2, 2 + 1)}, (1e-3, 1e-1), 3, 5, 2)
    assert Sweeping(grown, trainer(deep)).asked != Sweeping(grown, trainer(deep), "1/2").asked


def test_fields_of_a_config_are_part_of_what_runs_are_of(monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setattr("tpcalc.transfer.sweep.Sizes", MagicMock())
    made = [factory_of("hf:llama", overrides={"num_hidden_layers": count}) for count in ("1", "2", "2")]
    one, two, again = (Sweeping(Sweep.of(WIDTHS, (1e-3, 1e-1), 3, 5, 2), trainer(own)).asked for own in made)
    assert one != two == again
