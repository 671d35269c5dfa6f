"""The contract of a training loop, and the loop that is used where none is given."""

from __future__ import annotations

import inspect
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.support.small import VOCABULARY, small, tokens
from tpcalc.errors import TpcalcError
from tpcalc.scaling.runtime import Multipliers
from tpcalc.trace.target import call_factory
from tpcalc.transfer.training import (
    RUNAWAY,
    Context,
    Diverged,
    batches,
    check_train,
    default_train,
    outcome,
    warmup_cosine,
    with_a_batch,
)


def context(inputs=None, steps=3) -> Context:
    return Context({"width": 8, "depth": 2}, steps, 0, inputs, Multipliers([]))


def came(train) -> object:
    return outcome(train, nn.Linear(1, 1), None, context())


# -- what a loop may give --------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [2, 2.0, torch.tensor(2.0), torch.tensor([[2.0]], requires_grad=True), np.float32(2)])
def test_a_number_of_any_kind(loss, recwarn):
    assert came(lambda model, optimizer, context: loss).loss == 2.0
    assert not recwarn.list


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf, torch.tensor(math.nan)])
def test_no_finite_number_is_divergence(loss):
    assert came(lambda *_: loss).loss == math.inf


@pytest.mark.parametrize(
    "loss, words",
    [
        (None, "NoneType"),
        (True, "bool"),
        ("2.0", "str"),
        (1j, "complex"),
        ([2.0], "list"),
        (torch.ones(2), r"a tensor of shape \[2\]"),
        (torch.ones(0), r"a tensor of shape \[0\]"),
        (np.ones(2), r"ndarray of shape \[2\]"),
    ],
)
def test_no_number(loss, words):
    def train(model, optimizer, context):
        return loss

    with pytest.raises(TpcalcError, match=f"^train returned {words}; return the loss to be judged by, one number$"):
        came(train)


@pytest.mark.parametrize("loss, words", [(None, "NoneType"), (torch.ones(3), r"a tensor of shape \[3\]")])
def test_a_report_of_no_number(loss, words):
    """It is the call of report that is wrong, not what the loop returns."""
    words = rf"^context\.report\(step, loss\) was given {words}; give it the loss of the step, one number$"
    with pytest.raises(TpcalcError, match=words):
        came(lambda model, optimizer, context: context.report(0, loss))


def test_what_raises_is_named_with_its_place():
    def train(model, optimizer, context):
        raise ValueError("first\nsecond")

    with pytest.raises(
        TpcalcError, match=r"train raised ValueError: first second \(.*py:\d+\) at width=8, depth=2; it is called as"
    ) as caught:
        came(train)
    assert "\n" not in str(caught.value) and isinstance(caught.value.__cause__, ValueError)

    def leaves(model, optimizer, context):
        raise SystemExit(3)

    with pytest.raises(TpcalcError, match="leaves raised SystemExit: 3"):
        came(leaves)


@pytest.mark.parametrize("error", [TpcalcError("ours"), KeyboardInterrupt()])
def test_our_own_errors_and_interrupts_pass(error):
    def train(model, optimizer, context):
        raise error

    with pytest.raises(type(error)) as caught:
        came(train)
    assert caught.value is error


# -- reports ---------------------------------------------------------------------------------------


def reports(*losses):
    def train(model, optimizer, context):
        for step, loss in enumerate(losses):
            context.report(step, loss)
        return 1.0

    return came(train)


def test_a_report_that_runs_away_ends_the_run():
    fine = reports(3.0, torch.tensor(RUNAWAY * 3.0, requires_grad=True), 2.0)
    assert (fine.loss, fine.curve) == (1.0, ((0, 3.0), (1, 300.0), (2, 2.0))) and fine.seconds >= 0
    away = reports(3.0, RUNAWAY * 3.0 + 1, 2.0)
    assert away.loss == math.inf and len(away.curve) == 2
    assert reports(1e-3, RUNAWAY - 1).loss == 1.0, "of a first loss under 1 nothing is asked that tiny"
    assert reports(-5.0, 50.0).loss == 1.0
    assert reports(math.nan).loss == math.inf
    with pytest.raises(Diverged):
        context().report(0, math.inf)


def test_sources_of_data():
    one, same, other, later = context(), context(), context(), context()
    other.seed = 1
    draws = [torch.rand(3, generator=c.generator(o)).tolist() for c, o in ((one, 0), (same, 0), (other, 0), (later, 1))]
    assert draws[0] == draws[1] and all(a != b for a, b in itertools.combinations(draws[1:], 2))
    assert one.width == 8


# -- signatures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", [lambda m, o, c: 0, lambda *a: 0, lambda m, o, c, more=1: 0, max])
def test_what_can_be_called(train):
    check_train(train)


