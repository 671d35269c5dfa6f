"""Formulas that serve every target, with those of a stated rule: the factors of an export for each, to the bit."""

from __future__ import annotations

import json
from typing import Any

import pytest

import tpcalc
from tests.scaling.test_everywhere import everywhere
from tests.scaling.test_several_scales import feed_forward
from tests.support import stacks
from tests.support.once import once
from tpcalc.errors import ScalingError
from tpcalc.scaling.assumed import Assumed
from tpcalc.scaling.everywhere import codegen_formulas
from tpcalc.scaling.factors import amount, assumed_between, counted

pytestmark = pytest.mark.usefixtures("recorded_once")

BASE, HP = {"width": 16, "depth": 2}, {"lr": 3e-3, "weight_decay": 0.1, "eps": 1e-6}
BETAS = (0.9, 0.95)
#: Places, batch sizes and tokens; the first is the base.
TARGETS = [(BASE, 64, 1e9), ({"width": 32, "depth": 3}, 1024, 2e11), ({"width": 64, "depth": 7}, 48.5, 3e9)]


@once
def exported(rule: str, place: int, exponent: Any = None) -> tpcalc.Scaling:
    target, batch, tokens = TARGETS[place]
    ends: dict[str, Any] = {"batch": (64, batch), "horizon_exponent": exponent}
    if rule != "malladi":
        ends["tokens"] = (1e9, tokens)
    return tpcalc.scale(stacks.pre, BASE, target, horizon=rule, **ends)


@pytest.mark.parametrize(
    "rule, exponent, asked",
    [
        ("completed-p", None, "batch tokens"),
        ("completed-p", "0.32", "batch tokens"),
        pytest.param("power-lines", None, "batch tokens", marks=pytest.mark.slow),
        pytest.param("wang-aitchison", None, "batch tokens", marks=pytest.mark.slow),
        ("malladi", None, "batch"),
        ("none", None, ""),
    ],
)
def test_factors_are_those_of_an_export_for_each_target(rule, exponent, asked, tmp_path):
    code = everywhere(exported(rule, 1, exponent), tmp_path)
    for place, (target, batch, tokens) in enumerate(TARGETS):
        given = {name: value for name, value in (("batch", batch), ("tokens", tokens)) if name in asked.split()}
        found, wanted = code.multipliers(**target, **given), exported(rule, place, exponent)
        weight = next(iter(wanted.values()))
        assert vars(found.beside(weight)) == vars(wanted.beside(weight)), target  # to the bit
        betas = {"betas": (0.9999, 0.99999)}  # of which none leaves sense
        model, _ = stacks.pre(**target)
        for ours, theirs in zip(*(s.param_groups(model, **HP, **betas) for s in (wanted, found)), strict=True):
            assert [ours[key] for key in ("lr", "weight_decay", "eps")] == pytest.approx(
                [theirs[key] for key in ("lr", "weight_decay", "eps")], rel=1e-12
            )
            assert ours["betas"] == theirs["betas"]
    if asked:
        with pytest.raises(TypeError, match="batch"):
            code.multipliers(**BASE)


def test_the_head_has_formulas_and_no_number_of_one_target():
    text = codegen_formulas(exported("completed-p", 1))
    head = " ".join(line.removeprefix("#").strip() for line in text.partition("from __future__")[0].splitlines())
    assert "kappa_B = batch / 64, kappa_D = tokens / 1e+09" in head
    assert "lr x sqrt(kappa_B)/sqrt(kappa_D), weight decay x" in head and "0.28" not in head
    assert "multipliers(width=32, depth=3, batch=1024, tokens=200000000000)" in head and "betas=..." in head
    for rule in ("none", "power-lines"):
        assert "betas=..." not in codegen_formulas(exported(rule, 1))
    plain = codegen_formulas(tpcalc.scale(stacks.pre, BASE, TARGETS[1][0]))
    assert "POWERS" not in plain and "Decimal" not in plain and "assumed, not derived" not in plain


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), True, "64", None])
def test_amounts_that_are_none(wrong, tmp_path):
    code = everywhere(exported("completed-p", 1), tmp_path)
    with pytest.raises(ValueError, match=r"batch=.* is none; give it in the unit of the base, where it is 64"):
        code.multipliers(**BASE, batch=wrong, tokens=1e9)
    with pytest.raises(ValueError, match=r"tokens=.* is none"):
        code.multipliers(**BASE, batch=64, tokens=wrong)


def test_factors_that_are_none():
    powers = {"adamw": {"lr": {"kappa_B": (4, 1)}}}
    assert assumed_between(powers, {"kappa_B": 0.1}, {"kappa_B": 0.3}) == {"adamw": Assumed(lr=81.0)}  # 0.3 / 0.1 is 3
    assert assumed_between({"sgd": {}}, {}, {}) == {"sgd": Assumed()}
    with pytest.raises(ValueError, match="a factor of 1e[+]120 is none; give a nearer target"):
        assumed_between(powers, {"kappa_B": 1}, {"kappa_B": 1e30})
    assert amount("tokens", 2**40, 1e9) == 2**40


def test_parameters_are_counted_as_an_export_counts_them():
    for place in (0, 1, 2):
        scaling = exported("power-lines", place)
        assert scaling.assumed["parameters"]["target"] == counted(scaling._table[name][0] for name in scaling)


def edited(change: Any) -> tpcalc.Scaling:
    document = json.loads(json.dumps(exported("power-lines", 1).document))
    change(document["assumed"])
    return tpcalc.Scaling(document)


def test_a_file_that_was_edited():
    def another(assumed: Any) -> None:
        assumed["laws"]["adamw"]["lr"]["powers"]["__import__('os')"] = "1"

    with pytest.raises(ScalingError, match="is no ratio of a rule for batch size and length; export again"):
        codegen_formulas(edited(another))
    with pytest.raises(ScalingError, match="not of all parameters that their rule counts; export again"):
        codegen_formulas(edited(lambda assumed: assumed["parameters"].update(target=7.0)))


def test_a_scale_of_the_same_name():
    def made(width: int, batch: int) -> Any:
        return feed_forward(width, batch)

    ends = {"width": 16, "batch": 64}, {"width": 32, "batch": 256}
    found = tpcalc.scale(made, *ends, batch=(1, 2), horizon="wang-aitchison")
    with pytest.raises(ScalingError, match="a scale called batch can't be told from that of the rule; call it other"):
        codegen_formulas(found)
