"""Too large: what explodes is told by kind, weight and exponents."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tpcalc
from tests.support import verify_setups as setups
from tests.support.verify_reports import WIDTHS, hidden_of_llama, report_of, told
from tests.support.verify_setups import BASE, LR, MLP, adam_groups, mup_init, x_inputs

H = Fraction(1, 2)


def test_standard_parametrization_with_adamw():
    report = report_of(setups.standard_adamw)
    assert report.regime == "unstable" and not report.ok
    assert told(report) == [("explodes", "lr", 0, -1), ("explodes", "init std", -H, -1), ("explodes", "lr", 0, -1)]
    hidden, init, readout = report.findings
    assert hidden.weights == ("hidden1.weight", "hidden2.weight") and hidden.effect == 1
    assert init.weights == readout.weights == ("readout.weight",)
    assert "enters a nonlinearity" in hidden.message and hidden.where.startswith("hidden1, verify_setups.py:")


def test_nanotron():
    report = report_of(setups.nanotron)
    assert told(report) == [("explodes", "lr", 0, -1)] and report.findings[0].effect == 1
    assert set(report.findings[0].weights) == hidden_of_llama()


def test_gpt_neox_loses_learning_rates_to_its_schedule_but_scales_decay():
    report = report_of(setups.gpt_neox)
    assert told(report) == [("explodes", "lr", 0, -1), ("eps drift", "eps", 0, -1)]
    assert report.findings[0].weights == ("hidden1.weight", "hidden2.weight")
    assert "its group has lr ~ n^(-1), which Annealing (verify_setups.py:" in report.findings[0].message
    assert report.weights["hidden1.weight"].weight_decay == 1


def test_moe_router():
    report = report_of(setups.router)
    assert told(report) == [("explodes", "init std", 0, -1), ("explodes", "lr", 0, -1)]
    init, lr = report.findings
    assert init.effect == H and "at init" in init.message and lr.effect == 1
    assert set(init.weights) == set(lr.weights) == {f"layers.{i}.feed_forward.router.weight" for i in range(2)}


def test_moe_router_treated_as_hidden():
    report = report_of(setups.router_as_hidden)
    assert told(report) == [("explodes", "init std", -H, -1)] and report.findings[0].effect == H


@pytest.mark.parametrize(
    "setup, sites",
    [(setups.inverse_sqrt_attention, "layers.{0,1}.attention"), (setups.latent_attention, "layers.0.attention")],
)
def test_attention_scale(setup, sites):
    report = report_of(setup)
    assert told(report) == [("attention scale", "multiplier", -H, -1)]
    assert report.findings[0].subject == sites and report.findings[0].effect == H
    assert "enters a softmax" in report.findings[0].message


@pytest.mark.parametrize("which", ["wq", "wk"])
def test_attention_scale_may_sit_in_the_weights(which):
    """1/sqrt(d) in the code, the missing n^-1/2 in the query (or the key) weight: init, lr and epsilon."""

    def setup(width):
        model = setups.Llama(width, heads=4, after_norm=BASE / width)
        mup_init(model, readout_std=0.1)
        (hidden, rest), m = adam_groups(model, width, decay=0.0, readout=False), width / BASE
        moved = [getattr(block["attention"], which).weight for block in model.layers]
        for weight in moved:
            nn.init.normal_(weight, std=1 / width)
        hidden["params"] = [p for p in hidden["params"] if all(p is not q for q in moved)]
        own = {"params": moved, "lr": LR * m**-1.5, "weight_decay": 0.0, "eps": 1e-8 * m**-0.5}
        return model, torch.optim.AdamW([hidden, rest, own]), setups.x_tokens()

    assert tpcalc.verify(setup, WIDTHS).findings == ()


def test_muon():
    assert told(report_of(setups.muon_rms_constant)) == [("explodes", "lr", 0, -H)]
    assert report_of(setups.muon_rms_constant).findings[0].effect == H
    slow = report_of(setups.muon_rms_adams)
    assert told(slow) == [("not maximal", "lr", -1, -H)] and slow.findings[0].effect == -H and slow.ok
    assert set(slow.findings[0].weights) == hidden_of_llama()
    assert report_of(setups.muon_rms_right).findings == ()


def test_a_product_of_trained_values_that_is_no_attention():
    class Model(MLP):
        def forward(self, x):
            h = F.gelu(self.input(x))
            return self.readout(h) + (self.hidden1(h) * self.hidden2(h)).sum(-1, keepdim=True)

    def setup(width):
        model = Model(width)
        mup_init(model)
        return model, torch.optim.AdamW(adam_groups(model, width)), x_inputs()

    report = tpcalc.verify(setup, WIDTHS)
    assert told(report) == [("explodes", "multiplier", 0, -1)] and report.findings[0].subject == "sum"
    assert report.findings[0].message.endswith("multiply its result by n^(-1) in the forward pass")