@pytest.mark.parametrize(
    "train", [lambda model: 0, lambda m, o, c, more: 0, lambda m, o, c, *, more: 0], ids=["few", "many", "keyword"]
)
def test_what_cannot(train):
    with pytest.raises(TpcalcError, match=r"can't be called as train\(model, optimizer, context\); give it these"):
        check_train(train)


# -- the default loop ------------------------------------------------------------------------------


class Loses(nn.Module):
    """Returns its own loss, ``how`` as models do."""

    def __init__(self, how):
        super().__init__()
        self.layer, self.how, self.seen = nn.Linear(2, 1), how, []

    def forward(self, x, y):
        self.seen.append(float(x.sum()))
        loss = F.mse_loss(self.layer(x), y)
        return loss if self.how == "scalar" else {"loss": loss, "logits": self.layer(x)}


def pair(k=0.0):
    return torch.full((4, 2), k), torch.ones(4, 1)


def trained(model, inputs, steps=20, lr=0.1):
    return default_train(model, torch.optim.SGD(model.parameters(), lr), context(inputs, steps))


@pytest.mark.parametrize("how", ["scalar", "field"])
@pytest.mark.parametrize("by_name", [False, True])
def test_the_loss_of_the_model(how, by_name):
    model, (x, y) = Loses(how), pair()
    with torch.no_grad():
        before = float(F.mse_loss(model.layer(x), y))
    assert trained(model, {"x": x, "y": y} if by_name else (x, y)) < before / 4


def test_batches_are_taken_in_turn():
    for inputs in ((pair(0.0), pair(1.0)), tuple(dict(zip("xy", pair(k))) for k in (0.0, 1.0))):
        model = Loses("scalar")
        trained(model, inputs, steps=5)
        assert model.seen == [0.0, 8.0, 0.0, 8.0, 0.0]


def test_the_next_token_of_logits():
    torch.manual_seed(0)
    model, inputs = call_factory(small, 8)
    logits, own = model(*inputs).detach(), tokens()
    seen = context(inputs, 1)
    loss = default_train(model, torch.optim.SGD(model.parameters(), 0.1), seen)
    expected = F.cross_entropy(logits[:, :-1].reshape(-1, VOCABULARY), own[:, 1:].reshape(-1))
    assert loss == pytest.approx(float(expected), rel=1e-5) and seen.curve == [(0, pytest.approx(loss))]


def test_it_gives_the_mean_of_the_last_tenth():
    model, (x, y) = Loses("scalar"), pair()
    seen = context((x, y), 20)
    loss = default_train(model, torch.optim.SGD(model.parameters(), 0.1), seen)
    assert loss == pytest.approx((seen.curve[-1][1] + seen.curve[-2][1]) / 2) and loss != seen.curve[-1][1]
    assert len(seen.curve) == 20


def test_the_learning_rate_rises_and_falls():
    assert [warmup_cosine(step, 20) for step in (0, 1, 2)] == [0.5, 1.0, 1.0]
    assert warmup_cosine(11, 20) == pytest.approx(0.55) and warmup_cosine(20, 20) == pytest.approx(0.1)
    assert warmup_cosine(0, 1) == 1.0
    rates = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            rates.append([group["lr"] for group in self.param_groups])

    model = Loses("scalar")
    groups = [{"params": [model.layer.weight], "lr": 1.0}, {"params": [model.layer.bias], "lr": 3.0}]
    default_train(model, Watched(groups), context(pair(), 20))
    factors = [warmup_cosine(step, 20) for step in range(20)]
    assert rates == [pytest.approx([x, 3 * x]) for x in factors]


def test_a_run_that_diverges():
    model = Loses("scalar")
    assert (
        outcome(default_train, model, torch.optim.SGD(model.parameters(), 1e6), context(pair(9.0), 30)).loss == math.inf
    )


def test_what_the_default_loop_cannot_train():
    layer = nn.Linear(2, 3)
    with pytest.raises(TpcalcError, match="returns no loss, and no logits over the tokens that it reads; give a loop"):
        trained(layer, (torch.ones(4, 2),))
    with pytest.raises(TpcalcError, match="gives no inputs to train on; return"):
        trained(layer, None)


def test_one_batch_or_several():
    x, y = pair()
    one = [(x,), (x, y), {"x": x}, (None, x), ()]
    assert all(next(batches(inputs)) is inputs for inputs in one)
    assert next(batches(((x, y), [x, y]))) == (x, y)


def test_a_factory_with_its_first_batch():
    def several(width, depth=1):
        return nn.Linear(width, depth), [pair(0.0), pair(1.0)]

    made = with_a_batch(several)
    model, inputs = call_factory(made, 3)
    assert model.in_features == 3 and torch.equal(inputs[0], pair(0.0)[0]) and len(inputs) == 2
    assert made(width=3, depth=2)[0].out_features == 2
    assert made.__name__ == "several" and list(inspect.signature(made).parameters) == ["width", "depth"]
    assert with_a_batch(lambda width: nn.Linear(width, 1))(3)[1] is None
