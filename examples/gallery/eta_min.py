"""A cosine down to `eta_min`, a learning rate: one floor for groups whose peaks differ."""

import math

import torch
from models import MLP, features, groups


def wrong(width):
    model = MLP(width)
    optimizer = torch.optim.AdamW(groups(model, width))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100, eta_min=1e-4)
    return model, optimizer, schedule, features()


def right(width):
    """A floor that is a part of each group's own peak."""
    model = MLP(width)
    optimizer = torch.optim.AdamW(groups(model, width))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.55 + 0.45 * math.cos(math.pi * min(step / 100, 1))
    )
    return model, optimizer, schedule, features()
