"""A multilayer perceptron for classification: the smallest model with an input, a hidden and an output layer.

tpcalc table examples/mlp.py:mlp --optimizer sgd
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MLP(nn.Module):
    def __init__(self, width: int, features: int = 24, classes: int = 10):
        super().__init__()
        self.input = nn.Linear(features, width)
        self.hidden = nn.Linear(width, width)
        self.output = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.input(x))
        x = F.relu(self.hidden(x))
        return self.output(x)


def mlp(width: int):
    """Two hidden layers of ``width`` units."""
    return MLP(width), (torch.linspace(-1, 1, 4 * 24).reshape(4, 24),)
