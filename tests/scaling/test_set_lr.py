"""Loops that write the learning rate themselves: ``set_lr`` keeps the ratios, and what erases them is noticed."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import warnings
from types import ModuleType

import pytest
import torch

import tpcalc
from tests.support.models import example
from tpcalc.errors import ScalingError
from tpcalc.scaling.runtime import RatioWarning

BASE, TARGET = 32, 128


@pytest.fixture(scope="module")
def scaling():
    return tpcalc.scale(example("gpt.py", "gpt"), base=BASE, target=TARGET, optimizer="adamw")


def made(scaling, **options):
    model, inputs = example("gpt.py", "gpt")(TARGET)
    optimizer = torch.optim.AdamW(scaling.param_groups(model, lr=1e-3, weight_decay=0.1), lr=1e-3, **options)
    model(*inputs).logsumexp(-1).mean().backward()
    return model, optimizer


def rates(optimizer):
    return sorted({round(float(group["lr"]) / group["lr_multiplier"], 12) for group in optimizer.param_groups})


def test_every_group_gets_its_multiple(scaling):
    _, optimizer = made(scaling)
    scaling.set_lr(optimizer, 2e-4)
    assert rates(optimizer) == [2e-4] and optimizer.defaults["lr"] == 1e-3
    assert {float(group["lr"]) for group in optimizer.param_groups} == {2e-4, 2e-4 * BASE / TARGET}
    assert scaling.check_(optimizer)


def test_a_rate_that_is_a_tensor_is_written_in_place(scaling):
    model, _ = example("gpt.py", "gpt")(TARGET)
    groups = scaling.param_groups(model, lr=torch.tensor(1e-3, dtype=torch.float64), weight_decay=0.1)
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    held = [group["lr"] for group in optimizer.param_groups]
    scaling.set_lr(optimizer, 5e-4)
    assert rates(optimizer) == [5e-4]
    assert all(group["lr"] is rate for group, rate in zip(optimizer.param_groups, held, strict=True))


def test_one_rate_for_all_groups_is_noticed_at_the_next_clip(scaling):
    model, optimizer = made(scaling)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaling.clip_grad_norm_(model, 1.0)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    said = r"lr of the groups are as 1 : 1 : 1, and their .* as 1 : 0.25 : .* write set_lr\(optimizer, lr\) in place of"
    with pytest.warns(RatioWarning, match=said) as noticed:
        scaling.clip_grad_norm_(model, 1.0)
    assert noticed[0].filename == __file__
    with pytest.warns(RatioWarning):
        assert not scaling.check_(optimizer)
    scaling.set_lr(optimizer, 1e-3)
    assert scaling.check_(optimizer) and scaling.check_()


def test_it_is_said_once_over_a_schedule(scaling):
    """Python shows a warning of one place and one text once."""
    model, optimizer = made(scaling)
    with warnings.catch_warnings(record=True) as noticed:
        warnings.simplefilter("default")
        for step in range(1, 4):
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 / step
            scaling.clip_grad_norm_(model, 1.0)
    assert [warning.category for warning in noticed] == [RatioWarning]


@pytest.mark.parametrize(
    "schedule",
    [
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 5),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: min(1.0, step / 3)),
        lambda o: torch.optim.lr_scheduler.StepLR(o, 2),
    ],
)
def test_a_schedule_that_keeps_the_ratios_is_not_warned_of(scaling, schedule):
    model, optimizer = made(scaling)
    scheduler = schedule(optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RatioWarning)
        for _ in range(6):
            scaling.clip_grad_norm_(model, 1.0)
            optimizer.step()
            scheduler.step()


def test_groups_are_let_go_with_their_optimizer(scaling):
    own = copy.deepcopy(scaling)
    _, optimizer = made(own)
    assert sum(group() is not None for made_ in own._made for group in made_) == len(optimizer.param_groups)
    del optimizer, _
    gc.collect()
    assert not any(group() is not None for made_ in own._made for group in made_)
    assert pickle.loads(pickle.dumps(own)).document == own.document


def test_groups_of_another_making_are_refused(scaling):
    model, _ = example("gpt.py", "gpt")(TARGET)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with pytest.raises(ScalingError, match="1 of 1 groups of the optimizer have no lr_multiplier; make them with"):
        scaling.set_lr(optimizer, 1e-3)


@pytest.mark.parametrize("lr", [-1e-3, float("nan")])
def test_nonsense_is_refused(scaling, lr):
    _, optimizer = made(scaling)
    with pytest.raises(ScalingError, match="is no learning rate; give one of 0 or more"):
        scaling.set_lr(optimizer, lr)


def test_a_generated_file_has_both(scaling, monkeypatch):
    text = tpcalc.codegen(scaling)
    assert 'set_lr(optimizer, lr)  # in place of group["lr"] = lr' in text
    generated = ModuleType("generated")
    monkeypatch.setitem(sys.modules, "generated", generated)
    exec(compile(text, "generated.py", "exec"), vars(generated))
    model, _ = example("gpt.py", "gpt")(TARGET)
    optimizer = torch.optim.AdamW(generated.param_groups(model, lr=1e-3), lr=1e-3)
    generated.set_lr(optimizer, 3e-4)
    assert rates(optimizer) == [3e-4] and generated.check_(optimizer)
