"""Models with stacks of blocks, for depth as a scale: ``factory(width, depth)`` returns the model and its inputs."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES, CLASSES, VOCABULARY = 8, 4, 16

STACKS: dict[str, Callable] = {}


def stack(factory: Callable) -> Callable:
    STACKS[factory.__name__] = factory
    return factory


class Block(nn.Module):
    """Two matrices; ``order`` says where norms stand: ``pre``, ``post``, ``sandwich`` or ``none``."""

    def __init__(self, n: int, order: str = "pre", norm: Callable = nn.LayerNorm):
        super().__init__()
        self.order = order
        self.one, self.two = nn.Linear(n, 4 * n), nn.Linear(4 * n, n)
        if order in ("pre", "sandwich"):
            self.norm = norm(n)
        if order in ("post", "sandwich"):
            self.behind = norm(n)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x) if self.order in ("pre", "sandwich") else x
        y = self.two(F.relu(self.one(y)))
        if self.order == "sandwich":
            return x + self.behind(y)
        return self.behind(x + y) if self.order == "post" else x + y


class Stack(nn.Module):
    """An input layer, blocks one behind the other, a norm and a readout."""

    def __init__(self, n: int, blocks: list[nn.Module], times: int = 1, last: bool = True):
        super().__init__()
        self.entry = nn.Linear(FEATURES, n)
        self.blocks = nn.ModuleList(blocks)
        self.times = times
        self.norm = nn.LayerNorm(n) if last else nn.Identity()
        self.out = nn.Linear(n, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.entry(x)
        for block in self.blocks:
            for _ in range(self.times):
                x = block(x)
        return self.out(self.norm(x))


def points(rows: int = 3) -> Tensor:
    return torch.linspace(-1, 1, rows * FEATURES).reshape(rows, FEATURES)


def tokens() -> Tensor:
    return torch.arange(2 * 6).reshape(2, 6) % VOCABULARY


@stack
def pre(width: int, depth: int):
    return Stack(width, [Block(width) for _ in range(depth)]), points()


@stack
def post(width: int, depth: int):
    return Stack(width, [Block(width, "post") for _ in range(depth)], last=False), points()


class Between(nn.Module):
    """A branch between two norms, neither of which has a bias, and an inner size of its own."""

    def __init__(self, n: int, f: int):
        super().__init__()
        self.norm, self.behind = nn.RMSNorm(n), nn.RMSNorm(n)
        self.one, self.two = nn.Linear(n, f, bias=False), nn.Linear(f, n, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.behind(self.two(F.gelu(self.one(self.norm(x)))))


def between(width: int, ffn: int, depth: int):
    return Stack(width, [Between(width, ffn) for _ in range(depth)]), points()


@stack
def sandwich(width: int, depth: int):
    return Stack(width, [Block(width, "sandwich") for _ in range(depth)]), points()


@stack
def without_norm(width: int, depth: int):
    return Stack(width, [Block(width, "none") for _ in range(depth)], last=False), points()


@stack
def tied(width: int, depth: int):
    """One block, again and again, as ALBERT's."""
    return Stack(width, [Block(width)], times=depth), points()


class PlusOne(nn.Module):
    """An rms norm whose gain is written ``1 + w``, as gemma's."""

    def __init__(self, n: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * (1 + self.weight)


@stack
def plus_one(width: int, depth: int):
    """A sandwich that nothing absorbs."""
    return Stack(width, [Block(width, "sandwich", PlusOne) for _ in range(depth)]), points()


class Attention(nn.Module):
    """Multi-head attention with heads of 8; ``memory``: what keys and values are made of, if not the queries'."""

    def __init__(self, n: int):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(n, n) for _ in range(4))

    def forward(self, x: Tensor, memory: "Tensor | None" = None) -> Tensor:
        memory = x if memory is None else memory
        q, k, v = (
            layer(of).unflatten(-1, (-1, 8)).transpose(-2, -3)
            for layer, of in ((self.q, x), (self.k, memory), (self.v, memory))
        )
        weights = (q @ k.transpose(-1, -2) / 8).softmax(-1)
        return self.o((weights @ v).transpose(-2, -3).flatten(-2))


