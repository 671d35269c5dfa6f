"""Right along the width; and as deep as one likes, with residual branches that nothing makes smaller."""

import torch
import torch.nn.functional as F
from models import BASE
from torch import nn


class Stack(nn.Module):
    def __init__(self, width: int, depth: int):
        super().__init__()
        self.enter, self.leave = nn.Linear(24, width, bias=False), nn.Linear(width, 10, bias=False)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.up = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
        self.down = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
        self.last = nn.LayerNorm(width)
        for layer in [*self.up, *self.down]:
            nn.init.normal_(layer.weight, std=width**-0.5)
        nn.init.normal_(self.enter.weight, std=0.2)
        nn.init.normal_(self.leave.weight, std=8 / width)

    def forward(self, x):
        x = self.enter(x)
        for norm, up, down in zip(self.norms, self.up, self.down):
            x = x + down(F.relu(up(norm(x))))
        return self.leave(self.last(x))


def wrong(width, depth):
    model = Stack(width, depth)
    return model, optimizer(model, width), inputs()


def right(width, depth):
    """The last matrix of each branch has its init and its rate over the depth (Dey et al. 2025, at alpha = 1)."""
    model = Stack(width, depth)
    for layer in model.down:
        layer.weight.data *= 2 / depth
    return model, optimizer(model, width, branches=2 / depth), inputs()


def inputs():
    return (torch.linspace(-1, 1, 8 * 24).reshape(8, 24),)


def optimizer(model, width, branches=1.0):
    """Groups by the width alone, or with the last matrices of branches, and every epsilon inside, over the depth."""
    ratio = width / BASE
    lr, decay, eps = 1e-3, 0.1, 1e-12
    apart = {id(layer.weight) for layer in [*model.up, *model.down, model.leave]}
    inside = [p for p in model.norms.parameters()]
    apart |= {id(p) for p in inside}
    rest = [p for p in model.parameters() if id(p) not in apart]
    small = eps / ratio * branches
    rows = [
        ([layer.weight for layer in model.up], lr / ratio, small),
        ([layer.weight for layer in model.down], lr / ratio * branches, eps / ratio * branches),
        ([model.leave.weight], lr / ratio, eps),
        (inside, lr, small),
        (rest, lr, eps / ratio),
    ]
    return torch.optim.AdamW([{"params": p, "lr": x, "weight_decay": decay * lr / x, "eps": e} for p, x, e in rows])
