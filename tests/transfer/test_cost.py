"""What tuning costs: operations of a step at any size, and shares of one run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from examples.gpt import MLP, Attention, Config
from tpcalc.algebra.scales import Point
from tpcalc.errors import TpcalcError
from tpcalc.transfer.cost import Cost, flops

VOCABULARY, BATCH, CONTEXT = 50257, 2, 2048


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, config.width)
        self.attention = nn.ModuleList(Attention(config) for _ in range(config.layers))
        self.mlp = nn.ModuleList(MLP(config) for _ in range(config.layers))
        self.head = nn.Linear(config.width, VOCABULARY, bias=False)

    def forward(self, tokens):
        x = self.table(tokens)
        for attention, mlp in zip(self.attention, self.mlp):
            x = x + attention(x)
            x = x + mlp(x)
        return self.head(x)


def gpt(width, depth=2):
    return GPT(Config(width, 96, 96, layers=depth)), torch.randint(VOCABULARY, (BATCH, CONTEXT))


def by_hand(width, depth) -> int:
    """Six a weight and token (the embedding is none), twelve for the width, each pair of positions and layer."""
    weights = depth * 12 * width**2 + VOCABULARY * width
    return BATCH * CONTEXT * (6 * weights + 12 * depth * CONTEXT * width)


def test_a_model_of_175_billion_parameters():
    """GPT-3 (Brown et al. 2020): 96 layers of width 12288, 96 heads."""
    assert flops(gpt, Point(("width", "depth"), (12288, 96))) == by_hand(12288, 96)
    assert 6 * 175e9 < by_hand(12288, 96) / (BATCH * CONTEXT) < 6 * 180e9
    assert flops(gpt, 192) == by_hand(192, 2)


def mlp(width):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, width)), inputs(width)


def inputs(width):
    return (torch.randn(8, 4),)


def test_of_several_batches_the_first_counts():
    one = 8 * (4 * 4 * 64 + 6 * 64 * 64)
    assert flops(mlp, 64) == one
    assert flops(lambda width: (mlp(width)[0], [inputs(width), inputs(width)]), 64) == one
    assert flops(lambda width: (mlp(width)[0], [{"input": torch.randn(8, 4)}] * 3), 64) == one


def test_numbers_that_can_not_be_counted_are_refused():
    with pytest.raises(TpcalcError, match="<lambda> gives a model without products of matrices at width 64, in which"):
        flops(lambda width: (nn.LayerNorm(width), (torch.randn(4, width),)), 64)
    with pytest.raises(TpcalcError, match="raised ValueError: no"):
        flops(refuses, 64)


def refuses(width):
    raise ValueError("no")


def test_shares():
    """A sweep of seven rates and three seeds; a search of a hundred trials, most of which end early."""
    sweep = Cost.of(base=10, target=640, taken=7 * 3 * 200, steps=200)
    assert sweep.share == pytest.approx(21 / 64) and str(sweep) == "33% of one target run"
    search = Cost.of(10, 6400, taken=30 * 200 + 70 * 50, steps=1000)
    assert search.spent == 95000 and str(search) == "1.5% of one target run"
    assert str(Cost(10, 1000, 500.0, 1)) == "50% of one target run"
    assert str(Cost(10, 1000, 0.123, 1)) == "0.012% of one target run"
    assert str(Cost(10, 10, 1234.0, 10)) == "1234% of one target run"
