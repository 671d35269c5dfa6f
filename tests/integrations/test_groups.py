"""Groups that somebody else has made, split by multipliers."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, ReduceLROnPlateau
from torch.optim.swa_utils import SWALR

from tests.support import trained
from tpcalc.errors import ScalingError, SetupError
from tpcalc.integrations.groups import hold_ratios, scale_optimizer_
from tpcalc.scaling.runtime import RatioWarning
from tpcalc.scaling.schedules import per_group


def scaled(make, model=None, weights=None):
    model = model or trained.Held()
    optimizer = make(model)
    scale_optimizer_(optimizer, weights or trained.scaling(), model)
    return optimizer, model


def adamw(model, **options):
    return torch.optim.AdamW(model.parameters(), lr=trained.LR, weight_decay=trained.DECAY, eps=trained.EPS, **options)


def test_what_a_group_says_is_multiplied():
    def layerwise(model):
        first, rest = model.net.token.parameters(), (p for n, p in model.net.named_parameters() if "token" not in n)
        groups = [{"params": first, "lr": 1.0, "name": "first"}, {"params": rest, "betas": (0.8, 0.9)}]
        return torch.optim.AdamW(groups, lr=2.0, weight_decay=0.5)

    optimizer, model = scaled(layerwise)
    found, weights = trained.said(optimizer, model), trained.scaling()
    for name, settings in found.items():
        first, weight = name == "token.weight", weights[name]
        assert settings["lr"] == (1.0 if first else 2.0) * weight.lr
        assert settings["weight_decay"] == 0.5 * weight.weight_decay
        assert settings["betas"] == ((0.9, 0.999) if first else (0.8, 0.9))
    assert [group.get("name") for group in optimizer.param_groups][0] == "first"


def test_once_is_enough():
    optimizer, model = scaled(adamw)
    before = [{**group} for group in optimizer.param_groups]
    scale_optimizer_(optimizer, trained.scaling(), model)
    assert all(a == b for a, b in zip(before, optimizer.param_groups, strict=True))
    other = trained.build(trained.TARGET)[0]
    groups = trained.scaling().param_groups(other, lr=1.0)
    groups[0]["lr_multiplier"] = 0.3
    with pytest.raises(ScalingError, match="token.weight has the lr_multiplier 0.3 in a group of AdamW, and 1.0 in"):
        scale_optimizer_(torch.optim.AdamW(groups), trained.scaling(), other)


def test_laws_that_differ_in_decay_alone():
    scaled(lambda model: torch.optim.Adam(model.parameters()))
    with pytest.raises(ScalingError, match=r"for adamw, and Adam follows the law of adam; .* --optimizer adam "):
        scaled(lambda model: torch.optim.Adam(model.parameters(), weight_decay=0.1))


class Unknown(torch.optim.AdamW):
    def step(self, closure=None):
        pass


REFUSED = {
    "SGD follows the law of sgd": lambda model: torch.optim.SGD(model.parameters()),
    "NAdam follows the law of nadam": lambda model: torch.optim.NAdam(model.parameters()),
    "1 tensors of AdamW are no parameters": lambda model: torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))]),
    "Box is no torch.optim.Optimizer": lambda model: type("Box", (), {"param_groups": []})(),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_is_refused(sentence):
    with pytest.raises(ScalingError, match=sentence):
        scaled(REFUSED[sentence])


def test_an_optimizer_without_a_law_says_how_to_declare_one():
    with pytest.raises(SetupError, match="has no update law here; declare the law it follows"):
        scaled(lambda model: Unknown(model.parameters()))


def test_nothing_is_changed_by_a_refusal():
    model = trained.Held()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with pytest.raises(ScalingError):
        scale_optimizer_(optimizer, trained.scaling(), model)
    (group,) = optimizer.param_groups
    assert group["lr"] == 0.5 and "lr_multiplier" not in group


def test_an_epsilon_that_is_no_number():
    def box(model):
        optimizer = adamw(model)
        optimizer.param_groups[0]["eps"] = (1e-30, 1e-3)
        return optimizer

    with pytest.raises(ScalingError, match="the epsilon of token.weight needs the multiplier 0.5, and AdamW has eps ="):
        scaled(box)


def test_a_scheduler_that_came_first():
    def early(model):
        optimizer = adamw(model)
        LambdaLR(optimizer, lambda step: 1.0)
        return optimizer

    with pytest.raises(ScalingError, match="before its groups had their multipliers"):
        scaled(early)


def test_floors_of_a_scheduler():
    optimizer, _ = scaled(adamw)
    hold_ratios(optimizer, LambdaLR(optimizer, lambda step: 0.5), trained.scaling())
    hold_ratios(optimizer, ReduceLROnPlateau(optimizer, min_lr=per_group(optimizer, 1e-5)), trained.scaling())
    with pytest.raises(ScalingError, match=r"min_lr = 1e-05, .*per_group\(optimizer, 1e-05\), which is \[1e-05, "):
        hold_ratios(optimizer, ReduceLROnPlateau(optimizer, min_lr=1e-5), trained.scaling())
    with pytest.raises(ScalingError, match="SWALR gives the groups swa_lr = 0.01, .*give swa_lr=.*per_group"):
        hold_ratios(optimizer, SWALR(optimizer, 0.01), trained.scaling())


def layerwise(model):
    """A rate for the embedding, and another for the rest."""
    first, rest = model.net.token.parameters(), (p for n, p in model.net.named_parameters() if "token" not in n)
    groups = [{"params": first, "lr": 1e-2}, {"params": rest}]
    return torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.1, eps=trained.EPS)


def test_rates_of_layers_are_kept():
    """What the user's own groups say is no loss of ratios, and one rate for all of them is."""
    optimizer, model = scaled(layerwise)
    scheduler = ExponentialLR(optimizer, 0.5)
    hold_ratios(optimizer, scheduler, trained.scaling())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            optimizer.step()
            scheduler.step()
    for name, settings in trained.said(optimizer, model).items():
        own = 1e-2 if name == "token.weight" else 1e-3
        assert settings["lr"] == pytest.approx(own * trained.scaling()[name].lr / 8)
    again, _ = scaled(layerwise)
    again.load_state_dict(optimizer.state_dict())
    assert trained.scaling().check_(again)
    for group in again.param_groups:
        group["lr"] = 1e-3
    with pytest.warns(RatioWarning, match="are as 1 : 1 : 1"):
        again.step()


