"""Fixes, applied, give a clean report: of every set-up here, and (conftest) of all that any other test verifies."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from functools import lru_cache

import pytest

from tests.support import verify_fixes as setups
from tests.support import verify_setups
from tests.support.verify_reports import WIDTHS, report_of
from tpcalc.verify.case import Case
from tpcalc.verify.findings import DECAY, EPS, Finding, Report
from tpcalc.verify.gather import gather
from tpcalc.verify.report import report_of as report_on


@lru_cache(maxsize=None)
def judged(setup) -> tuple[Case, Report]:
    case = Case.of(gather(setup, WIDTHS))
    return case, report_on(case, setup.__name__)


def matter(report: Report) -> list[Finding]:
    return [finding for finding in report.findings if finding.kind not in (DECAY, EPS)]


@pytest.mark.parametrize("setup", setups.RIGHT, ids=lambda setup: setup.__name__)
def test_right(setup):
    _, report = judged(setup)
    assert matter(report) == [] and report.regime == "maximal", report


@pytest.mark.parametrize("setup", setups.WRONG, ids=lambda setup: setup.__name__)
def test_wrong_ones_are_told_what_they_need(setup):
    case, report = judged(setup)
    told = {
        ("*" if fix.quantity == "multiplier" else fix.target, fix.quantity, fix.by)
        for finding in matter(report)
        for fix in finding.fixes
        if fix.quantity not in ("eps", "weight_decay")
    }
    assert told == {(*what, Fraction(by)) for *what, by in setups.WRONG[setup]}, report
    after = report_on(case.with_(fix for finding in report.findings for fix in finding.fixes), setup.__name__)
    assert matter(after) == [] and after.regime == "maximal", after


@pytest.mark.parametrize("T", [2, 5, 9])
def test_what_a_scan_needs_does_not_depend_on_its_length(T):
    _, report = judged(next(s for s in setups.WRONG if s.__name__ == f"scan(T={T}, bc=(-0.5, -1))"))
    assert [(f.found, f.needed) for f in matter(report)] == [(-Fraction(1, 2), -1)]


def test_headline_and_findings_agree():
    for setup in setups.WRONG:
        _, report = judged(setup)
        assert report.regime != "maximal" and matter(report), report


def test_fixes_are_in_the_document_and_in_the_text():
    report = report_of(verify_setups.standard_adamw)
    rows = report.to_json()["findings"]
    assert [row["fixes"] for row in rows] == [
        [{"target": f"hidden{i}.weight", "quantity": "lr", "by": "-1", "to": None} for i in (1, 2)],
        [{"target": "readout.weight", "quantity": "init std", "by": "-1/2", "to": None}],
        [{"target": "readout.weight", "quantity": "lr", "by": "-1", "to": None}],
    ]
    assert "multiply its init std by n^(-1/2)" in rows[1]["message"]


def test_decay_goes_along_with_a_rate_that_it_fits():
    (finding,) = matter(report_of(verify_setups.depthwise))
    assert Counter((fix.quantity, fix.by) for fix in finding.fixes) == {("lr", 1): 2, ("weight_decay", -1): 2}
    assert finding.message.endswith("multiply its lr by n^1, and its weight_decay by n^(-1)")


def test_a_parameter_in_no_group_gets_the_rate_under_the_usual_law():
    import torch

    def setup(width):
        model = verify_setups.MLP(width)
        verify_setups.mup_init(model)
        groups = verify_setups.adam_groups(model, width)
        groups[0]["params"] = [p for p in groups[0]["params"] if p is not model.hidden1.weight]
        return model, torch.optim.AdamW(groups), verify_setups.x_inputs()

    case, report = judged(setup)
    (finding,) = report.findings
    (fix,) = finding.fixes
    assert (finding.kind, fix.target, fix.quantity, fix.by, fix.to) == ("unmatched", "hidden1.weight", "lr", None, -1)
    assert matter(report_on(case.with_([fix]), "after")) == []
