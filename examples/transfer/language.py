"""Character-level language models, to tune small and train big.

Nothing here knows about tpcalc but for the ``context`` that ``train`` is handed.  Each factory takes its sizes and
returns ``(model, inputs)``; the models are those of examples/gpt.py, with the init that torch gives their layers:

    tpcalc table examples/transfer/language.py:gpt
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from gpt import GPT, Attention, Config  # noqa: E402
from loop import descend, held_out  # noqa: E402
from text import ALPHABET, batches, held_out_batches  # noqa: E402

CONTEXT = 32
BATCH = 16
#: Batches of held-out text: 16,384 characters.
HELD_OUT = 32
HEAD_DIM = 16
EXPERTS = 4
MAX_NORM = 1.0


class FusedAttention(Attention):
    """Queries, keys and values from one matrix."""

    def __init__(self, config: Config):
        super().__init__(config)
        del self.q, self.k, self.v
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.split(part) for part in self.qkv(x).chunk(3, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        return self.proj(y.transpose(1, 2).flatten(2))


class TopTwo(nn.Module):
    """Four experts, each a quarter of the usual MLP.  A token has the two that the router prefers.

    All four run, and two are weighed by zero: at these sizes that is faster than to send tokens around.
    """

    def __init__(self, width: int):
        super().__init__()
        self.router = nn.Linear(width, EXPERTS, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)) for _ in range(EXPERTS)
        )

    def forward(self, x: Tensor) -> Tensor:
        best, which = self.router(x).topk(2, dim=-1)
        best = best.softmax(dim=-1)
        shares = best.new_zeros(*x.shape[:-1], EXPERTS).scatter(-1, which, best)
        outputs = torch.stack([expert(x) for expert in self.experts], dim=-1)
        return (outputs * shares.unsqueeze(-2)).sum(dim=-1)


def build(width: int, heads: int, depth: int, tied: bool = False, experts: bool = False) -> tuple[GPT, tuple[Tensor]]:
    """The model, and a batch of characters."""
    config = Config(width, heads, heads, depth, vocabulary=len(ALPHABET), context=CONTEXT, tied=tied)
    model = GPT(config)
    for block in model.blocks:
        if tied:
            block.attn = FusedAttention(config)
        if experts:
            block.mlp = TopTwo(width)
    tokens = torch.arange(BATCH * CONTEXT).reshape(BATCH, CONTEXT) % len(ALPHABET)
    return model, (tokens,)


def gpt(width: int, depth: int = 2):
    """Width grows by adding heads of 16; untied embeddings."""
    return build(width, width // HEAD_DIM, depth)


def gpt_tied(width: int, depth: int = 2):
    """The readout shares the token embedding's weight; queries, keys and values are one matrix."""
    return build(width, width // HEAD_DIM, depth, tied=True)


def gpt_heads(width: int):
    """Width grows inside two heads; logits are divided by sqrt(d), as usual."""
    return build(width, 2, 2)


def gpt_moe(width: int):
    """Two of four experts a token."""
    return build(width, width // HEAD_DIM, 2, experts=True)


def gpt_deep(width: int, depth: int):
    """Wider and deeper: two scales."""
    return build(width, width // HEAD_DIM, depth)


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    tokens, following = batch
    return F.cross_entropy(model(tokens).flatten(0, 1), following.flatten())


def train(model: nn.Module, optimizer: torch.optim.Optimizer, context: Any) -> float:
    """The loss, in nats a character, on text held out."""
    descend(model, optimizer, context, batches(context.generator(), BATCH, CONTEXT), loss_of, MAX_NORM)
    return held_out(model, held_out_batches(HELD_OUT, BATCH, CONTEXT), loss_of)
