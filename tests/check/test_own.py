"""Checks of set-ups: right ones pass, wrong ones fail with the weight that is wrong first, nonsense is never ok."""

from __future__ import annotations

import json

import pytest
import torch

import tpcalc
from tests.support import verify_setups as setups
from tests.support.command import tpcalc_command
from tests.support.verify_schedules import RIGHT, WRONG, Net, model_of, right, scheduled, warm_then_cosine, x_inputs
from tpcalc.check.own import is_setup

WIDTHS = (64, 128, 256)


def check(setup, **more):
    return tpcalc.check(setup, WIDTHS, steps=3, seeds=2, **more)


def standard(width):
    model = Net(width)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0), x_inputs()


def at(factor):
    """A right set-up with all rates times a factor."""

    def setup(width):
        model, optimizer = right(width)
        for group in optimizer.param_groups:
            group["lr"] *= factor
        return model, optimizer, x_inputs()

    return setup


def hidden(power):
    return scheduled(warm_then_cosine, hidden=power)


GOOD = {
    "cosine": RIGHT["cosine"],
    "asleep": RIGHT["asleep"],
    "warm-up by width": RIGHT["warm-up by width"],
    "lightning of two": RIGHT["lightning of two"],
    "hooks": RIGHT["hooks"],
    "hooks after": RIGHT["hooks after"],
    "plain": RIGHT["plain"],
    "by table 3": setups.tp5_table3_adam,
    "by table 8, sgd": setups.tp5_table8_sgd,
}


@pytest.mark.parametrize("name", GOOD)
def test_right_ones_pass(name):
    result = check(GOOD[name])
    assert result.ok and result.own and result.compared > 10, result
    assert {entry.verdict for entry in result.of("effect")} <= {"ok", "skipped"}


BAD = {
    "rate too large": (hidden(0.0), "hid.weight", "above"),
    "rate too small": (hidden(2.0), "hid.weight", "below"),
    "standard": (standard, "hid.weight", "above"),
    "lightning at one rate": (WRONG["lightning"][0], "hid.weight", "above"),
    "one cycle": (WRONG["one cycle"][0], "hid.weight", "above"),
    "hooks": (WRONG["hooks"][0], "hid.weight", "above"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_ones_fail_by_the_weight_that_is_wrong(name):
    setup, weight, verdict = BAD[name]
    result = check(setup)
    assert not result.ok and weight in result.findings[0].weights, result
    (effect,) = result.of("effect", weight)
    assert effect.verdict == verdict
    text = " ".join(str(result).split())
    assert text.index("root causes") < text.index(weight) < text.index("own effect: ")
    assert "measured: its own effect has slope" in text


def test_a_weight_that_is_right_moves_its_result_by_what_propagates_alone():
    """The readout of a net whose hidden rate is too large: its own effect is flat, and W_0 dx grows."""
    result = tpcalc.check(hidden(0.0), (64, 128, 256, 512), steps=3, seeds=3)
    (own,), (propagated,) = result.of("effect", "out.weight"), result.of("propagated", "out.weight")
    assert own.slope.value < 0.35 and propagated.slope.value > 0.6 and propagated.verdict == "above"
    (hid,) = result.of("propagated", "hid.weight")
    assert hid.verdict == "ok"


def test_effects_and_what_propagates_add_up():
    """(W_t - W_0) x_t + W_0 (x_t - x_0) is the whole change."""
    result = check(RIGHT["cosine"])
    changes = {entry.where: entry for entry in result.of("change") if entry.op.startswith("aten.mm")}
    for name in ("hid.weight", "out.weight"):
        (own,), (rest,) = result.of("effect", name), result.of("propagated", name)
        for a, b, whole in zip(own.sizes, rest.sizes, changes[own.where].sizes):
            assert abs(a - b) * 0.99 <= whole <= (a + b) * 1.01


@pytest.mark.parametrize("factor, words", [(1e12, "runs away"), (0.0, "no weight moves"), (float("inf"), "")])
def test_no_nonsense_is_ok(factor, words):
    try:
        result = check(at(factor))
    except tpcalc.TpcalcError:
        assert factor == float("inf")
        return
    assert not result.ok and words in result.trouble and "no training" in str(result)


def test_numbers_that_are_none_are_not_ok():
    class Breaks(Net):
        def forward(self, x):
            return super().forward(x) + 0 * (1 / (self.hid.weight.sum() * 0))

    def setup(width):
        model = Breaks(width)
        model.load_state_dict(model_of(width).state_dict())
        return model, torch.optim.SGD(model.parameters(), lr=0.1), x_inputs()

    assert not check(setup).ok


@pytest.mark.parametrize("lr, words", [(1e9, "runs away"), (1e-30, "no weight moves")])
def test_no_nonsensical_rate_of_a_factory_is_ok(lr, words):
    result = tpcalc.check(lambda width: (model_of(width), x_inputs()), WIDTHS, steps=2, seeds=1, lr=lr)
    assert not result.ok and words in result.trouble


@pytest.mark.parametrize(
    "option, value", [("lr", 0.1), ("eps", 1e-8), ("weight_decay", 0.1), ("parametrization", "standard")]
)
def test_a_setup_brings_its_own(option, value):
    with pytest.raises(tpcalc.TpcalcError, match="a set-up"):
        tpcalc.check(standard, WIDTHS, **{option: value})


def test_what_is_a_setup():
    assert is_setup(standard, 64) and is_setup(RIGHT["lightning"], 64)
    assert not is_setup(lambda width: (model_of(width), x_inputs()), 64)
    assert not is_setup(lambda width: model_of(width), 64) and not is_setup(lambda width: 1 / 0, 64)


def test_training_that_raises_is_one_sentence():
    def setup(width):
        model = model_of(width)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer.register_step_pre_hook(lambda *_: 1 / 0)
        return model, optimizer, x_inputs()

    with pytest.raises(tpcalc.SetupError, match="training what setup returns raised ZeroDivisionError"):
        check(setup)


def test_marks_on_parameters_are_seen_when_values_are_measured():
    """mup's layers look for what it noted on their weights."""

    class Marked(Net):
        def forward(self, x):
            return super().forward(x) * self.out.weight.mark

    def setup(width):
        model = Marked(width)
        model.load_state_dict(model_of(width).state_dict())
        model.out.weight.mark = 1.0
        return model, torch.optim.SGD(model.parameters(), lr=0.1), x_inputs()

    assert check(setup).compared > 10


TARGETS = """
from tests.check.test_own import standard
from tests.support.verify_schedules import RIGHT
good = RIGHT["cosine"]
"""


@pytest.mark.parametrize("name, code", [("good", 0), ("standard", 1)])
def test_on_the_command_line(name, code, tmp_path):
    (tmp_path / "targets.py").write_text(TARGETS)
    options = ["--widths", "64,128,256", "--seeds", "2", "--steps", "3"]
    done = tpcalc_command("check", f"{tmp_path}/targets.py:{name}", *options)
    assert done.returncode == code and done.stdout.startswith(f"Check of {name}, trained as it is by AdamW")
    done = tpcalc_command("check", f"{tmp_path}/targets.py:{name}", *options, "--format", "json")
    document = json.loads(done.stdout)
    assert document["ok"] == (code == 0) and document["parametrization"] == "own"
    assert [finding["kind"] for finding in document["findings"]][:1] == ([] if code == 0 else ["explodes"])
