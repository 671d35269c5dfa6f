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


def test_averages_are_those_of_torch():
    for law, own in AVERAGES.items():
        name = {"adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop"}[law]
        defaults = inspect.signature(getattr(torch.optim, name)).parameters
        assert {key: defaults[key].default for key in own} == own
