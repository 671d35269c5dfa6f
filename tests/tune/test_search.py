"""A search whose target has another batch size and length, by a stated rule."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
import torch
from torch import nn

import tpcalc
from tpcalc.document.recipe import recipe_json
from tpcalc.errors import TpcalcError
from tpcalc.scaling.codegen import codegen
from tpcalc.show import show
from tpcalc.tune.result import AVERAGES
from tpcalc.tune.search import Tuning


def mlp(width: int):
    model = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3))
    return model, (torch.zeros(4, 6),)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, context: Any) -> float:
    generator = context.generator()
    for step in range(context.steps):
        optimizer.zero_grad()
        loss = model(torch.randn(8, 6, generator=generator)).square().mean()
        context.report(step, loss.detach())
        loss.backward()
        optimizer.step()
    return float(loss.detach())


RULE: dict[str, Any] = {"batch": (8, 32), "tokens": (1000, 16000), "horizon": "completed-p"}
SEARCH: dict[str, Any] = {"space": "lr=1e-3:1e-2,weight_decay=0.1", "trials": 3, "steps": 4, "sampler": "random"}


def tuning(**given: Any) -> Tuning:
    options: dict[str, Any] = dict.fromkeys(inspect.signature(Tuning.of).parameters)
    options |= {"share": 0.07, "optimizer": "adamw", "seed": 0, "depth_alpha": 1, "device": "cpu"} | SEARCH
    return Tuning.of(**options | {"factory": mlp, "base": 8, "target": 32, "train": train} | given)


def test_the_target_run_has_the_steps_and_the_batches_that_are_said():
    found = tuning(**RULE)
    assert found.cost.steps == 16 == tuning(**RULE, target_steps=16).cost.steps
    assert found.cost.target == 4 * tuning().cost.target
    # runs are of the base alone, and those that one budget pays for go on under another rule
    assert found.asked == tuning(share=0.07 * 16).asked
    with pytest.raises(TpcalcError, match="come to 16 steps at the target, and --target-steps is 4; leave it out"):
        tuning(**RULE, target_steps=4)


def test_refusals():
    with pytest.raises(TpcalcError, match="no published rule for lion"):
        tuning(**RULE, optimizer="lion")
    with pytest.raises(TpcalcError, match="add --horizon"):
        tuning(batch=(8, 32))
    same = {"batch": (8, 8), "horizon": "malladi"}
    with pytest.raises(TpcalcError, match="there is nothing to carry"):
        tuning(target=8, **same)
    assert tuning(target=8, **same | {"batch": (8, 16)}).assumed.ratios[0] == 2  # of the batch alone


def test_what_is_found_is_carried_by_both_layers():
    tuned = tpcalc.tune(mlp, 8, 32, train, **SEARCH, **RULE)
    plain = tpcalc.tune(mlp, 8, 32, train, **SEARCH, target_steps=16, share=0.07 * 4)
    assert tuned.base == plain.base and tuned.scaling.document["weights"] == plain.scaling.document["weights"]
    assert tuned.given == vars(tuned.base) | {"betas": (0.9, 0.999)} and plain.given == vars(plain.base)
    recipe, before = recipe_json(tuned), recipe_json(plain)
    assert "assumed" not in before and recipe["assumed"]["parameters"] == {"base": 155.0, "target": 1379.0}
    for row, old in zip(recipe["weights"], before["weights"]):
        assert row["multipliers"] == old["multipliers"]
        assert [row[key] / old[key] for key in ("lr", "weight_decay", "eps")] == pytest.approx([0.5, 0.5, 2.0])
    text = show(tuned)
    assert "assumed, not derived:\n  - completed-p (Mlodozeniec" in text and "betas=(0.9, 0.999))" in text
    code = codegen(tuned.scaling, tuned.given)
    assert '"betas": (0.9, 0.999)}' in code and "one_minus_beta=0.25" in code
    json.dumps(recipe, allow_nan=False)


#: One run of four steps decides, of a base that has 16.
SHORT: dict[str, Any] = {"space": "lr=1e-3:1e-2,weight_decay=0.1", "trials": 3, "steps": 16, "sampler": "random"}
SHORT["share"] = 1e-6


def factors(tuned: Any) -> dict[str, float]:
    return {key: own["factor"] for key, own in tuned.scaling.assumed["laws"]["adamw"].items()}


def test_a_rule_is_applied_from_the_run_in_which_the_numbers_were_found():
    """D2 / D1 of these runs is 4 * 16: the run of the numbers has 1/4 of the tokens of the base's."""
    found = tpcalc.tune(mlp, 8, 32, train, **SHORT, **RULE)
    assert found.best.steps == 4 and found.cost.steps == 64
    assert found.scaling.assumed["tokens"] == {"base": 250.0, "target": 16000.0}
    assert factors(found) == {"lr": 0.25, "weight_decay": 0.25, "eps": 4.0, "one_minus_beta": 0.0625}
    assert found.scaling.assumed["steps"]["factor"] == found.cost.steps / found.best.steps
    said = "the numbers were found in a run of 4 steps, where the base's has 16: tokens at the base are those of the"
    assert said in show(found) and said in " ".join(codegen(found.scaling, found.given).replace("\n#", "").split())
    plain = tpcalc.tune(mlp, 8, 32, train, **SHORT, target_steps=64)
    assert found.best == plain.best and found.scaling.document["weights"] == plain.scaling.document["weights"]
    whole = tpcalc.tune(mlp, 8, 32, train, **SEARCH, **RULE)
    assert whole.best.steps == 4 and whole.scaling.assumed["tokens"]["base"] == 1000.0
    assert "the numbers were found" not in show(whole)


