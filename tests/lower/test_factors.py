"""Norms in any order of factors: each gives the rules and the gradients of the fused one."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tpcalc
from tests.support.once import once
from tpcalc.errors import DeriveError
from tpcalc.lower.flatten import lower
from tpcalc.rules.structures import Normalise

WIDTHS = (32, 64, 128)
SEEN = torch.arange(10).reshape(2, 5)


def mean_square(x):
    return x.pow(2).mean(-1, keepdim=True)


def rms_norm(x, g):
    return F.rms_norm(x, x.shape[-1:], g, 1e-6)


def layer_norm(x, g):
    return F.layer_norm(x, x.shape[-1:], g)


def gated(x, g):
    h = F.silu(x) * x * g
    return g * h * torch.rsqrt(mean_square(h) + 1e-6)


def halves(x, g):
    r, k = torch.rsqrt(mean_square(x) + 1e-6), x.shape[-1] // 2
    return torch.cat([g[:k] * x[..., :k] * r, g[k:] * x[..., k:] * r], -1)


def turned(x, g):
    a, b = (g * x * torch.rsqrt(mean_square(x) + 1e-6)).chunk(2, -1)
    return torch.cat([-b, a], -1)


def fused_turned(x, g):
    a, b = rms_norm(x, g).chunk(2, -1)
    return torch.cat([-b, a], -1)


def guarded_by_choice(x, g):
    r = mean_square(x).sqrt()
    return g * x / torch.where(r > 1e-6, r, torch.ones_like(r))


def by_one_mean(x, g):
    m = x.mean(-1, keepdim=True)
    return g * (x - m) * torch.rsqrt((x * x).mean(-1, keepdim=True) - m * m + 1e-5)


FORMS: dict[str, tuple[Callable, Callable]] = {
    "gain first": (lambda x, g: g * x * torch.rsqrt(mean_square(x) + 1e-6), rms_norm),
    "gain over norm": (lambda x, g: x * (g / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6)), rms_norm),
    "product over norm": (lambda x, g: (x * g).div(x.norm(dim=-1, keepdim=True).mul(x.shape[-1] ** -0.5)), rms_norm),
    "root first": (lambda x, g: math.sqrt(x.shape[-1]) * x / x.norm(dim=-1, keepdim=True) * g, rms_norm),
    "root and gain first": (
        lambda x, g: g * math.sqrt(x.shape[-1]) * x / torch.linalg.norm(x, dim=-1, keepdim=True).clamp(min=1e-5),
        rms_norm,
    ),
    "eps beside the root": (
        lambda x, g: g * x / (torch.linalg.norm(x, dim=-1, keepdim=True) * x.shape[-1] ** -0.5 + 1e-6),
        rms_norm,
    ),
    "unit vector": (lambda x, g: F.normalize(x, dim=-1) * g * x.shape[-1] ** 0.5, rms_norm),
    "einsum": (
        lambda x, g: g * x * torch.rsqrt(torch.einsum("bti,bti->bt", x, x).unsqueeze(-1) / x.shape[-1] + 1e-6),
        rms_norm,
    ),
    "casts": (lambda x, g: ((g.double() * x.double()) * torch.rsqrt(mean_square(x.double()))).float(), rms_norm),
    "eps in a tensor": (lambda x, g: g * x * torch.rsqrt(mean_square(x) + torch.tensor(1e-6)), rms_norm),
    "maximum": (lambda x, g: g * x / torch.maximum(mean_square(x).sqrt(), torch.tensor(1e-6)), rms_norm),
    "choice": (guarded_by_choice, rms_norm),
    "mean of sizes": (lambda x, g: g * x / x.abs().mean(-1, keepdim=True), rms_norm),
    "largest entry": (lambda x, g: g * x / x.abs().amax(-1, keepdim=True), rms_norm),
    "addcdiv": (lambda x, g: torch.addcdiv(torch.zeros_like(x), g * x, mean_square(x).sqrt()), rms_norm),
    "gated": (gated, lambda x, g: rms_norm(F.silu(x) * x * g, g)),
    "gain inside": (lambda x, g: g * x / mean_square(g * x).sqrt(), lambda x, g: rms_norm(g * x, None)),
    "halves": (halves, fused_turned),
    "halves behind it": (turned, fused_turned),
    "variance": (
        lambda x, g: (x - x.mean(-1, keepdim=True)) * g * torch.rsqrt(x.var(-1, keepdim=True) + 1e-5),
        layer_norm,
    ),
    "deviation": (lambda x, g: g * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6), layer_norm),
    "mean of squares less square of mean": (by_one_mean, layer_norm),
}


class Block(nn.Module):
    """An embedding times sqrt(n), a normed branch, a normed readout."""

    def __init__(self, n, norm):
        super().__init__()
        self.norm, self.root = norm, n**0.5
        self.e, self.a, self.b, self.o = nn.Embedding(11, n), nn.Linear(n, n), nn.Linear(n, n), nn.Linear(n, 11)
        self.g, self.last = nn.Parameter(torch.ones(n)), nn.Parameter(torch.ones(n))

    def forward(self, x):
        h = self.e(x) * self.root
        h = h + self.b(torch.relu(self.a(self.norm(h, self.g))))
        return self.o(self.norm(h, self.last))


@once
def traced(norm, made=Block):
    """The program, and how many norms are found in it."""
    program = tpcalc.trace(lambda n: (made(n, norm), (SEEN,)), WIDTHS)
    return program, norms(program)


@once
def rules(norm, optimizer, made=Block):
    program, found = traced(norm, made)
    derived = tpcalc.derive(program, optimizer)
    assert not derived.sites
    return found, {name: (rule.b, rule.c, rule.eps) for name, rule in derived.items()}


def norms(program):
    lowered = lower(program)
    return sum(isinstance(atom.structure, Normalise) for atom in lowered.atoms[: lowered.forward])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("form", FORMS)
def test_a_norm_by_hand_has_the_rules_of_the_fused_one(form, optimizer):
    by_hand, fused = FORMS[form]
    if (form, optimizer) == ("largest entry", "sgd"):
        with pytest.raises(DeriveError, match="largest entry"):
            rules(by_hand, optimizer)
        return
    count, found = rules(by_hand, optimizer)
    assert found == rules(fused, optimizer)[1]
    assert count >= 2


class Added(Block):
    """The norm of a sum, which is computed twice."""

    def __init__(self, n, norm):
        super().__init__(n, norm)
        self.p = nn.Embedding(11, n)

    def forward(self, x):
        h = self.norm(self.e(x) * self.root, self.p(x) * self.root, self.g)
        return self.o(torch.relu(self.a(h)))


def test_a_sum_computed_twice_is_one_value():
    count, found = rules(lambda a, b, g: g * (a + b) * torch.rsqrt(mean_square(b + a) + 1e-6), "adamw", Added)
    assert found == rules(lambda a, b, g: rms_norm(a + b, g), "adamw", Added)[1]
    assert count == 1


@pytest.mark.parametrize(
    "norm",
    [
        lambda x, g: g * x / mean_square(x),  # of degree -1
        lambda x, g: g * x * torch.rsqrt(mean_square(x.roll(1, 1) + g)),  # of something else
        lambda x, g: g * x.exp() / (x - x.mean(-1, keepdim=True)).abs().mean(-1, keepdim=True),
        lambda x, g: g * x / (x - x.mean(-1, keepdim=True)).abs().mean(-1, keepdim=True),  # the mean may be the larger
    ],
)
def test_what_is_no_norm_is_not_taken_for_one(norm):
    program = tpcalc.trace(lambda n: (Block(n, norm), (SEEN,)), WIDTHS)
    assert norms(program) == 0
