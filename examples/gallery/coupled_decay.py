"""Decay grows with the width, as AdamW asks; but this is Adam, which adds it to the gradient."""

import torch
from models import MLP, features, groups


def wrong(width):
    model = MLP(width)
    return model, torch.optim.Adam(groups(model, width, decay=1e-4)), features()


def right(width):
    """In proportion to the gradient, which shrinks as 1/n, of a weight that starts as 1/sqrt(n)."""
    model, adam, inputs = wrong(width)
    ratio = width / 64
    for group, power in zip(adam.param_groups, (-0.5, 1, -1, 0)):
        group["weight_decay"] = 1e-4 * ratio**power
    return model, adam, inputs
