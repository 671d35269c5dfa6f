"""Slopes before they settle: the fall of a stream is measured at init, and what follows is what the laws say."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import pytest

from tests.check.test_repeated import SETTINGS, plan
from tests.support import stacks
from tpcalc.algebra.order import Order
from tpcalc.check.fading import Fading
from tpcalc.check.several import along_rays


@pytest.mark.parametrize("power, fall", [(-0.3, Fraction(3, 10)), (0.0, None), (0.2, None), (-0.9, Fraction(1, 2))])
def test_the_fall_of_the_stream_that_falls_most(power, fall):
    fading = Fading(frozenset({1, 2}), lambda by: None)
    sizes = {width: {("init", 1): 2.0, ("init", 2): 3.0 * width**power} for width in (2, 4, 8)}
    runs = {(width, 0): SimpleNamespace(sizes=each) for width, each in sizes.items()}
    settings = SimpleNamespace(widths=(2, 4, 8), places=(2, 4, 8), seeds=(0,))
    assert fading.measured(runs, settings) == fall


def test_what_follows_by_the_laws():
    """Pre-norm: gradients behind a norm rise as the stream falls; AdamW's effects don't. Without norms they fall."""
    found = plan(stacks.pre)
    exponent = found.settings.exponent
    before, after = found.promised, found.fading.predict(Order("1/4"))
    weights = {weight.name: weight for weight in found.probe.program.weights}
    moved = {
        name: exponent(after.gradient(weights[name]).trained) - exponent(before.gradient(weights[name]).trained)
        for name in ("entry.weight", "blocks.0.one.weight", "blocks.0.two.weight", "out.weight")
    }
    assert moved == {"entry.weight": Fraction(1, 4), "blocks.0.one.weight": Fraction(1, 4),
                     "blocks.0.two.weight": Fraction(1, 4), "out.weight": 0}  # fmt: skip
    assert {name: exponent(order) for name, order in after.effects.items()} == {
        name: exponent(before.effects[name]) for name in after.effects
    }
    bare = plan(stacks.without_norm)
    effects = {
        name: exponent(order) - exponent(bare.promised.effects[name])
        for name, order in bare.fading.predict(Order("1/4")).effects.items()
    }
    assert effects["blocks.0.one.weight"] == effects["out.weight"] == Fraction(-1, 4) and effects["out.bias"] == 0


def test_alpha_of_one_half_does_not_fade():
    """What branches add is as large as the stream at all depths."""
    (half,) = along_rays(stacks.pre, {"width": (16,), "depth": (2, 3, 4)}, SETTINGS, "1/2", None)
    assert half.fading is None and plan(stacks.pre).fading is not None
