"""Learning rates, epsilon and decay from effective orders, against the papers and by hand."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from tests.support.models import MODELS, derived, solution
from tpcalc.algebra.order import MINUS_INFINITY, ZERO
from tpcalc.calculus.demands import Demand
from tpcalc.derive.rates import moments, rates, safe_rate
from tpcalc.derive.solve import Need
from tpcalc.optimizers import LAWS, WeightView

H, ONE = Fraction(1, 2), Fraction(1)


@pytest.mark.parametrize("name", MODELS)
def test_epsilon_and_decay(name):
    """eps ~ n^g; decay ~ n^c keeps lr * decay where it is decoupled or the update linear; under Adam's own decay ~ n^(g
    + b).
    """
    adam, adamw, sgd = (derived(name, optimizer) for optimizer in ("adam", "adamw", "sgd"))
    for weight, rule in sgd.items():
        g = Fraction(0) if rule.gradient is MINUS_INFINITY else rule.gradient
        if rule.role == "unused":
            continue
        assert (
            (rule.b, rule.A, rule.C)
            == (adam[weight].b, adam[weight].A, adam[weight].C)
            == (adamw[weight].b, rule.A, rule.C)
        )
        assert rule.c == rule.C + g and adam[weight].c == adamw[weight].c == rule.C
        assert rule.eps is None and adam[weight].eps == adamw[weight].eps == g
        assert rule.weight_decay == rule.c and adamw[weight].weight_decay == adamw[weight].c
        assert adam[weight].weight_decay == g + rule.b


@pytest.mark.parametrize("role, eps", [("input", -1), ("hidden", -1), ("output", 0), ("scalar", 0)])
def test_epsilon_of_the_four_classes(role, eps):
    """TP4b: the gradients of W at a = 0 are n^-1 but at the readout, where they are O(1)."""
    for name in ("mlp", "resnet", "gpt"):
        assert {rule.eps for rule in derived(name, "adam").values() if rule.role == role} <= {eps}
    assert [r.eps for r in derived("mlp", "adam").values() if r.role == role]


NEED = Need(ZERO, Fraction(1), Demand(ZERO, ZERO, True, ""))
LARGE, SMALL = WeightView(ZERO, H, (ONE, ONE)), WeightView(-ONE, ONE, (ONE, ONE))


@pytest.mark.parametrize(
    "optimizer, seen, a, c",
    [
        ("sgd", [SMALL], ZERO, ZERO),  # c = C - a + u, u = g
        ("sgd", [SMALL, LARGE], ZERO, ONE),  # the safe one of both
        ("sgd", [SMALL], H, -ONE),  # behind n^-a the gradient is n^-a as large
        ("adam", [SMALL, LARGE], ZERO, ONE),
        ("adam", [SMALL], H, H),
        ("lamb", [SMALL], ZERO, ZERO),  # in proportion to the weight
        ("lamb", [SMALL], ONE, ZERO),
        ("adam", [], H, -H),  # nothing was asked: C = 0
    ],
)
def test_the_safe_rate(optimizer, seen, a, c):
    assert safe_rate(LAWS[optimizer], [(NEED, view) for view in seen], a) == c


def test_a_relative_rate_does_not_grow():
    """An update as large as the weight would need lr ~ n^1 where the need is n^2 of it."""
    need = replace(NEED, C=-ONE)
    assert LAWS["lamb"].relative and safe_rate(LAWS["lamb"], [(need, SMALL)]) == ZERO
    assert safe_rate(LAWS["adam"], [(need, SMALL)]) == -ONE


def test_what_a_law_sees_later_and_at_init():
    """The readout of an MLP, whose features are O(1) throughout; a bias without a gradient is left out at init."""
    found = solution(MODELS["mlp"])
    weight = next(w for w in found.lowered.program.weights if w.name == "output.weight")
    later, first = moments(found, found.facts, found.needs_of(weight))
    assert later[1] == first[1] == WeightView(ZERO, ONE, (ZERO, ONE), ONE, ZERO)
    blocks = [(replace(leaf, grad=None), need) for leaf, need in found.needs_of(weight)]
    (alone,) = moments(found, found.facts, blocks)
    assert alone[1].gradient is MINUS_INFINITY


@pytest.mark.parametrize("optimizer, eps", [("adamw", -1), ("sgd", None), ("muon", Fraction(0))])
def test_the_rates_of_a_hidden_weight(optimizer, eps):
    found = solution(MODELS["mlp"])
    weight = next(w for w in found.lowered.program.weights if w.name == "hidden.weight")
    c = LAWS[optimizer].c(Fraction(1), WeightView(-ONE, H, (ONE, ONE), ONE))
    assert rates(found, weight, LAWS[optimizer], ZERO) == (c, c, eps)
