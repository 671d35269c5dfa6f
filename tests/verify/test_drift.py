"""Weight decay and epsilon that drift against the update."""

from __future__ import annotations

from fractions import Fraction

import torch

import tpcalc
from tests.support import verify_setups as setups
from tests.support.verify_reports import WIDTHS, report_of, told, weights
from tests.support.verify_setups import MLP, mup_init, x_inputs
from tpcalc.verify.case import Case
from tpcalc.verify.drift import eps_drifts
from tpcalc.verify.findings import RATE, VANISHES
from tpcalc.verify.gather import gather
from tpcalc.verify.grouping import Item

H = Fraction(1, 2)


def test_coupled_decay_scaled_as_if_decoupled():
    report = report_of(setups.coupled_decay)
    assert report.ok and {f.kind for f in report.findings} == {"decay drift"}
    hidden = next(f for f in report.findings if "hidden1.weight" in f.weights)
    assert (hidden.found, hidden.needed) == (1, -H)


def test_decoupled_decay_left_unscaled():
    report = report_of(setups.decay_left)
    assert told(report) == [("decay drift", "weight_decay", 0, 1)] and report.findings[0].effect == -1 and report.ok
    assert weights(report, "decay drift") == {"hidden1.weight", "hidden2.weight", "readout.weight"}


def test_epsilon_left_unscaled():
    report = report_of(setups.eps_left)
    assert told(report) == [("eps drift", "eps", 0, -1)] and report.ok
    assert "readout.weight" not in weights(report, "eps drift")  # its gradient does not shrink


def test_epsilon_beside_the_squared_gradient():
    def setup(width):
        model = MLP(width, bias=False)
        mup_init(model)
        return model, torch.optim.Adadelta(model.parameters(), lr=0.01), x_inputs()

    (finding,) = [f for f in tpcalc.verify(setup, WIDTHS).findings if f.kind == "eps drift"]
    assert (finding.found, finding.needed, finding.effect) == (0, -2, -2)
    assert "the gradient scales like n^(-1), so that epsilon should like n^(-2)" in finding.message
    assert "becomes another one" in finding.message


def test_epsilon_is_not_held_against_a_gradient_that_another_fault_makes_small():
    case = Case.of(gather(setups.eps_left, WIDTHS))
    every = {item.weight for item in eps_drifts(case, [])}
    vanishes = Item(VANISHES, RATE, None, None, None, "", "", "", ("hidden1.weight",))
    assert "hidden1.weight" in every
    assert {item.weight for item in eps_drifts(case, [vanishes])} == every - {"hidden1.weight"}
