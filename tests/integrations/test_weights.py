"""The multipliers that were given, and models that are theirs."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch

from tests.support import trained
from tpcalc.errors import ScalingError
from tpcalc.integrations.weights import check_init, check_model, clips, mixed, multipliers, start_


def test_what_may_be_given(tmp_path):
    weights = trained.scaling()
    weights.save(tmp_path / "multipliers.json")
    assert multipliers(weights) is weights
    assert multipliers(str(tmp_path / "multipliers.json")).document == weights.document
    for wrong in (None, {"weights": []}, 3.0):
        with pytest.raises(
            ScalingError, match=f"{type(wrong).__name__} holds none; give the path .* what tpcalc.scale"
        ):
            multipliers(wrong)
    with pytest.raises(ScalingError, match="or its scaling"):  # the module that codegen wrote, and not what is in it
        multipliers(SimpleNamespace(scaling=weights))


class Mixin:
    pass


def test_what_is_no_class_or_another():
    class Kind:
        def hook(self): ...

    assert issubclass(mixed(Mixin, Kind, trained.scaling(), True, "hook", "a kind"), (Kind, Mixin))
    with pytest.raises(ScalingError, match=r"made already; write Kind = scaled\(Kind, ...\) before"):
        mixed(Mixin, Kind(), trained.scaling(), True, "hook", "a kind")
    with pytest.raises(ScalingError, match="the class of a kind, and .*Mixin is none"):
        mixed(Mixin, Mixin, trained.scaling(), True, "hook", "a kind")


def test_a_refusal_leaves_the_weights():
    model = trained.Held()
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ScalingError, match="follows the law of sgd"):
        start_(trained.scaling(), model, [torch.optim.SGD(model.parameters())], fresh=True)
    optimizer = torch.optim.AdamW(model.parameters())
    late = torch.optim.lr_scheduler.ReduceLROnPlateau(torch.optim.AdamW(model.parameters()), min_lr=1e-5)
    late.optimizer = optimizer
    with pytest.raises(ScalingError, match="min_lr = 1e-05"):
        start_(trained.scaling(), model, [optimizer], [late], fresh=True)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    start_(trained.scaling(), model, fresh=None)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    start_(trained.scaling(), model, fresh=True)
    assert not all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


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
