"""What a page holds of a model."""

from __future__ import annotations

import tpcalc
from tests.report.page.made import document, found, parts
from tests.support.stacks import pre
from tpcalc.derive.explained import explain_all
from tpcalc.document.table import table_json
from tpcalc.report import render
from tpcalc.report.page import page_document


def test_the_table_is_that_which_is_printed():
    program, explained = parts("gpt")
    rules = explained.rules
    made = document("gpt")
    text = render("table", "text", rules)
    assert made.printed.title in text
    assert "".join(made.printed.columns).replace(" ", "") == "".join(text.splitlines()[2].split())
    for row in made.printed.rows:
        shown = [cell.code or cell.text or cell.formula.text for cell in row.cells]
        assert any(all(part in line for part in shown) for line in text.splitlines())
    assert sorted(name for row in made.printed.rows for name in row.names) == sorted(rules)
    assert made.table.data() == table_json(rules)
    assert (made.weights, made.operations) == (len(program.weights), len(program.nodes))
    assert made.scales == {"width": [64, 128, 256]}


def test_other_documents_are_kept_whole():
    given = found()
    made = document("mlp", **given).data()
    assert made["verify"] == given["verify"] and made["check"] == given["check"] and made["setup"] == "setup.py:setup"
    assert document("mlp").data()["transfers"] == []


def test_of_several_scales():
    program = tpcalc.trace(pre, scales={"width": (16, 32, 64), "depth": (2, 3)})
    made = page_document("m", program, explain_all(program), version="0")
    assert made.table.version == "tpcalc/2" and set(made.scales) == {"width", "depth"}
    formulas = [cell.formula for row in made.printed.rows for cell in row.cells if cell.formula]
    assert any("L" in formula.common for formula in formulas)
