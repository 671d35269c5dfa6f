"""Groups with rates of their own: who takes them, and who raises."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.probe.test_laws import KINDS
from tests.support.probed_setups import OneRate
from tpcalc.probe import Subject, one_rate


class Distant(torch.optim.SGD):
    """Raises whatever the rates are."""

    def step(self, closure=None):
        raise RuntimeError("no device")


@pytest.mark.parametrize(("cls", "said"), [(OneRate, "one lr for all"), (Distant, ""), (torch.optim.AdamW, "")])
def test_what_is_raised_for_rates_that_differ(cls, said):
    parameter = nn.Parameter(torch.ones(4, 4))
    optimizer = cls([parameter], lr=1e-3)
    found = one_rate(Subject(optimizer, 0, parameter), KINDS["hidden"])
    assert said in found and bool(said) == bool(found)
    assert torch.equal(parameter, torch.ones(4, 4)) and len(optimizer.param_groups) == 1
