"""What cuts, blends, samples or transforms activations."""

from __future__ import annotations

from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import nn

H = Fraction(1, 2)
INPUT, HIDDEN, OUTPUT = (0, 0), (H, 1), (1, 1)
X = torch.linspace(-1, 1, 96).reshape(4, 24).sin()
IMAGE = torch.linspace(-1, 1, 2 * 3 * 64).reshape(2, 3, 8, 8).sin()


class Net(nn.Module):
    """Three layers, with ``f(module, y)`` behind the second."""

    def __init__(self, n, f, gate=False):
        super().__init__()
        self.a, self.b, self.c, self.f = nn.Linear(24, n), nn.Linear(n, n), nn.Linear(n, 10), f
        self.gate = nn.Linear(n, n) if gate else None

    def forward(self, x):
        h = F.relu(self.a(x))
        return self.c(F.relu(self.f(self, h)))


class Policy(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.a, self.mu, self.ls = nn.Linear(24, n), nn.Linear(n, 4), nn.Linear(n, 4)

    def forward(self, x):
        h = F.relu(self.a(x))
        return self.mu(h), self.ls(h).clamp(-20, 2).exp()


class Sampled(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.a, self.off, self.c = nn.Conv2d(3, n, 3, padding=1), nn.Conv2d(n, 2, 3, padding=1), nn.Linear(n, 5)

    def forward(self, x):
        h = F.relu(self.a(x))
        return self.c(F.grid_sample(h, self.off(h).permute(0, 2, 3, 1), align_corners=False).mean((2, 3)))


class Energy(nn.Module):
    """An energy and its force."""

    def __init__(self, n):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(24, n), nn.Linear(n, n), nn.Linear(n, 1)

    def forward(self, x):
        x = x.clone().requires_grad_(True)
        energy = self.c(F.silu(self.b(F.silu(self.a(x)))))
        return energy, -torch.autograd.grad(energy.sum(), x, create_graph=True)[0]


def net(f, gate=False):
    return lambda n: (Net(n, f, gate), (X,))


def transformed(norm):
    return lambda m, h: m.b(torch.fft.fft(h, norm=norm).real)


PLAIN = {"a.weight": INPUT, "b.weight": HIDDEN, "c.weight": OUTPUT}
GATED = {**PLAIN, "gate.weight": HIDDEN}
CASES = {
    "clamp": (net(lambda m, h: m.b(h).clamp(-1, 1)), PLAIN),
    "clamp from zero": (net(lambda m, h: m.b(h).clamp(0, 6)), PLAIN),
    "hardtanh": (net(lambda m, h: F.hardtanh(m.b(h))), PLAIN),
    "clamp by tensors": (net(lambda m, h: m.b(h).clamp(torch.tensor(-1.0), torch.tensor(1.0))), PLAIN),
    "lerp": (net(lambda m, h: m.b(h).lerp(h, torch.sigmoid(m.gate(h))), gate=True), GATED),
    "lerp by hand": (net(lambda m, h: m.b(h) + torch.sigmoid(m.gate(h)) * (h - m.b(h)), gate=True), GATED),
    "fft": (net(transformed("backward")), {"a.weight": (H, H), "b.weight": HIDDEN, "c.weight": OUTPUT}),
    "fft, ortho": (net(transformed("ortho")), PLAIN),
    "policy": (
        lambda n: (Policy(n), (X,)),
        {"a.weight": INPUT, "mu.weight": OUTPUT, "ls.weight": OUTPUT},
    ),
    "sampled": (lambda n: (Sampled(n), (IMAGE,)), {"a.weight": INPUT, "off.weight": OUTPUT, "c.weight": OUTPUT}),
    "force": (lambda n: (Energy(n), (X,)), PLAIN),
}