def test_without_tokens_the_length_follows_from_steps():
    found = tpcalc.tune(mlp, 8, 32, train, **SHORT, target_steps=64, horizon="completed-p")
    assert found.scaling.assumed["tokens"] == {"base": 4.0, "target": 64.0} and found.cost.steps == 64
    notes = " ".join(found.scaling.assumed["notes"])
    assert "no tokens are given: they are counted in steps" in notes and "in a run of 4 steps, where" in notes
    assert factors(found) == {"lr": 0.25, "weight_decay": 0.25, "eps": 4.0, "one_minus_beta": 0.0625}
    same = tpcalc.tune(mlp, 8, 32, train, **SHORT, horizon="completed-p", horizon_exponent="0")
    assert same.cost.steps == 16 and factors(same)["lr"] == 1.0 and factors(same)["weight_decay"] == 0.25
    batches = {"batch": (8, 32), "horizon": "completed-p"}
    assert tuning(**batches, target_steps=4).assumed.ratios[:2] == (4, 4)  # as many steps of larger batches
    assert tuning(**batches).assumed.ratios[:2] == (4, 1) and tuning(**batches).cost.steps == 1
    assert tuning(target=8, target_steps=16, horizon="completed-p").assumed.steps == 4
    with pytest.raises(TpcalcError, match="there is nothing to carry"):
        tuning(target=8, horizon="completed-p")
    with pytest.raises(TpcalcError, match="choose one of completed-p"):
        tuning(horizon="nothing")


def test_a_rule_without_a_law_of_the_length_says_so():
    given = {"batch": (8, 16), "horizon": "malladi"}
    found = tpcalc.tune(mlp, 8, 32, train, **SHORT, **given)
    assert found.best.steps == 4 and factors(found)["lr"] == pytest.approx(2**0.5)
    assert "in a run of 4 steps, where the base's has 16: for that there is no law here, and factors are those of" in (
        show(found)
    )
    with pytest.raises(TpcalcError, match="come to 2 steps at the target, and --target-steps is 16"):
        tuning(**given, target_steps=16)
    with pytest.raises(TpcalcError, match="neither a batch size nor a length"):
        tuning(horizon="malladi", target_steps=16)


def test_without_a_rule_a_run_that_is_much_longer_is_told():
    said = (
        "the numbers were found in a run of 4 steps, and the target's has 64, 16 times as many: longer runs tend to "
        "want a smaller learning rate; have longer ones here (a larger --share, fewer --trials); --horizon "
        "completed-p applies a published rule (docs/horizon.md, and its worth)"
    )
    assert said in show(tpcalc.tune(mlp, 8, 32, train, **SHORT, target_steps=64))
    lion = show(tpcalc.tune(mlp, 8, 32, train, **SHORT, target_steps=64, optimizer="lion"))
    assert "fewer --trials)\n" in lion and "--horizon" not in lion
    assert "were found in" not in show(tpcalc.tune(mlp, 8, 32, train, **SHORT, target_steps=7))
    assert "were found in a run of 4 steps, where" in show(tpcalc.tune(mlp, 8, 32, train, **SHORT, horizon="none"))


def test_averages_are_those_of_torch():
    for law, own in AVERAGES.items():
        name = {"adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop"}[law]
        defaults = inspect.signature(getattr(torch.optim, name)).parameters
        assert {key: defaults[key].default for key in own} == own
