"""Places that need a multiplier: which models have one, what it asks for, and that the model needs it."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn

import tpcalc
from tests.support.models import MODELS, derived, program
from tpcalc.dynamics.regime import UNSTABLE, regime
from tpcalc.dynamics.training import Given, analyse
from tpcalc.lower.flatten import lower
from tpcalc.optimizers import ADAM

#: Models that need a multiplier in their forward pass: (op, exponent found, exponent needed).
SITES = {
    "tied_without_gain": [("mm", 1, 0)],
    "tied_with_gain_plus_one": [("mm", 1, 0)],
    "tied_autoencoder": [("mm", 1, 0)],
    "qk_norm_without_gain": [("bmm", 1, Fraction(1, 2))],
}


@pytest.mark.parametrize("name", MODELS)
def test_sites(name):
    found = [(site.op.split(".")[1], site.found, site.needed) for site in derived(name, "adam").sites]
    assert found == SITES.get(name, [])


@pytest.mark.parametrize("name", SITES)
def test_a_model_with_a_site_is_unstable_as_it_stands(name):
    rules = derived(name, "adam")
    found = regime(analyse(lower(program(MODELS[name])), {w: Given(r.a, r.b, r.c) for w, r in rules.items()}, ADAM))
    assert found.name == UNSTABLE


class PickedExperts(nn.Module):
    """Stacked experts, picked by an index, before a clamp with two ends (as in gpt_oss)."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.enter, self.out = nn.Linear(8, n), nn.Linear(n, 4)
        self.experts = nn.Parameter(torch.randn(3, n, n) * n**-0.5)

    def forward(self, x: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.enter(x))
        return self.out(torch.bmm(h[:, None], self.experts[which])[:, 0].clamp(-7, 7))


def test_a_matrix_picked_by_an_index_is_no_site():
    """Its init is larger than its update, and each is judged apart, as of any weight."""
    rules = tpcalc.derive(
        tpcalc.trace(lambda n: (PickedExperts(n), (torch.randn(6, 8), torch.arange(6) % 3)), (64, 128, 256))
    )
    assert rules.sites == ()
    assert (rules["experts"].A, rules["experts"].C, rules["experts"].eps) == (Fraction(1, 2), 1, -1)


class Pairs(torch.nn.Module):
    """Dot products of all pairs of n features, joined to one of them (DLRM); ``by`` multiplies them."""

    def __init__(self, n, by=1.0):
        super().__init__()
        self.a, self.e, self.by = torch.nn.Linear(6, n), torch.nn.Embedding(5, n), by
        self.top, self.o = torch.nn.Linear(n + 1, n), torch.nn.Linear(n, 1)
        self.i, self.j = torch.tril_indices(2, 2, -1)

    def forward(self, x, tokens):
        dense = self.a(x).relu()
        both = torch.stack([dense, self.e(tokens)], 1)
        pairs = torch.bmm(both, both.transpose(1, 2)) * self.by
        return self.o(self.top(torch.cat([dense, pairs[:, self.i, self.j]], 1)).relu())


def test_the_table_is_as_if_a_sites_multiplier_were_written():
    """What reads a product whose multiplier a site asks for must not make up for it, too."""
    inputs = torch.ones(3, 6), torch.arange(3)
    found, written = (
        tpcalc.derive(tpcalc.trace(lambda n, f=f: (Pairs(n, f(n)), inputs), (32, 64, 128)))
        for f in (lambda n: 1.0, lambda n: 1 / n)
    )
    assert len(found.sites) == 1 and "multiply it by n^(-1)" in found.sites[0].message and not written.sites
    for name, rule in written.items():
        assert (rule.b, rule.c, rule.eps) == (found[name].b, found[name].c, found[name].eps), name
        assert [(s.A, s.C) for s in rule.slices] == [(s.A, s.C) for s in found[name].slices], name
