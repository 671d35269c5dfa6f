"""Independent sizes in every format: feed-forward, heads, grouped queries."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
import sympy

import tpcalc
from tests.support import scaled
from tests.support.once import once
from tpcalc.report import render


@once
def rules(factory: Any) -> Any:
    return tpcalc.derive(tpcalc.trace(factory, scales=scaled.SCALES[factory]))


#: Weight -> init std, lr and eps as they are printed in a terminal, in LaTeX, and as sympy reads them in JSON and CSV.
FFN = {
    "up.weight": (
        ("n^-1/2 Min(1, sqrt(f/n))", "n^-1", "f^-1"),
        (r"n^{-1/2} \min(1, n^{-1/2} f^{1/2})", "n^{-1}", "f^{-1}"),
        ("n**(-1/2)*Min(1, n**(-1/2)*f**(1/2))", "n**(-1)", "f**(-1)"),
    ),
    "down.weight": (
        ("f^-1/2 Min(1, sqrt(n/f))", "f^-1", "n^-1"),
        (r"f^{-1/2} \min(1, n^{1/2} f^{-1/2})", "f^{-1}", "n^{-1}"),
        ("f**(-1/2)*Min(1, n**(1/2)*f**(-1/2))", "f**(-1)", "n**(-1)"),
    ),
}
ATTENTION = {
    "q.weight": (
        ("h^-1/2 d^-1", "h^-1 d^-3/2", "h^-1 d^-1/2"),
        ("h^{-1/2} d^{-1}", "h^{-1} d^{-3/2}", "h^{-1} d^{-1/2}"),
        ("h**(-1/2)*d**(-1)", "h**(-1)*d**(-3/2)", "h**(-1)*d**(-1/2)"),
    ),
    **dict.fromkeys(
        ("k.weight", "v.weight", "o.weight"),
        (
            ("h^-1/2 d^-1/2", "h^-1 d^-1", "h^-1 d^-1"),
            ("h^{-1/2} d^{-1/2}", "h^{-1} d^{-1}", "h^{-1} d^{-1}"),
            ("h**(-1/2)*d**(-1/2)", "h**(-1)*d**(-1)", "h**(-1)*d**(-1)"),
        ),
    ),
}
GROUPED = dict.fromkeys(
    ("k.weight", "v.weight"),
    (
        ("kv_heads^-1/2 groups^-1 d^-1/2", "kv_heads^-1 groups^-1 d^-1", "kv_heads^-1 d^-1"),
        (
            r"\mathit{kv\_heads}^{-1/2} \mathit{groups}^{-1} d^{-1/2}",
            r"\mathit{kv\_heads}^{-1} \mathit{groups}^{-1} d^{-1}",
            r"\mathit{kv\_heads}^{-1} d^{-1}",
        ),
        (
            "kv_heads**(-1/2)*groups**(-1)*d**(-1/2)",
            "kv_heads**(-1)*groups**(-1)*d**(-1)",
            "kv_heads**(-1)*d**(-1)",
        ),
    ),
)
TABLES = [(scaled.ffn, FFN), (scaled.attention, ATTENTION), (scaled.grouped, GROUPED)]
SYMBOLS = {name: sympy.Symbol(name, positive=True) for name in ("n", "f", "h", "d", "kv_heads", "groups")}


def read(text: str) -> sympy.Expr:
    return sympy.sympify(text, locals=SYMBOLS)


PLACES = {"init std": 0, "lr": 1, "eps": 2}


@pytest.mark.parametrize("factory, wanted", TABLES, ids=lambda x: getattr(x, "__name__", ""))
def test_text_markdown_latex_csv_and_json_say_the_same(factory: Any, wanted: Any) -> None:
    found = rules(factory)
    text, markdown, latex = (render("scales", name, found).splitlines() for name in ("text", "markdown", "latex"))
    (head,) = [line for line in text if line.startswith("weight ")]
    starts = {column: head.index(column) for column in (*PLACES, "weight decay", "why")}
    ends = {"init std": starts["lr"], "lr": starts["weight decay"], "eps": starts["why"]}
    marks = next(line for line in markdown if line.startswith("| weight")).strip("| ").split(" | ")
    columns = next(line for line in latex if line.startswith("weight &")).removesuffix(r" \\").split(" & ")
    document = {row["name"]: row["formulas"] for row in json.loads(render("scales", "json", found))["weights"]}
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(render("scales", "csv", found)))}
    for name, (plain, tex, code) in wanted.items():
        (line,) = [line for line in text if line.startswith(f"{name} ")]
        (marked,) = [line for line in markdown if line.startswith(f"| `{name}`")]
        (set_,) = [line for line in latex if line.startswith(rf"\texttt{{{name}}}")]
        for column, place in PLACES.items():
            assert line[starts[column] : ends[column]].strip() == plain[place]
            cell = marked.strip("| ").split(" | ")[marks.index(column)]
            assert cell.replace("\\", "") == plain[place]
            assert set_.split(" & ")[columns.index(column)] == f"${tex[place]}$"
            key = column.replace(" ", "_")
            assert read(document[name][key]) == read(rows[name][key]) == read(code[place])


def test_a_scale_without_a_symbol_goes_by_its_name() -> None:
    assert "for adamw, kv_heads, groups, d = head_dim (traced at" in render("scales", "text", rules(scaled.grouped))
