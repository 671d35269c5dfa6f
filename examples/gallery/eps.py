"""Adam's epsilon stays where it is, while gradients shrink as 1/n."""

import torch
from models import MLP, features, groups


def wrong(width):
    model = MLP(width)
    fixed = [group | {"eps": 1e-8} for group in groups(model, width)]
    return model, torch.optim.AdamW(fixed), features()
