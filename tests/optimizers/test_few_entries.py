"""Updates by gradients that are mostly zero, measured: behind a top-k, of rows of a table that were read, of bands.

Laws that look at a whole matrix see how many of its entries move: each model takes two steps of AdamW under its rules
and two of a law, at widths 64 to 256, two seeds; the slope is of the rms of the last update over those entries that
have a gradient.
"""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tpcalc
from tests.support.once import once
from tpcalc.algebra.order import ZERO
from tpcalc.calculus.weights import weight_view
from tpcalc.check.optimizers import BUILT
from tpcalc.check.slopes import fit
from tpcalc.derive.solve import solve
from tpcalc.optimizers import LAWS

WIDTHS, SEEDS = (64, 128, 256), 2
X = torch.randn(6, 5, generator=torch.Generator().manual_seed(3))
Y = torch.randn(6, 4, generator=torch.Generator().manual_seed(9))


class Picked(nn.Module):
    """Four of n outputs of ``h`` are left; a second layer ``k`` reads them, or they weigh rows of a table ``v``."""

    def __init__(self, n: int, table: bool):
        super().__init__()
        self.i, self.h, self.o = nn.Linear(5, n), nn.Linear(n, n), nn.Linear(n, 4)
        self.k, self.v = (None, nn.Embedding(n, n)) if table else (nn.Linear(n, n, bias=False), None)

    def forward(self, x):
        z = self.h(torch.tanh(self.i(x)))
        top, where = z.topk(4, -1)
        if self.v is not None:
            return self.o((top.softmax(-1).unsqueeze(-1) * self.v(where)).sum(1))
        return self.o(torch.tanh(self.k(torch.zeros_like(z).scatter(-1, where, top))))


class Banded(nn.Module):
    """A weight under a mask of three diagonals."""

    def __init__(self, n: int):
        super().__init__()
        self.i, self.h, self.o = nn.Linear(5, n), nn.Linear(n, n, bias=False), nn.Linear(n, 4)
        i = torch.arange(n)
        self.register_buffer("mask", ((i[:, None] - i).abs() <= 1).float())

    def forward(self, x):
        return self.o(torch.tanh(F.linear(torch.tanh(self.i(x)), self.h.weight * self.mask)))


MODELS = {
    "top-k": lambda n: (Picked(n, False), (X,)),
    "rows": lambda n: (Picked(n, True), (X,)),
    "band": lambda n: (Banded(n), (X,)),
}
#: Of a weight whose few rows move: order of its update, of relative laws beside the size of the weight.
MATRICES = {"muon": "-1/2", "muon_match_rms_adamw": "0", "muon_spectral": "-1/2", "shampoo": "-1/2"}
RELATIVE = {"lars": "1/2", "lamb": "1/2", "adafactor": "0"}
FEW = {**MATRICES, **RELATIVE, "adamw": "0"}
EXPECTED = {
    ("top-k", "h.weight"): FEW,
    ("top-k", "k.weight"): {**FEW, "kfac": "0"},
    ("rows", "h.weight"): FEW,
    ("rows", "v.weight"): FEW,
    ("band", "h.weight"): {"muon": "0", "shampoo": "0", "lars": "1/2", "lamb": "1/2", "adafactor": "1/2", "adamw": "0"},
}
RUNS = [(*where, law) for where, laws in EXPECTED.items() for law in laws]


@once
def solved(model: str):
    return solve(tpcalc.trace(MODELS[model], (32, 64, 128)))


@once
def scaled(model: str, width: int):
    return tpcalc.scale(MODELS[model], WIDTHS[0], width, "adamw")


@once
def updates(model: str, law: str) -> dict[str, list[float]]:
    """Weight -> rms at each width of what a step at lr 1 changes where its gradient is not zero."""
    found: dict[str, list[float]] = {}
    for width in WIDTHS:
        how = scaled(model, width)
        squares: dict[str, float] = {}
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            net = MODELS[model](width)[0]
            how.init_(net)
            steps(net, torch.optim.AdamW(how.param_groups(net, lr=3e-3), lr=3e-3))
            net.double()
            opt = BUILT[law].make([group(p, law) for p in net.parameters() if p.dim() == 2 or law == "kfac"], net)
            before = steps(net, opt)
            for name, p in net.named_parameters():
                if p.dim() == 2 and name in before:
                    moved = (p.detach() - before[name])[p.grad != 0] / RATE
                    squares[name] = squares.get(name, 0.0) + moved.square().mean().item()
        for name, square in squares.items():
            found.setdefault(name, []).append(square**0.5)
    return found


RATE = 1e-6


def group(p: nn.Parameter, law: str) -> dict:
    eps = {} if law in ("kfac", "adafactor") else {"eps": 1e-12}
    return {"params": [p], "lr": RATE, "weight_decay": 0.0, **eps}


def steps(net: nn.Module, opt: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Two steps; the weights before the last."""
    kind = next(net.parameters()).dtype
    for _ in range(2):
        opt.zero_grad()
        F.mse_loss(net(X.to(kind)), Y.to(kind)).backward()
        before = {name: p.detach().clone() for name, p in net.named_parameters() if p.grad is not None}
        opt.step()
    return before


@pytest.mark.parametrize("model, weight, law", RUNS)
def test_an_update_is_that_of_the_entries_that_move(model, weight, law):
    solution = solved(model)
    (leaf,), need = solution.lowered.leaves_of[weight], solution.needs[weight]
    view = weight_view(solution.lowered, leaf, solution.facts, need.A)
    order = LAWS[law].unit(view)
    assert order + (need.A if law in RELATIVE else ZERO) == Fraction(EXPECTED[model, weight][law])
    assert fit(WIDTHS, [updates(model, law)[weight]]).value == pytest.approx(float(order), abs=0.2)


@pytest.mark.parametrize("optimizer", ["muon+adamw", "lamb"])
def test_multipliers_follow_the_power_of_what_moves(optimizer):
    """How many entries move is no length of the matrix."""
    rule = tpcalc.derive(tpcalc.trace(MODELS["top-k"], (32, 64, 128)), optimizer)["h.weight"]
    assert rule.c == Fraction(1, 2)
    assert tpcalc.scale(MODELS["top-k"], 64, 256, optimizer)["h.weight"].lr == 4.0 ** -float(rule.c)
