"""Buffers and constants: their size, and whether they act as frozen weights do."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tpcalc.derive.api import derive
from tpcalc.errors import FitError
from tpcalc.program.raw import InitLaw, RawValue, Sums
from tpcalc.trace import trace
from tpcalc.trace.fixed import signs_of, size_of

WIDTHS = (32, 64, 128)
X = torch.linspace(-1, 1, 96).reshape(4, 24).sin()


def hadamard(n):
    h = torch.ones(1, 1)
    while h.shape[0] < n:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)], 0)
    return h / n**0.5


def cosine(n):
    i = torch.arange(n).float()
    return torch.cos(math.pi / n * (i[:, None] + 0.5) * i[None]) * (2 / n) ** 0.5


MATRICES = {
    "randn": lambda n: torch.randn(n, n) / n**0.5,
    "uniform": lambda n: (torch.rand(n, n) * 2 - 1) * (3 / n) ** 0.5,
    "orthogonal": lambda n: nn.init.orthogonal_(torch.empty(n, n)),
    "numpy": lambda n: torch.from_numpy(np.random.RandomState(0).randn(n, n).astype("float32")) / n**0.5,
    "signs": lambda n: (torch.randint(0, 2, (n, n)) * 2.0 - 1) / n**0.5,
    "sparse": lambda n: torch.randn(n, n) * (torch.rand(n, n) < 0.1) / (0.1 * n) ** 0.5,
    "identity": torch.eye,
    "permutation": lambda n: torch.eye(n)[torch.randperm(n)],
    "centring": lambda n: torch.eye(n) - 1 / n,
    "laplacian": lambda n: 2 * torch.eye(n) - torch.roll(torch.eye(n), 1, 0) - torch.roll(torch.eye(n), -1, 0),
    "cosine": cosine,
    "hadamard": hadamard,
}


class Net(nn.Module):
    def __init__(self, n, b, use=torch.matmul):
        super().__init__()
        self.a, self.c, self.use = nn.Linear(24, n), nn.Linear(n, 10), use
        self.register_buffer("b", b)

    def forward(self, x):
        return self.c(F.relu(self.use(F.relu(self.a(x)), self.b)))


def rules(factory, widths=WIDTHS):
    found = derive(trace(factory, widths=widths))
    assert not found.sites
    return {name: (str(rule.b), str(rule.c), str(rule.eps)) for name, rule in found.items() if "weight" in name}


FROZEN = {"a.weight": ("0", "0", "-1"), "c.weight": ("1", "1", "0")}


@pytest.mark.parametrize("kind", MATRICES)
def test_a_fixed_matrix_is_a_frozen_weight(kind):
    assert rules(lambda n: (Net(n, MATRICES[kind](n)), (X,))) == FROZEN


@pytest.mark.parametrize("use", [F.linear, lambda x, b: torch.einsum("bi,ij->bj", x, b)])
@pytest.mark.parametrize("kind", ["randn", "cosine"])
def test_whatever_the_widths_and_the_op(kind, use):
    assert rules(lambda n: (Net(n, MATRICES[kind](n), use), (X,)), (128, 256, 512)) == FROZEN


def test_what_is_not_of_that_size_is_absorbed():
    raw = rules(lambda n: (Net(n, torch.randn(n, n)), (X,)))
    assert raw["a.weight"] == ("1/2", "1/2", "-1/2")
    aligned = rules(lambda n: (Net(n, torch.ones(n, n) / n**0.5), (X,)))  # one direction: the sum is n
    assert aligned["a.weight"] == ("1/2", "1/2", "-1/2")
    assert rules(lambda n: (Net(n, torch.ones(n, n) / n), (X,))) == FROZEN


def test_spectral_norm_does_not_depend_on_the_widths():
    def net(n):
        layer = nn.utils.parametrizations.spectral_norm(nn.Linear(n, n))
        return nn.Sequential(nn.Linear(24, n), nn.ReLU(), layer, nn.ReLU(), nn.Linear(n, 10)), (X,)

    small = {name: (rule.b, rule.c, rule.eps) for name, rule in derive(trace(net, widths=WIDTHS)).items()}
    large = derive(trace(net, widths=(128, 256, 512)))
    assert {name: (rule.b, rule.c, rule.eps) for name, rule in large.items()} == small and not large.sites


@pytest.mark.parametrize("make", [torch.randn, torch.rand, lambda n: torch.empty(n).normal_()])
def test_random_vectors_have_the_size_of_their_law(make):
    found = rules(lambda n: (Net(n, make(n), torch.add), (X,)))
    assert found == FROZEN


def raws(sizes, shape=lambda n: (n,), **facts):
    return [RawValue(shape(n), "torch.float32", "buffer", "t", 3.1, size, **facts) for n, size in zip(WIDTHS, sizes)]


def test_size_of():
    drawn = InitLaw("random", 0.5, 0.0, "", True)
    assert size_of(WIDTHS, raws([0.6, 0.45, 0.52], law=drawn), str)[0].order == 0
    assert size_of(WIDTHS, raws([5.0, 5.0, 5.0], law=drawn), str)[0].d == 5.0  # written since
    unknown = size_of(WIDTHS, raws([None, None, None]), lambda: "buffer t")
    assert unknown[0] is None and unknown[1].startswith("order of buffer t is taken as 0: its entries are too many")
    odd = [RawValue((1000,), "torch.float32", "buffer", "t", top, top) for top in (1.0, 3.0, 1.0)]
    with pytest.raises(FitError, match="the size of the entries of buffer t is 1, 3, 1"):
        size_of(WIDTHS, odd, lambda: "buffer t")


def test_signs_of():
    plain = Sums((1.0,), (0.0,), 0.5)
    assert signs_of(WIDTHS, raws([1.0] * 3, sums=plain)) == "odd"
    assert signs_of(WIDTHS, raws([1.0] * 3, sums=Sums((1.0,), (0.0,), 9.0))) == "mixed"
    assert signs_of(WIDTHS, raws([1.0] * 3, sums=Sums((9.0,), (0.0,), 9.0))) == ""
    assert signs_of(WIDTHS, raws([1.0] * 3, law=InitLaw("random", 1.0, 0.0, "", True))) == "drawn"
    assert signs_of(WIDTHS, raws([1.0] * 3, law=InitLaw("random", 1.0, 0.5, "", True))) == ""
