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
