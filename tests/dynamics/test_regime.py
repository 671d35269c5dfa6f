"""Regimes of two layers, ``h = W1 x`` and ``y = W2 h``, worked out by hand (TP4, Yang & Hu 2021, Sections 3 and 5)."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from tests.dynamics.test_training import HIDDEN, IDLE, W1, W2, Y, given, two_layers
from tpcalc.algebra.order import MINUS_INFINITY, ZERO
from tpcalc.calculus.alignment import FULL
from tpcalc.calculus.facts import Fact
from tpcalc.dynamics.regime import KERNEL, LEARNING, MAXIMAL, TRIVIAL, UNSTABLE, own_effect, regime, relative_change
from tpcalc.dynamics.training import Analysis, Given, analyse
from tpcalc.optimizers import ADAM, SGD

OO = MINUS_INFINITY
H = Fraction(1, 2)


def follow(first: Given, last: Given, law=SGD) -> Analysis:
    lowered = two_layers()
    lowered = replace(lowered, program=replace(lowered.program, outputs=(("y", Y),)))
    return analyse(lowered, {"first": first, "last": last}, law)


#: What it is, first and last layer, law, regime, r, regime of each weight.
REGIMES = [
    ("muP", given(0, 0, -1), given(0, 1, 1), SGD, MAXIMAL, ZERO, ("maximal", "maximal")),
    ("muP, Adam", given(0, 0, 0), given(0, 1, 1), ADAM, MAXIMAL, ZERO, ("maximal", "maximal")),
    ("mean field", given(0, 0, -1), given(1, 0, -1), SGD, MAXIMAL, ZERO, ("maximal", "maximal")),
    # W2 ~ n^-1/2 aligns with the change of h: that may be n^-1/2, which no longer moves h itself
    ("kernel", given(0, 0, 0), given(0, H, 1), SGD, KERNEL, H, ("lazy", "maximal")),
    ("frozen features", IDLE, given(0, H, 1), SGD, MAXIMAL, None, ("frozen", "maximal")),
    ("a readout that lags", given(0, 0, -1), given(0, 1, 2), SGD, LEARNING, ZERO, ("maximal", "vanishing")),
    ("small rates", given(0, 0, 1), given(0, 1, 2), SGD, TRIVIAL, Fraction(2), ("vanishing", "vanishing")),
    ("Adam at one rate", given(0, 0, 0), given(0, 1, 0), ADAM, UNSTABLE, None, None),
    ("large features", given(0, -1, None), given(0, 1, 1), SGD, UNSTABLE, None, None),
]


@pytest.mark.parametrize(
    "first, last, law, name, r, per_weight", [row[1:] for row in REGIMES], ids=[r[0] for r in REGIMES]
)
def test_regimes(first, last, law, name, r, per_weight):
    found = regime(follow(first, last, law))
    assert found.name == name and found.stable == (name != UNSTABLE)
    if per_weight is not None:
        assert (found.r, tuple(found.per_weight.values())) == (r, per_weight)
        assert found.features == (HIDDEN,)


def test_what_breaks_is_told_with_its_step():
    found = regime(follow(given(0, -1, None), given(0, 1, 1)))
    assert [(x.value, x.order, x.at_init, x.why) for x in found.excesses] == [
        (HIDDEN, 1, True, "enters a weight"),
        (Y, H, True, "leaves as an output"),
    ]
    assert found.step == 0
    late = regime(follow(given(0, 0, 0), given(0, 1, 0), ADAM))
    assert [(x.value, x.at_init) for x in late.excesses] == [(Y, False)] and late.step == 1
    # the readout as it has become sends back gradients n times as large: the layer below is unstable with it
    assert late.per_weight == {"first": "unstable", "last": "unstable"}


def test_outputs():
    found = regime(follow(given(0, 0, -1), given(0, 1, 1)))
    assert (found.output_init, found.output_change) == (-H, ZERO)


@pytest.mark.parametrize(
    "fact, relative",
    [(Fact(H, H, ZERO), -H), (Fact(OO, ZERO, ZERO), ZERO), (Fact(ZERO, ZERO, OO), OO), (Fact(OO, OO, OO), OO)],
)
def test_relative_change(fact, relative):
    assert relative_change(fact) == relative


def test_own_effect():
    """dW2 ~ n^-2 gives n^-1 in an output that its changed features keep at order 0; dW1 ~ 1 gives all of h."""
    analysis = follow(given(0, 0, -1), given(0, 1, 2))
    assert own_effect(analysis.lowered, FULL, analysis.facts, W1) == ZERO
    assert own_effect(analysis.lowered, FULL, analysis.facts, W2) == -1
