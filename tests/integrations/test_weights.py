"""The multipliers that were given, and models that are theirs."""

from __future__ import annotations

import warnings

import pytest

from tests.support import trained
from tpcalc.errors import ScalingError
from tpcalc.integrations.weights import check_init, check_model, clips, multipliers


def test_what_may_be_given(tmp_path):
    weights = trained.scaling()
    weights.save(tmp_path / "multipliers.json")
    assert multipliers(weights) is weights
    assert multipliers(str(tmp_path / "multipliers.json")).document == weights.document


def test_a_model_of_another_gauge():
    mup = trained.scaling(gauge="mup")
    model = trained.Held()
    check_model(trained.scaling(), model)
    with pytest.raises(ScalingError, match="need multipliers in the forward pass.* call forward_"):
        check_model(mup, model)
    mup.forward_(model)
    check_model(mup, model)


def test_an_init_that_was_forgotten():
    model = trained.Held()
    with pytest.warns(UserWarning, match="is as its code initialises it"):
        check_init(trained.scaling(), model)
    trained.scaling().init_(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_init(trained.scaling(), model)


def test_whether_a_norm_is_the_plain_one():
    assert clips(trained.scaling()) and not clips(trained.scaling(gauge="mup"))
