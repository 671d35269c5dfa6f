"""One run: seeds, optimizers, what a factory and a loop may be."""

from __future__ import annotations

import copy
import functools
import math
import os
import random

import numpy as np
import pytest
import torch
import torch.utils._device
from torch import nn

import tpcalc
from tests.support.small import small
from tpcalc.algebra.scales import Point
from tpcalc.errors import TpcalcError
from tpcalc.scaling import scale
from tpcalc.transfer.run import Base, Together, trainer
from tpcalc.transfer.training import default_train
from tpcalc.transfer.tuned import tuned

scaled = functools.cache(lambda optimizer="adamw": scale(small, 8, 16, optimizer))


def ran(optimizer="adamw", train=None, lr=0.1, seed=0, factory=small, steps=4, multipliers=None, width=16):
    multipliers = multipliers or scaled(optimizer)
    return trainer(factory, optimizer, train).run(width, multipliers, Base(lr, 0.1), seed, steps)


# -- randomness ------------------------------------------------------------------------------------


def draws(model, optimizer, context):
    """A loop that draws by all of them, and the weights."""
    return float(torch.rand(1)) + random.random() + np.random.rand() + float(model.table.weight.sum())


def test_a_seed_gives_one_loss():
    assert ran(train=draws, seed=3).loss == ran(train=draws, seed=3).loss != ran(train=draws, seed=4).loss
    assert ran(seed=3).curve == ran(seed=3).curve != ran(seed=4).curve


@pytest.mark.parametrize("fails", [False, True])
def test_the_state_of_random_numbers_is_as_it_was(fails):
    def train(model, optimizer, context):
        draws(model, optimizer, context)
        if fails:
            raise ValueError
        return 1.0

    def state():
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()

    before = state()
    try:
        ran(train=train)
    except TpcalcError:
        assert fails
    assert state() == before


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_leaves_nothing_to_the_next(fails, tmp_path):
    """Directory, gradients, dtype and device: a loop ends with an evaluation, and forgets to turn them back."""

    def state():
        return os.getcwd(), torch.is_grad_enabled(), torch.get_default_dtype(), torch.utils._device.CURRENT_DEVICE

    def train(model, optimizer, context):
        seen.append(state())
        os.chdir(tmp_path)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        if fails:
            raise ValueError
        return 1.0

    seen = [state()]
    for _ in range(2):
        try:
            ran(train=train)
        except TpcalcError:
            assert fails
        seen.append(state())
    assert len(seen) == 5 and len(set(seen)) == 1


# -- what a run does -------------------------------------------------------------------------------


def test_it_is_a_run_made_by_hand():
    """Bit for bit: the model's own init, multipliers, groups, the loop."""
    found = tuned(scaled(), {"*.out.weight": {"lr": 3.0, "init": 0.5}}, {})
    seen = {}

    def train(model, optimizer, context):
        seen.update(vars(context), optimizer=optimizer)
        return default_train(model, optimizer, context)

    result = ran(train=train, seed=5, multipliers=found, lr=0.02, steps=6)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model, inputs = small(16)
        found.init_(model)
        optimizer = torch.optim.AdamW(found.param_groups(model, 0.02, 0.1, 1e-8))
        losses = []
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, [1.0, 1.0, 0.1 + 0.45 * (1 + math.cos(math.pi / 5))].__getitem__
        )
        for _ in range(3):
            logits = model(inputs)
            loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), inputs[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            losses.append(float(loss))
            optimizer.step()
            if len(losses) < 3:
                schedule.step()
    assert [loss for _, loss in result.curve[:3]] == losses
    assert seen["scales"] == {"width": 16} and (seen["steps"], seen["seed"]) == (6, 5)
    assert seen["multipliers"] is found and torch.equal(seen["inputs"][0], inputs)


def test_scales_by_name():
    def wide(width, depth):
        return small(width)

    seen = []
    ran(train=lambda m, o, c: seen.append(c.scales) or 1.0, factory=wide, width=Point(("width", "depth"), (16, 3)))
    assert seen == [{"width": 16, "depth": 3}]


def test_divergence():
    def away(model, optimizer, context):
        for step in range(9):
            context.report(step, 10.0**step)
        raise AssertionError("it goes on")

    found = ran(train=away)
    assert found.loss == math.inf and [step for step, _ in found.curve] == [0, 1, 2, 3]


@pytest.mark.parametrize("clip", [True, False])
def test_clipping_is_that_of_the_multipliers(clip):
    def train(model, optimizer, context):
        model(*context.inputs).square().sum().backward()
        norm = context.clip_grad_norm_(model, 1e-3)
        weighed = sum(float(p.grad.norm()) ** 2 * w.clip**2 for _, p, w in scaled().match(model))
        assert norm > 1e-3 and weighed == pytest.approx(1e-6, rel=1e-3)
        return 1.0

    assert ran(train=train).loss == 1.0


# -- optimizers ------------------------------------------------------------------------------------


def test_two_optimizers_are_one():
    """A schedule reaches the groups of both, whose states it has."""
    rates = []

    def train(model, optimizer, context):
        assert isinstance(optimizer, Together) and len(optimizer.parts) == 2
        assert sum(len(part.param_groups) for part in optimizer.parts) == len(optimizer.param_groups)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
        before = [p.detach().clone() for p in model.parameters()]
        for _ in range(3):
            optimizer.zero_grad()
            model(*context.inputs).square().sum().backward()
            optimizer.step()
            rates.append([group["lr"] for part in optimizer.parts for group in part.param_groups])
            schedule.step()
        assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters()) if b.grad.any())
        assert all(optimizer.state[p] for p in model.parameters())
        optimizer.zero_grad()
        assert all(p.grad is None for p in model.parameters())
        return 1.0

    assert ran("muon+adamw", train).loss == 1.0
    assert rates[1] == [x / 2 for x in rates[0]] and rates[2] == [x / 4 for x in rates[0]] and len(rates[0]) > 1


