"""What a setup returns, told apart by type, and what its optimizers say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tpcalc
from tests.support import verify_setups as setups
from tests.support.verify_reports import WIDTHS
from tests.support.verify_setups import LR


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_learning_rates_as_tensors(dtype):
    def setup(width):
        model, optimizer, inputs = setups.tp5_table3_adam(width)
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(group["lr"], dtype=dtype)
        return model, optimizer, inputs

    assert tpcalc.verify(setup, WIDTHS).findings == ()


def test_parts_are_told_apart_by_type():
    def setup(width):
        model, optimizer, inputs = setups.tp5_table3_adam(width)
        schedulers = [
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100),
            torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer),
        ]
        return model, {"x": inputs}, schedulers, [optimizer]

    assert tpcalc.verify(setup, WIDTHS).findings == ()


@pytest.mark.parametrize(
    "result, message",
    [
        (lambda m, o, i: m, "returned a tests.support.verify_setups.MLP; return"),
        (lambda m, o, i: (m, i), "returned no optimizer"),
        (lambda m, o, i: (nn.Bilinear(3, 3, 3), o), "returned no example inputs"),
        (lambda m, o, i: (o, m, i), "first, where the model belongs"),
        (lambda m, o, i: (m, o, i, 3), "which is no optimizer, scheduler or input"),
    ],
)
def test_wrong_parts_are_one_sentence(result, message):
    with pytest.raises(tpcalc.SetupError, match=message):
        tpcalc.verify(lambda width: result(*setups.tp5_table3_adam(width)), WIDTHS)


def test_inputs_that_a_model_leaves_no_doubt_about():
    report = tpcalc.verify(lambda width: setups.tp5_table3_adam(width)[:2], WIDTHS)
    assert report.findings == () and "came without example inputs" in report.assumptions[0]


def test_tensors_of_another_model():
    def setup(width):
        _, optimizer, inputs = setups.tp5_table3_adam(width)
        return setups.tp5_table3_adam(width)[0], optimizer, inputs

    with pytest.raises(tpcalc.SetupError, match="are no parameters of the model"):
        tpcalc.verify(setup, WIDTHS)


def test_a_parameter_in_two_optimizers_is_noted():
    def setup(width):
        model, optimizer, inputs = setups.tp5_table3_adam(width)
        return model, [torch.optim.SGD([model.readout.bias], lr=LR), optimizer], inputs

    report = tpcalc.verify(setup, WIDTHS)
    assert report.findings == () and report.notes == (
        "held by two optimizers, of which the last was read: readout.bias",
    )


def test_a_few_tensors_of_another_model_are_noted():
    def setup(width):
        model, optimizer, inputs = setups.tp5_table3_adam(width)
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(3))]})
        return model, optimizer, inputs

    report = tpcalc.verify(setup, WIDTHS)
    assert report.findings == () and report.notes == ("1 tensors in the optimizer are no parameters of the model",)
