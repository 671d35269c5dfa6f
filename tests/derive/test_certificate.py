"""Certificates: every exponent is the smallest, and one that is not is told apart."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from tests.support.models import MODELS, program, solution
from tpcalc.calculus.laws import propagate
from tpcalc.derive.certificate import STEP, certify


@pytest.mark.parametrize("name", MODELS)
def test_certificates_hold(name):
    """Every exponent is the smallest: 1/8 less breaks the budget of the value that binds it."""
    found = [c for weight in program(MODELS[name]).weights for c in certify(solution(MODELS[name]), weight)]
    assert found and all(c.holds for c in found), [c for c in found if not c.holds]


def test_an_exponent_that_is_not_the_smallest_has_none():
    """A hidden weight that starts and moves smaller by n^-1/4: 1/8 less breaks nothing."""
    found = solution(MODELS["mlp"])
    small = replace(found.orders["hidden.weight"], A=Fraction(3, 4), C=Fraction(5, 4))
    facts = propagate(found.lowered, {**found.orders, "hidden.weight": small})
    weight = next(w for w in found.lowered.program.weights if w.name == "hidden.weight")
    for certificate in certify(replace(found, facts=facts), weight):
        assert not certificate.holds and certificate.found == -Fraction(1, 8) and certificate.budget == 0
    sound = certify(found, weight)
    assert [(c.exponent, c.found, c.budget) for c in sound] == [("A", STEP, 0), ("C", STEP, 0)]


def test_a_frozen_weight_has_one_of_its_init_only():
    weight = next(w for w in program(MODELS["lora"]).weights if w.name == "base.weight")
    assert {c.exponent for c in certify(solution(MODELS["lora"]), weight)} == {"A"}


def test_a_direction_under_a_norm_of_its_own_has_no_size_to_certify():
    found = solution(MODELS["weight_normalised"])
    weights = {w.name: w for w in found.lowered.program.weights}
    assert certify(found, weights["2.parametrizations.weight.original1"]) == ()
    assert len(certify(found, weights["2.parametrizations.weight.original0"])) == 2
