"""Stacks that are unusual: refused, or with something besides blocks; ``factory(width, depth)`` as in ``stacks``."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.stacks import Block, Stack, points


class Step(nn.Module):
    """One matrix in a branch; ``how(x, y, block)`` joins it to what all blocks share."""

    def __init__(self, n: int, how: Callable, m: "int | None" = None):
        super().__init__()
        self.norm, self.layer, self.keep = nn.LayerNorm(n), nn.Linear(n, m or n), nn.Linear(n, n, bias=False)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(x, self.layer(F.relu(self.norm(x))), self)


def joined(how: Callable) -> Callable:
    def factory(width: int, depth: int):
        return Stack(width, [Step(width, how) for _ in range(depth)]), points()

    return factory


#: What is refused, and the words that say why.
REFUSED: dict[str, tuple[Callable, str]] = {
    "plain": (joined(lambda x, y, block: y), "no residual stream"),
    "decays": (joined(lambda x, y, block: 0.9 * x + y), "multiplied by a number .0.9."),
    "divided": (joined(lambda x, y, block: (x + y) / 2**0.5), "multiplied by a number .1.41"),
    "mixed": (joined(lambda x, y, block: block.keep(x) + y), "no residual stream"),
    "between": (joined(lambda x, y, block: block.keep(x + y)), "no residual stream"),
    "interpolated": (joined(lambda x, y, block: torch.lerp(x, y, 0.1)), "multiplied by"),
    "squashed": (joined(lambda x, y, block: torch.tanh(x + y)), "no residual stream"),
}


class Pyramid(nn.Module):
    """Each block wider than the one before."""

    def __init__(self, n: int, depth: int):
        super().__init__()
        self.entry = nn.Linear(8, n)
        self.blocks = nn.ModuleList(nn.Linear(n * (i + 1), n * (i + 2)) for i in range(depth))
        self.out = nn.Linear(n * (depth + 1), 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.entry(x)
        for block in self.blocks:
            x = F.pad(x, (0, block.out_features - block.in_features)) + block(x)
        return self.out(x)


def pyramid(width: int, depth: int):
    return Pyramid(width, depth), points()


class Scaled(nn.Module):
    """A block whose branch is multiplied by a number."""

    def __init__(self, n: int, by: float):
        super().__init__()
        self.norm, self.one, self.two = nn.LayerNorm(n), nn.Linear(n, 4 * n), nn.Linear(4 * n, n)
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return x + self.by * self.two(F.relu(self.one(self.norm(x))))


def multiplied(power: float, k: float = 1.0) -> Callable:
    """A multiplier ``k * depth^-power`` that is in the code already."""

    def factory(width: int, depth: int):
        return Stack(width, [Scaled(width, k * depth**-power) for _ in range(depth)]), points()

    return factory


def logarithmic(width: int, depth: int):
    """A multiplier that is no power of the depth."""
    return Stack(width, [Scaled(width, 1 / math.log(1 + depth)) for _ in range(depth)]), points()


class Injected(nn.Module):
    """The input comes back in every block, times a number that is learned."""

    def __init__(self, n: int, depth: int):
        super().__init__()
        self.entry, self.out = nn.Linear(8, n), nn.Linear(n, 4)
        self.blocks = nn.ModuleList(Block(n) for _ in range(depth))
        self.back = nn.ParameterList(nn.Parameter(torch.full((1,), 0.1)) for _ in range(depth))
        self.norm = nn.LayerNorm(n)

    def forward(self, x: Tensor) -> Tensor:
        x = first = self.entry(x)
        for block, back in zip(self.blocks, self.back):
            x = block(x) + back * first
        return self.out(self.norm(x))


def injected(width: int, depth: int):
    return Injected(width, depth), points()


class Turns(nn.Module):
    """Blocks of two kinds take turns, behind one that stands alone."""

    def __init__(self, n: int, depth: int):
        super().__init__()
        self.entry, self.out, self.norm = nn.Linear(8, n), nn.Linear(n, 4), nn.LayerNorm(n)
        self.first = nn.Linear(n, n)
        self.blocks = nn.ModuleList(Block(n) if i % 2 else Scaled(n, 0.5) for i in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.entry(x)
        x = x + torch.tanh(self.first(x))
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x))


def turns(width: int, depth: int):
    return Turns(width, depth), points()


class Positive(nn.Module):
    """Branches that have no sign of their own: a matrix, then relu."""

    def __init__(self, n: int):
        super().__init__()
        self.norm, self.layer = nn.LayerNorm(n), nn.Linear(n, n)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.layer(self.norm(x)))


def positive(width: int, depth: int):
    return Stack(width, [Positive(width) for _ in range(depth)]), points()


class Single(nn.Module):
    """A branch of one matrix."""

    def __init__(self, n: int):
        super().__init__()
        self.layer = nn.Linear(n, n)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(F.relu(x))


def single(width: int, depth: int):
    return Stack(width, [Single(width) for _ in range(depth)]), points()


class Ladder(nn.Module):
    """A U-Net of blocks: what the way down leaves is added on the way up."""

    def __init__(self, n: int, depth: int):
        super().__init__()
        self.entry, self.out, self.norm = nn.Linear(8, n), nn.Linear(n, 4), nn.LayerNorm(n)
        self.down = nn.ModuleList(Block(n) for _ in range(depth))
        self.up = nn.ModuleList(Block(n) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.entry(x)
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        for block in self.up:
            x = block(x + skips.pop())
        return self.out(self.norm(x))


def ladder(width: int, depth: int):
    return Ladder(width, depth), points()


class Reader(nn.Module):
    """A block whose branch reads a skip beside the stream."""

    def __init__(self, n: int):
        super().__init__()
        self.norm, self.one, self.two = nn.LayerNorm(2 * n), nn.Linear(2 * n, 4 * n), nn.Linear(4 * n, n)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return x + self.two(F.relu(self.one(self.norm(torch.cat([x, skip], -1)))))


class Hourglass(Ladder):
    """A U-Net whose skips are concatenated inside of branches."""

    def __init__(self, n: int, depth: int):
        super().__init__(n, depth)
        self.up = nn.ModuleList(Reader(n) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.entry(x)
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        for block in self.up:
            x = block(x, skips.pop())
        return self.out(self.norm(x))


def hourglass(width: int, depth: int):
    return Hourglass(width, depth), points()


__all__ = [
    "REFUSED",
    "hourglass",
    "injected",
    "ladder",
    "logarithmic",
    "multiplied",
    "positive",
    "pyramid",
    "single",
    "turns",
]
