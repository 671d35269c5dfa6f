"""What is known of a set-up: roles, needs, rates and causes, before any check asks."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tpcalc
from tests.support import verify_setups as setups
from tests.support.once import once
from tests.support.verify_reports import WIDTHS
from tests.support.verify_setups import MLP, x_inputs
from tpcalc.lower.lowered import Leaf
from tpcalc.verify.case import Case
from tpcalc.verify.gather import gather

H = Fraction(1, 2)


@once
def case_of(setup) -> Case:
    return Case.of(gather(setup, WIDTHS))


def leaf(case: Case, name: str) -> Leaf:
    return next(leaf for leaf in case.lowered.leaves if leaf.name == name)


def sgd_from_zero(width: int):
    model = MLP(width)
    nn.init.zeros_(model.hidden2.weight)
    return model, torch.optim.SGD(model.parameters(), lr=0.1), x_inputs()


def relative_from_zero(width: int):
    model, *_ = sgd_from_zero(width)
    return model, torch.optim.Adafactor(model.parameters(), lr=0.1), x_inputs()


def test_causes_stand_in_the_order_of_the_model():
    case = case_of(setups.standard_adamw)
    causes = [(cause.leaf.name, cause.quantity) for cause in case.causes]
    assert causes == [
        ("hidden1.weight", "lr"),
        ("hidden2.weight", "lr"),
        ("readout.weight", "init"),
        ("readout.weight", "lr"),
    ]
    assert case.regime.name == "unstable" and case.causes[0].excess == 1


def test_mended_training_is_sound():
    case = case_of(setups.standard_adamw)
    (out,) = (vid for _, vid in case.program.outputs)
    assert case.mended[out].trained == case.maximal[out].trained == 0


def test_names():
    case = case_of(setups.standard_adamw)
    weights = {weight.name: weight for weight in case.program.weights}
    assert case.role(weights["hidden1.weight"]) == case.group(weights["hidden1.weight"]) == "hidden"
    assert case.group(weights["readout.weight"]) == "output readout.weight"
    assert case.where(leaf(case, "hidden1.weight")).startswith("hidden1, verify_setups.py:")
    use = case.need(leaf(case, "hidden1.weight")).demand.use
    assert case.value(use.out).endswith(" in hidden1)") and case.block(leaf(case, "hidden1.weight")) == ""


def test_the_needed_rate_adds_what_is_too_much_under_adam():
    case = case_of(setups.standard_adamw)
    hidden = leaf(case, "hidden1.weight")
    assert case.maximal_c(hidden) == 1 and case.given["hidden1.weight"].c == 0
    assert case.needed_c(hidden, H) == H and not case.follows_others(hidden) and not case.sizeless(hidden)


def test_the_needed_rate_is_the_maximal_one_where_updates_follow_others():
    case = case_of(sgd_from_zero)
    hidden = leaf(case, "hidden1.weight")
    assert case.follows_others(hidden) and case.needed_c(hidden, H) == case.maximal_c(hidden) == 0
    assert not case.sizeless(leaf(case, "hidden2.weight"))  # zero, but SGD needs no size


def test_a_relative_law_needs_a_size():
    case = case_of(relative_from_zero)
    assert case.sizeless(leaf(case, "hidden2.weight")) and not case.sizeless(leaf(case, "hidden1.weight"))


def test_the_view_of_a_weight_is_as_given():
    case = case_of(setups.standard_adamw)
    weight = leaf(case, "readout.weight").weight
    view = case.view(weight, case.gradient(weight))
    assert view.size == case.given["readout.weight"].b == H and view.gradient == case.gradient(weight)


def test_a_case_does_not_change():
    with pytest.raises(FrozenInstanceError):
        case_of(setups.standard_adamw).given = {}


class Scaleless(nn.Module):
    """A hidden matrix whose scale is divided out: of the weight itself, or of what it makes."""

    def __init__(self, n: int, of_weight: bool):
        super().__init__()
        self.inp, self.hid, self.out = (nn.Linear(*s, bias=False) for s in ((8, n), (n, n), (n, 7)))
        self.of_weight = of_weight
        nn.init.normal_(self.inp.weight, std=0.3), nn.init.normal_(self.out.weight, std=6 / n)

    def forward(self, x):
        h = F.gelu(self.inp(x))
        if self.of_weight:
            return self.out(F.gelu(F.linear(h, F.normalize(self.hid.weight, dim=1))))
        return self.out(F.gelu(F.layer_norm(self.hid(h), h.shape[-1:])))


def scaleless(std: Fraction, lr: Fraction, of_weight: bool, sgd: bool):
    def setup(width: int):
        model, r = Scaleless(width, of_weight), width / 64
        nn.init.normal_(model.hid.weight, std=0.1 * r ** float(std))
        rates = (r, r ** float(lr), 1 / r) if sgd else (1, r ** float(lr), 1 / r)
        groups = [{"params": [p], "lr": 1e-3 * rate} for p, rate in zip(model.parameters(), rates, strict=True)]
        return model, torch.optim.SGD(groups) if sgd else torch.optim.NAdam(groups, eps=0), x_inputs()

    return setup


@pytest.mark.parametrize("off", [Fraction(-1, 2), Fraction(0), Fraction(1)])
@pytest.mark.parametrize(("of_weight", "sgd"), [(True, True), (False, True), (True, False)])
@pytest.mark.parametrize("std", [-1, 0])
def test_rates_of_a_weight_whose_scale_is_divided_out(std, of_weight, sgd, off):
    """Its gradient goes as one over its size, and so must what is subtracted, relative to it, as ``n^-1/2``."""
    right = 2 * std + 1 if sgd else std - H
    report = tpcalc.verify(scaleless(std, right + off, of_weight, sgd), WIDTHS)
    found = [finding for finding in report.findings if finding.kind != "eps drift"]
    assert [finding.subject for finding in found] == ["hid.weight"] * bool(off), report
    for finding in found:
        assert finding.needed == right or "init std" in {fix.quantity for fix in finding.fixes}
        assert finding.severity == ("error" if off > 0 or finding.kind == "vanishes" else "warning")
