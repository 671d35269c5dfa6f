"""Small models whose rules are known, shared by the tests.  Each factory takes the width, as users' factories do."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tpcalc
from tpcalc.derive import Solution, solve
from tpcalc.program import Program
from tpcalc.trace.target import load_target

EXAMPLES = Path(__file__).parents[1] / "examples"
WIDTHS = (64, 128, 256)
FEATURES = 8
CLASSES = 4
VOCABULARY = 40


def example(file: str, name: str) -> Callable:
    return load_target(f"{EXAMPLES / file}:{name}")


@lru_cache(maxsize=None)
def program(factory: Callable) -> Program:
    return tpcalc.trace(factory, WIDTHS)


@lru_cache(maxsize=None)
def solution(factory: Callable) -> Solution:
    return solve(program(factory))


def points(features: int = FEATURES) -> tuple[Tensor]:
    return (torch.linspace(-1, 1, 3 * features).reshape(3, features),)


def tokens(length: int = 6) -> tuple[Tensor]:
    return (torch.arange(2 * length).reshape(2, length) % VOCABULARY,)


def images() -> tuple[Tensor]:
    return (torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8),)


class BareMLP(nn.Module):
    """The MLP of the papers: no biases, ``depth`` hidden layers, a bounded nonlinearity."""

    def __init__(self, width: int, depth: int):
        super().__init__()
        sizes = [FEATURES] + [width] * depth
        self.layers = nn.ModuleList(nn.Linear(m, n, bias=False) for m, n in zip(sizes, sizes[1:]))
        self.readout = nn.Linear(width, CLASSES, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.readout(x)


@lru_cache(maxsize=None)
def bare_mlp(depth: int) -> Callable:
    return lambda width: (BareMLP(width, depth), points())


__all__ = [
    "CLASSES", "EXAMPLES", "FEATURES", "F", "VOCABULARY", "WIDTHS", "BareMLP", "ModuleType", "bare_mlp", "example", "images",
    "math", "nn", "points", "program", "solution", "tokens", "torch",
]
