"""Heads grow with the width, and attention logits are divided by sqrt(d), as everywhere."""

import torch
from models import Transformer, groups, sentences


def wrong(width):
    model = Transformer(width, logits=(width / 2) ** -0.5)
    return model, torch.optim.AdamW(groups(model, width)), sentences()
