"""The embedding is the readout, too, and is scaled as a readout."""

import torch
from models import BASE, Transformer, groups, sentences
from torch import nn


def wrong(width):
    model = Transformer(width, logits=2 / width, tied=True)
    nn.init.normal_(model.token.weight, std=BASE / width)
    return model, torch.optim.AdamW(groups(model, width)), sentences()


def right(width):
    """The embedding as one, and the logits times 1/n."""
    model = Transformer(width, logits=2 / width, tied=True)
    nn.init.normal_(model.token.weight, std=1.0)
    model.norm3.weight.data *= BASE / width  # the gain before the readout takes the multiplier
    found = groups(model, width)
    ratio = width / BASE
    rest = [p for group in found for p in group["params"] if p is not model.norm3.weight and p is not model.norm3.bias]
    matrices = [p for p in rest if p in set(found[0]["params"])]
    rest = [p for p in rest if p not in set(matrices)]
    last = {"params": [*model.norm3.parameters()], "lr": 1e-3 / ratio, "weight_decay": 0.1 * ratio, "eps": 1e-8}
    return model, torch.optim.AdamW([found[0], found[2] | {"params": rest}, last]), sentences()
