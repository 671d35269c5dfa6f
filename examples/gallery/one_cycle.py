"""Groups are right; `OneCycleLR` then writes one `max_lr` into all of them."""

import torch
from models import MLP, features, groups


def wrong(width):
    model = MLP(width)
    optimizer = torch.optim.AdamW(groups(model, width))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=100)
    return model, optimizer, schedule, features()
