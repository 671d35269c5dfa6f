"""Weights that no optimizer, no learning rate or no filter reaches."""

from __future__ import annotations

import torch

import tpcalc
from tests.support import verify_setups as setups
from tests.support.verify_reports import WIDTHS, hidden_of_llama, report_of, told, weights
from tests.support.verify_setups import MLP, adam_groups, mup_init, x_inputs


def test_a_filter_that_matches_nothing():
    report = report_of(setups.suffix_filter)
    assert told(report) == [("unmatched", "lr", 0, -1)]
    assert set(report.findings[0].weights) == hidden_of_llama()
    assert "group 0 of AdamW" in report.findings[0].message and "holds no parameter" in report.findings[0].message


def test_a_filter_that_misses_twins():
    report = report_of(setups.half_filter)
    assert told(report) == [("unmatched", "lr", 0, -1)]
    assert (
        set(report.findings[0].weights) == hidden_of_llama("w1", "w2", "w3")
        and "its twin" in report.findings[0].message
    )


def test_a_parameter_in_no_group():
    def setup(width):
        model = MLP(width)
        mup_init(model)
        groups = adam_groups(model, width)
        groups[1]["params"] = [p for p in groups[1]["params"] if p is not model.input.weight]
        return model, torch.optim.AdamW(groups), x_inputs()

    report = tpcalc.verify(setup, WIDTHS)
    assert told(report) == [("unmatched", "lr", None, None)] and weights(report, "unmatched") == {"input.weight"}


def test_frozen_parameters():
    def setup(width, lr):
        model = MLP(width)
        mup_init(model)
        model.input.weight.requires_grad_(False)  # on purpose: no finding
        groups = adam_groups(model, width)
        groups[0]["lr"] *= lr
        return model, torch.optim.AdamW(groups), x_inputs()

    assert tpcalc.verify(lambda width: setup(width, 1), WIDTHS).findings == ()
    report = tpcalc.verify(lambda width: setup(width, 0), WIDTHS)
    assert [(f.kind, f.weights) for f in report.findings] == [
        ("frozen", ("hidden1.weight", "hidden2.weight", "readout.weight"))
    ]
