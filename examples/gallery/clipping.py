"""The global norm of the gradient is clipped at one threshold, whatever the width."""

import torch
import torch.nn.functional as F
from models import BASE, MLP, features, groups


def factory(width):
    return MLP(width), features()


def wrong(width):
    """Right in all that `tpcalc verify` reads: how a loop clips is not among it."""
    model, inputs = factory(width)
    return model, torch.optim.AdamW(groups(model, width)), inputs


right = wrong


def clip(model, max_norm=1.0):
    """As it is mostly done; returns the norm."""
    return torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)


def weighed(model, width):
    """The norm that stays: the readout's gradient counts as that of a readout behind a multiplier 1/n."""
    numbers = {name: p.grad * (BASE / width if name == "output.weight" else 1) for name, p in model.named_parameters()}
    return torch.stack([g.norm() for g in numbers.values()]).norm()


def step(model, optimizer, inputs, classes):
    optimizer.zero_grad()
    F.cross_entropy(model(*inputs), classes).backward()
    norm = clip(model)
    optimizer.step()
    return norm
