"""A model of few weights that has what a sweep may meet: a tied one, packed ones, biases, norms, blocks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCABULARY = 8


class Block(nn.Module):
    """``pair``: a gate of the width, and four numbers that are weighed by a softmax: blocks of two laws."""

    def __init__(self, n: int):
        super().__init__()
        self.norm = nn.LayerNorm(n)
        self.qkv = nn.Linear(n, 3 * n, bias=False)
        self.pair = nn.Linear(n, n + 4)
        self.out = nn.Linear(n, n, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        z, n = self.norm(x), x.shape[-1]
        q, k, v = self.qkv(z).split(n, -1)
        gate, few = self.pair(z).split([n, 4], -1)
        mixed = F.softmax(q @ k.transpose(-1, -2) / n, -1) @ v
        return self.out(mixed * torch.sigmoid(gate) * F.softmax(few, -1)[..., :1])


class Small(nn.Module):
    def __init__(self, n: int, depth: int):
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, n)
        self.blocks = nn.ModuleList(Block(n) for _ in range(depth))
        self.norm = nn.LayerNorm(n)
        self.head = nn.Linear(n, VOCABULARY, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        for block in self.blocks:
            x = x + block(x)
        return self.head(self.norm(x)) / x.shape[-1]


def tokens() -> Tensor:
    return torch.arange(24).reshape(3, 8) ** 2 % VOCABULARY


def small(width: int):
    return Small(width, 1), tokens()


def deep(width: int, depth: int):
    return Small(width, depth), tokens()
