"""Step hooks on the copy: what they hold is copied with them, and nothing that lives is touched."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from tests.probe.test_laws import KINDS, read
from tpcalc.algebra.order import Order
from tpcalc.probe import Subject, probe

GLOBAL = nn.Parameter(torch.ones(2))


def sgd(*shapes):
    return torch.optim.SGD([nn.Parameter(torch.ones(shape)) for shape in shapes or [(4, 4)]], lr=0.1)


def update(optimizer):
    seen = read(optimizer, KINDS["hidden"])
    return seen.update.gradient, seen.unhooked


def signs(optimizer, args, kwargs):
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad.sign_()


class Watching:
    """A callback of a trainer."""

    def __init__(self, model, times=1.0):
        self.model, self.times = model, times

    def before(self, optimizer, args, kwargs):
        for p in self.model.parameters():
            p.grad.sign_().mul_(self.times)


def closing(model):
    def hook(optimizer, args, kwargs):
        nested = lambda p: p.grad.sign_()  # noqa: E731
        for p in model.parameters():
            nested(p)

    return hook


def test_by_what_they_are_given_or_hold():
    model = nn.Linear(4, 4)
    for hook in (
        signs,
        lambda *args: signs(*args),
        closing(model),
        Watching(model).before,
        functools.partial(lambda held, *args: closing(held)(*args), model),
    ):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer.register_step_pre_hook(hook)
        before = [p.detach().clone() for p in model.parameters()]
        assert update(optimizer) == (0, "")
        assert all(torch.equal(p, w) and p.grad is None for p, w in zip(model.parameters(), before, strict=True))


def test_decay_after_the_step():
    def hook(optimizer, args, kwargs):
        for p in held:
            p.data.mul_(0.999)

    optimizer = sgd()
    held = optimizer.param_groups[0]["params"]
    assert read(optimizer, KINDS["hidden"]).taken == 0
    optimizer.register_step_post_hook(hook)
    seen = read(optimizer, KINDS["hidden"])
    assert seen.taken == pytest.approx(0.001, rel=0.01) and seen.decay.keeps == (0, 0, 0, 0)
    assert bool((held[0] == 1).all())


def test_parameters_that_a_hook_tells_apart():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.register_step_pre_hook(closing(model[1]))
    powers = [probe(Subject(optimizer, 0, layer.weight), KINDS["hidden"]).update.gradient for layer in model]
    assert powers == [1, 0]


def test_what_a_hook_holds_is_part_of_the_key():
    model = nn.Linear(4, 4)
    strengths = []
    for times in (1.0, 4.0):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer.register_step_pre_hook(Watching(model, times).before)
        strengths.append(read(optimizer, KINDS["hidden"]).strength)
    assert strengths[1] == pytest.approx(4 * strengths[0])


def reads_its_module(optimizer, args, kwargs):
    helper()


def helper():
    GLOBAL.data.zero_()


def fails(optimizer, args, kwargs):
    raise RuntimeError("no {loss} yet")


def nonlinear(optimizer, args, kwargs):
    for group in optimizer.param_groups:
        group["lr"] = 0.1


@pytest.mark.parametrize(
    ("hook", "why"),
    [
        (reads_its_module, "its step hook reads_its_module reads GLOBAL of its module, which has no copy"),
        (fails, "its step fails on a small tensor (RuntimeError: no {loss} yet)"),
        (nonlinear, "its update is not proportional to lr of its group"),
    ],
)
def test_what_can_not_be_run_is_left_out_and_why_is_said(hook, why):
    optimizer = sgd()
    optimizer.register_step_pre_hook(hook)
    power, unhooked = update(optimizer)
    assert power == Order(1) and unhooked.startswith(why)
    assert bool((GLOBAL == 1).all()) and optimizer.param_groups[0]["lr"] == 0.1


def test_what_they_print_is_not_said(capsys):
    optimizer = sgd()
    optimizer.register_step_pre_hook(lambda *args: print("a step"))
    assert update(optimizer) == (1, "")
    assert capsys.readouterr().out == ""


def test_a_hook_that_takes_rows_of_every_matrix():
    optimizer = sgd((4, 4), (4, 4))
    matrices = list(optimizer.param_groups[0]["params"])

    def rows(optimizer, args, kwargs):
        for p in matrices:
            p.grad.div_(p.grad.norm(dim=1, keepdim=True))

    optimizer.register_step_pre_hook(rows)
    assert update(optimizer) == (0, "")


def test_the_place_of_epsilon_behind_a_hook_that_clips_gradients_by_weights():
    parameter = nn.Parameter(torch.ones(4, 4))
    optimizer = torch.optim.AdamW([parameter], lr=0.1)

    def clip(optimizer, args, kwargs):
        parameter.grad.mul_((0.01 * parameter.norm() / parameter.grad.norm()).clamp(max=1))

    optimizer.register_step_pre_hook(clip)
    seen = read(optimizer, KINDS["hidden"])
    assert seen.unhooked == "" and seen.eps.place == (1, 0, 0, 0)
