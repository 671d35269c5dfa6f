"""docs/horizon.md tells the truth: its commands print what it shows, its code runs, its table is that of the rules."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest
import sympy

from tests.house.test_readme import _PYTHON, printed_by, runnable
from tpcalc.horizon import RULES, chosen
from tpcalc.horizon.rules import EXPONENTS, RATIOS
from tpcalc.optimizers import LAWS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "horizon.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("shown", runnable(PAGE), ids=lambda shown: shown.command)
def test_commands_print_what_is_shown(shown):
    assert tuple(printed_by(shown.command).splitlines()) == shown.output


def test_the_code_runs(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    (code,) = _PYTHON.findall(PAGE)
    exec(compile(code, "docs/horizon.md", "exec"), {"__name__": "page"})


ROWS = [
    [cell.strip().strip("`") for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if re.match(r"\| `[a-z]", line)
]


def test_each_rule_and_law_stands_in_the_table():
    assert sorted({row[0] for row in ROWS}) == sorted(RULES)
    for name, rule in RULES.items():
        said = {law.lower() for row in ROWS if row[0] == name for law in row[1].split(", ")}
        assert said == set(rule.laws or ("any",))


@pytest.mark.parametrize("row", ROWS, ids=[f"{row[0]} {row[1]}" for row in ROWS])
def test_formulas_of_the_table(row):
    """Each as sympy reads it, with p as it is by default."""
    name, law, *cells = row
    names = {ratio: sympy.Symbol(ratio, positive=True) for ratio in RATIOS} | {"p": sympy.Rational(1, 2)}
    found = chosen(name).quantities(LAWS[law.split(", ")[0].lower() if law != "any" else "adamw"])
    for quantity, cell in zip(("lr", "weight_decay", "eps", "one_minus_beta"), cells):
        if not cell:
            assert quantity not in found
            continue
        text = cell.split(",")[0].replace("0.527", "(527/1000)").replace("^", "**").replace(" ", "*")
        text = re.sub(r"\*\*-([^*]+)$", r"**(-\1)", text)
        wanted = sympy.sympify(text, locals=names, rational=True)
        assert sympy.simplify(wanted / found[quantity].expr) == 1, (quantity, text)


def test_exponents_of_the_length():
    rows = re.findall(r"^\| ([\d./]+) \|", PAGE, re.MULTILINE)
    assert set(map(Fraction, rows)) == set(EXPONENTS)
