"""Models of several scales, which factories take by name."""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction

import torch
from torch import nn


def directions(count: int, number: int, seed: int = 0) -> Iterator[tuple[Fraction, ...]]:
    """Random directions, to see that cones cover them."""
    source = random.Random(seed)
    for _ in range(number):
        yield tuple(Fraction(source.randint(1, 10**6), 10**5) for _ in range(count))


TOKENS = torch.zeros(2, 5, dtype=torch.long)


class FeedForward(nn.Module):
    """A residual block whose inner size is a scale of its own."""

    def __init__(self, width: int, ffn: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(32, width)
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, ffn), nn.Linear(ffn, width)
        self.readout = nn.Linear(width, 10, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        return self.readout(x + self.down(torch.relu(self.up(self.norm(x)))))


class Attention(nn.Module):
    """A transformer block with heads, head dimension and ``groups`` query heads for each key and value head."""

    def __init__(self, kv_heads: int, groups: int, head_dim: int, packed: bool = False) -> None:
        super().__init__()
        width, kv = kv_heads * groups * head_dim, kv_heads * head_dim
        self.sizes = (kv_heads, groups, head_dim)
        self.cuts = (width, kv, kv)
        self.embed, self.norm = nn.Embedding(32, width), nn.LayerNorm(width)
        self.packed = packed
        if packed:
            self.qkv = nn.Linear(width, width + 2 * kv, bias=False)
        else:
            self.q = nn.Linear(width, width, bias=False)
            self.k, self.v = nn.Linear(width, kv, bias=False), nn.Linear(width, kv, bias=False)
        self.o = nn.Linear(width, width, bias=False)
        self.last, self.readout = nn.LayerNorm(width), nn.Linear(width, 10, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        return self.readout(self.last(x + self.mix(self.norm(x))))

    def mix(self, z: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(z).split(self.cuts, -1) if self.packed else (self.q(z), self.k(z), self.v(z))
        kv_heads, groups, head_dim = self.sizes
        q = q.view(2, 5, kv_heads, groups, head_dim)
        k, v = (item.view(2, 5, kv_heads, head_dim) for item in (k, v))
        scores = torch.einsum("bthgd,bshd->bhgts", q, k) / head_dim**0.5
        mixed = torch.einsum("bhgts,bshd->bthgd", scores.softmax(-1), v)
        return self.o(mixed.reshape(2, 5, -1))


def ffn(width: int, ffn: int) -> tuple[nn.Module, tuple]:
    return FeedForward(width, ffn), (TOKENS,)


def attention(heads: int, head_dim: int) -> tuple[nn.Module, tuple]:
    return Attention(heads, 1, head_dim), (TOKENS,)


def packed(heads: int, head_dim: int) -> tuple[nn.Module, tuple]:
    return Attention(heads, 1, head_dim, packed=True), (TOKENS,)


def grouped(kv_heads: int, groups: int, head_dim: int) -> tuple[nn.Module, tuple]:
    return Attention(kv_heads, groups, head_dim), (TOKENS,)


SCALES = {
    ffn: {"width": (16, 32, 64), "ffn": (24, 48, 96)},
    attention: {"heads": (4, 8, 16), "head_dim": (4, 8, 16)},
    packed: {"heads": (4, 8, 16), "head_dim": (4, 8, 16)},
    grouped: {"kv_heads": (2, 4, 8), "groups": (3, 6, 12), "head_dim": (4, 8, 16)},
}
