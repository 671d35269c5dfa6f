"""The coordinate check that knows no calculus passes exported multipliers, and names what is left unscaled."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.coordinates import Coordinates, Effects, judged, slopes
from tests.support.models import example
from tests.support.zoo import Net, points

MLP, WIDTHS = example("mlp.py", "mlp"), [32, 64, 128, 256]


def test_exported_multipliers_move_all_alike():
    found = slopes(Coordinates(MLP, WIDTHS), seeds=3)
    assert len(found) > 9 and not judged(found)


def test_without_them_the_hidden_weight_and_the_readout_are_named():
    off = judged(slopes(Coordinates(MLP, WIDTHS, scaled=False), seeds=3))
    assert {"hidden.weight", "output.weight"} <= {each.name for each in off if each.quantity == "effect"}
    assert all(each.slope > 0.3 for each in off)


@pytest.mark.parametrize("wrong, sign", [(2, 1), (0.5, -1)])
def test_a_rate_that_is_wrong_by_the_root_of_the_width_is_named_by_its_weight(wrong, sign):
    """Twice, or half the rate at four times the width: the exponent is wrong by 1/2."""
    found = Coordinates(MLP, [64, 128, 256, 512])
    for width, scaling in found.scalings.items():
        found.scalings[width] = _Changed(scaling, wrong ** (torch.tensor(width / 64).log2().item() / 2))
    off = judged(slopes(found, seeds=3))
    effects = [each for each in off if each.quantity == "effect"]
    assert effects[0].name == "hidden.weight" and effects[0].slope * sign > 0.3  # others follow it


class _Changed:
    """A scaling whose rate of the hidden weight is another."""

    def __init__(self, scaling, factor):
        self.scaling, self.factor, self.init_ = scaling, factor, scaling.init_

    def param_groups(self, model, lr, eps):
        hidden = model.hidden.weight
        groups = []
        for group in self.scaling.param_groups(model, lr=lr, eps=eps):
            others = [p for p in group["params"] if p is not hidden]
            groups += [{**group, "params": others}] if others else []
            if len(others) < len(group["params"]):
                groups.append({**group, "params": [hidden], "lr": group["lr"] * self.factor})
        return groups


def _effects(run, inputs, **parameters):
    """Effects in a forward pass, where each parameter was 1 less at init."""
    model = Net(run, **{name: nn.Parameter(p) for name, p in parameters.items()})
    known = dict(model.named_parameters())
    start = {name: p.detach() - 1 for name, p in known.items()}
    with torch.no_grad(), Effects(known, start, inputs) as effects:
        model(*inputs)
    return effects.seen


def test_an_effect_is_that_on_the_result_in_which_a_parameter_meets_the_data():
    x = points()
    found = _effects(lambda m, x: (x @ m.a.t().exp()) @ m.b, (x,), a=torch.ones(5, 8), b=torch.ones(5, 2))
    ((size, effect),) = found["a"]
    assert size == pytest.approx((x @ torch.ones(8, 5).exp()).pow(2).mean().sqrt().item(), rel=1e-5)
    assert effect == pytest.approx((x @ (torch.e - torch.ones(8, 5))).pow(2).mean().sqrt().item(), rel=1e-5)
    ((_, effect),) = found["b"]
    assert effect == pytest.approx((x @ torch.ones(8, 5).exp()).sum(-1).pow(2).mean().sqrt().item(), rel=1e-5)


def test_rows_that_the_data_pick_out_are_still_the_parameters():
    """The weights of an expert meet the data in the product, not where they are looked up."""
    x, which = points(), torch.tensor([1, 0, 1])
    found = _effects(lambda m, x, which: torch.einsum("bi,bio->bo", x, m.w[which]), (x, which), w=torch.ones(2, 8, 3))
    assert [effect for _, effect in found["w"]] == [pytest.approx(x.sum(-1).pow(2).mean().sqrt().item(), rel=1e-5)]


def test_an_operation_in_place_changes_nothing_twice():
    x = points()
    found = _effects(lambda m, x: (2 * x).mul_(m.g).add_(m.b), (x,), g=torch.ones(8), b=torch.ones(8))
    ((_, gain),), ((size, shift),) = found["g"], found["b"]
    assert gain == pytest.approx((2 * x).pow(2).mean().sqrt().item(), rel=1e-5)
    assert shift == pytest.approx(1.0) and size == pytest.approx((2 * x + 1).pow(2).mean().sqrt().item(), rel=1e-5)
