"""Gradients that the forward pass takes and goes on with: inner steps, and the force of an energy as a feature."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.support.cases.acts import HIDDEN, INPUT, OUTPUT, X


class Step(nn.Module):
    """One step of gradient descent on the hidden matrix (or low-rank factors of a change of it)."""

    def __init__(self, n, first=False):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(24, n), nn.Linear(n, n, bias=False), nn.Linear(n, 4)
        self.first = first

    def head(self, weight, h):
        return self.c(torch.tanh(F.linear(h, weight)))

    def forward(self, x):
        h, weight = torch.tanh(self.a(x)), self.b.weight
        loss = self.head(weight, h[:2]).square().mean()
        (step,) = torch.autograd.grad(loss, [weight], create_graph=True)
        return self.head(weight - 0.5 * (step.detach() if self.first else step), h[2:])


class Written(Step):
    """The step as its own outer product."""

    def forward(self, x):
        h = torch.tanh(self.a(x))
        return self.head(self.b.weight + h[:1].t() @ h[1:2] / h.shape[-1], h[2:])


class Force(nn.Module):
    def __init__(self, n, energy, step=None):
        super().__init__()
        self.a, self.w, self.b, self.c = nn.Linear(24, n), nn.Linear(n, n), nn.Linear(n, n), nn.Linear(n, 4)
        self.energy, self.step = energy, step

    def forward(self, x):
        h = torch.tanh(self.a(x))
        (force,) = torch.autograd.grad(self.energy(self, h), h, create_graph=True)
        return self.c(torch.tanh(self.b(force if self.step is None else h - self.step * force)))


def force(energy, step=None):
    return lambda n: (Force(n, energy, step), (X,))


STEP = {"a.weight": INPUT, "b.weight": HIDDEN, "c.weight": OUTPUT}
FORCE = {**STEP, "w.weight": HIDDEN}
CASES = {
    "inner step": (lambda n: (Step(n), (X,)), STEP),
    "inner step of first order": (lambda n: (Step(n, first=True), (X,)), STEP),
    "outer product": (lambda n: (Written(n), (X,)), STEP),
    "force of softplus": (force(lambda m, h: F.softplus(m.w(h)).sum()), FORCE),
    "force of relu squared": (force(lambda m, h: m.w(h).relu().square().sum() / 2), FORCE),
    "force of silu": (force(lambda m, h: F.silu(m.w(h)).sum()), FORCE),
    "step down an energy": (force(lambda m, h: h.square().sum() / 2 + F.softplus(m.w(h)).sum(), 0.5), FORCE),
}
