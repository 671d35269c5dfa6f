"""A filter for matrices, `p.dim() == 2`: positions are none of those that contract the width."""

import torch
from models import BASE, Transformer, groups, sentences


def wrong(width):
    model = Transformer(width, logits=2 / width)
    found = groups(model, width)
    found[2]["params"] = [p for p in found[2]["params"] if p is not model.position.weight]
    ratio = width / BASE
    slow = {"params": [model.position.weight], "lr": 1e-3 / ratio, "weight_decay": 0.1 * ratio, "eps": 1e-8 / ratio}
    return model, torch.optim.AdamW([*found, slow]), sentences()
