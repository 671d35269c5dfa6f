"""Schedulers, and what else trainers return: right set-ups have no finding, wrong ones one that names the cause."""

from __future__ import annotations

import pytest
import torch
from torch.optim import lr_scheduler as schedulers

import tpcalc
from tests.support.verify_schedules import (
    LR,
    RIGHT,
    WRONG,
    asleep,
    model_of,
    right,
    scheduled,
    warm_up_by_width,
    x_inputs,
)
from tpcalc.verify.built import unpack
from tpcalc.verify.schedules import Watch, follow, named

WIDTHS = (64, 128, 256)


@pytest.mark.parametrize("name", RIGHT)
def test_right(name):
    if name.startswith("transformers"):
        pytest.importorskip("transformers")
    report = tpcalc.verify(RIGHT[name], WIDTHS)
    assert report.findings == () and report.regime == "maximal"


@pytest.mark.parametrize("name", WRONG)
def test_wrong(name):
    if name == "transformers":
        pytest.importorskip("transformers")
    setup, kind, words = WRONG[name]
    report = tpcalc.verify(setup, WIDTHS)
    assert any(finding.kind == kind and words in finding.message for finding in report.findings), report


@pytest.mark.parametrize("name, severity", [("cosine", "error"), ("small end", "warning"), ("sequential", "warning")])
def test_one_rate_for_all_is_an_error_where_it_still_counts(name, severity):
    (finding,) = tpcalc.verify(WRONG[name][0], WIDTHS).findings
    assert finding.severity == severity and (finding.found, finding.needed) == (0, -1)
    assert finding.weights == ("hid.weight", "out.weight")


def test_a_schedule_of_another_length_is_a_note():
    report = tpcalc.verify(scheduled(warm_up_by_width), WIDTHS)
    assert report.findings == () and "step 10 at width 64, 40 at width 128" in report.notes[0]


def test_one_rate_for_all_where_all_groups_had_one():
    """Nothing is lost: what the scheduler gives is what the groups had."""

    def setup(width):
        model, optimizer, x = model_of(width), None, x_inputs()
        optimizer = torch.optim.SGD(model.parameters(), lr=LR)
        return model, optimizer, schedulers.CosineAnnealingLR(optimizer, 100, eta_min=1e-4), x

    assert all(finding.kind != "schedule" for finding in tpcalc.verify(setup, WIDTHS).findings)


def noam(o, n):
    return schedulers.LambdaLR(o, lambda t: n**-0.5 * min((t + 1) ** -0.5, (t + 1) * 100**-1.5))


@pytest.mark.parametrize(
    "make, kind, power",
    [
        (noam, "frozen", -0.5),
        (lambda o, n: schedulers.LambdaLR(o, lambda t: min(1, t / 100) * n / 64), "explodes", 1),
        (lambda o, n: schedulers.ConstantLR(o, 64 / n, total_iters=10**9), "frozen", -1),
    ],
)
def test_one_factor_that_depends_on_the_width_is_one_finding(make, kind, power):
    (finding,) = tpcalc.verify(scheduled(make), WIDTHS).findings
    assert (finding.kind, finding.quantity, finding.found, finding.needed) == (kind, "lr factor", power, 0)
    assert "make it independent of the width" in finding.message and len(finding.weights) > 2


def test_a_schedule_that_leads_to_one_rate_is_no_warm_up():
    """At width 64 that rate is the one in force: the peak is there from the start, and at other widths at the end."""
    swa = torch.optim.swa_utils.SWALR
    report = tpcalc.verify(scheduled(lambda o, n: swa(o, swa_lr=LR)), WIDTHS)
    assert {finding.kind for finding in report.findings} == {"explodes"} and not report.notes
    assert all("give swa_lr as a list" in finding.message for finding in report.findings)


def courses(make, width=64):
    watch = Watch()
    with watch.watching():
        model, optimizer = right(width)
        scheduler = make(optimizer, width)
    built = unpack((model, optimizer, scheduler, x_inputs()), "setup(64)")
    return follow(built, watch)[id(model.inp.weight)], named(built, watch), optimizer


def test_the_peak_is_read_however_late_it_comes():
    late, _, optimizer = courses(lambda o, n: schedulers.LambdaLR(o, lambda s: min(1.0, s / 70_001)))
    assert late.peak == LR and optimizer.param_groups[0]["lr"] == LR and 70_000 < late.step < 80_000
    zero, _, _ = courses(asleep)
    assert (zero.start, zero.peak) == (0.0, LR)


def test_a_peak_between_the_steps_asked_for():
    course, _, _ = courses(lambda o, n: schedulers.LambdaLR(o, lambda s: 1 / (1 + abs(s - 7001))))
    assert (course.step, course.peak) == (7001, LR)


def test_the_end_of_a_schedule_of_known_length():
    course, names, _ = courses(lambda o, n: schedulers.OneCycleLR(o, LR, total_steps=90_000))
    assert course.low == pytest.approx(LR / 25 / 1e4) and str(names[0]).startswith("OneCycleLR (test_schedules.py:")


def test_a_scheduler_that_is_no_function_of_the_step():
    course, _, _ = courses(lambda o, n: schedulers.MultiplicativeLR(o, lambda s: 0.99 if s < 100 else 1.0))
    assert course.low == pytest.approx(LR * 0.99**99) and course.step == 0


def test_a_rate_as_a_tensor():
    model = model_of(64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=torch.tensor(LR))
    built = unpack((model, optimizer, schedulers.LinearLR(optimizer, 0.5, total_iters=4), x_inputs()), "setup(64)")
    assert follow(built, Watch())[id(model.inp.weight)].peak == pytest.approx(LR)


def test_decay_is_read_where_the_rate_peaks():
    class Both(schedulers.LRScheduler):
        def step(self, epoch=None):
            super().step(epoch)
            for group in self.optimizer.param_groups:
                group["weight_decay"] = 0.1 * group["lr"] / group["initial_lr"]

        def get_lr(self):
            return [rate * min(1.0, self.last_epoch / 10) for rate in self.base_lrs]

    _, _, optimizer = courses(lambda o, n: Both(o))
    assert optimizer.param_groups[0]["weight_decay"] == pytest.approx(0.1)


def test_constructors_are_left_as_they_were():
    before = schedulers.LRScheduler.__init__, schedulers.OneCycleLR.__init__
    courses(lambda o, n: schedulers.StepLR(o, 3))
    assert (schedulers.LRScheduler.__init__, schedulers.OneCycleLR.__init__) == before
