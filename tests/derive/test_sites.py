"""Places that need a multiplier: which models have one, what it asks for, and that the model needs it."""

from __future__ import annotations

from fractions import Fraction

import pytest

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
