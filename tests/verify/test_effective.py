"""Exponents in force: asymptotic ones, sizes that are rounded, blocks of packed weights."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn

import tpcalc
from tests.support import verify_setups as setups
from tests.support.verify_reports import WIDTHS, told, weights
from tests.support.verify_setups import LR, MLP, adam_groups, x_inputs

H = Fraction(1, 2)


def test_xavier_is_read_as_what_it_tends_to():
    """sqrt(2 / (n + V)) is no power, but n^-1/2 in the limit: right inside, too large at the readout, too small at
    the input.
    """

    def setup(width):
        model = MLP(width)
        for p in model.parameters():
            (nn.init.xavier_normal_ if p.dim() == 2 else nn.init.zeros_)(p)
        return model, torch.optim.AdamW(adam_groups(model, width)), x_inputs()

    report = tpcalc.verify(setup, WIDTHS)
    assert told(report) == [("explodes", "init std", -H, -1), ("not maximal", "init std", -H, 0)]
    assert weights(report, "explodes") == {"readout.weight"} and weights(report, "not maximal") == {"input.weight"}


def test_an_exported_packed_weight_passes_on_fake_tensors():
    """Each block has the init it needs; the one learning rate is a note and no fault."""
    factory = setups.packed_model
    scalings = {width: tpcalc.scale(factory, base=64, target=width) for width in (128, 256, 512)}
    assert any(weight.slices for weight in scalings[512].values())

    def setup(width):
        model, inputs = factory(width)
        scalings[width].init_(model)
        return model, torch.optim.AdamW(scalings[width].param_groups(model, lr=LR, weight_decay=0.1)), inputs

    report = tpcalc.verify(setup, (128, 256, 512))
    assert report.findings == () and report.how == "fake tensors"
    row = report.weights["qkv.weight"]
    assert row.b == H and dict(row.blocks) == {"qkv.weight[0:n]": 1, "qkv.weight[n:2*n]": H, "qkv.weight[2*n:3*n]": H}
    assert [block["b"] for block in report.to_json()["weights"][2]["blocks"]] == ["1", "1/2", "1/2"]
    (note,) = report.notes
    assert note.startswith("qkv.weight has one learning rate for all its blocks, and qkv.weight[0:n] bears no larger")


@pytest.mark.parametrize("fake", [True, False])
def test_blocks_of_a_packed_weight_are_judged_one_by_one(fake):
    def setup(powers):
        inner = setups.packed_by_hand(*powers)

        def packed(width):
            built = inner(width)
            return built if fake or built[0].qkv.weight.sum().item() is not None else None

        return packed

    right = tpcalc.verify(setup((-1, -0.5, -0.5)), WIDTHS)
    assert right.findings == () and (right.how == "fake tensors") is fake
    wrong = tpcalc.verify(setup((-1, -0.25, -0.5)), WIDTHS)
    (finding,) = wrong.errors
    assert (finding.kind, finding.subject, finding.weights) == ("explodes", "qkv.weight[n:2*n]", ("qkv.weight",))
    assert (finding.quantity, finding.found, finding.needed) == ("init std", -H / 2, -H)


def test_zero_rows_of_a_packed_weight_are_a_block_of_their_own():
    def setup(width):
        model, optimizer, inputs = setups.packed_by_hand(-1, -0.5, -0.5)(width)
        nn.init.zeros_(model.qkv.weight[:width])
        return model, optimizer, inputs

    report = tpcalc.verify(setup, WIDTHS)
    assert report.findings == () and dict(report.weights["qkv.weight"].blocks)["qkv.weight[0:n]"] is None


def test_powers_of_a_rounded_size():
    """lr / fan_in where fan_in is 8/3 n rounded up to a multiple of 32: no power of n, but one of the weight's own
    axis.
    """

    def setup(width):
        inner = -(-8 * width // 3 // 32) * 32
        model = nn.Sequential(nn.Linear(8, width), nn.GELU(), nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, 4))
        groups = [{"params": [p], "lr": LR, "weight_decay": 0.0, "eps": 1e-8 / width} for p in model.parameters()]
        nn.init.normal_(model[0].weight)
        nn.init.normal_(model[2].weight, std=width**-0.5)
        nn.init.normal_(model[4].weight, std=1 / inner)
        groups[2]["lr"] *= 64 / width
        groups[4]["lr"] *= 192 / inner
        return model, torch.optim.AdamW(groups), x_inputs()

    report = tpcalc.verify(setup, (64, 128, 256))
    assert report.findings == () and report.weights["4.weight"].c == report.weights["4.weight"].b == 1


def test_rules_that_change_with_the_width_are_named():
    """A threshold on the size of a matrix puts it into another group at one of the widths."""

    def setup(width):
        model, optimizer, inputs = setups.tp5_table3_adam(width)
        if width == 64:
            optimizer.param_groups[0]["lr"] *= 3
        return model, optimizer, inputs

    with pytest.raises(tpcalc.FitError, match=r"the learning rate of hidden1\.weight \(group 0 of AdamW\)"):
        tpcalc.verify(setup, WIDTHS)