def test_a_group_without_a_rate_at_the_base():
    def still(model):
        optimizer = layerwise(model)
        optimizer.param_groups[0]["lr"] = 0.0
        return optimizer

    optimizer, _ = scaled(still)
    assert trained.scaling().check_(optimizer)
    optimizer.param_groups[0]["lr"] = 5e-3
    with pytest.warns(RatioWarning):
        optimizer.step()


def test_one_rate_in_all_groups_is_told_once():
    optimizer, _ = scaled(adamw)
    optimizer.step()
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    with pytest.warns(RatioWarning, match="something sets every group to one value") as told:
        optimizer.step()
        optimizer.step()
    assert len(told) == 1


def test_one_rate_is_seen_where_groups_are_stepped_one_by_one():
    """As ZeRO does."""
    optimizer, _ = scaled(adamw)
    for group in (groups := optimizer.param_groups):
        group["lr"] = 1e-3
    optimizer.param_groups = groups[:1]
    with pytest.warns(RatioWarning, match="are as 1 : 1 : 1"):
        optimizer.step()


def test_a_state_that_is_made_before_any_step():
    make = lambda model: torch.optim.Adagrad(model.parameters(), lr=0.1)  # noqa: E731
    optimizer, model = scaled(make, weights=trained.scaling("adagrad"))
    weights = trained.scaling("adagrad")
    for name, parameter in model.net.named_parameters():
        (group,) = (group for group in optimizer.param_groups if any(p is parameter for p in group["params"]))
        assert group["lr"] == 0.1 * weights[name].lr
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    late = make(model)
    late.step()
    with pytest.raises(ScalingError, match="Adagrad has taken steps without multipliers"):
        scaled(lambda model: late, model, weights)


def test_groups_that_are_added():
    def partly(model):
        first, *rest = model.parameters()
        optimizer = torch.optim.AdamW(rest, lr=trained.LR, weight_decay=trained.DECAY, eps=trained.EPS)
        optimizer.later = {"params": [first]}
        return optimizer

    optimizer, model = scaled(partly)
    optimizer.add_param_group(optimizer.later)
    with pytest.raises(ScalingError, match="was given 1 more tensors after its groups had their multipliers"):
        optimizer.step()
    scale_optimizer_(optimizer, trained.scaling(), model)
    optimizer.step()
    assert trained.said(optimizer, model) == trained.wanted(model, no_decay=None)


def test_a_state_of_other_multipliers_is_refused():
    optimizer, model = scaled(adamw)
    again, _ = scaled(adamw)
    again.load_state_dict(optimizer.state_dict())
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        del group["lr_multiplier"]
    with pytest.raises(ScalingError, match="has the multipliers none, none, none.* resume with the multipliers"):
        again.load_state_dict(state)
    assert [group["lr_multiplier"] for group in again.param_groups] == [
        group["lr_multiplier"] for group in optimizer.param_groups
    ]


def test_a_state_with_other_groups_is_refused_in_the_same_words():
    """Of training without multipliers, which had fewer groups: torch would count them."""
    plain = adamw(trained.Held())
    optimizer, _ = scaled(adamw)
    with pytest.raises(
        ScalingError, match="has the multipliers none, and this run has 1, 0.*resume with the multipliers"
    ):
        optimizer.load_state_dict(plain.state_dict())
