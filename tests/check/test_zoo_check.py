"""One model of each family is trained for a few steps at small widths; every slope is as predicted."""

from __future__ import annotations

import pytest
import torch

import tpcalc
from tests.support.sampled import kept, sampled
from tests.support.zoo import ZOO
from tpcalc.trace.hf import hf_factory

#: Family -> model, and the seeds that its noise needs.
FAMILIES = {
    "resnet": 2, "efficientnet": 2, "unet": 2, "vision_transformer": 2, "diffusion_transformer": 2,
    "encoder_decoder": 2, "lstm": 2, "state_space": 4,
    "dense_mixture": 2, "graph_mean": 2, "dlrm": 2, "perceiver": 2, "spectrally_normalised": 2,
}  # fmt: skip


@pytest.mark.parametrize("name", sampled(FAMILIES, every=2))
def test_measured_slopes_are_those_predicted(name):
    result = tpcalc.check(ZOO[name], (32, 64, 128, 256), steps=4, seeds=FAMILIES[name])
    assert result.ok, result


@pytest.mark.parametrize("model_type", kept(["gpt2", "llama", "bert"], lambda name: name == "llama"))
def test_hugging_face(model_type):
    pytest.importorskip("transformers")
    widths = (64, 128, 256)
    factory = hf_factory(model_type, overrides={"num_hidden_layers": "1", "vocab_size": "500"}, widths=widths)
    result = tpcalc.check(factory, widths, steps=4, seeds=2)
    assert result.ok, result


class TopExperts(torch.nn.Module):
    """Each token goes to the expert its router likes best, whose matrix is picked by that index."""

    def __init__(self, n: int, experts: int = 4) -> None:
        super().__init__()
        self.token = torch.nn.Embedding(32, n)
        self.norm = torch.nn.LayerNorm(n)
        self.router = torch.nn.Linear(n, experts, bias=False)
        self.experts = torch.nn.Parameter(torch.randn(experts, n, n) / n**0.5)
        self.head = torch.nn.Linear(n, 10)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        h = self.norm(self.token(tokens))
        share, index = self.router(h).softmax(-1).max(-1)
        picked = self.experts[index]
        return self.head(h + share[:, None] * torch.bmm(picked, h[:, :, None])[:, :, 0].tanh())


def test_rows_picked_by_a_trained_index_trade_places():
    """The picked matrices change by as much as they are large where the router changes its mind: no failure."""
    result = tpcalc.check(
        lambda n: (TopExperts(n), (torch.arange(24) % 32,)), (64, 128, 256), steps=6, seeds=3, lr=0.02
    )
    assert result.ok, result
    picked = [entry for entry in result.entries if entry.quantity == "change" and entry.op == "aten.index.Tensor"]
    assert [entry.verdict for entry in picked] == ["skipped"], picked
    assert "trade places" in picked[0].reason