def test_the_state_of_two_optimizers_is_saved_and_loaded():
    def parts(model):
        matrices = [p for p in model.parameters() if p.dim() > 1]
        others = [p for p in model.parameters() if p.dim() < 2]
        return Together([torch.optim.SGD(matrices, 0.1, momentum=0.9), torch.optim.AdamW(others, 0.1)])

    def step(model, optimizer):
        optimizer.zero_grad()
        model(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()

    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = parts(model)
    step(model, optimizer)
    twin = copy.deepcopy(model)
    loaded = parts(twin)
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for group in (*optimizer.param_groups, *loaded.param_groups):
        group["lr"] /= 2  # those that a schedule finds after a load are those that are used
    step(model, optimizer)
    step(twin, loaded)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters()))
    assert all(loaded.state[p] for p in twin.parameters())
    fresh = parts(copy.deepcopy(model))
    assert not any(fresh.state.values())
    with pytest.raises(TpcalcError, match="take no closure; compute the gradients before"):
        optimizer.step(lambda: 0.0)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon+adamw", "adafactor"])
def test_it_trains(optimizer):
    assert min(ran(optimizer, lr=lr, steps=12).loss for lr in (0.03, 0.3)) < ran(optimizer, lr=1e-9, steps=12).loss


def make_optimizer(parameters):
    return torch.optim.AdamW(parameters, lr=7.0, betas=(0.8, 0.9), weight_decay=9.0)


def test_a_function_of_the_users_own():
    seen = []

    def train(model, optimizer, context):
        seen.append(optimizer)
        return 1.0

    ran(make_optimizer, train, lr=0.5)
    (optimizer,) = seen
    assert type(optimizer) is torch.optim.AdamW
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.9)}
    assert {group["lr"] for group in optimizer.param_groups} == {0.5 * w.lr for w in scaled(make_optimizer).values()}
    assert max(group["weight_decay"] for group in optimizer.param_groups) < 9.0, "the groups say what is asked for"


def several(parameters):
    groups = [group if isinstance(group, dict) else {"params": [group]} for group in parameters]
    matrices, others = (
        [{**g, "params": [p for p in g["params"] if (p.dim() > 1) == is_matrix]} for g in groups]
        for is_matrix in (True, False)
    )
    return [torch.optim.AdamW(own, lr=1.0) for own in (matrices, others) if any(g["params"] for g in own)]


def test_a_function_that_makes_several():
    seen = []
    ran(several, lambda m, o, c: seen.append(o) or default_train(m, o, c))
    assert isinstance(seen[0], Together) and len(seen[0].parts) == 2


