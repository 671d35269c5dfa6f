"""LoRA of fixed rank on a layer that grows: one rate for both of its factors."""

import torch
import torch.nn.functional as F
from models import MLP, features
from torch import nn


class Adapted(MLP):
    def __init__(self, width: int, rank: int = 4):
        super().__init__(width)
        self.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, width) * width**-0.5)
        self.up = nn.Parameter(torch.zeros(width, rank))

    def forward(self, x):
        x = F.relu(self.input(x))
        x = F.relu(self.hidden(x) + x @ self.down.T @ self.up.T)
        return self.output(x)


def wrong(width):
    model = Adapted(width)
    return (
        model,
        torch.optim.AdamW([model.down, model.up], lr=1e-3, weight_decay=0.0, eps=1e-8 * 64 / width),
        features(),
    )


def right(width):
    """The factor that contracts the width has its rate over the width."""
    model = Adapted(width)
    slow = {"params": [model.down], "lr": 1e-3 * 64 / width}
    return model, torch.optim.AdamW([slow, {"params": [model.up]}], weight_decay=0.0, eps=1e-8 * 64 / width), features()
