"""Multipliers that a norm divides out again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tpcalc
from tests.support import verify_setups as setups
from tests.support.verify_reports import WIDTHS, report_of, told
from tests.support.verify_setups import MLP, adam_groups, mup_init, x_inputs


def test_multiplier_before_a_norm_is_absorbed():
    report = report_of(setups.multiplier_before_norm)
    assert told(report) == [("absorbed multiplier", "multiplier", 0, -1)]
    (finding,) = report.findings
    assert finding.weights == ("output.weight",) and finding.effect == 1 and "behind the norm" in finding.message
    line = Path(setups.__file__).read_text().splitlines()[int(finding.where.rpartition(":")[2]) - 1]
    assert "self.before_norm" in line


@pytest.mark.parametrize(
    "norm", [lambda n: nn.LayerNorm(n), lambda n: nn.RMSNorm(n), setups.RMSNorm], ids=["layer", "rms", "by hand"]
)
def test_absorbed_by_any_norm(norm):
    class Model(MLP):
        def __init__(self, width):
            super().__init__(width)
            self.norm = norm(width)

        def forward(self, x):
            h = F.gelu(self.hidden1(F.gelu(self.input(x))))
            return self.readout(self.norm(h / h.shape[-1]))

    def setup(width):
        model = Model(width)
        model.hidden2 = None
        mup_init(model, readout_std=0.1)
        return model, torch.optim.AdamW(adam_groups(model, width, readout=False)), x_inputs()

    assert told(tpcalc.verify(setup, WIDTHS)) == [("absorbed multiplier", "multiplier", 0, -1)]


def test_a_multiplier_that_nothing_needs_is_a_warning():
    class Model(MLP):
        def forward(self, x):
            h = F.gelu(self.hidden1(F.gelu(self.input(x))))
            return self.readout(F.layer_norm(h / h.shape[-1], h.shape[-1:]))

    def setup(width):
        model = Model(width)
        model.hidden2 = None
        mup_init(model)
        return model, torch.optim.AdamW(adam_groups(model, width)), x_inputs()

    (finding,) = tpcalc.verify(setup, WIDTHS).findings
    assert (finding.kind, finding.severity, finding.weights) == ("absorbed multiplier", "warning", ())
    assert (finding.found, finding.needed) == (-1, 0) and "multiplier ~ n^(-1), needs n^0" in finding.message
    assert finding.message.endswith("so its effect is n^0; move it behind the norm, or drop it")
