"""Inputs of real models."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tpcalc.check.inputs import apply, as_inputs, same_shapes
from tpcalc.errors import TpcalcError


def test_inputs_are_arguments_or_keyword_arguments():
    x = torch.ones(2)
    assert as_inputs(x) == (x,)
    assert as_inputs([x, 3]) == (x, 3)
    assert as_inputs({"x": x}) == {"x": x}


@pytest.mark.parametrize("batch, said", [(None, "None"), (3, "an int"), ("x", "a str")])
def test_other_things_are_refused(batch, said):
    with pytest.raises(TpcalcError, match=f"gives {said}; let it give a tensor"):
        as_inputs(batch)


def test_what_a_model_raises_is_told_as_its_own():
    model = nn.Linear(8, 3)
    assert apply(model, (torch.ones(2, 8),)).shape == (2, 3)
    assert apply(model, {"input": torch.ones(2, 8)}).shape == (2, 3)
    with pytest.raises(TpcalcError, match="Linear raised RuntimeError: .*; check that it runs on the inputs given"):
        apply(model, (torch.ones(2, 7),))


def test_shapes_are_compared_one_by_one():
    a, b = torch.ones(2), torch.ones(2, 2)
    assert same_shapes((a, b), (2 * a, 2 * b))
    assert same_shapes({"x": a}, {"x": a})
    assert not same_shapes((a,), (b,))
    assert not same_shapes((a,), (a, a))
    assert not same_shapes((a,), (a.double(),))
    assert not same_shapes((3,), (3,))
