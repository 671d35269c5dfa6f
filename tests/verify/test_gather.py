"""Setups that run on real instances, and those that can't run."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import tpcalc
from tests.support import verify_setups as setups
from tests.support.cases import made
from tests.support.verify_reports import WIDTHS, told, weights

H = Fraction(1, 2)


def numpy_setup(width: int, std: float | None = None):
    """Writes real data: impossible under fake tensors."""
    model, optimizer, inputs = setups.tp5_table3_adam(width)
    draw = np.random.default_rng(0).normal(size=(width, width)) * (width**-0.5 if std is None else std)
    model.hidden1.weight.data.numpy()[:] = draw
    return model, optimizer, inputs


def test_falls_back_to_real_instances_and_says_so():
    report = tpcalc.verify(numpy_setup, WIDTHS)
    assert report.how == "real small instances" and report.findings == ()
    assert "on real small instances" in str(report) and "read-only" in report.why


def test_wrong_init_on_real_instances():
    report = tpcalc.verify(lambda width: numpy_setup(width, 1.0), WIDTHS)
    assert told(report) == [("explodes", "init std", 0, -H)] and weights(report, "explodes") == {"hidden1.weight"}
    assert any("hidden1.weight" in note for note in report.notes)


def test_an_error_of_the_setup_names_its_line():
    def setup(width):
        raise ValueError("no such dataset")

    with pytest.raises(
        tpcalc.TargetError, match=r"setup\(64\) raised ValueError: no such dataset \(test_gather.py:\d+\)"
    ):
        tpcalc.verify(setup, WIDTHS)


@pytest.mark.parametrize("steps", [(2.0, "rows"), ("rows", 2.0), ("rows", 1.0), ("rows", 2.0, 0.5), (2.0,)])
def test_rows_of_a_packed_weight_keep_their_own_init(steps):
    """Whatever the whole is multiplied by afterwards; without an init of their own they explode."""

    report = tpcalc.verify(made.rows_by_hand(*steps), WIDTHS)
    assert report.how == "fake tensors" and not report.notes
    assert weights(report, "explodes") == (set() if "rows" in steps else {"pack.weight"})
