"""Files for other people's trainers under a stated rule for batch size and length: its factors are in all numbers, and
betas are carried, or it is said which to set."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
from torch import nn

import tpcalc
from tests.scaling.test_dialects import (
    DECAY,
    EPS,
    LR,
    READERS,
    STAY,
    Given,
    by_name,
    check_same,
    keeping,
    module_of,
    scaling_of,
    small,
    trainer_of,
)
from tests.support.once import once
from tpcalc.horizon import assume
from tpcalc.optimizers import LAWS
from tpcalc.scaling.dialects import DIALECTS, Written, write

BETAS = (0.9, 0.95)
FACTOR = 0.08


@once
def under(rule: str) -> tpcalc.Scaling:
    tokens = None if rule == "malladi" else "1e9:2e11"
    return scaling_of("mlp").under(assume(rule, "64:1024", tokens).at(10**4, 10**5), LAWS)


def model() -> nn.Module:
    return small.mlp(128)[0]


def right(rule: str) -> tuple[dict[str, tuple[float, float, float]], Any]:
    module = model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of betas that are clipped
        groups = under(rule).param_groups(module, lr=LR, weight_decay=DECAY, eps=EPS, betas=BETAS)
    return by_name(module, groups), groups[0]["betas"]


def written(trainer: str, rule: str) -> Written:
    given: dict[str, Any] = {}
    if DIALECTS[trainer].rates:
        given = {"lr": LR, "weight_decay": DECAY * (LR if trainer == "llm-foundry" else 1.0), "eps": EPS}
    return write(under(rule), trainer, STAY if trainer == "megatron" else (), (), given)


@pytest.mark.parametrize("trainer", [name for name in DIALECTS if not DIALECTS[name].traps.averages])
@pytest.mark.parametrize("rule", ["completed-p", "malladi"])
def test_numbers_have_the_factors_and_betas_are_said(trainer, rule, monkeypatch):
    found, (numbers, betas) = written(trainer, rule), right(rule)
    check_same(READERS[trainer](found.text, model(), monkeypatch), numbers, trainer)
    assert under(rule).beside(next(iter(under(rule).values()))).lr != 1.0  # or nothing would be told apart
    (said,) = (sentence for sentence in found.warnings if "1 - beta" in sentence)
    assert f"set {DIALECTS[trainer].traps.betas} to 1 - " in said
    for beta, after in zip(BETAS, betas):
        assert f"{beta:g} becomes {after:.8g}" in said if after else f"{beta:g} is clipped to 0" in said
    assert "BETAS" not in found.text and "# assumed, not derived: " + rule in found.text


@pytest.mark.parametrize("trainer", READERS)
def test_a_rule_that_leaves_betas_needs_none(trainer, monkeypatch):
    found, (numbers, _) = written(trainer, "power-lines"), right("power-lines")
    check_same(READERS[trainer](found.text, model(), monkeypatch), numbers, trainer)
    assert "ASSUMED" not in found.text and not any("1 - beta" in sentence for sentence in found.warnings)


def torchtitans(text: str, monkeypatch: pytest.MonkeyPatch, **given: Any) -> list[dict[str, Any]]:
    stubs = {"OptimizersContainer": type("Container", (), {"Config": keeping}), "ParamGroupConfig": keeping}
    made = module_of(text, {"torchtitan.components.optimizer": stubs}, monkeypatch)["optimizer"]
    groups: list[Given] = made(lr=LR, weight_decay=DECAY, eps=EPS, **given).param_groups
    named = dict(model().named_parameters())
    return [{**group.optimizer_kwargs, "params": [n for n in named if re.search(group.pattern, n)]} for group in groups]


def olmo_cores(text: str, monkeypatch: pytest.MonkeyPatch, **given: Any) -> list[dict[str, Any]]:
    made = module_of(text, {"olmo_core.optim": {"OptimGroupOverride": keeping}}, monkeypatch)["group_overrides"]
    overrides: list[Given] = made(lr=LR, weight_decay=DECAY, eps=EPS, **given)
    return [{**override.opts, "params": override.params} for override in overrides]


def deepspeeds(text: str, monkeypatch: pytest.MonkeyPatch, **given: Any) -> list[dict[str, Any]]:
    module = model()
    groups = module_of(text, {}, monkeypatch)["param_groups"](module, lr=LR, weight_decay=DECAY, eps=EPS, **given)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return [{**group, "params": [names[id(p)] for p in group["params"]]} for group in groups]


def axolotls(text: str, monkeypatch: pytest.MonkeyPatch, **given: Any) -> list[dict[str, Any]]:
    plugin = module_of(text, {"axolotl.integrations.base": {"BasePlugin": object}}, monkeypatch)["Plugin"]()
    module = model()
    trainer = trainer_of(module, [name for name, _ in module.named_parameters()])
    chosen, kwargs = trainer.get_optimizer_cls_and_kwargs(None, module)
    trainer.optimizer_cls_and_kwargs = chosen, {**kwargs, **given}
    plugin.post_trainer_create({}, trainer)
    groups = trainer.create_optimizer_grouped_parameters(module, trainer.optimizer_cls_and_kwargs[1])
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return [{**group, "params": [names[id(p)] for p in group["params"]]} for group in groups]


CARRIERS = {"torchtitan": torchtitans, "olmo-core": olmo_cores, "deepspeed": deepspeeds, "axolotl": axolotls}


def test_every_dialect_carries_betas_or_names_their_setting():
    for name, dialect in DIALECTS.items():
        assert bool(dialect.traps.averages) is (name in CARRIERS) is not bool(dialect.traps.betas), name


@pytest.mark.parametrize("trainer", CARRIERS)
@pytest.mark.filterwarnings("ignore:1 - beta = 0.1 times 16 is no average")
@pytest.mark.parametrize("rule", ["completed-p", "malladi"])
def test_groups_have_the_factors_and_the_betas(trainer, rule, monkeypatch):
    found, (numbers, betas) = written(trainer, rule), right(rule)
    groups = CARRIERS[trainer](found.text, monkeypatch, betas=BETAS)
    read = {n: (g["lr"], g["weight_decay"], g["eps"]) for g in groups for n in g["params"]}
    check_same(read, numbers, trainer)
    assert {group["betas"] for group in groups} == {betas} and betas != BETAS
    assert not any("1 - beta" in sentence for sentence in found.warnings)
    assert "the assumed rule multiplies 1 - beta by" in " ".join(found.text.split("\n# ")).replace("\n#   ", " ")


@pytest.mark.parametrize("trainer", ["torchtitan", "olmo-core", "deepspeed"])
def test_betas_that_are_left_out_are_asked_for(trainer, monkeypatch):
    with pytest.raises(ValueError, match="multiplies 1 - beta by 0.08, and no betas are given"):
        CARRIERS[trainer](written(trainer, "completed-p").text, monkeypatch)


@pytest.mark.parametrize("trainer", READERS)
def test_equal_ends_change_no_number(trainer):
    same = scaling_of("mlp").under(assume("completed-p", "64:64", "1e9:1e9").at(5, 5), LAWS)
    given = {"lr": LR, "weight_decay": DECAY, "eps": EPS} if DIALECTS[trainer].rates else {}
    rename = STAY if trainer == "megatron" else ()
    texts = [write(scaling, trainer, rename, (), given).text for scaling in (same, scaling_of("mlp"))]
    bodies = [[line for line in text.splitlines() if not line.startswith("#")] for text in texts]
    assert bodies[0] == bodies[1] and texts[0] != texts[1]
