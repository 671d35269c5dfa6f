"""Update laws of optimizer classes: by name, by what groups say, as declared."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch

import tpcalc
from tests.support.verify_reports import WIDTHS, told
from tests.support.verify_setups import BASE, LR, MLP, mup_init, x_inputs
from tpcalc.optimizers import LAWS, WeightView, muon_law

H = Fraction(1, 2)


def mlp_under(cls: type, **defaults) -> Callable:
    def setup(width):
        model = MLP(width, multiplier=BASE / width)
        mup_init(model, readout_std=0.1)
        m = width / BASE
        hidden = [model.hidden1.weight, model.hidden2.weight]
        rest = [p for p in model.parameters() if all(p is not h for h in hidden)]
        eps = {"eps": 1e-8 / m} if "eps" in defaults else {}
        return model, cls([{"params": hidden, "lr": LR / m, **eps}, {"params": rest, "lr": LR, **eps}]), x_inputs()

    return setup


@pytest.mark.parametrize("name", ["Adam", "AdamW", "RMSprop", "Adagrad", "Adamax", "NAdam", "RAdam", "Rprop"])
def test_adam_like_optimizers(name):
    cls = getattr(torch.optim, name)
    defaults = {} if name == "Rprop" else {"eps": True}
    report = tpcalc.verify(
        mlp_under(lambda groups: cls(groups, **({"weight_decay": 0.0} if name == "AdamW" else {})), **defaults), WIDTHS
    )
    assert report.findings == (), report


def test_sgd_and_adafactor_read_the_same_rates_otherwise():
    assert tpcalc.verify(mlp_under(torch.optim.SGD), WIDTHS).regime == "kernel"
    report = tpcalc.verify(mlp_under(lambda groups: torch.optim.Adafactor(groups, weight_decay=0.0)), WIDTHS)
    assert told(report) == [("not maximal", "lr", -1, -H)]  # relative: 1/sqrt(n) comes from the size of W


class Unknown(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {"lr": LR})

    def step(self, closure=None):
        raise NotImplementedError


class Declared(Unknown):
    pass


class Lion(Unknown):
    pass


class Renamed(torch.optim.AdamW):
    """Steps as its parent."""


def test_an_unknown_optimizer_is_refused_by_name_with_the_remedy():
    message = r"\.Unknown has no update law here; declare .*tpcalc\.declare_optimizer\(\"[.]{3}\"\)\(Unknown\)"
    with pytest.raises(tpcalc.SetupError, match=r"test_optimizers_by_hand" + message):
        tpcalc.verify(mlp_under(Unknown), WIDTHS)


def test_an_optimizer_is_declared():
    assert tpcalc.declare_optimizer("lion")(Declared) is Declared
    assert tpcalc.verify(mlp_under(Declared), WIDTHS).findings == ()
    assert tpcalc.verify(mlp_under(Lion), WIDTHS).findings == ()
    assert tpcalc.verify(mlp_under(lambda groups: Renamed(groups, weight_decay=0.0), eps=True), WIDTHS).findings == ()
    with pytest.raises(tpcalc.SetupError, match="is no update law"):
        tpcalc.declare_optimizer("lyon")


def test_muon_law():
    """torch's two shape factors on a square, a tall and a wide matrix: order of a unit update as aligned entries."""
    one, zero = Fraction(1), Fraction(0)
    for rows, columns, original, matched in ((one, one, -1, -H), (one, zero, 0, 0), (zero, one, -H, 0)):
        matrix = WeightView(zero, zero, (rows, columns))
        assert muon_law(None).update(matrix) == muon_law("original").update(matrix) == original
        assert muon_law("match_rms_adamw").update(matrix) == matched
    with pytest.raises(tpcalc.DeriveError, match="'max' is unknown; choose one of original, match_rms_adamw"):
        muon_law("max")


def test_laws_have_sources():
    assert all(law.source for law in LAWS.values())
    assert {"sgd", "adam", "adamw", "rmsprop", "adagrad", "lion", "sign", "adafactor", "nadam"} <= set(LAWS)
