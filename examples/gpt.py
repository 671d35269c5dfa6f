"""A GPT in plain PyTorch, and the variants whose scaling rules differ.

Nothing here knows about tpcalc.  Each factory takes the width and returns ``(model, inputs)``:

    tpcalc table examples/gpt.py:gpt
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    width: int
    heads: int
    kv_heads: int
    layers: int = 2
    vocabulary: int = 96
    context: int = 32
    experts: int = 0
    tied: bool = False
    inverse_head_dim: bool = False
    """Scale attention logits by 1/d (muP) and not by 1/sqrt(d)."""

    @property
    def head_dim(self) -> int:
        return self.width // self.heads


class Attention(nn.Module):
    """Causal self-attention; with fewer key and value heads than query heads, each serves a group."""

    def __init__(self, config: Config):
        super().__init__()
        kv_width = config.kv_heads * config.head_dim
        self.head_dim = config.head_dim
        self.scale = 1 / config.head_dim if config.inverse_head_dim else config.head_dim**-0.5
        self.q = nn.Linear(config.width, config.width, bias=False)
        self.k = nn.Linear(config.width, kv_width, bias=False)
        self.v = nn.Linear(config.width, kv_width, bias=False)
        self.proj = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
        if k.shape[1] != q.shape[1]:
            k, v = k.expand_as(q), v.expand_as(q)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        return self.proj(y.transpose(1, 2).flatten(2))

    def split(self, x: Tensor) -> Tensor:
        """[batch, time, width] -> [batch, heads, time, head_dim]"""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


class MLP(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.fc = nn.Linear(config.width, 4 * config.width)
        self.proj = nn.Linear(4 * config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(F.gelu(self.fc(x)))


class MoE(nn.Module):
    """A mixture of experts with dense routing: every expert runs, the router weighs their outputs."""

    def __init__(self, config: Config):
        super().__init__()
        self.router = nn.Linear(config.width, config.experts, bias=False)
        self.experts = nn.ModuleList(MLP(config) for _ in range(config.experts))

    def forward(self, x: Tensor) -> Tensor:
        shares = self.router(x).softmax(dim=-1)
        outputs = torch.stack([expert(x) for expert in self.experts], dim=-1)
        return (outputs * shares.unsqueeze(-2)).sum(dim=-1)


class Block(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.ln1 = nn.LayerNorm(config.width)
        self.attn = Attention(config)
        self.ln2 = nn.LayerNorm(config.width)
        self.mlp = MoE(config) if config.experts else MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.token = nn.Embedding(config.vocabulary, config.width)
        self.position = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        if config.tied:
            self.head.weight = self.token.weight

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.token(tokens) + self.position(positions)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def build(config: Config) -> tuple[GPT, tuple[Tensor]]:
    """The model and two short sequences of tokens."""
    tokens = torch.arange(16).reshape(2, 8) % config.vocabulary
    return GPT(config), (tokens,)


def gpt(width: int):
    """Width grows by adding heads of a fixed size; untied embeddings."""
    return build(Config(width, heads=width // 16, kv_heads=width // 16))


def gpt_deep(width: int, depth: int = 2):
    """Two scales: the number of blocks may grow, too."""
    return build(Config(width, heads=width // 16, kv_heads=width // 16, layers=depth))


def gpt_tied(width: int):
    """The readout shares the token embedding's weight."""
    return build(Config(width, heads=width // 16, kv_heads=width // 16, tied=True))


def gpt_growing_heads(width: int):
    """Width grows inside four heads; logits scaled by 1/sqrt(d), as usual and as wrong for this."""
    return build(Config(width, heads=4, kv_heads=4))


def gpt_growing_heads_mup(width: int):
    """Width grows inside four heads; logits scaled by 1/d."""
    return build(Config(width, heads=4, kv_heads=4, inverse_head_dim=True))


def gpt_mqa(width: int):
    """Multi-query attention: a growing number of query heads shares one key and value head."""
    return build(Config(width, heads=width // 16, kv_heads=1))


def gpt_moe(width: int):
    """Four experts behind a router."""
    return build(Config(width, heads=width // 16, kv_heads=width // 16, experts=4))