class Layer(nn.Module):
    """A transformer's block, serial or ``parallel``; ``cross``: a decoder's."""

    def __init__(self, n: int, parallel: bool = False, cross: bool = False, drop: float = 0.0):
        super().__init__()
        self.ln1, self.attn, self.ln2 = nn.LayerNorm(n), Attention(n), nn.LayerNorm(n)
        self.up, self.down = nn.Linear(n, 4 * n), nn.Linear(4 * n, n)
        self.drop = nn.Dropout(drop)
        self.parallel = parallel
        if cross:
            self.ln3, self.cross = nn.LayerNorm(n), Attention(n)

    def mlp(self, x: Tensor) -> Tensor:
        return self.drop(self.down(F.gelu(self.up(x))))

    def forward(self, x: Tensor, memory: "Tensor | None" = None) -> Tensor:
        if self.parallel:
            return x + self.attn(self.ln1(x)) + self.mlp(self.ln2(x))
        x = x + self.drop(self.attn(self.ln1(x)))
        if memory is not None:
            x = x + self.cross(self.ln3(x), memory)
        return x + self.mlp(self.ln2(x))


class Normed(nn.Module):
    """Attention whose queries and keys are normed, by gains that all heads share."""

    def __init__(self, n: int):
        super().__init__()
        self.norm, self.attn = nn.LayerNorm(n), Attention(n)
        self.q_norm, self.k_norm = nn.LayerNorm(8, bias=False), nn.LayerNorm(8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        at = self.attn
        h = self.norm(x)
        q, k, v = (layer(h).unflatten(-1, (-1, 8)).transpose(-2, -3) for layer in (at.q, at.k, at.v))
        weights = (self.q_norm(q) @ self.k_norm(k).transpose(-1, -2) / 8).softmax(-1)
        return x + at.o((weights @ v).transpose(-2, -3).flatten(-2))


def qk_norms(width: int, depth: int):
    model = Stack(width, [Normed(width) for _ in range(depth)])
    return model, torch.linspace(-1, 1, 2 * 5 * FEATURES).reshape(2, 5, FEATURES)


class Language(nn.Module):
    def __init__(self, n: int, depth: int, **layer):
        super().__init__()
        self.embed, self.pos = nn.Embedding(VOCABULARY, n), nn.Parameter(torch.randn(6, n))
        self.layers = nn.ModuleList(Layer(n, **layer) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(n), nn.Linear(n, VOCABULARY, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.pos
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


@stack
def gpt(width: int, depth: int):
    return Language(width, depth, drop=0.1), tokens()


@stack
def parallel(width: int, depth: int):
    return Language(width, depth, parallel=True), tokens()


class Translator(nn.Module):
    """An encoder and a decoder that reads it in every block."""

    def __init__(self, n: int, encoder: int, decoder: int):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, n)
        self.encoder = nn.ModuleList(Layer(n) for _ in range(encoder))
        self.between = nn.LayerNorm(n)
        self.decoder = nn.ModuleList(Layer(n, cross=True) for _ in range(decoder))
        self.norm, self.head = nn.LayerNorm(n), nn.Linear(n, VOCABULARY, bias=False)

    def forward(self, ids: Tensor, start: Tensor) -> Tensor:
        x, y = self.embed(ids), self.embed(start)
        for layer in self.encoder:
            x = layer(x)
        memory = self.between(x)
        for layer in self.decoder:
            y = layer(y, memory)
        return self.head(self.norm(y))


@stack
def translator(width: int, depth: int):
    """Both as deep."""
    return Translator(width, depth, depth), (tokens(), (tokens() + 1) % VOCABULARY)


def two_depths(width: int, encoder: int, decoder: int):
    """Each as deep as it likes."""
    return Translator(width, encoder, decoder), (tokens(), (tokens() + 1) % VOCABULARY)


class Residual(nn.Module):
    """ResNet's basic block."""

    def __init__(self, n: int):
        super().__init__()
        self.one, self.two = (nn.Conv2d(n, n, 3, padding=1, bias=False) for _ in range(2))
        self.bn1, self.bn2 = nn.BatchNorm2d(n), nn.BatchNorm2d(n)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.bn2(self.two(F.relu(self.bn1(self.one(x))))))


class Stages(nn.Module):
    def __init__(self, n: int, depths: tuple[int, ...]):
        super().__init__()
        self.stem = nn.Conv2d(3, n, 3, padding=1, bias=False)
        self.stages = nn.ModuleList()
        self.between = nn.ModuleList()
        for stage, depth in enumerate(depths):
            m = n * 2**stage
            self.stages.append(nn.ModuleList(Residual(m) for _ in range(depth)))
            self.between.append(nn.Conv2d(m, 2 * m, 1, stride=2, bias=False))
        self.head = nn.Linear(n * 2 ** len(depths), CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for stage, between in zip(self.stages, self.between):
            for block in stage:
                x = block(x)
            x = between(x)
        return self.head(x.mean((-1, -2)))


def stages(width: int, first: int, second: int):
    return Stages(width, (first, second)), torch.linspace(-1, 1, 2 * 3 * 64).reshape(2, 3, 8, 8)


__all__ = ["STACKS", "Block", "Stack", "points", "qk_norms", "stages", "tokens", "two_depths"]
