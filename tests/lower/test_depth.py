"""No exponent depends on how many layers are traced, whatever stands between a packed weight and its split."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tpcalc
from tests.support.models import WIDTHS

H = Fraction(1, 2)
FEW = 8

Op = Callable[[Tensor, int], Tensor]


def swapped(y: Tensor) -> Tensor:
    half = y.shape[-1] // 2
    return torch.cat([y[..., half:], y[..., :half]], -1)


#: Ops that entries can be followed through, and the rows of the packed weight that feed the few.
FOLLOWED: dict[str, tuple[Op, list[tuple[str, str]]]] = {
    "nothing": (lambda y, n: y, [("n", "8")]),
    "a constant vector": (lambda y, n: y * torch.ones(n + FEW), [("n", "8")]),
    "a norm": (lambda y, n: F.layer_norm(y, (n + FEW,)), [("n", "8")]),
    "a norm by hand": (lambda y, n: y * (y.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt(), [("n", "8")]),
    "less the mean": (lambda y, n: y - y.mean(-1, keepdim=True), [("n", "8")]),
    "added to itself reversed": (lambda y, n: y + y.flip(-1), [("0", "8"), ("n", "8")]),
    # the last eight come first, apart from those that they join: as few rows they are kept smaller than they need be
    "rolled": (lambda y, n: y.roll(FEW, -1), [("n - 8", "8"), ("n", "8")]),
    "halves swapped": (lambda y, n: swapped(y), [("n/2 - 4", "8")]),
    "differences, padded": (lambda y, n: F.pad(y.diff(dim=-1), (1, 0)), [("n - 1", "1"), ("n", "7"), ("n + 7", "1")]),
    "padded, and cut off": (lambda y, n: F.pad(y, (4, 4))[..., 4:-4], [("n", "8")]),
}
#: ... and those after which nobody knows which row is which.
MIXED: dict[str, Op] = {
    "picked by an index": lambda y, n: y[..., torch.arange(n + FEW).flip(0)],
    "sorted": lambda y, n: y.sort(-1).values,
    "running means": lambda y, n: y.cumsum(-1) / n,
    "gathered": lambda y, n: y.gather(-1, torch.arange(n + FEW).flip(0).expand(y.shape)),
    "neighbours summed": lambda y, n: F.conv1d(y.flatten(0, -2)[:, None], torch.ones(1, 1, 3), padding=1).view(y.shape),
    "odd and even interleaved": lambda y, n: torch.stack([-y[..., 1::2], y[..., ::2]], -1).flatten(-2),
}


class Block(nn.Module):
    def __init__(self, n: int, op: Op):
        super().__init__()
        self.norm, self.pack, self.op = nn.LayerNorm(n), nn.Linear(n, n + FEW, bias=False), op
        self.up, self.low = nn.Linear(n, n, bias=False), nn.Linear(FEW, n, bias=False)

    def forward(self, x):
        a, b = self.op(self.pack(self.norm(x)), x.shape[-1]).split([x.shape[-1], FEW], -1)
        return x + self.up(a.tanh()) + self.low(b.tanh())


class Stack(nn.Module):
    def __init__(self, n: int, op: Op, layers: int):
        super().__init__()
        self.embed, self.blocks = nn.Embedding(32, n), nn.Sequential(*(Block(n, op) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(n), nn.Linear(n, 32, bias=False)

    def forward(self, t):
        return self.head(self.norm(self.blocks(self.embed(t))))


def rules_of(op: Op, layers: int) -> tpcalc.Parametrization:
    return tpcalc.derive(
        tpcalc.trace(lambda n: (Stack(n, op, layers), (torch.arange(16).reshape(2, 8),)), WIDTHS), "adamw"
    )


def exponents(rules: tpcalc.Parametrization) -> dict[str, object]:
    """Of the weights that every depth has."""
    names = [name for name in rules if not name.startswith("blocks") or name.startswith("blocks.0.")]
    return {
        name: (r.A, r.C, r.eps, r.gradient, r.weight_decay, r.slices) for name in names for r in [rules[name]]
    }  # fmt: skip


@pytest.mark.parametrize("name", FOLLOWED)
def test_no_exponent_depends_on_the_depth(name):
    op, few = FOLLOWED[name]
    one, three = rules_of(op, 1), rules_of(op, 3)
    assert exponents(one) == exponents(three) and str(one.clipping.norm) == str(three.clipping.norm) == "1/2"
    assert one["embed.weight"].eps == one["blocks.0.pack.weight"].eps == -1 and not one.sites
    slices = one["blocks.0.pack.weight"].slices
    assert [(str(s.start), str(s.length)) for s in slices if s.A == 1] == few
    assert {(s.A, s.C) for s in slices} == {(1, 1), (H, 1)}


@pytest.mark.parametrize("name", MIXED)
def test_rows_that_can_not_be_told_apart_are_all_kept_stable(name):
    """A row that feeds few entries needs n^-1: of a row with n^-1/2 the change is n^1/2, and compounds by layers."""
    one, three = rules_of(MIXED[name], 1), rules_of(MIXED[name], 3)
    assert exponents(one) == exponents(three)
    pack = one["blocks.0.pack.weight"]
    assert (pack.A, pack.C, pack.eps, pack.slices, one["embed.weight"].eps) == (1, 1, -1, (), -1)
    assert any("blocks.0.pack.weight has a packed axis whose blocks could not be told apart" in x for x in one.notes)


def test_rows_that_nobody_takes_apart_stay_hidden():
    class Wide(nn.Module):
        def __init__(self, n: int):
            super().__init__()
            self.i, self.h, self.o = nn.Linear(4, n), nn.Linear(n, n + FEW), nn.Linear(n + FEW, 3)

        def forward(self, x):
            return self.o(torch.relu(self.h(self.i(x))).flip(-1))

    rules = tpcalc.derive(tpcalc.trace(lambda n: (Wide(n), (torch.randn(5, 4),)), WIDTHS), "adamw")
    assert (rules["h.weight"].A, rules["h.weight"].C, rules["o.weight"].A) == (H, 1, 1)
