"""Picked outputs do not count in law 2: a readout is n^-1 whatever its vocabulary, a router whatever its experts."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tpcalc
from tests.support.models import Net, entry, points, readout

WIDTHS = (32, 64, 128)
H = Fraction(1, 2)
TARGETS = torch.tensor([2, 0, 5])
LEFT = torch.tensor([[1], [3], [0]])


def cast(y):
    return (2 * torch.tanh(y.double() / 2)).float()


def norm_by_hand(y):
    return y / (y * y).sum(-1, keepdim=True).sqrt()


#: Of the result of ``Linear(n, 2 n)``: the rows that count are picked ...
PICKED = {
    "cross-entropy": lambda y, t: F.cross_entropy(y, t),
    "softmax": lambda y, t: (y.softmax(-1) * y).sum(-1).mean(),
    "largest": lambda y, t: y.max(-1).values.mean(),
    "largest two": lambda y, t: y.topk(2).values.sum(),
    "gathered": lambda y, t: y.gather(-1, t[:, None]).sum(),
    "by an index": lambda y, t: y[torch.arange(3), t].sum(),
    "leaves": lambda y, t: y,
    "leaves, arranged anew": lambda y, t: y.view(3, 2, -1).transpose(1, 2),
    "leaves, of a nonlinearity": lambda y, t: cast(3 * y),
    "leave in two ways that meet": lambda y, t: y[:, :2].sum(1, keepdim=True) + y[:, 2:],
    "leaves, of a gate of its own": lambda y, t: y * torch.sigmoid(y),
    "leaves in two ways": lambda y, t: (y.exp(), y.sin()),
    "leaves, beside its mean": lambda y, t: y - y.mean(-1, keepdim=True),
    "leaves, as a softmax by hand": lambda y, t: y.exp() / y.exp().sum(-1, keepdim=True),
    "beside others": lambda y, t: F.cross_entropy(torch.cat([y, torch.zeros(3, 1)], -1), t),
}
#: ... and here all of them count.
ALL = {
    "regression": lambda y, t: ((y - 1) ** 2).mean(),
    "a share of them": lambda y, t: y.topk(y.shape[-1] // 4).values.square().mean(),
    "a norm": lambda y, t: F.layer_norm(y, y.shape[-1:]),
    "a norm by hand": lambda y, t: y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-20),
    "a length by hand, of what is centred": lambda y, t: norm_by_hand(y - y.mean(-1, keepdim=True)),
    "a norm beside itself": lambda y, t: (F.rms_norm(y, y.shape[-1:]), torch.relu(y)),
    "divided by the largest": lambda y, t: (y / y.abs().amax(-1, keepdim=True)).square().mean(),
    "a softmax over the batch": lambda y, t: (y.softmax(0) * y).square().mean(),
    "all by an index": lambda y, t: y[:, torch.arange(y.shape[-1])].square().mean(),
}


def factory(loss, rows: int = 2):
    def made(n: int):
        def run(s, x, t):
            return loss(s.v(torch.tanh(s.h(torch.tanh(s.i(x))))), t)

        return Net(run, i=entry(n), h=nn.Linear(n, n), v=nn.Linear(n, rows * n)), (*points(), TARGETS)

    return made


def orders(made) -> dict:
    rules = tpcalc.derive(tpcalc.trace(made, WIDTHS))
    assert not rules.sites
    return {name: (rule.b, rule.c) for name, rule in rules.items() if name.endswith("weight")}


@pytest.mark.parametrize("name", PICKED)
def test_rows_that_are_picked_are_rows_of_a_readout(name):
    """The target's logit moves by n^(+0.48) with std n^-1/2 (the rms -0.02), by n^(-0.02) with n^-1."""
    assert orders(factory(PICKED[name])) == {"i.weight": (0, 0), "h.weight": (H, 1), "v.weight": (1, 1)}


@pytest.mark.parametrize("name", ALL)
def test_where_no_row_is_picked_all_count(name):
    """The largest of n outputs that are all fitted moves by n^(+0.06) with std n^-1/2."""
    assert orders(factory(ALL[name])) == {"i.weight": (0, 0), "h.weight": (H, 1), "v.weight": (H, 1)}


