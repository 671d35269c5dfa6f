"""The table as Markdown, LaTeX and CSV, byte by byte."""

from __future__ import annotations

import csv
import io

import pytest

from tests.report.made import make, small_gpt
from tpcalc.document.table import table_json
from tpcalc.report.table import csv as report_csv
from tpcalc.report.table import latex, markdown
from tpcalc.report.table.text import table_text


def test_markdown():
    printed = markdown.table_markdown(small_gpt())
    lines = printed.splitlines()
    assert lines[:6] == [
        "**Scaling rules for adamw, n = width (traced at 128, 256, 512)**",
        "",
        "| weight | shape | role | init std | lr | weight decay | eps | why |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| `wte.weight = head.weight` | `[96, n]` | input | 1 | 1 | 1 | n^-1 | lookup |",
        "| `blocks.*.attn.q.weight` | `[n, n]` | hidden | n^-1/2 | n^-1 | n | 1 "
        "| gives h\\* (blocks.\\*.q, gpt.py:41) |",
    ]
    assert "- a\\_b\\|c\\*d is 50% \\<odd\\>" in lines
    rows = [line for line in lines if line.startswith("|")]
    assert {row.replace("\\|", "").count("|") for row in rows} == {9}
    assert printed.endswith("decoupled.\n")


def test_latex():
    printed = latex.table_latex(small_gpt())
    assert printed.splitlines()[:9] == [
        r"% needs \usepackage{booktabs}",
        r"\noindent Scaling rules for adamw, n = width (traced at 128, 256, 512)\par\medskip",
        r"\begin{tabular}{llllllll}",
        r"\toprule",
        r"weight & shape & role & init std & lr & weight decay & eps & why \\",
        r"\midrule",
        r"\texttt{wte.weight = head.weight} & \texttt{[96, n]} & input & $1$ & $1$ & $1$ & $n^{-1}$ & lookup \\",
        r"\texttt{blocks.*.attn.q.weight} & \texttt{[n, n]} & hidden & $n^{-1/2}$ & $n^{-1}$ & $n$ & $1$ "
        r"& gives h* (blocks.*.q, gpt.py:41) \\",
        r"\texttt{blocks.\{0,1\}.attn.kv.weight} & \texttt{[n + 32, n]} & hidden & $n^{-1}$ & $n^{-1}$ & $n$ & $1$ "
        r"& packed \\",
    ]
    assert r"\item {}a\_b\textbar{}c*d is 50\% \textless{}odd\textgreater{}" in printed
    assert r"\item {}tokens are uniform \& independent" in printed
    for environment in ("tabular", "itemize"):
        assert printed.count(rf"\begin{{{environment}}}") == printed.count(rf"\end{{{environment}}}")


def test_latex_escapes_every_special_character():
    assert latex.escape(r"\{}~^&%$#_") == (r"\textbackslash{}\{\}\textasciitilde{}\textasciicircum{}\&\%\$\#\_")


def test_csv():
    rules = small_gpt()
    printed = report_csv.table_csv(rules)
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert [row["name"] for row in rows] == list(rules)
    assert printed.splitlines()[:2] == [
        "name,shape,role,a,b,c,weight_decay,eps,A,C,gradient,trainable,tied_to,optimizer,reason",
        'wte.weight,"[96, n]",input,0,0,0,0,-1,0,0,0,true,,,lookup',
    ]
    by_name = {row["name"]: row for row in rows}
    assert by_name["head.weight"]["tied_to"] == "wte.weight"
    assert by_name["old.bias"]["gradient"] == "-oo" and by_name["old.bias"]["trainable"] == "false"
    assert by_name["blocks.2.attn.q.weight"]["reason"] == "gives h9 (blocks.2.q, gpt.py:41)"
    assert "\r" not in printed and printed.endswith("\n")


@pytest.mark.parametrize(
    "render", [table_text, markdown.table_markdown, latex.table_latex, report_csv.table_csv, table_json]
)
def test_reports_are_deterministic_and_take_an_empty_table(render):
    assert render(small_gpt()) == render(small_gpt())
    assert render(make())
