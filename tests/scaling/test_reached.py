"""Code that reads a weight past its multiplier is found, and named."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tpcalc
from tests.scaling.test_forward import BASE, TARGET, VOCABULARY, tokens
from tpcalc.scaling import ScalingError


class Kept(nn.Module):
    """Keeps its readout's parameter itself, in one of several ways."""

    def __init__(self, width: int, how: str):
        super().__init__()
        self.embed, self.readout = nn.Embedding(VOCABULARY, width), nn.Linear(width, VOCABULARY, bias=False)
        weight = self.readout.weight
        self.how, self.flat, self.closure = how, [weight], lambda x: F.linear(x, weight)

    def forward(self, t: Tensor) -> Tensor:
        x = torch.tanh(self.embed(t))
        if self.how == "closure":
            return self.closure(x)
        if self.how == "list":
            return x @ self.flat[0].T
        if self.how == "times":
            return F.linear(x, self.flat[0] * 2.0)
        y = self.readout(x)
        return y if self.how == "module" else y + sum((p**2).sum() for p in self.parameters())


@pytest.mark.filterwarnings("ignore::tpcalc.scaling.SiteWarning")
@pytest.mark.parametrize("how, op", [("closure", "t"), ("list", "permute"), ("times", "mul"), ("walk", "pow")])
def test_code_that_keeps_the_parameter_itself_is_refused(how, op):
    """It would train another model without a word: seen in a trace with the multipliers on."""

    def factory(width):
        return Kept(width, how), (tokens(),)

    message = rf"(readout|embed)\.weight is read past its multiplier by aten\.{op}\..* in test_reached\.py:\d+, where"
    with pytest.raises(ScalingError, match=message):
        tpcalc.scale(factory, BASE, TARGET, gauge="mup")
    tpcalc.scale(factory, BASE, TARGET)
    tpcalc.scale(lambda width: (Kept(width, "module"), (tokens(),)), BASE, TARGET, gauge="mup")
