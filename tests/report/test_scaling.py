"""Multipliers as text."""

from __future__ import annotations

import torch
from torch import nn

import tpcalc


class Net(nn.Sequential):
    def __init__(self, width):
        super().__init__(*(nn.Linear(a, b, bias=False) for a, b in ((8, width), (width, width), (width, width))))
        self.add_module("out", nn.Linear(width, 4, bias=False))


def factory(width):
    return Net(width), (torch.ones(2, 8),)


def test_text():
    text = str(tpcalc.scale(factory, 32, 128, "sgd", gauge="mup"))
    lines = text.splitlines()
    assert lines[0] == "Multipliers for sgd, width 32 -> 128"
    assert lines[2:7] == [
        "weight        shape       multiplier  init  lr  weight decay  eps  clip",
        "------------  ----------  ----------  ----  --  ------------  ---  ----",
        "0.weight      [128, 8]    1           1     4   0.25          -    1",
        "{1,2}.weight  [128, 128]  1           1     1   1             -    1",
        "out.weight    [4, 128]    0.25        2     4   0.25          -    1",
    ]
    assert "\nconventions:\n  - " in text and text.endswith("\n") and "assumptions" not in text


def test_columns_that_say_nothing_are_left_out_and_repr_is_short():
    scaling = tpcalc.scale(factory, 32, 128)
    assert "multiplier  " not in str(scaling) and " 0.25 " in str(scaling)
    assert repr(scaling) == "<Scaling adamw, width 32 -> 128, 4 parameters>"
