"""What tells two parameters apart that an optimizer trains: all that it may read, and nothing that it does not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tpcalc.probe import Subject, options


class Own(torch.optim.AdamW):
    """May read whatever its groups say."""


def told(cls: type, **said: object) -> object:
    parameter = nn.Parameter(torch.zeros(4, 4))
    return options(Subject(cls([{"params": [parameter], **said}], lr=1e-3), 0, parameter))


@pytest.mark.parametrize("said", [{"betas": (0.8, 0.999)}, {"amsgrad": True}, {"weight_decay": 0.0}])
def test_what_torchs_own_read_tells_apart(said):
    assert told(torch.optim.AdamW, **said) != told(torch.optim.AdamW)


@pytest.mark.parametrize("said", [{"multiplier": 2.0}, {"name": "readout"}, {"lr": 0.1}, {"eps": 1e-4}])
def test_what_they_do_not_read_and_numbers_of_a_run_do_not(said):
    assert told(torch.optim.AdamW, **said) == told(torch.optim.AdamW)


def test_one_of_your_own_may_read_anything():
    assert told(Own, multiplier=2.0) != told(Own) and told(Own, lr=0.1) == told(Own)
