"""What each rule says, against the published rows and against numbers worked out by hand."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any, Optional

import pytest
import sympy

from tpcalc.horizon import RULES, Horizon, Powers, chosen
from tpcalc.horizon.rules import EXPONENTS, STEPS
from tpcalc.optimizers import LAWS

ENTRIES = json.loads((Path(__file__).parents[1] / "papers" / "papers_2026.json").read_text(encoding="utf-8"))
QUANTITIES = {"lr": "lr", "weight_decay": "wd", "eps": "eps", "one_minus_beta": "one_minus_beta"}
ROWS = [
    (index, entry)
    for index, entry in enumerate(ENTRIES)
    if any(key.startswith(("batch_", "tokens_")) and value is not None for key, value in entry.items())
]
#: Paper -> the rule that is compared with its rows, and its exponent of the length.
COMPARED: dict[str, tuple[str, Optional[str]]] = {
    "Complete(d)P": ("completed-p", None),
    "Complete-muE (2605.23893)": ("completed-p", None),
    "nanochat": ("completed-p", "0"),
    "Malladi 2205.10287": ("malladi", None),
    "Wang&Aitchison 2405.13698": ("wang-aitchison", None),
    "Power Lines 2505.13738": ("power-lines", None),
}
#: Why the others have no rule here: what a script does, and says no reason for.
CODE_ALONE = {"muP++ (ArchScale)", "Qiu2025 authors' code"}


def of(rule: str, law: str = "adamw", exponent: Any = None) -> dict[str, Powers]:
    return chosen(rule, exponent).quantities(LAWS[law])


def factors(rule: str, batch: Any = (1, 1), tokens: Any = (1, 1), parameters: Any = (1, 1), law: str = "adamw"):
    found = Horizon(RULES[rule], RULES[rule].exponent, *(tuple(map(Fraction, x)) for x in (batch, tokens, parameters)))
    return {key: found.factor(powers) for key, powers in found.quantities(LAWS[law]).items()}


@pytest.mark.parametrize("index, row", ROWS, ids=[f"{index} {row['paper']}" for index, row in ROWS])
def test_published_rows(index, row):
    if row["paper"] not in COMPARED:
        assert row["paper"] in CODE_ALONE
        return
    rule, exponent = COMPARED[row["paper"]]
    said = 0
    for quantity, powers in of(rule, exponent=exponent).items():
        for axis, power in (("batch", powers.batch), ("tokens", powers.tokens)):
            text = row.get(f"{axis}_{QUANTITIES[quantity]}_exp")
            if text is not None:
                assert Fraction(text.split()[0]) == power, (quantity, axis)
                said += 1
    assert said


def test_malladi_by_hand():
    """A batch four times as large: twice the rate, half the epsilon, 1 - beta four times as large."""
    for law in ("adam", "adamw", "rmsprop"):
        assert factors("malladi", (256, 1024), law=law) == {
            "lr": 2.0,
            "weight_decay": 1.0,
            "eps": 0.5,
            "one_minus_beta": 4.0,
        }
    assert factors("malladi", (256, 1024), law="sgd") == {"lr": 4.0, "weight_decay": 1.0, "one_minus_beta": 1.0}


def test_wang_and_aitchison_by_hand():
    """Twice the batch and eight times the tokens are four times the steps: a quarter of the decay in each."""
    found = factors("wang-aitchison", (32, 64), ("1e9", "8e9"))
    assert found == {"lr": 1.0, "weight_decay": 0.25, "eps": 1.0, "one_minus_beta": 1.0}


def test_power_lines_by_hand():
    """tau = B/(lr wd D) ~ TPP^-0.527; 10^0.527 = 3.3651, 4^-0.527 = 0.48166."""
    ten_times = factors("power-lines", tokens=(1, 10))
    assert ten_times["weight_decay"] == pytest.approx(0.336512, rel=1e-5)  # 1/10, times TPP'/TPP = 10
    assert ten_times["lr"] == ten_times["eps"] == ten_times["one_minus_beta"] == 1.0
    assert factors("power-lines", tokens=(1, 10), parameters=(1, 10))["weight_decay"] == 0.1  # the same TPP
    assert factors("power-lines", parameters=(1, 4))["weight_decay"] == pytest.approx(0.48166, rel=1e-4)
    assert factors("power-lines", (64, 256))["weight_decay"] == 4.0
    # from the law itself, of two models: 111M on 2.22e9 tokens (TPP 20), 1.7B on 5.1e10 (TPP 30)
    base, target = (64, 2.22e9, 111e6), (256, 5.1e10, 1.7e9)
    wd = [batch / (tokens * (tokens / parameters) ** -0.527) for batch, tokens, parameters in (base, target)]
    ends = [tuple(map(Fraction, pair)) for pair in zip(base, target)]
    assert factors("power-lines", *ends)["weight_decay"] == pytest.approx(wd[1] / wd[0], rel=1e-12)


def test_completed_p_by_hand():
    assert factors("completed-p", (64, 1024)) == {"lr": 4.0, "weight_decay": 4.0, "eps": 0.25, "one_minus_beta": 16.0}
    assert factors("completed-p", tokens=(1, 16)) == {
        "lr": 0.25,
        "weight_decay": 0.25,
        "eps": 4.0,
        "one_minus_beta": 0.0625,
    }


@pytest.mark.parametrize("exponent", [*map(str, EXPONENTS), "0.32", "1", "2/7"])
def test_any_exponent_of_the_length_is_iso_horizon(exponent):
    """lr ~ kappa_D^-p, and what one run takes off by decay, lr*wd*T, is kept; averages are parts of the run as ever."""
    found = of("completed-p", exponent=exponent)
    assert found["lr"].tokens == -Fraction(exponent)
    for axis in ("batch", "tokens"):
        total = sum(getattr(powers, axis) for powers in (found["lr"], found["weight_decay"], STEPS))
        assert total == 0, axis
        assert getattr(found["one_minus_beta"], axis) + getattr(STEPS, axis) == 0
    assert found["eps"] == of("completed-p")["eps"]


def test_the_published_exponents():
    assert set(EXPONENTS) == {Fraction(1, 2), Fraction(1, 3), Fraction(8, 25), Fraction(3, 10), Fraction(0)}
    remarks = {p: " ".join(chosen("completed-p", p).remarks) for p in ("1/2", "0.32", "0.25")}
    assert "Complete-muE" in remarks["1/2"] and "Bjorck" in remarks["0.32"] and "by no source" in remarks["0.25"]
    assert "iso-horizon), eps" in remarks["0.32"] and "iso-horizon), eps" not in remarks["1/2"]


def test_sources_agree_in_the_product_and_disagree_in_its_parts():
    """Discrepancies 108 and 109 of the published rows."""
    texts = {entry["id"]: entry["text"] for entry in ENTRIES if entry["kind"] == "discrepancy"}
    assert "(sqrt B, sqrt B)" in texts[108] and "(const, B)" in texts[108] and "-0.32" in texts[109]
    effects = {name: chosen(name).effect(LAWS["adamw"]) for name in ("completed-p", "wang-aitchison", "power-lines")}
    assert effects["completed-p"].decayed == effects["wang-aitchison"].decayed
    assert effects["completed-p"].lr != effects["wang-aitchison"].lr == effects["power-lines"].lr
    for name in effects:
        assert RULES[name].contradicted


def test_none_changes_nothing():
    assert all(powers == Powers() for powers in of("none", "muon").values())


def test_formulas():
    b, d, n = (sympy.Symbol(f"kappa_{x}", positive=True) for x in "BDN")
    found = of("power-lines")["weight_decay"].expr
    assert sympy.simplify(found - b / d * (d / n) ** sympy.Rational(527, 1000)) == 0
    assert of("completed-p")["lr"].expr == sympy.sqrt(b / d)
    assert Powers().expr == 1
