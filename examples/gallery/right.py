"""Both models of the gallery as they ought to be: what each mistake is held against."""

import torch
from models import MLP, Transformer, features, groups, sentences


def mlp(width):
    model = MLP(width)
    return model, torch.optim.AdamW(groups(model, width)), features()


def transformer(width):
    model = Transformer(width, logits=2 / width)
    return model, torch.optim.AdamW(groups(model, width)), sentences()
