"""Rates by module: the bias of a layer gets the rate of its matrix."""

import torch
from models import BASE, MLP, features


def wrong(width):
    model = MLP(width)
    ratio = width / BASE
    rates = {model.input: 1.0, model.hidden: 1 / ratio, model.output: 1 / ratio}
    found = [
        {
            "params": [p],
            "lr": 1e-3 * rate,
            "weight_decay": 0.1 / rate,
            "eps": 1e-8 / (1 if layer is model.output else ratio),
        }
        for layer, rate in rates.items()
        for p in layer.parameters()
    ]
    return model, torch.optim.AdamW(found), features()
