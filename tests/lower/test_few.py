"""Few of many: sums over n entries of which k are not zero count as k, forward and backward."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tpcalc

WIDTHS = (32, 64, 128)
POINTS = torch.linspace(-1, 1, 30).reshape(5, 6).sin()


class Dictionary(nn.Module):
    """Scores of n entries (``e``), a decoder of them (``d``), rows of a memory (``v``, ``b``)."""

    def __init__(self, n, of):
        super().__init__()
        self.i, self.e, self.d = nn.Linear(6, 8), nn.Linear(8, n), nn.Linear(n, 4)
        self.v, self.b, self.n, self.of = nn.Embedding(n, 4), nn.EmbeddingBag(n, 4, mode="sum"), n, of

    def forward(self, x):
        return self.of(self, self.e(torch.relu(self.i(x))))


def scattered(s, z):
    top, where = z.topk(3, -1)
    return s.d(torch.zeros_like(z).scatter_(-1, where, top.relu()))


def put(s, z):
    top, where = z.topk(3, -1)
    return s.d(torch.zeros(5, s.n).index_put((torch.arange(5).unsqueeze(1).expand(5, 3), where), top))


def masked(s, z):
    return s.d(z * torch.zeros_like(z).scatter(-1, z.topk(3, -1).indices, 1.0))


def one_hot(s, z):
    return s.d(F.one_hot(z.argmax(-1), s.n) * z)


def straight_through(s, z):
    z = z.softmax(-1)
    return s.d(z + (F.one_hot(z.argmax(-1), s.n) - z).detach())


def rows(s, z):
    top, where = z.topk(3, -1)
    return (top.softmax(-1).unsqueeze(-1) * s.v(where)).sum(1)


def bag(s, z):
    top, where = z.topk(3, -1)
    return s.b(where, per_sample_weights=top.softmax(-1))


def columns(s, z):
    top, where = z.topk(3, -1)
    return (top.unsqueeze(-1) * s.d.weight.t()[where]).sum(1)


def positive(s, z):
    return s.d(torch.zeros_like(z).masked_fill(z > 0, 1.0) * z)


def written(s, z):
    y = torch.zeros_like(z)
    y[z > 0] = 1.0
    return s.d(y * z)


FEW = {
    "scatter": (scattered, "d"),
    "index_put": (put, "d"),
    "mask": (masked, "d"),
    "one_hot": (one_hot, "d"),
    "straight through": (straight_through, "d"),
    "gumbel": (lambda s, z: s.d(F.gumbel_softmax(z, hard=True)), "d"),
    "rows": (rows, "v"),
    "bag": (bag, "b"),
    "columns": (columns, "d"),
}
ALL = {
    "relu": lambda s, z: s.d(z.relu()),
    "a mask of signs": positive,
    "written at a mask": written,
    "sorted": lambda s, z: s.d(torch.zeros_like(z).scatter(-1, z.argsort(-1), z)),
    "ones everywhere": lambda s, z: s.d(torch.zeros_like(z).scatter(-1, z.argsort(-1), 1.0) * z),
    "one number for many": lambda s, z: s.d(torch.where(z > 0, z[:, :1], torch.zeros_like(z))),
}


def rules(of, optimizer):
    program = tpcalc.trace(lambda n: (Dictionary(n, of), (POINTS,)), WIDTHS)
    return tpcalc.derive(program, optimizer)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("name", FEW)
def test_what_meets_few_entries_is_not_scaled_down(name, optimizer):
    of, weight = FEW[name]
    found = rules(of, optimizer)
    assert not found.sites
    rule = found[f"{weight}.weight"]
    assert (rule.b, rule.c) == (0, 0)


@pytest.mark.parametrize("name", ["scatter", "index_put", "mask", "one_hot", "rows", "bag", "columns"])
def test_what_flows_back_from_few_entries_is_not_summed_over_many(name):
    found = rules(FEW[name][0], "adamw")
    assert (found["e.weight"].eps, found["i.weight"].eps) == (0, 0)


@pytest.mark.parametrize("name", ALL)
def test_a_sum_over_all_entries_is_one(name):
    rule = rules(ALL[name], "adamw")["d.weight"]
    assert (rule.b, rule.c) == (1, 1)


class Codes(nn.Module):
    """A dense vector made from few of n rows, without a bias, and a hidden layer and a readout behind it."""

    def __init__(self, n, of):
        super().__init__()
        self.i, self.h, self.o = nn.Linear(6, n), nn.Linear(n, n, bias=False), nn.Linear(n, 5)
        self.codes, self.of = nn.Parameter(torch.randn(n, n)), of

    def forward(self, x):
        return self.o(torch.relu(self.h(self.of(self.i(x)) @ self.codes)))


@pytest.mark.parametrize(
    "of",
    [
        lambda z: F.gumbel_softmax(z, hard=True),
        lambda z: F.one_hot(z.argmax(-1), z.shape[-1]) * z,
        lambda z: torch.zeros_like(z).scatter(-1, z.topk(3, -1).indices, 1.0) * z,
    ],
    ids=["gumbel", "one_hot", "top-k"],
)
def test_what_few_rows_make_has_all_its_entries(of):
    """The rows sum over few entries, the layers behind over all n.  Measured with 0 for ``h``: slope +0.52."""
    found = tpcalc.derive(tpcalc.trace(lambda n: (Codes(n, of), (POINTS,)), WIDTHS), "adamw")
    exponents = {name: (found[name].b, found[name].c) for name in ("codes", "h.weight", "o.weight")}
    assert exponents == {"codes": (0, 0), "h.weight": (Fraction(1, 2), 1), "o.weight": (1, 1)}