@pytest.mark.parametrize(
    "make, words",
    [
        (
            lambda groups: 1 / 0,
            r"<lambda>\(groups\) raised ZeroDivisionError: division by zero \(test_run.py:\d+\); it",
        ),
        (lambda groups: None, r"<lambda>\(groups\) returned no optimizer; let it return one"),
    ],
)
def test_a_function_that_makes_none(make, words):
    how = trainer(small, make_optimizer)
    broken = trainer(small, make, lambda m, o, c: 1.0)
    with pytest.raises(TpcalcError, match=words):
        broken.run(16, scaled(make_optimizer), Base(0.1), 0, 1)
    assert how.run(16, scaled(make_optimizer), Base(0.1), 0, 1).loss > 0


# -- what can't be ---------------------------------------------------------------------------------


def test_a_frozen_model():
    def frozen(width):
        model, inputs = small(width)
        return model.requires_grad_(False), inputs

    with pytest.raises(TpcalcError, match="the model has no parameters to train"):
        ran(factory=frozen)


def test_a_factory_that_fails_or_is_another():
    with pytest.raises(TpcalcError, match="raised ZeroDivisionError"):
        ran(factory=lambda width: 1 / 0)
    with pytest.raises(TpcalcError, match="the model is not the one these multipliers were made for"):
        ran(factory=lambda width: nn.Linear(width, width))


@pytest.mark.parametrize("device", ["nowhere", "cuda:77"])
def test_a_device_that_is_not_there(device):
    with pytest.raises(
        TpcalcError, match=f"^device '{device}' can't be used .*; give one that torch has here, as cpu$"
    ):
        trainer(small, device=device)


def test_what_is_refused_before_anything_slow():
    with pytest.raises(TpcalcError, match="can't be called as train"):
        trainer(small, train=lambda model: 0)
    with pytest.raises(TpcalcError, match="has no update law here"):
        trainer(small, "adamv")


@pytest.mark.parametrize(
    "base, words",
    [
        (Base(0.0), "lr 0 is no hyperparameter; give a finite number, more than 0"),
        (Base(math.nan), "lr nan"),
        (Base(math.inf), "lr inf"),
        (Base(1.0, -1.0), "weight_decay -1 is no hyperparameter; give a finite number, 0 or more"),
        (Base(1.0, 0.0, math.inf), "eps inf"),
    ],
)
def test_numbers_of_the_base(base, words):
    Base(1.0, 0.0, 0.0).check()
    with pytest.raises(TpcalcError, match=words):
        base.check()


def test_an_edited_loop_is_something_else(tmp_path):
    """Runs that were noted before the edit are not taken for those after it."""
    from tpcalc.trace.target import load_target

    def asked(text):
        (tmp_path / "edited_loop.py").write_text(text)
        return trainer(small, train=load_target(f"{tmp_path}/edited_loop.py:train")).asked

    first = asked("def train(model, optimizer, context):\n    return 1.0\n")
    again = asked("def train(model, optimizer, context):\n    return 1.0\n")
    other = asked("def train(model, optimizer, context):\n    return 2.0\n")
    assert first == again and {key for key in first if first[key] != other[key]} == {"code"}


def test_an_edited_optimizer_is_something_else(tmp_path):
    def asked(beta):
        text = f"import torch\n\ndef make(groups):\n    return torch.optim.AdamW(groups, betas=({beta}, 0.99))\n"
        (tmp_path / "edited_optimizer.py").write_text(text)
        return trainer(small, f"{tmp_path}/edited_optimizer.py:make").asked

    first, again, other = asked(0.9), asked(0.9), asked(0.8)
    assert first == again and first["code"] != other["code"]


@pytest.mark.parametrize("rate", [0.01, None])
def test_a_loop_that_erases_the_multipliers(rate):
    def train(model, optimizer, context):
        if rate is None:
            context.multipliers.set_lr(optimizer, 0.01)
        else:
            for group in optimizer.param_groups:
                group["lr"] = rate
        return 1.0

    found = trainer(small, train=train)
    multipliers = tpcalc.scale(small, 8, 32)
    if rate is None:
        assert found.run(32, multipliers, Base(0.1), 0, 1).loss == 1.0
        return
    with pytest.raises(TpcalcError, match=r"^train sets one learning rate for all groups .*call context.multipliers"):
        found.run(32, multipliers, Base(0.1), 0, 1)
