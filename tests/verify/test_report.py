"""Whole setups: right parametrizations pass clean, those of the wild get one finding a cause."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn

import tpcalc
from tests.support import verify_setups as setups
from tests.support.models import example
from tests.support.verify_reports import WIDTHS, report_of, told
from tests.support.verify_setups import BASE, LR
from tpcalc.verify.case import Case
from tpcalc.verify.gather import gather
from tpcalc.verify.report import findings_of

H = Fraction(1, 2)


@pytest.mark.parametrize("setup", setups.PASSES, ids=lambda s: s.__name__)
def test_right_parametrizations_are_clean(setup):
    report = report_of(setup)
    assert report.findings == () and report.ok and report.regime == "maximal", report
    assert report.how == "fake tensors" and report.exit_code(strict=True) == 0


@pytest.mark.parametrize("setup", setups.MUP_ADAM, ids=lambda s: s.__name__)
def test_mup_by_its_own_instructions_has_no_fault_but_epsilon(setup):
    """mup never scales Adam's epsilon, though every gradient shrinks as 1/n: one warning, for all weights together."""
    report = report_of(setup)
    assert report.ok and report.regime == "maximal"
    assert told(report) == [("eps drift", "eps", 0, -1)]


def test_mup_with_epsilon_scaled_is_clean():
    pytest.importorskip("mup")

    def setup(width):
        model, optimizer, inputs = setups.mup_gpt(width)
        for group in optimizer.param_groups:
            group["eps"] = 1e-8 * BASE / width
        return model, optimizer, inputs

    assert tpcalc.verify(setup, WIDTHS).findings == ()


WILD = {
    setups.minicpm_literal: [("vanishes", "lr", -1, 0), ("vanishes", "lr", -1, 0)],
    setups.megatron: [("decay drift", "weight_decay", 0, 1), ("eps drift", "eps", 0, -1)],
    setups.one_kv_head: [("explodes", "init std", -H, -1), ("explodes", "init std", -H, -1)],
    setups.mup_shared_readout: [("explodes", "init std", H, 0), ("eps drift", "eps", 0, -1)],
    setups.embedding_times_sqrt_width: [("explodes", "init std", 0, -H), ("explodes", "lr", 0, -H)],
    setups.router_sgd: [("explodes", "init std", -H, -1), ("explodes", "lr", 0, -1)],
}


@pytest.mark.parametrize("setup", WILD, ids=lambda s: s.__name__)
def test_more_of_the_wild(setup):
    assert told(report_of(setup)) == WILD[setup]


@pytest.mark.parametrize("name, optimizer", [("gpt_tied", "adamw"), ("gpt_growing_heads", "adam"), ("gpt_moe", "sgd")])
def test_what_tpcalc_exports_passes(name, optimizer):
    """Multipliers of tpcalc.scale, applied: a tied readout, heads that grow under 1/sqrt(d), experts."""
    factory = example("gpt.py", name)
    scalings = {width: tpcalc.scale(factory, base=32, target=width, optimizer=optimizer) for width in (64, 128, 256)}
    classes = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}

    def setup(width):
        model, inputs = factory(width)
        scalings[width].init_(model)
        return model, classes[optimizer](scalings[width].param_groups(model, lr=LR, weight_decay=0.1)), inputs

    report = tpcalc.verify(setup, WIDTHS)
    assert report.findings == () and report.regime == "maximal"


def test_zero_init_is_no_fault():
    def setup(width):
        model, optimizer, inputs = setups.tp5_table3_adam(width)
        nn.init.zeros_(model.readout.weight)
        nn.init.zeros_(model.hidden2.weight)
        return model, optimizer, inputs

    assert tpcalc.verify(setup, WIDTHS).findings == ()


def test_the_same_report_twice():
    assert str(tpcalc.verify(setups.router, WIDTHS)) == str(report_of(setups.router))


def test_an_error_lost_on_the_way_is_told_all_the_same():
    """Whatever the checks make of a cause, an unstable net is never called ok."""
    case = Case.of(gather(setups.standard_adamw, WIDTHS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tpcalc.verify.report.tried", lambda case, checks: ([], True))
        (finding,) = findings_of(case)
    assert (finding.kind, finding.severity, finding.quantity) == ("explodes", "error", "value")
