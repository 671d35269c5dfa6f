"""A sum weighted entry by entry is a contraction written out: its weight is judged as that of ``h @ d``."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tpcalc
from tests.support.verify_setups import LR

WIDTHS = (64, 128, 256)

READOUTS = {
    "matmul": lambda h, d: h @ d,
    "einsum": lambda h, d: torch.einsum("bi,i->b", h, d),
    "sum": lambda h, d: (h * d).sum(-1),
    "turned": lambda h, d: (d * h).sum(-1),
    "kept": lambda h, d: (h * d).sum(-1, keepdim=True),
    "mean": lambda h, d: (h * d).mean(-1) * h.shape[-1],
    "scaled": lambda h, d: (h * d / 2).sum(-1) + 1,
    "two towers": lambda h, d: (h * torch.tanh(h) * d).sum(-1),
    "logits": lambda h, d: torch.softmax((torch.tanh(h) * d).sum(-1), -1),
}


class Weighted(nn.Module):
    def __init__(self, n: int, b: float, readout: str) -> None:
        super().__init__()
        self.up = nn.Linear(10, n, bias=False)
        self.d = nn.Parameter(torch.randn(n) * n**-b)
        self.readout = READOUTS[readout]

    def forward(self, x):
        return self.readout(F.relu(self.up(x)), self.d)


def weighted(readout: str, b: float, c: float):
    def setup(n: int):
        model = Weighted(n, b, readout)
        groups = [dict(params=[model.up.weight], eps=1e-8 / n), dict(params=[model.d], lr=LR / n**c)]
        return model, torch.optim.AdamW(groups, lr=LR, weight_decay=0.0), torch.randn(8, 10)

    return tpcalc.verify(setup, widths=WIDTHS)


def of_errors(report):
    assert report.regime == "unstable" and report.exit_code() == 1, str(report)
    return [(f.kind, f.subject, f.quantity, f.found, f.needed) for f in report.errors]


@pytest.mark.parametrize("readout", READOUTS)
def test_an_init_that_explodes_after_a_step_is_blamed_on_its_weight(readout):
    assert of_errors(weighted(readout, 0.5, 1)) == [("explodes", "d", "init std", -0.5, -1)]


@pytest.mark.parametrize("readout", ["matmul", "sum", "mean", "logits"])
def test_an_init_that_explodes_at_once(readout):
    assert of_errors(weighted(readout, 0, 1)) == [("explodes", "d", "init std", 0, -1)]


@pytest.mark.parametrize("readout", ["matmul", "sum", "mean", "logits"])
def test_a_rate_is_blamed_as_a_rate(readout):
    assert of_errors(weighted(readout, 1, 0)) == [("explodes", "d", "lr", 0, -1)]


@pytest.mark.parametrize("readout", READOUTS)
def test_one_of_the_right_size_is_right(readout):
    report = weighted(readout, 1, 1)
    assert report.regime == "maximal" and not report.errors, str(report)


class Bilinear(nn.Module):
    def __init__(self, n: int, b: float) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(10, n, bias=False), nn.Linear(10, n, bias=False)
        self.d = nn.Parameter(torch.randn(n, n) * n**-b)

    def forward(self, x):
        return ((torch.tanh(self.left(x)) @ self.d) * torch.tanh(self.right(x))).sum(-1)


@pytest.mark.parametrize("b", [0.5, 1.0, 1.25])
def test_a_bilinear_form_whose_init_is_too_large_is_an_error(b):
    """Its sum is one of two values: what makes one of them large is an init."""

    def setup(n: int):
        model = Bilinear(n, b)
        below = [model.left.weight, model.right.weight]
        groups = [dict(params=below, eps=1e-8 / n), dict(params=[model.d], lr=LR / n**2)]
        return model, torch.optim.AdamW(groups, lr=LR, weight_decay=0.0), torch.randn(8, 10)

    (error,) = of_errors(tpcalc.verify(setup, widths=WIDTHS))
    assert error == ("explodes", "d", "init std", -b, -1.5)


class Adapted(nn.Module):
    """DoRA: a frozen matrix plus ``B A``, its rows made of size one and given learned sizes."""

    def __init__(self, n: int, b: float) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(10, n, bias=False), nn.Linear(n, 5, bias=False)
        nn.init.normal_(self.down.weight, std=1 / n)
        self.frozen = nn.Parameter(torch.randn(n, n) * n**-0.5, requires_grad=False)
        self.A, self.B = nn.Parameter(torch.randn(4, n) * n**-b), nn.Parameter(torch.zeros(n, 4))
        self.sizes = nn.Parameter(self.frozen.detach().norm(dim=1))

    def forward(self, x):
        w = self.frozen + 2 * self.B @ self.A
        w = w / w.norm(dim=1, keepdim=True) * self.sizes[:, None]
        return self.down(F.gelu(F.linear(F.gelu(self.up(x)), w)))


@pytest.mark.parametrize("b, found", [(1.0, []), (0.5, [("explodes", "A", "init std", -0.5, -1)])])
def test_one_init_is_told_where_it_mends_all(b, found):
    """Of two weights that make one: an update of B is too large, and one of A too small, for A is."""

    def setup(n: int):
        model = Adapted(n, b)
        wide = dict(params=[model.up.weight, model.B, model.sizes], eps=1e-8 / n)
        groups = [wide, dict(params=[model.A, model.down.weight], lr=LR / n)]
        return model, torch.optim.AdamW(groups, lr=LR, weight_decay=0.0), torch.randn(8, 10)

    report = tpcalc.verify(setup, widths=WIDTHS)
    assert [(f.kind, f.subject, f.quantity, f.found, f.needed) for f in report.errors] == found, str(report)
