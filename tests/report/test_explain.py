"""Why a weight has its exponents, byte by byte for hand-made data, and from real programs."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import torch
from torch import nn

import tpcalc
from tests.report.made import N, make_rule
from tests.support import scaled
from tests.support.depths import traced
from tests.support.stacks import pre
from tpcalc.algebra.order import ZERO
from tpcalc.derive.certificate import Certificate
from tpcalc.derive.explain import Explanation, Waypoint
from tpcalc.derive.result import Bound
from tpcalc.optimizers import recipe
from tpcalc.report.explain import explanation_text

LAW = replace(recipe("adamw").by_name["adamw"], source="a paper", note="a warning")

TEXT = """\
w = v [n, n]: hidden (because)

A = 1/2   (std of W ~ n^-A)
  law 1 at h3 (fc, net.py:4)
  smaller by 1/8, h3 would have order 1/8, above its budget 0
C = 1   (entries of an update ~ n^-C)
  law 3 at h3

From the weight to where the budget stands:
  h3 = mm: order 0, budget 0   # fc, net.py:4
  h4 = relu: order 0

Gradient: g = -1   (entries ~ n^g)
  g9 : n^-1  orders add

adamw (a paper):
  c = C + u = 1   (lr ~ n^-c)
  weight decay ~ n^1: {decay}
  eps ~ n^-1: {eps}
  note: a warning"""


def explanation() -> Explanation:
    bounds = {"init_bound": Bound("h3", "law 1", "fc, net.py:4"), "update_bound": Bound("h3", "law 3")}
    rule = make_rule("w", (N, N), "hidden", "1/2", 1, eps=-1, gradient=Fraction(-1), reason="because", **bounds)
    certificates = tuple(Certificate("w", "A", f"h{i}", "", Fraction(1, 8), ZERO) for i in (3, 7))
    path = (Waypoint("h3", "mm", ZERO, "fc, net.py:4", ZERO), Waypoint("h4", "relu", ZERO, ""))
    return Explanation(
        ("w", "v"), rule, LAW, "init", certificates, path, (Waypoint("g9", "orders add", Fraction(-1), ""),)
    )


def test_text():
    text = TEXT.format(decay=LAW.decay.convention, eps=LAW.eps.convention)
    assert explanation_text(explanation()) == text
    assert str(explanation()) == repr(explanation()) == text


def test_a_multiplier_is_told():
    half = Fraction(1, 2)
    text = explanation_text(replace(explanation(), rule=replace(explanation().rule, a=half, b=ZERO), gauge="ntk"))
    assert "  a = 1/2, b = A - a = 0, gradient g - a = -1   (gauge ntk: multiplier ~ n^-a, std ~ n^-b)\n" in text
    assert "  c = C - a + u = 1   (lr ~ n^-c)\n" in text and "Gradient: g = -1/2 " in text


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.used, self.unused = nn.Linear(8, width), nn.Linear(width, 4)
        self.given = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return self.used(x), self.given


def test_weights_at_the_edges():
    program = tpcalc.trace(lambda width: (Net(width), (torch.ones(2, 8),)), (64, 128, 256))
    unused, given = (tpcalc.explain(program, name) for name in ("unused.weight", "given"))
    assert unused.path is None and str(unused).endswith("Nothing was derived: no output depends on this parameter.")
    assert given.path == () and "\n  its value is the budget's own\n" in str(given)
    used = tpcalc.explain(program, "used.weight")
    assert used.path and used.path[-1].where.startswith("used, test_explain.py:") and used.rule.b == 0


def test_several_scales_are_told_in_powers():
    text = str(tpcalc.explain(traced(pre), "blocks.0.two.weight"))
    assert text.startswith("blocks.0.two.weight [n, 4*n]: hidden (")
    for line in (
        "A: std of W ~ n^-1/2 L^-1",
        "C: entries of an update ~ n^-1 L^-1",
        "Gradient: entries ~ n^-1",
        "  lr ~ n^-1 L^-1",
        "  d_output : 1  seed d_output",
    ):
        assert f"\n{line}\n" in text
    assert "law 3: weight update x value over growth n; the result is summed over the depth at" in text
    assert " would have n^1/8 L^-1, above its budget L^-1\n" in text and "n^n" not in text and "Where" not in text


def test_a_multiplier_of_several_scales_is_told():
    text = str(tpcalc.explain(traced(pre), "blocks.0.two.weight", gauge="completep", depth_alpha="1/2"))
    assert (
        "\n  multiplier ~ L^-1/2, std ~ n^-1/2, gradient ~ n^-1 L^-1/2   (gauge completep)\n  lr ~ n^-1 L^-1/2\n"
        in text
    )


def test_each_cone_has_its_chain():
    """Where n outgrows f law 2 counts rows; without a kink there is one chain."""
    program = tpcalc.trace(scaled.ffn, scales=scaled.SCALES[scaled.ffn])
    found = tpcalc.explain(program, "up.weight")
    text = str(found)
    assert text.startswith(
        "up.weight: init std ~ n^-1/2 Min(1, sqrt(f/n)), lr ~ n^-1; each set of exponents in one cone"
    )
    wide, narrow = sorted(text.split("\nWhere ")[1:], key=lambda part: "n > f" in part.partition(":")[0])
    assert "\nA: std of W ~ n^-1/2\n" in wide and "R = f: n^1/2;" in wide
    assert "\nA: std of W ~ n^-1 f^1/2\n" in narrow and "R = f: n f^-1/2;" in narrow
    assert len(tpcalc.explain(program, "readout.weight").cones) == 1
