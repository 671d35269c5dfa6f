"""Ops run on the quantiles of several laws."""

import pytest
import torch

from tpcalc.trace.init.law import constant, normal, of_entries, unknown
from tpcalc.trace.init.samples import evaluate

aten = torch.ops.aten
X, Y = torch.empty(4), torch.empty(4)


def test_one_draw_is_in_step_with_itself_and_two_are_not():
    law, other = normal(0, 1, "x"), normal(0, 1, "y")
    assert float(evaluate(aten.sub.Tensor, [law, law], (X, X), {}, 1).abs().max()) == 0
    assert float(evaluate(aten.mul.Tensor, [law, other], (X, Y), {}, 1).mean()) == pytest.approx(0, abs=0.05)
    first, second, again = (evaluate(aten.add.Tensor, [law, other], (X, Y), {}, seed) for seed in (1, 2, 1))
    assert torch.equal(first, again) and not torch.equal(first, second)


def test_numbers_and_data_of_other_lengths_meet():
    data = of_entries(torch.tensor([1.0, 3.0]), "d")
    assert evaluate(aten.mul.Tensor, [data, constant(2, "c")], (X, Y), {}, 1).tolist() == [2, 6]
    both = evaluate(aten.add.Tensor, [data, normal(0, 1, "x")], (X, Y), {}, 1)
    assert float(both.mean()) == pytest.approx(2, abs=1e-6) and both.numel() > 2


def test_what_has_no_entries_gives_none():
    assert evaluate(aten.add.Tensor, [unknown("?"), constant(1, "c")], (X, Y), {}, 1) is None
    assert evaluate(aten.add.out, [constant(1, "c")], (X,), {"out": Y}, 1) is None
    assert evaluate(aten.mm.default, [normal(0, 1, "x"), normal(0, 1, "y")], (X, Y), {}, 1) is None


def test_masks_and_whole_numbers_stay_what_they_are():
    mask = torch.empty(4, dtype=torch.bool)
    assert evaluate(aten.logical_not.default, [constant(1, "c")], (mask,), {}, 1).tolist() == [False]
