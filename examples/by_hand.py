"""Parametrizations written by hand, for tpcalc to verify.

tpcalc verify examples/by_hand.py:right
tpcalc verify examples/by_hand.py:fan_ratio
"""

from __future__ import annotations

import torch
from mlp import MLP
from torch import nn

BASE = 64


def _groups(model: MLP, lr: float, eps: float, ratio: float, hidden: float):
    """One group a layer: Adam's epsilon follows the gradients, which shrink like 1/ratio but for the readout."""
    decay = 0.1
    return [
        {"params": [*model.input.parameters(), model.hidden.bias], "lr": lr, "eps": eps / ratio, "weight_decay": decay},
        {"params": [model.hidden.weight], "lr": lr * hidden, "eps": eps / ratio, "weight_decay": decay / hidden},
        {"params": [model.output.weight], "lr": lr / ratio, "eps": eps, "weight_decay": decay * ratio},
        {"params": [model.output.bias], "lr": lr, "eps": eps, "weight_decay": decay},
    ]


def _initialise(model: MLP, ratio: float) -> None:
    for bias in (model.input.bias, model.hidden.bias, model.output.bias):
        nn.init.zeros_(bias)
    nn.init.normal_(model.input.weight, std=0.2)
    nn.init.normal_(model.hidden.weight, std=0.12 * ratio**-0.5)
    nn.init.normal_(model.output.weight, std=0.12 / ratio)


def right(width: int):
    """Maximal update parametrization for AdamW (Yang et al. 2022, Table 8, the multiplier put into init and lr)."""
    model = MLP(width)
    ratio = width / BASE
    _initialise(model, ratio)
    return model, torch.optim.AdamW(_groups(model, 1e-3, 1e-8, ratio, hidden=1 / ratio))


def fan_ratio(width: int):
    """The hidden layer's lr by fan_out / fan_in, a rule for SGD, given to AdamW."""
    model = MLP(width)
    ratio = width / BASE
    _initialise(model, ratio)
    fan_out, fan_in = model.hidden.weight.shape
    return model, torch.optim.AdamW(_groups(model, 1e-3, 1e-8, ratio, hidden=fan_out / fan_in))
