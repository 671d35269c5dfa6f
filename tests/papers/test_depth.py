"""Published rows for depth, walked: exponents in L (and in n) of CompleteP, Complete(d)P, TP6 and Zheng et al.

``papers_depth.json`` holds the rows: every ``*_exp`` is x in "quantity ~ n^x", every ``depth_*_exp`` in "~ L^x".  The
papers put L^-alpha behind residual branches, which is the gauge ``completep``.  Discrepancies carry the number under
which ``docs/theory.md`` argues them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Optional

import pytest

from tests.support import stacks, unusual
from tests.support.depths import Powers, powers, traced
from tests.support.once import once

ROOT = Path(__file__).parents[2]
ROWS: list[dict[str, Any]] = json.loads((ROOT / "tests" / "papers" / "papers_depth.json").read_text(encoding="utf-8"))
THEORY = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")

#: Names of papers -> those of update laws here.
OPTIMIZERS = {
    "AdamW/Lion/Sophia": ("adamw", "lion"),
    "AdamW": ("adamw",),
    "Adam": ("adam",),
    "Lion": ("lion",),
    "SGD": ("sgd",),
    "Muon": ("muon_spectral",),
    "Muon-Kimi": ("muon_match_rms_adamw",),
    "Shampoo": ("shampoo",),
    "SOAP": ("soap",),
}
#: Class of a parameter -> ends of names in the models below.
CLASSES = {
    "embedding": ("entry.weight",),
    "input": ("entry.weight",),
    "hidden": ("one.weight", "two.weight", "layer.weight"),
    "hidden(residual branch)": ("layer.weight",),
    "hidden in block": ("one.weight", "two.weight"),
    "hidden_bias": ("one.bias", "two.bias", "layer.bias"),
    "pre_ln(gain,bias)": tuple(f"blocks.{i}.norm.{kind}" for i in (0, 1) for kind in ("weight", "bias")),
    "final_ln": ("norm.weight", "norm.bias"),
    "unembedding": ("out.weight",),
    "output": ("out.weight",),
    "qk_norm": ("q_norm.weight",),
}
#: Field of a row -> that of a rule, and its sign there.
FIELDS = {"lr": ("c", -1), "wd": ("weight_decay", 1), "eps": ("eps", 1)}


@once
def derived(factory: Callable, alpha: Fraction, optimizer: str) -> dict[str, Powers]:
    return powers(traced(factory), alpha, optimizer, "completep")


def exponent(text: Optional[str], alpha: Fraction) -> Optional[Fraction]:
    """``"alpha-1"``, ``"2alpha-1"``, ``"-1/2"``."""
    if text is None:
        return None
    found = re.fullmatch(r"(-?)(\d*)alpha([+-]\d+)?", text)
    if found is None:
        return Fraction(text)
    sign, factor, rest = found.groups()
    return Fraction(int(f"{sign}{factor or 1}")) * alpha + Fraction(rest or 0)


def alphas(row: dict[str, Any]) -> tuple[Fraction, ...]:
    """Of a row for any alpha three of them, else that which it is for."""
    said = " ".join(str(row.get(key)) for key in ("parametrization", "table", "depth_mult_exp", "depth_lr_exp"))
    if "alpha=1/2" in said or "k=1" in said or "block depth 1" in said:
        return (Fraction(1, 2),)
    if "alpha=1" in said or ">=2" in said:
        return (Fraction(1),)
    return (Fraction(1, 2), Fraction(3, 4), Fraction(1))


def single(row: dict[str, Any]) -> bool:
    """Whether its blocks have one matrix."""
    return any(
        "k=1" in str(row.get(key)) or "block depth 1" in str(row.get(key)) for key in ("parametrization", "table")
    )


def discrepancy(row: dict[str, Any], field: str, alpha: Fraction, depth: bool) -> Optional[str]:
    """The number under which the theory argues a difference; None for a row that must agree."""
    if field == "eps" and not depth and row["paper"] == "CompleteP" and row["param_class"] == "embedding":
        return "D11"
    if field == "eps" and not depth and row["param_class"] == "final_ln":
        return "D21"
    if field == "wd" and depth and alpha < 1:
        return "D20"
    if row["optimizer"] == "SOAP" and field in ("lr", "wd") and not depth:
        return "D22"
    return None


def text(row: dict[str, Any]) -> str:
    return " ".join(row[key] for key in ("paper", "parametrization", "optimizer", "param_class"))


def comparisons(row: dict[str, Any]):
    """What is published, what is derived, and where they may differ: field, depth or width, the numbers, the number."""
    factory = unusual.single if single(row) else stacks.qk_norms if row["param_class"] == "qk_norm" else stacks.pre
    # a readout behind 1/n is another place on its orbit
    moved = row.get("multiplier_exp", "0") != "0"
    for alpha in alphas(row):
        for optimizer in OPTIMIZERS[row["optimizer"]]:
            found = derived(factory, alpha, optimizer)
            names = [name for name in found if name.endswith(CLASSES[row["param_class"]])]
            if row["param_class"] == "final_ln":
                names = [name for name in names if not name.startswith("blocks")]
            assert names, row
            for name in names:
                for field, (own, sign) in FIELDS.items():
                    for depth, key in ((False, f"{field}_exp"), (True, f"depth_{field}_exp")):
                        said, has = exponent(row.get(key), alpha), found[name][own]
                        if said is not None and has is not None and (depth or not moved):
                            number = discrepancy(row, field, alpha, depth)
                            yield f"{name} {field} {key} {alpha}", said, sign * has[int(depth)], number
                said = exponent(row.get("depth_mult_exp"), alpha)
                if said is not None and name.endswith(("two.weight", "layer.weight")):
                    yield f"{name} multiplier {alpha}", said, -found[name]["A"][1], None
                if row.get("init_std_exp") is not None and not moved and len(name.split(".")) > 1:
                    std = exponent(row["init_std_exp"], alpha)
                    yield f"{name} std", std, -found[name]["A"][0], None


@pytest.mark.parametrize("row", [row for row in ROWS if row["param_class"] != "residual_branch"], ids=text)
def test_rows(row):
    agree = 0
    for what, said, has, number in comparisons(row):
        if number is None:
            assert said == has, what
            agree += 1
        else:
            assert f"**{number}." in THEORY, number
    assert agree


@pytest.mark.parametrize("row", [row for row in ROWS if row["param_class"] == "residual_branch"], ids=text)
def test_multipliers_of_branches(row):
    for alpha in alphas(row):
        found = derived(stacks.pre, alpha, "adamw")
        last = [each for name, each in found.items() if name.endswith(("two.weight", "two.bias"))]
        assert {-each["a"][1] for each in last} == {exponent(row["depth_mult_exp"], alpha)}
        assert {each["b"][1] for each in found.values()} == {0}


def test_discrepancies_are_needed():
    """What is excused differs somewhere."""
    differing = {
        number
        for row in ROWS
        if row["param_class"] != "residual_branch"
        for _, said, has, number in comparisons(row)
        if said != has
    }
    assert differing == {"D11", "D20", "D21", "D22"}
