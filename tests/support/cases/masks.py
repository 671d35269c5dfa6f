"""Weights of which a mask, a diagonal or blocks leave few of many entries, or a constant share of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.support.cases.acts import HIDDEN, INPUT, OUTPUT, H, X


class Layer(nn.Module):
    """Multiplies by ``f`` of its parameters ``w``, ``v``, ``u``, of shapes ``of(n)``."""

    def __init__(self, n, f, of):
        super().__init__()
        self.n, self.f = n, f
        for name, shape in zip("wvu", of(n)):
            self.register_parameter(name, nn.Parameter(torch.randn(shape)))

    def forward(self, h):
        return F.linear(h, self.f(self.n, *self.parameters(recurse=False)))


class Net(nn.Module):
    def __init__(self, n, f, of):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(24, n, bias=False), Layer(n, f, of), nn.Linear(n, 10, bias=False)

    def forward(self, x):
        return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))


class Buffered(Net):
    """The mask is a buffer of random zeros and ones."""

    def __init__(self, n, share):
        super().__init__(n, lambda n, w: w * self.mask, square)
        drawn = torch.rand(n, n, generator=torch.Generator().manual_seed(1))
        self.register_buffer("mask", (drawn < share(n)).float())


def net(f, of=None):
    return lambda n: (Net(n, f, of or square), (X,))


def square(n):
    return [(n, n)]


def away(n):
    """How far each entry is from the diagonal."""
    return torch.arange(n)[:, None] - torch.arange(n)


def band(n):
    return away(n).abs() <= 2


def blocks(n, k):
    return torch.kron(torch.eye(n // k), torch.ones(k, k))


def written(n, w):
    m = torch.zeros(n, n)
    m.diagonal().copy_(w)
    return m


def put(n, w):
    m, i = torch.zeros(n, n), torch.arange(n)
    for k in range(3):
        m[i, (i + k) % n] = w[:, k]
    return m


def rules(**others):
    return {"a.weight": INPUT, "c.weight": OUTPUT, **{f"b.{name}": rule for name, rule in others.items()}}


FEW, MANY, BOTH = rules(w=INPUT), rules(w=HIDDEN), rules(w=INPUT, v=HIDDEN)
TWO = {"of": lambda n: [(n, n), (n, n)]}
CASES = {
    "band by where": (net(lambda n, w: torch.where(band(n), w, 0.0)), FEW),
    "band by where not": (net(lambda n, w: torch.where(~band(n), torch.zeros(()), w)), FEW),
    "band filled": (net(lambda n, w: w.masked_fill(~band(n), 0.0)), FEW),
    "band by product": (net(lambda n, w: w * band(n)), FEW),
    "band by tril and triu": (net(lambda n, w: w.tril(2).triu(-2)), FEW),
    "diagonal": (net(lambda n, w: torch.diag(w.diagonal())), FEW),
    "diagonal vector": (net(lambda n, w: torch.diag(w), lambda n: [(n,)]), FEW),
    "diag_embed": (net(lambda n, w: torch.diag_embed(w), lambda n: [(n,)]), FEW),
    "written diagonal": (net(written, lambda n: [(n,)]), FEW),
    "put": (net(put, lambda n: [(n, 3)]), FEW),
    "scattered": (
        net(
            lambda n, w: torch.zeros(n, n).scatter(1, (torch.arange(n)[:, None] + torch.arange(4)) % n, w),
            lambda n: [(n, 4)],
        ),
        FEW,
    ),
    "times the identity": (net(lambda n, w: w * torch.eye(n)), FEW),
    "fixed blocks": (net(lambda n, w: w * blocks(n, 4)), FEW),
    "blocks of a stack": (
        net(lambda n, w: torch.einsum("bij,bc->bicj", w, torch.eye(n // 4)).reshape(n, n), lambda n: [(n // 4, 4, 4)]),
        FEW,
    ),
    "few at random": (lambda n: (Buffered(n, lambda n: 8 / n), (X,)), FEW),
    "unit rows of a band": (net(lambda n, w: F.normalize(w * band(n), dim=1)), FEW),
    "softmax along a band": (net(lambda n, w: w.masked_fill(~band(n), -torch.inf).softmax(-1)), FEW),
    "identity and band": (net(lambda n, w: torch.eye(n) + w * band(n)), FEW),
    "growing blocks": (net(lambda n, w: w * blocks(n, n // 4)), MANY),
    "causal": (net(lambda n, w: w.tril()), MANY),
    "wide band": (net(lambda n, w: w * (away(n).abs() <= n // 8)), MANY),
    "many at random": (lambda n: (Buffered(n, lambda n: 0.3), (X,)), MANY),
    "identity and weight": (net(lambda n, w: torch.eye(n) + w), MANY),
    "block_diag": (net(lambda n, w: torch.block_diag(*w), lambda n: [(4, n // 4, n // 4)]), MANY),
    "block_diag of two": (
        net(lambda n, w, v: torch.block_diag(w, v), lambda n: [(n // 2, n // 2)] * 2),
        rules(w=HIDDEN, v=HIDDEN),
    ),
    "band and weight": (net(lambda n, w, v: w * band(n) + v, **TWO), BOTH),
    "band or weight": (net(lambda n, w, v: torch.where(band(n), w, v), **TWO), BOTH),
    "diagonal and weight": (net(lambda n, w, v: torch.diag(w) + v, lambda n: [(n,), (n, n)]), BOTH),
    "band times band": (net(lambda n, w, v: (w * band(n)) @ (v * band(n)), **TWO), rules(w=INPUT, v=INPUT)),
    "three diagonals": (
        net(
            lambda n, w, v, u: torch.diag(w) + torch.diag(v, 1) + torch.diag(u, -1),
            lambda n: [(n,), (n - 1,), (n - 1,)],
        ),
        rules(w=INPUT, v=INPUT, u=INPUT),
    ),
    "few rows": (
        net(lambda n, w: w * (torch.arange(n) < 4)[:, None]),
        {"a.weight": INPUT, "b.w": OUTPUT, "c.weight": INPUT},
    ),
    "few columns": (net(lambda n, w: w * (torch.arange(n) < 4)), FEW),
}
#: Blocks whose number and size grow alike; at widths that are squares.
ROOTS = net(lambda n, w: w * blocks(n, round(n**0.5))), rules(w=(H / 2, H))
