"""Reports: what is looked at, as text, Markdown, LaTeX, CSV, JSON, DOT, plots.

Every renderer is a pure function from a result to text that ends with a newline: the same input gives the same bytes,
whatever the terminal.  Printed tables fold repeated blocks (:mod:`tpcalc.program.names`); JSON and CSV list every
parameter under its own full name.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

from tpcalc.document import json_text
from tpcalc.show import draw, show

#: Kind of result -> format -> what makes it: text, or a document.  By name, so that only what is used is imported (a
#: table needs no torch, what is learnt by training does); ``text`` is what ``print`` shows.
FORMATS = {
    "table": {
        "text": "tpcalc.report.table.text:table_text",
        "markdown": "tpcalc.report.table.markdown:table_markdown",
        "latex": "tpcalc.report.table.latex:table_latex",
        "csv": "tpcalc.report.table.csv:table_csv",
        "json": "tpcalc.document.table:table_json",
    },
    "scales": {
        "text": "tpcalc.report.table.text:table_text",
        "markdown": "tpcalc.report.table.markdown:table_markdown",
        "latex": "tpcalc.report.table.latex:table_latex",
        "csv": "tpcalc.report.table.csv:scaled_csv",
        "json": "tpcalc.document.scaled:scaled_json",
    },
    "doctor": {"text": "tpcalc.report.doctor:doctor_text"},
    "config": {"text": "tpcalc.report.config:config_text"},
    "program": {
        "text": "tpcalc.report.program.text:program_text",
        "dot": "tpcalc.report.program.dot:program_dot",
        "json": "tpcalc.document.program:program_json",
    },
    "explain": {"text": "tpcalc.report.explain:explanation_text"},
    "scaling": {"text": "tpcalc.report.scaling:scaling_text"},
    "verify": {
        "text": "tpcalc.report.verify:report_text",
        "json": "tpcalc.verify.findings:Report.to_json",
        "github": "tpcalc.report.verify:report_github",
    },
    "check": {"text": "tpcalc.report.check:result_text", "json": "tpcalc.check.result:result_json"},
    "transfer": {"text": "tpcalc.report.transfer:transfer_text", "json": "tpcalc.document.transfer:transfer_json"},
    "tune": {"text": "tpcalc.report.tune:tune_text", "json": "tpcalc.document.recipe:recipe_json"},
}

#: Kind of result -> what draws it into a file.
PICTURES = {
    "transfer": "tpcalc.report.transfer_plot:transfer_plot",
    "tune": "tpcalc.report.tune_plot:tune_plot",
}

#: Module of a result -> its kind.
_KINDS = {
    "tpcalc.derive.result": "table",
    "tpcalc.derive.several": "scales",
    "tpcalc.program.ir": "program",
    "tpcalc.derive.explain": "explain",
    "tpcalc.scaling.exported": "scaling",
    "tpcalc.scaling.result": "scaling",
    "tpcalc.verify.findings": "verify",
    "tpcalc.check.result": "check",
    "tpcalc.transfer.result": "transfer",
    "tpcalc.tune.result": "tune",
}


def _undrawn(result: object, path: Any) -> None:
    raise TypeError(f"there is no picture of a {type(result).__name__}")


def register(kind: type) -> None:
    """Have :func:`tpcalc.show.show` know the text of results of this type, and :func:`tpcalc.show.draw` their picture.

    Raises TypeError where there is no report.
    """
    for base in kind.__mro__:
        known = _KINDS.get(base.__module__)
        if known is not None:
            show.register(base, resolve_name(FORMATS[known]["text"]))
            draw.register(base, resolve_name(PICTURES[known]) if known in PICTURES else _undrawn)
            return
    raise TypeError(f"there is no report on a {kind.__name__}")


def render(kind: str, format: str, result: Any, **options: Any) -> str:
    """A result in a format; ``options`` are those of the renderer."""
    made = resolve_name(FORMATS[kind][format])(result, **options)
    return made if isinstance(made, str) else json_text(made)
