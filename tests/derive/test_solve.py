"""The fixed point: what it promises is what training does, and what has none is refused."""

from __future__ import annotations

import pytest

import tpcalc
from tests.derive.test_sites import SITES
from tests.support.models import MODELS, Net, derived, normal, points, program, readout
from tpcalc.dynamics.regime import MAXIMAL, UNSTABLE, regime
from tpcalc.dynamics.training import Given, analyse
from tpcalc.errors import DeriveError
from tpcalc.lower.flatten import lower
from tpcalc.optimizers import ADAM, LAWS


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("name", sorted(set(MODELS) - set(SITES)))
def test_the_rules_are_maximal_when_followed(name, optimizer):
    """What derive asks for and what training under it does (:mod:`tpcalc.dynamics`) are worked out apart, and agree."""
    lowered, rules = lower(program(MODELS[name])), derived(name, optimizer)
    analysis = analyse(lowered, {weight: Given(r.a, r.b, r.c) for weight, r in rules.items()}, LAWS[optimizer])
    found = regime(analysis)
    assert analysis.settled and found.name == MAXIMAL, found


def test_standard_parametrization_of_every_model_with_a_readout_is_unstable_under_adam():
    """lr ~ 1 and the code's own n^-1/2: what muP is for."""
    for name in ("mlp", "resnet", "gpt", "lstm", "depthwise"):
        weights = program(MODELS[name]).weights
        fan = {w.name: any(size.growth for size in w.shape[1:]) for w in weights}
        given = {w.name: Given.of(0, "1/2" if fan[w.name] else 0, 0) for w in weights}
        assert regime(analyse(lower(program(MODELS[name])), given, ADAM)).name == UNSTABLE


def test_two_free_factors_of_one_weight_are_refused_by_name():
    """x (U V): the rank between the factors does not show in the product.  (x U) V is fine."""

    def merged(n):
        return Net(
            lambda s, x: s.o((x @ s.i) @ (s.u @ s.v)), i=normal(8, n), u=normal(n, 4), v=normal(4, n), o=readout(n)
        ), points()

    def apart(n):
        return Net(
            lambda s, x: s.o(((x @ s.i) @ s.u) @ s.v), i=normal(8, n), u=normal(n, 4), v=normal(4, n), o=readout(n)
        ), points()

    with pytest.raises(DeriveError, match=r"exponents of u, v, o.weight do not settle.*one after the other"):
        tpcalc.derive(tpcalc.trace(merged, (64, 128, 256)), "adam")
    rules = tpcalc.derive(tpcalc.trace(apart, (64, 128, 256)), "adam")
    assert (rules["u"].b, rules["u"].c, rules["v"].b, rules["v"].c) == (1, 1, 0, 0)
