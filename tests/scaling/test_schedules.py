"""Schedules keep the ratios between groups, or are warned of."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

import tpcalc
from tests.support.models import example
from tpcalc.scaling.schedules import RatioWarning, cosine_annealing, one_cycle, per_group, ratios_kept

BASE, TARGET = 32, 128


@pytest.fixture(scope="module")
def scaling() -> tpcalc.Scaling:
    return tpcalc.scale(example("gpt.py", "gpt_tied"), BASE, TARGET)


def optimizer_of(scaling) -> torch.optim.Optimizer:
    return torch.optim.AdamW(scaling.param_groups(example("gpt.py", "gpt_tied")(TARGET)[0], lr=1e-3, weight_decay=0.1))


def ratios(optimizer) -> list[float]:
    return [group["lr"] / group["lr_multiplier"] for group in optimizer.param_groups]


def run_schedule(optimizer, scheduler, steps=20) -> list[list[float]]:
    history = []
    for _ in range(steps):
        history.append(ratios(optimizer))
        optimizer.step()
        scheduler.step()
    return history


def test_one_cycle_keeps_the_ratios(scaling):
    optimizer = optimizer_of(scaling)
    scheduler = one_cycle(optimizer, 1e-2, total_steps=25)
    assert ratios_kept(optimizer, scheduler)
    reference = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1e-3)
    plain = lr_scheduler.OneCycleLR(reference, 1e-2, total_steps=25)
    for values in run_schedule(optimizer, scheduler):
        assert values == pytest.approx([reference.param_groups[0]["lr"]] * len(values))
        reference.step()
        plain.step()


def test_cosine_annealing_is_the_torch_one_in_each_group(scaling):
    optimizer = optimizer_of(scaling)
    scheduler = cosine_annealing(optimizer, T_max=15, eta_min=1e-4)
    assert ratios_kept(optimizer, scheduler)
    reference = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1e-3)
    plain = lr_scheduler.CosineAnnealingLR(reference, 15, eta_min=1e-4)
    for values in run_schedule(optimizer, scheduler, 16):
        assert values == pytest.approx([reference.param_groups[0]["lr"]] * len(values), rel=1e-9)
        reference.step()
        plain.step()


ERASING = [
    (lambda o: lr_scheduler.OneCycleLR(o, max_lr=1e-2, total_steps=10), "max_lr .* use .*one_cycle"),
    (lambda o: lr_scheduler.CosineAnnealingLR(o, 10, eta_min=1e-4), "eta_min .* use .*cosine_annealing"),
    (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 10, eta_min=1e-4), "eta_min .* use .*cosine_annealing"),
    (lambda o: lr_scheduler.ReduceLROnPlateau(o, min_lr=1e-5), "min_lr .* give min_lr="),
    (lambda o: lr_scheduler.CyclicLR(o, 1e-4, 1e-3, cycle_momentum=False), "max_lr .* give max_lr="),
    (lambda o: SWALR(o, 1e-2), "swa_lr .* give swa_lr="),
    (
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o), lr_scheduler.CosineAnnealingLR(o, 10, eta_min=1e-4)], [3]
        ),
        "eta_min",
    ),
]


@pytest.mark.parametrize("make, message", ERASING)
def test_schedules_that_erase_the_ratios_are_warned_of(scaling, make, message):
    optimizer = optimizer_of(scaling)
    scheduler = make(optimizer)
    with pytest.warns(RatioWarning, match=message):
        assert not ratios_kept(optimizer, scheduler)


KEEPING = [
    lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
    lambda o: lr_scheduler.StepLR(o, 3),
    lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
    lambda o: lr_scheduler.ReduceLROnPlateau(o),
    lambda o: lr_scheduler.ReduceLROnPlateau(o, min_lr=per_group(o, 1e-5)),
    lambda o: lr_scheduler.OneCycleLR(o, per_group(o, 1e-2), total_steps=10),
    lambda o: SWALR(o, per_group(o, 1e-2)),
    lambda o: lr_scheduler.CyclicLR(o, per_group(o, 1e-4), per_group(o, 1e-3), cycle_momentum=False),
    lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.LinearLR(o), lr_scheduler.CosineAnnealingLR(o, 10)], [3]),
]


@pytest.mark.parametrize("make", KEEPING)
def test_schedules_that_keep_the_ratios_are_not(scaling, make, recwarn):
    optimizer = optimizer_of(scaling)
    assert ratios_kept(optimizer, make(optimizer))
    assert not [w for w in recwarn if issubclass(w.category, RatioWarning)]


def test_ratios_lost_already_are_found(scaling):
    optimizer = optimizer_of(scaling)
    assert ratios_kept(optimizer)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    with pytest.warns(RatioWarning, match="the optimizer has the groups lr = 0.001"):
        assert not ratios_kept(optimizer)