def test_features_that_leave_as_well_stay_features():
    def made(n: int):
        def run(s, x):
            h = torch.relu(s.h(torch.relu(s.i(x))))
            return s.o(h), h

        return Net(run, i=entry(n), h=nn.Linear(n, n), o=readout(n)), points()

    assert orders(made) == {"i.weight": (0, 0), "h.weight": (H, 1), "o.weight": (1, 1)}


def test_multipliers_of_a_growing_readout_know_its_fan_in_alone():
    """A vocabulary of 7 n + 3 rows: neither init nor rate knows how many."""
    made = factory(PICKED["cross-entropy"])

    def ragged(n: int):
        net, inputs = made(n)
        net.v = nn.Linear(n, 7 * n + 3)
        return net, inputs

    weight = tpcalc.scale(ragged, 64, 256)["v.weight"]
    assert (weight.init, weight.lr) == (1 / 2, 1 / 4)  # the code's own std is n^-1/2


def test_gradients_of_cross_entropy_are_those_of_the_targets_rows():
    """Behind 4 n classes the gradients of all that is before fall as n^-1.02 (measured), as behind a fixed number."""
    rules = tpcalc.derive(tpcalc.trace(factory(PICKED["cross-entropy"]), WIDTHS), "sgd")
    assert [rules[f"{w}.weight"].gradient for w in "ihv"] == [-1, -1, 0]


def router(n: int, experts: int):
    """Tokens go to the two experts that a router gives most."""

    def run(s, x):
        h = torch.tanh(s.i(x))
        gate, which = s.r(h).softmax(-1).topk(2)
        return s.o(h + (gate[..., None] * s.e[which][..., :1, 0] * h[:, None]).sum(1)), which

    parts = dict(i=entry(n), r=nn.Linear(n, experts), o=readout(n), e=nn.Parameter(torch.randn(experts, n, 1)))
    return Net(run, **parts), points()


@pytest.mark.parametrize("experts", [lambda n: 4, lambda n: n // 8, lambda n: n * n // 64])
def test_a_router_is_a_readout_whatever_the_number_of_experts(experts):
    rules = tpcalc.derive(tpcalc.trace(lambda n: router(n, experts(n)), WIDTHS))
    assert (rules["r.weight"].b, rules["r.weight"].c) == (1, 1)


class Chain(nn.Module):
    """Three layers, each of which reads the four largest of what was there before; ``norm`` puts a norm before each."""

    def __init__(self, n: int, norm: bool):
        super().__init__()
        self.i, self.o, self.norm = nn.Linear(6, n, bias=False), nn.Linear(n, 3), norm
        self.layers = nn.ModuleList(nn.Linear(n, n, bias=False) for _ in range(3))

    def forward(self, x):
        return self.o(self.sizes(x)[-1])

    def sizes(self, x):
        found = [self.i(x)]
        for layer in self.layers:
            z = found[-1]
            z = z / (z.square().mean(-1, keepdim=True) + 1e-12).sqrt() if self.norm else z
            values, places = z.topk(4, -1)
            found.append(layer(torch.zeros_like(z).scatter(-1, places, values)))
        return found


@pytest.mark.parametrize("norm", [False, True])
def test_picks_behind_one_another_grow_by_logarithms_alone(norm):
    """Each multiplies by the largest of n random entries: a power of that, by one more for each pick without a norm,
    and none of n, which nothing in the rules could make up for."""
    rules = tpcalc.derive(tpcalc.trace(lambda n: (Chain(n, norm), (torch.randn(2, 6),)), WIDTHS))
    assert [(rules[f"layers.{k}.weight"].b, rules[f"layers.{k}.weight"].c) for k in range(3)] == [(0, 0)] * 3
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    widths, found, largest = (64, 256, 1024), {}, {}
    for n in widths:
        torch.manual_seed(0)
        squares, most = torch.zeros(4), 0.0
        for _ in range(8):
            net = Chain(n, norm)
            for layer in net.layers:
                nn.init.normal_(layer.weight, std=0.1)
            with torch.no_grad():
                squares += torch.stack([h.square().mean() for h in net.sizes(x)])
            most += torch.randn(16, n).topk(4, -1).values.mean().item()
        found[n], largest[n] = squares.sqrt().log(), torch.tensor(most).log()
    for low, high in zip(widths, widths[1:]):
        powers = (found[high] - found[low]) / (largest[high] - largest[low])
        expected = [0, 1, 1, 1] if norm else [0, 1, 2, 3]
        assert powers.tolist() == pytest.approx(expected, abs=0.4), powers
