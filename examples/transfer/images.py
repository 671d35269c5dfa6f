"""A residual network on images made by a fixed procedure, trained by SGD with momentum.

    tpcalc table examples/transfer/images.py:resnet --optimizer examples/transfer/images.py:sgd

Each of ten classes is four glyphs, 5x5 patterns of light and dark.  An image shows one, anywhere, in any colour,
over noise.  So a network needs a detector of each glyph, and more channels find more of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from loop import descend, held_out  # noqa: E402
from resnet import ResNet  # noqa: E402

CLASSES = 10
VARIANTS = 4
GLYPH = 5
SIZE = 8
NOISE = 0.3
BATCH = 32
#: Batches of held-out images: 1,024 of them.
HELD_OUT = 8
HELD_OUT_BATCH = 128


@cache
def glyphs() -> Tensor:
    """[classes, variants, 5, 5] of ones and minus ones."""
    return torch.randn(CLASSES, VARIANTS, GLYPH, GLYPH, generator=torch.Generator().manual_seed(1)).sign()


def batches(generator: torch.Generator, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images, [batch, 3, 8, 8], and their classes, without end."""
    around = SIZE - GLYPH
    while True:
        classes = torch.randint(CLASSES, (batch,), generator=generator)
        variants = torch.randint(VARIANTS, (batch,), generator=generator)
        rows, columns = torch.randint(around + 1, (2, batch, 1), generator=generator)
        colours = F.normalize(torch.randn(batch, 3, generator=generator), dim=1) * 3**0.5
        padded = F.pad(glyphs()[classes, variants], (around,) * 4)
        y = (torch.arange(SIZE) + around - rows).unsqueeze(2)
        x = (torch.arange(SIZE) + around - columns).unsqueeze(1)
        shown = padded[torch.arange(batch).reshape(-1, 1, 1), y, x]
        noise = torch.randn(batch, 3, SIZE, SIZE, generator=generator)
        yield shown.unsqueeze(1) * colours.reshape(batch, 3, 1, 1) + NOISE * noise, classes


@cache
def held_out_batches() -> list[tuple[Tensor, Tensor]]:
    """Always the same."""
    source = batches(torch.Generator().manual_seed(2), HELD_OUT_BATCH)
    return [next(source) for _ in range(HELD_OUT)]


def resnet(width: int):
    """Two stages, of ``width / 2`` and ``width`` channels."""
    return ResNet(width // 2, CLASSES), (torch.linspace(-1, 1, BATCH * 3 * SIZE * SIZE).reshape(BATCH, 3, SIZE, SIZE),)


def sgd(groups: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9)


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    images, classes = batch
    return F.cross_entropy(model(images), classes)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, context: Any) -> float:
    """The cross-entropy, in nats an image, on images held out."""
    descend(model, optimizer, context, batches(context.generator(), BATCH), loss_of)
    return held_out(model, held_out_batches(), loss_of)
