"""Made gradients and weights, small ones whose sizes are known exactly.

A gradient is a sum over few samples: of low rank, with entries of one size.  A longer axis repeats a shorter one, so
that entries, singular values and norms are the same at every size but for exact powers of it.  So exponents come out
exact, also those of updates that are no plain power of each entry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch

from tpcalc.algebra.order import Order, fraction

#: How much of each outer product is in a gradient: two, of which few entries can't cancel each other.
SHARES = (1.0, 0.6)
#: Shortest length of a growing axis beside another, and least entries of a tensor with one.
SIDE, ENTRIES = 16, 64
#: Longest fixed axis, below every growing one; and largest ratio of growing ones that is kept.
FIXED, RATIO = 8, 4
#: Entries at most at the largest size.
MOST = 1 << 17


@dataclass(frozen=True)
class Kind:
    """Shapes of one kind: the growth of each axis, and its length at the smallest width."""

    growths: tuple[Order, ...]
    lengths: tuple[int, ...]

    @property
    def grows(self) -> bool:
        return any(growth > 0 for growth in self.growths)

    @property
    def base(self) -> tuple[int, ...]:
        growing = [length for growth, length in zip(self.growths, self.lengths, strict=True) if growth > 0]
        fixed = [min(x, FIXED) for growth, x in zip(self.growths, self.lengths, strict=True) if growth <= 0]
        alone = max(2 * SIDE, 1 << (math.ceil(ENTRIES / max(math.prod(fixed), 1)) - 1).bit_length())
        side = alone if len(growing) == 1 else SIDE if len(growing) == 2 else SIDE // 2
        alike = len({growth for growth in self.growths if growth > 0}) == 1
        rest = iter(fixed)
        return tuple(
            next(rest) if growth <= 0 else side * (self._ratio(length, min(growing)) if alike else 1)
            for growth, length in zip(self.growths, self.lengths, strict=True)
        )

    @staticmethod
    def _ratio(length: int, shortest: int) -> int:
        return min(RATIO, 1 << max(0, round(math.log2(max(length, 1) / max(shortest, 1)))))

    @property
    def steps(self) -> tuple[int, ...]:
        """How many times larger the width is made."""
        if not self.grows:
            return (1,)
        root = math.lcm(*(growth.denominator for growth in self.growths if growth > 0))
        times = [2 ** (root * power) for power in (0, 1, 2)]
        return tuple(t for t in times if t == times[1] or math.prod(self.at(t)) <= MOST)

    def at(self, times: int) -> tuple[int, ...]:
        return tuple(
            length * round(times ** float(fraction(growth))) if growth > 0 else length
            for growth, length in zip(self.growths, self.base, strict=True)
        )


def _normal(length: int, generator: torch.Generator) -> torch.Tensor:
    """The quantiles of a normal law in random order: two draws differ in nothing but their order."""
    return _quantiles(length)[torch.randperm(length, generator=generator)]


@lru_cache(maxsize=64)
def _quantiles(length: int) -> torch.Tensor:
    at = (torch.arange(length, dtype=torch.float64) + 0.5) / length
    return torch.special.ndtri(at) if length > 1 else torch.ones(1, dtype=torch.float64)


def _repeated(base: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    return base.repeat([long // short for long, short in zip(shape, base.shape, strict=True)]) if shape else base


def _unit(tensor: torch.Tensor) -> torch.Tensor:
    """Of entries of size 1; sizes are powers of 2, and change no other bit."""
    return tensor / tensor.square().mean().sqrt()


def gradient(
    base: tuple[int, ...], shape: tuple[int, ...], rms: float, step: int, generic: bool = False
) -> torch.Tensor:
    """The gradient of one step, of entries ``rms``, at ``shape``; another one at each step.

    ``generic``: the gradients of two steps have no repetition in common, and are of one size by chance only.
    """
    return _repeated(_gradient(shape if generic else base, step) * rms, shape)


@lru_cache(maxsize=128)
def _gradient(base: tuple[int, ...], step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1000 + step)
    total = torch.zeros(base, dtype=torch.float64)
    for share in SHARES:
        product = torch.full((), share, dtype=torch.float64)
        for length in base:
            product = product[..., None] * _normal(length, generator)
        total = total + product
    if base and math.prod(base) == 1:
        total = torch.ones(base, dtype=torch.float64)
    return _unit(total)


def weight(base: tuple[int, ...], shape: tuple[int, ...], rms: float) -> torch.Tensor:
    """A weight of entries ``rms``."""
    return _repeated(_weight(base) * rms, shape)


@lru_cache(maxsize=64)
def _weight(base: tuple[int, ...]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return _unit(_normal(math.prod(base), generator).reshape(base))
