"""Too small: updates and inits that shrink with the width."""

from __future__ import annotations

from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import nn

import tpcalc
from tests.support import verify_setups as setups
from tests.support.verify_reports import WIDTHS, report_of, told, weights
from tests.support.verify_setups import BASE, MLP, adam_groups, llama_setup, mup_init, x_inputs

H = Fraction(1, 2)


def test_umups_own_embedding_rule_is_stable_but_not_maximal():
    report = report_of(setups.unit_scaled_embedding)
    assert told(report) == [("not maximal", "lr", -H, 0)] and report.ok
    assert weights(report, "not maximal") == {"input.weight"}


def test_standard_parametrization_with_sgd_is_in_the_kernel_regime():
    report = report_of(setups.standard_sgd)
    assert report.regime == "kernel" and report.r == H and not report.ok
    hidden = next(f for f in report.findings if "hidden1.weight" in f.weights)
    assert (hidden.kind, hidden.found, hidden.needed, hidden.effect) == ("frozen", -1, 0, -H)
    assert "readout.weight" in report.notes[0] and "kernel" in str(report)


def test_ntk_parametrization_is_in_the_kernel_regime():
    class Ntk(MLP):
        def forward(self, x):
            n = self.hidden1.in_features
            h = F.gelu(self.input(x))
            h = F.gelu(self.hidden1(h) * n**-0.5)
            return self.readout(F.gelu(self.hidden2(h) * n**-0.5)) * n**-0.5

    def setup(width):
        model = Ntk(width, bias=False)
        for p in model.parameters():
            nn.init.normal_(p)
        return model, torch.optim.SGD(model.parameters(), lr=0.1), x_inputs()

    report = tpcalc.verify(setup, WIDTHS)
    assert report.regime == "kernel" and weights(report, "frozen") == {
        "input.weight",
        "hidden1.weight",
        "hidden2.weight",
    }


def test_depthwise_convolution_is_frozen():
    report = report_of(setups.depthwise)
    assert told(report) == [("frozen", "lr", -1, 0)] and not report.ok and report.findings[0].effect == -1
    assert weights(report, "frozen") == {"layers.0.conv.weight", "layers.1.conv.weight"}


def test_slow_embedding_and_biases_are_stable_but_not_maximal():
    report = report_of(setups.slow_embedding)
    assert told(report) == [("not maximal", "lr", -H, 0)] and weights(report, "not maximal") == {
        "tok_embeddings.weight"
    }
    assert (
        report.ok
        and report.regime == "feature learning"
        and report.exit_code() == 0
        and report.exit_code(strict=True) == 1
    )
    report = report_of(setups.biases_with_hidden_lr)
    assert told(report) == [("not maximal", "lr", -1, 0)] and weights(report, "not maximal") == {
        "hidden1.bias",
        "hidden2.bias",
    }
    assert report.ok


def test_vanishing_outputs():
    def setup(width):
        model = MLP(width, multiplier=(BASE / width) ** 2)
        mup_init(model, readout_std=0.1)
        return model, torch.optim.AdamW(adam_groups(model, width, readout=False)), x_inputs()

    report = tpcalc.verify(setup, WIDTHS)
    assert told(report) == [("vanishes", "lr", 0, 1)] and weights(report, "vanishes") == {"readout.weight"}


def test_vanishing_logits_of_attention():
    report = tpcalc.verify(lambda width: llama_setup(width, heads=4, scale=lambda d: d**-2.0), WIDTHS)
    assert told(report) == [("vanishes", "lr", -1, 0)] and weights(report, "vanishes") == {
        f"layers.{i}.attention.wq.weight" for i in range(2)
    }
