"""Exponents in the depth against training: residual MLPs of depths 2 to 32, Adam, log-log slopes over the depth.

Predicted are the sizes of the stream at init and of its change, and what the own update of a block's first matrix
changes in it (docs/theory.md, depth).  At alpha = 1 the random part of the branches fades as L^-1/2 beside what
the stream starts from, so that sizes at finite depth fall a little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.support.depths import Powers, powers, traced
from tests.support.stacks import CLASSES, FEATURES, Stack, pre

pytestmark = pytest.mark.slow

WIDTH, BATCH, SEEDS, STEPS = 64, 16, 4, 3
DEPTHS = (2, 4, 8, 16, 32)
RATE = 0.02


def scaled(found: Mapping[str, Powers], name: str, field: str, depth: int) -> float:
    """L^-x and n^-x of a weight at this depth; every block is as the first."""
    parts = name.split(".")
    first = ".".join(["blocks", "0", *parts[2:]]) if parts[0] == "blocks" else name
    n, L = found[first][field]
    return WIDTH ** -float(n) * depth ** -float(L)


def trained(found: Mapping[str, Powers], depth: int, seed: int) -> dict[str, float]:
    torch.manual_seed(seed)
    model: Stack = pre(WIDTH, depth)[0].double()
    x, y = torch.randn(BATCH, FEATURES).double(), torch.randint(CLASSES, (BATCH,))
    for name, weight in model.named_parameters():
        gain = name.endswith("norm.weight")
        std = 0.0 if name == "out.weight" else scaled(found, name, "A", depth)
        torch.nn.init.ones_(weight) if gain else torch.nn.init.normal_(weight, std=std)
        if name.endswith("bias"):
            torch.nn.init.zeros_(weight)
    torch.nn.init.normal_(model.out.weight, std=1 / WIDTH)
    groups = [{"params": [w], "lr": RATE * scaled(found, name, "c", depth)} for name, w in model.named_parameters()]
    optimizer = torch.optim.Adam(groups, eps=1e-30)

    def stream(blocks: int = depth) -> torch.Tensor:
        h = model.entry(x)
        for block in model.blocks[:blocks]:
            h = block(h)
        return h

    rms = lambda t: float(t.pow(2).mean().sqrt())  # noqa: E731
    block = model.blocks[depth // 2]
    with torch.no_grad():
        start, first = stream(), block.one.weight.clone()
        enters = block.norm(stream(depth // 2))
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        own = F.linear(enters, block.one.weight - first)
        return {"stream": rms(start), "change": rms(stream() - start), "own": rms(own)}


def slopes(found: Mapping[str, Powers]) -> dict[str, float]:
    sizes = {depth: [trained(found, depth, seed) for seed in range(SEEDS)] for depth in DEPTHS}
    return {
        what: float(
            np.polyfit(
                [math.log(depth) for depth in DEPTHS],
                [float(np.mean([math.log(run[what]) for run in sizes[depth]])) for depth in DEPTHS],
                1,
            )[0]
        )
        for what in ("stream", "change", "own")
    }


#: alpha (None: the width alone) -> slopes of the stream at init, of its change, of a block's own change.
PREDICTED = {None: (0.5, 1.0, 0.0), Fraction(1, 2): (0.0, 0.0, -0.5), Fraction(1): (0.0, 0.0, 0.0)}


@pytest.mark.parametrize("alpha", PREDICTED)
def test_slopes_over_the_depth(alpha):
    found = powers(traced(pre), alpha or 1)
    if alpha is None:
        found = {name: {key: v and (v[0], Fraction(0)) for key, v in each.items()} for name, each in found.items()}
    stream, change, own = PREDICTED[alpha]
    got = slopes(found)
    # without powers of the depth the stream is not yet made of branches alone at these depths
    slack = 0.25 if alpha is None else 0.1
    assert abs(got["stream"] - stream) < slack, got
    assert abs(got["change"] - change) < slack, got
    assert abs(got["own"] - own) < 0.1, got
