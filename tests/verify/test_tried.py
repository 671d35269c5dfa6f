"""Fixes, applied, give a clean report: of every set-up here, and (conftest) of all that any other test verifies."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from tests.support import models, verify_setups
from tests.support import verify_fixes as setups
from tests.support.once import once
from tests.support.verify_reports import WIDTHS, report_of
from tpcalc.algebra.order import ZERO, order
from tpcalc.calculus.weights import is_random
from tpcalc.derive.rates import moments, safe_rate
from tpcalc.optimizers import ADAM
from tpcalc.verify.case import Case
from tpcalc.verify.effective import Effective
from tpcalc.verify.findings import DECAY, EPS, Finding, Report
from tpcalc.verify.gather import Gathered, gather
from tpcalc.verify.report import findings_of
from tpcalc.verify.report import report_of as report_on


@once
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


# -- any one mistake in any model ------------------------------------------------------------------------------------

MISTAKES = ("c", 1), ("c", -1), ("c", Fraction(1, 2)), ("b", Fraction(-1, 2)), ("bc", Fraction(1, 2)), ("bc", -1)
QUICK = ("mlp", "bottleneck", "gated", "lora", "weight_normalised", "stacked_experts", "unit_vectors", "shared_layer")
QUICK += ("rms_norms", "group_norms", "gemma", "t5_tied", "qk_norm_with_gain", "cosine_attention", "depthwise")


def maximal(solution, **changed: Effective) -> Case:
    """A case with the exponents of the maximal parametrization under Adam, but for those that are ``changed``."""
    given = {}
    for weight in solution.lowered.program.weights:
        leaves = solution.lowered.leaves_of[weight.name]
        needs = [(leaf, solution.needs[leaf.name]) for leaf in leaves if leaf.name in solution.needs]
        c = safe_rate(ADAM, moments(solution, solution.facts, needs)) if needs and weight.trainable else None
        whole = Effective(ZERO, c, None, None, None if c is None else ADAM, "Adam", is_random(weight))
        given |= {leaf.name: replace(whole, b=need.A) for leaf, need in needs}
        given[weight.name] = replace(whole, b=min((need.A for _, need in needs), default=ZERO))
        given |= {leaf.name: given[weight.name] for leaf in leaves if leaf.name not in given}
    return Case.under(Gathered(solution.lowered.program, {}, ""), solution, given | changed)


@pytest.mark.parametrize("name", QUICK)
def test_any_one_mistake_is_mended(name):
    solution = models.solution(models.MODELS[name])
    right = maximal(solution)
    assert findings_of(right) == ()
    weights = [weight.name for weight in solution.lowered.program.weights if right.given[weight.name].c is not None]
    for index, (fields, by) in enumerate(MISTAKES):
        weight = weights[index * len(weights) // len(MISTAKES)]
        names = {weight, *(leaf.name for leaf in solution.lowered.leaves_of[weight])}
        own = {}
        for each in names:
            before = right.given[each]
            own[each] = replace(before, **{field: getattr(before, field) + order(by) for field in fields})
        wrong = maximal(solution, **own)
        findings = findings_of(wrong)
        after = wrong.with_(fix for finding in findings for fix in finding.fixes)
        assert after.regime.stable and findings_of(after) == (), (weight, fields, by, findings)
        assert findings or wrong.regime.name == "maximal", (weight, fields, by)
