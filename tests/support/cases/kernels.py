"""Kernels, compilers and shapes that are chosen by the model or by torch, and have the rules of what they compute."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.support.cases.acts import HIDDEN, INPUT, OUTPUT, H, X

TOKENS = torch.arange(16).reshape(2, 8)
SEQUENCE = torch.linspace(-1, 1, 2 * 4 * 24).reshape(2, 4, 24).sin()


class Attention(nn.Module):
    def __init__(self, n, kernels):
        super().__init__()
        self.a, self.qkv, self.c, self.kernels = nn.Linear(24, n), nn.Linear(n, 3 * n), nn.Linear(n, 5), kernels

    def forward(self, x):
        q, k, v = self.qkv(self.a(x)).unflatten(-1, (3, -1, 16)).permute(2, 0, 3, 1, 4)
        with sdpa_kernel(self.kernels):
            y = F.scaled_dot_product_attention(q, k, v)
        return self.c(y.transpose(1, 2).flatten(2))


def refuse(*args):
    """A compiler that is never asked.  Torch's own takes seconds to import, which every worker would do."""
    raise AssertionError("compiled")


class Compiled(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(24, n), nn.Linear(n, n), nn.Linear(n, 10)

    @torch.compile(backend=refuse)
    def forward(self, x):
        return self.c(F.relu(self.b(F.relu(self.a(x)))))


@torch.jit.script
def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(1.702 * x)


class Scripted(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(24, n), nn.Linear(n, n), nn.Linear(n, 10)

    def forward(self, x):
        return self.c(quick_gelu(self.b(quick_gelu(self.a(x)))))


class Packed(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.a, self.g, self.c = nn.Embedding(32, n), nn.GRU(n, n, batch_first=True), nn.Linear(n, 10)

    def forward(self, t):
        packed = nn.utils.rnn.pack_padded_sequence(self.a(t), [8, 5], batch_first=True)
        return self.c(nn.utils.rnn.pad_packed_sequence(self.g(packed)[0], batch_first=True)[0])


class Sparse(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.a, self.c = nn.Embedding(32, n, sparse=True), nn.Linear(n, 10)

    def forward(self, t):
        return self.c(self.a(t).mean(1))


class Distances(nn.Module):
    def __init__(self, n, rows):
        super().__init__()
        self.a, self.b, self.p = nn.Linear(24, n), nn.Linear(n, n), nn.Parameter(torch.randn(rows, n))

    def forward(self, x):
        return -torch.cdist(self.b(F.relu(self.a(x))), self.p) / self.p.shape[1] ** 0.5


ATTENTION = {"a.weight": INPUT, "qkv.weight": HIDDEN, "c.weight": OUTPUT}
PLAIN = {"a.weight": INPUT, "b.weight": HIDDEN, "c.weight": OUTPUT}
DISTANCES = {"a.weight": INPUT, "b.weight": (1, 3 * H), "p": (H, H)}
LOOK_UP = {"a.weight": INPUT, "c.weight": OUTPUT}
CASES = {
    "flash attention": (lambda n: (Attention(n, SDPBackend.FLASH_ATTENTION), (SEQUENCE,)), ATTENTION),
    "a list of kernels": (
        lambda n: (Attention(n, [SDPBackend.MATH, SDPBackend.EFFICIENT_ATTENTION]), (SEQUENCE,)),
        ATTENTION,
    ),
    "compiled forward": (lambda n: (Compiled(n), (X,)), PLAIN),
    "scripted": (lambda n: (Scripted(n), (X,)), PLAIN),
    "packed sequence": (
        lambda n: (Packed(n), (TOKENS,)),
        {**LOOK_UP, "g.weight_ih_l0": HIDDEN, "g.weight_hh_l0": HIDDEN},
    ),
    "sparse look-up": (lambda n: (Sparse(n), (TOKENS,)), LOOK_UP),
    "cdist of few": (lambda n: (Distances(n, 8), (X,)), DISTANCES),
    "cdist of many": (lambda n: (Distances(n, 32), (X,)), DISTANCES),
}
