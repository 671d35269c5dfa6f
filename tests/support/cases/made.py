"""What factories make: buffers, lists of tensors, many tensors at once, arguments by position and by name."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.support.cases.acts import INPUT, OUTPUT, X


class Net(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.a, self.c = nn.Linear(24, n), nn.Linear(n, 10)

    def forward(self, x, *, scale=None, shift=0.0):
        h = F.relu(self.a(x)) + shift
        return self.c(h if scale is None else h * scale)


class Buffered(Net):
    """Keeps a sparse buffer that nothing uses."""

    def __init__(self, n):
        super().__init__(n)
        self.register_buffer("heads", torch.eye(4).to_sparse(), persistent=False)


class Listed(Net):
    """A gain made of a list of tensors."""

    def __init__(self, n):
        super().__init__(n)
        self.s = nn.Parameter(torch.tensor([torch.rand(1) for _ in range(n)]))

    def forward(self, x):
        return self.c(F.relu(self.a(x)) * self.s)


class ManyAtOnce(Net):
    """Weights scaled, and activations added, by ops over lists of tensors."""

    def __init__(self, n):
        super().__init__(n)
        with torch.no_grad():
            torch._foreach_mul_([self.a.weight, self.c.weight], 0.5)

    def forward(self, x):
        h, doubled = torch._foreach_mul([F.relu(self.a(x)), x], 2.0)
        h, _ = torch._foreach_add([h, doubled], [h, doubled])
        return self.c(h)


class Moment(Net):
    """A constant measured on random numbers, as e3nn's ``normalize2mom``."""

    def __init__(self, n):
        super().__init__(n)
        drawn = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
        self.size = torch.tanh(drawn).pow(2).mean().pow(-0.5).item()

    def forward(self, x):
        return self.c(torch.tanh(self.a(x)) * self.size)


def by_name(n):
    return Net(n), (X,), {"scale": torch.full((1,), 2.0), "shift": 1.0}


def by_position_alone(n):
    return Net(n), (X,), {}


def one_tensor(n):
    return Net(n), X, {"scale": torch.full((1,), 2.0)}


PLAIN = {"a.weight": INPUT, "c.weight": OUTPUT}
CASES = {
    "unused sparse buffer": (lambda n: (Buffered(n), (X,)), PLAIN),
    "tensor of tensors": (lambda n: (Listed(n), (X,)), {**PLAIN, "s": INPUT}),
    "ops over lists": (lambda n: (ManyAtOnce(n), (X,)), PLAIN),
    "measured constant": (lambda n: (Moment(n), (X,)), PLAIN),
    "arguments by name": (by_name, PLAIN),
    "no arguments by name": (by_position_alone, PLAIN),
    "one tensor, others by name": (one_tensor, PLAIN),
}


def by_hand(n):
    """For ``verify``: arguments by name, beside the optimizer."""
    model, m = Net(n), n / 64
    nn.init.normal_(model.a.weight), nn.init.normal_(model.c.weight, std=1 / n)
    groups = [
        {"params": [model.c.weight], "lr": 1e-3 / m},
        {"params": [*model.a.parameters(), model.c.bias], "lr": 1e-3},
    ]
    inputs = {"x": X, "scale": torch.full((1,), 2.0)}
    return model, torch.optim.AdamW(groups, weight_decay=0.0, eps=1e-9 / m), inputs


class Rows(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.inp, self.pack = nn.Linear(24, n), nn.Linear(n, n + 8, bias=False)
        self.low, self.out = nn.Linear(8, n, bias=False), nn.Linear(n, 10, bias=False)
        for layer, std in ((self.inp, 0.2), (self.pack, n**-0.5), (self.low, 0.3), (self.out, 1 / n)):
            nn.init.normal_(layer.weight, std=std)

    def forward(self, x):
        a, b = self.pack(F.relu(self.inp(x))).tanh().split([self.out.in_features, 8], -1)
        return self.out(a + self.low(b))


def rows_by_hand(*steps):
    """A packed weight: its last rows get a smaller init (``"rows"``), all of it is scaled (a number)."""

    def setup(n):
        model, m = Rows(n), n / 64
        with torch.no_grad():
            for step in steps:
                model.pack.weight[n:].mul_(m**-0.5) if step == "rows" else model.pack.weight.mul_(step)
        groups = [
            {"params": [model.pack.weight, model.out.weight], "lr": 1e-3 / m, "eps": 1e-8},
            {"params": [*model.inp.parameters(), model.low.weight], "lr": 1e-3, "eps": 1e-8 / m},
        ]
        return model, torch.optim.AdamW(groups, weight_decay=0.0), (X,)

    return setup
