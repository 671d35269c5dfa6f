"""The copy that is stepped: what it takes over, and that the live optimizer and the state of torch stay as they are."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tests.probe.test_laws import KINDS, read
from tpcalc.algebra.order import Order
from tpcalc.optimizers import LAWS
from tpcalc.probe import Subject, Unprobable, law_of_measured, probe
from tpcalc.probe.copy import memo_of, number, replica, told

HIDDEN = KINDS["hidden"]


class Written(torch.optim.Optimizer):
    """``W -= lr * direction``, which a test gives."""

    def __init__(self, params, direction, lr=1e-2, **more):
        super().__init__(params, {"lr": lr, **more})
        self.direction = direction

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(self.direction(p, p.grad, self.state[p], group), alpha=group["lr"])


def update(optimizer, kind=HIDDEN):
    seen = read(optimizer, kind).update
    return seen.gradient, seen.size, seen.ray


def written(direction, **more):
    return Written([nn.Parameter(torch.zeros(4, 4))], direction, **more)


def test_what_holds_parameters_gets_those_of_the_copy():
    one, other, stand_in = (nn.Parameter(torch.zeros(4, 4)) for _ in range(3))
    optimizer = Written([one, other], lambda p, g, state, group: g)
    optimizer.known = [other, one]
    memo = memo_of(Subject(optimizer, 0, one), stand_in, rest := {})
    made = replica(Subject(optimizer, 0, one), stand_in, memo=memo)
    assert made.known[1] is stand_in and made.known[0] is rest[id(other)] and memo[id(optimizer)] is made


def test_the_live_optimizer_is_left_alone():
    model = nn.Linear(8, 8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.ones(2, 8)).sum().backward()
    optimizer.step()
    before, weights = copy.deepcopy(optimizer.state_dict()), [p.detach().clone() for p in model.parameters()]
    random = torch.get_rng_state()
    probe(Subject(optimizer, 0, model.weight), HIDDEN)
    after = optimizer.state_dict()
    assert str(after) == str(before) and torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), weights))


def test_a_schedulers_step_is_not_taken():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(4, 4))], lr=0.1)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    assert update(optimizer) == (1, 0, 0)


def test_attributes_and_flags_of_the_state_come_along():
    optimizer = written(lambda p, g, state, group: g.sign() if state.get("signed") else g)
    assert update(optimizer) == (1, 0, 0)
    optimizer.state[optimizer.param_groups[0]["params"][0]]["signed"] = True
    assert update(optimizer) == (0, 0, 0)


def test_each_parameter_by_its_own_group():
    one, other = nn.Parameter(torch.zeros(4, 4)), nn.Parameter(torch.zeros(4, 4))
    groups = [{"params": [one], "signed": True}, {"params": [other], "signed": False}]
    optimizer = Written(groups, lambda p, g, state, group: g.sign() if group["signed"] else g)
    assert probe(Subject(optimizer, 0, one), HIDDEN).update.gradient == 0
    assert probe(Subject(optimizer, 1, other), HIDDEN).update.gradient == 1


def test_state_made_in_advance_is_of_the_size_of_the_stand_in():
    optimizer = torch.optim.Adagrad([nn.Parameter(torch.zeros(40, 30))], lr=0.1)
    assert update(optimizer) == (0, 0, 0)


def test_one_inside_another():
    class Outer(torch.optim.Optimizer):
        def __init__(self, params, inner):
            super().__init__(params, {"lr": 0.1})
            self.inner = inner(self.param_groups)
            self.param_groups = self.inner.param_groups

        def step(self, closure=None):
            self.inner.step()

    inner = lambda groups: torch.optim.SGD(groups, lr=0.1, weight_decay=0.1)  # noqa: E731
    assert update(Outer([nn.Parameter(torch.zeros(4, 4))], inner)) == (1, 0, 0)


def test_one_that_needs_a_closure():
    class Sharp(torch.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": 0.1})

        def step(self, closure):
            (p,) = self.param_groups[0]["params"]
            first = p.grad.clone()
            assert float(closure()) > 0
            with torch.no_grad():
                p.sub_((first + p.grad) / 2, alpha=self.param_groups[0]["lr"])

    assert update(Sharp([nn.Parameter(torch.zeros(4, 4))])) == (1, 0, 0)


def test_rates_and_epsilons_that_are_tensors():
    options = {"lr": torch.tensor(1e-3), "capturable": True}
    assert update(torch.optim.AdamW([nn.Parameter(torch.zeros(4, 4))], **options)) == (0, 0, 0)
    assert number(torch.tensor(0.5)) == 0.5 and number(True) is None and number(torch.zeros(2)) is None


def test_an_optimizer_that_waits_for_others_is_alone():
    def direction(p, g, state, group):
        parts = [torch.empty_like(g) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, g)
        return parts[0]

    assert update(written(direction)) == (1, 0, 0)


@pytest.mark.parametrize(
    "direction, message",
    [
        (lambda p, g, s, group: torch.zeros_like(g), "its step changes nothing"),
        (lambda p, g, s, group: g / 0, "not finite"),
        (lambda p, g, s, group: g * group["lr"], r"lr of its group \(it goes as lr\^2.00\): a rate is"),
        (
            lambda p, g, s, group: g / group["lr"],
            r"lr of its group \(it goes as lr\^-?0.00\): its rate stands elsewhere",
        ),
        (
            lambda p, g, s, group: g.abs().mean() ** 0.3 * g.sign(),
            r"gradient changes, goes with no simple power \(0.300",
        ),
        (lambda p, g, s, group: g * len(p) ** 0.37, "width changes"),
        (lambda p, g, s, group: missing, "its step fails on a small tensor"),  # noqa: F821
    ],
)
def test_what_fits_no_law_is_refused_with_what_was_seen(direction, message):
    with pytest.raises(Unprobable, match=message):
        update(written(direction))


@pytest.mark.parametrize(
    "direction, expected",
    [
        (lambda p, g, s, group: g.sign() * g.abs().sqrt(), ("1/2", 0, 0)),
        (lambda p, g, s, group: g / g.norm(), (0, 0, -1)),
        (lambda p, g, s, group: p.norm() / g.norm() * g, (0, 1, 0)),
        (lambda p, g, s, group: g.sign() / p.size(0), (0, 0, -1)),
        (lambda p, g, s, group: g / p.numel() ** 0.5, (1, 0, -1)),
        (lambda p, g, s, group: g / (p.abs().mean() * p.size(1) ** 0.5), (1, -1, "-1/2")),
    ],
)
def test_laws_that_nobody_named(direction, expected):
    assert update(written(direction)) == tuple(map(Order, expected))


def test_a_global_norm_is_no_law_of_one_weight():
    class Clipped(Written):
        def step(self, closure=None):
            params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
            torch.nn.utils.clip_grad_norm_(params, 1e-6)
            super().step()

    optimizer = Clipped([nn.Parameter(torch.zeros(4, 4))], lambda p, g, s, group: g)
    seen = read(optimizer, HIDDEN)
    assert seen.shared and seen.update.gradient == 1 and seen.update.ray == 0
    assert law_of_measured(seen, HIDDEN.growths, None, "Clipped", True).law == LAWS["sgd"]


def test_the_stand_in_is_alone_in_the_copy():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters()}, {"params": model[1].parameters(), "lr": 0.5}], lr=0.1
    )
    stand_in = nn.Parameter(torch.ones(2, 2))
    made = replica(Subject(optimizer, 1, model[1].weight), stand_in)
    assert [len(group["params"]) for group in made.param_groups] == [1] and made.param_groups[0]["lr"] == 0.5
    assert made.param_groups[0]["params"][0] is stand_in and len(optimizer.param_groups[1]["params"]) == 2


def test_functions_are_copied_with_what_they_close_over():
    count = torch.zeros(())

    def direction(p, g, state, group):
        count.add_(1)
        return g * group["scale"].to(p.device)  # a number that is a tensor stays one

    optimizer = written(direction, scale=torch.ones(()))
    optimizer.names = (name for name in ("h.weight", "h.bias"))  # what is used up has no copy, and needs none
    assert update(optimizer) == (1, 0, 0)
    assert count == 0 and list(optimizer.names) == ["h.weight", "h.bias"]


def test_what_is_told_of_an_error_names_no_address():
    assert told(ValueError("<function step at 0x7f01ab> must\n return None")) == (
        "ValueError: <function step> must return None"
    )
