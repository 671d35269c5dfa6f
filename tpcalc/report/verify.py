"""The report as text, JSON and GitHub annotations."""

from __future__ import annotations

import textwrap
from fractions import Fraction
from typing import Any, Optional

from tpcalc.algebra.order import order_text
from tpcalc.program.names import fold
from tpcalc.verify.findings import Checked, Report

SCHEMA = "tpcalc.verify/1"
LINE = 118

SUMMARY = {
    "unstable": "some values grow without bound with the width",
    "trivial": "the outputs do not move",
    "kernel": "the outputs move, the features do not",
    "feature learning": "stable, features move; not every weight moves as much as it could",
    "maximal": "stable, and every weight moves as much as it can",
}


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def summary(report: Report) -> str:
    """``FAIL, unstable: some values grow without bound with the width; 2 errors, 1 warning``."""
    verdict = "FAIL" if not report.ok else "ok with warnings" if report.findings else "ok"
    drift = f" (features move by n^-{report.r})" if report.regime == "kernel" and report.r is not None else ""
    counts = ", ".join(
        _count(len(found), word) for found, word in ((report.errors, "error"), (report.warnings, "warning"))
    )
    return f"{verdict}, {report.regime}: {SUMMARY[report.regime]}{drift}; {counts}"


def report_text(report: Report) -> str:
    widths = ", ".join(map(str, report.widths))
    lines = [f"{report.name} at widths {widths}, on {report.how}", summary(report)]
    for finding in report.findings:
        lines += [
            "",
            f"{finding.severity}: {finding.kind}: {finding.subject}"
            + (f"   # {finding.where}" if finding.where else ""),
        ]
        lines += textwrap.wrap(
            finding.message, LINE, initial_indent="    ", subsequent_indent="    ", break_long_words=False
        )
    lines += ["", *_table(report)]
    if report.why:
        lines += ["", f"Real instances, because on fake tensors: {report.why}"]
    lines += [f"Note: {note}" for note in report.notes]
    lines += [f"Assumption: {text}" for text in report.assumptions]
    return "\n".join(lines)


def _table(report: Report) -> list[str]:
    """Effective exponents, repeated blocks folded."""
    rows = {name: row for name, row in report.weights.items() if name not in row.aliases}
    cells = {
        name: (row.role, _n(row.b, -1), _n(row.c, -1), _n(row.weight_decay), _n(row.eps), ", ".join(row.kinds))
        for name, row in rows.items()
    }
    table = [("weight", "role", "init std", "lr", "weight decay", "eps", "")]
    table += [(folded.name, *cells[folded.names[0]]) for folded in fold(cells.items())]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def _n(exponent: Optional[Fraction], sign: int = 1) -> str:
    if exponent is None:
        return "0"
    text = order_text(sign * exponent)
    return "1" if text == "0" else "n" if text == "1" else f"n^{text}"


def _text(exponent: Any) -> Optional[str]:
    return None if exponent is None else order_text(exponent)


def report_json(report: Report) -> dict[str, Any]:
    """The report as plain data.  ``found`` and ``needed`` are each x in "quantity ~ n^x"; ``b``, ``c``, ``A``, ``C``
    each x in "~ n^-x".
    """
    return {
        "schema": SCHEMA,
        "ok": report.ok,
        "regime": report.regime,
        "r": _text(report.r),
        "summary": summary(report),
        "widths": list(report.widths),
        "ran_on": report.how,
        "ran_on_reason": report.why,
        "findings": [
            {
                "kind": f.kind,
                "severity": f.severity,
                "subject": f.subject,
                "quantity": f.quantity,
                "found": _text(f.found),
                "needed": _text(f.needed),
                "effect": _text(f.effect),
                "where": f.where,
                "message": f.message,
                "weights": list(f.weights),
            }
            for f in report.findings
        ],
        "weights": [_weight_json(row) for row in report.weights.values()],
        "notes": list(report.notes),
        "assumptions": list(report.assumptions),
    }


def _weight_json(row: Checked) -> dict[str, Any]:
    return {
        "name": row.name,
        "shape": row.shape,
        "role": row.role,
        "optimizer": row.optimizer or None,
        "a": "0",
        "b": _text(row.b),
        "c": _text(row.c),
        "weight_decay": _text(row.weight_decay),
        "eps": _text(row.eps),
        "A": _text(row.A),
        "C": _text(row.C),
        "gradient": _text(row.gradient),
        "needed": None if row.needed is None else {"A": _text(row.needed[0]), "C": _text(row.needed[1])},
        "findings": list(row.kinds),
        **({"blocks": [{"name": name, "b": _text(b)} for name, b in row.blocks]} if row.blocks else {}),
    }


def report_github(report: Report, file: Optional[str] = None) -> str:
    """One workflow command a finding, so that it shows at its line of the diff.

    https://docs.github.com/actions/reference/workflow-commands-for-github-actions
    """
    lines = []
    for finding in report.findings:
        place = _place(finding.where, file)
        properties = ",".join(
            f"{key}={_escape(value, True)}" for key, value in (*place, ("title", f"tpcalc: {finding.kind}"))
        )
        lines.append(f"::{finding.severity} {properties}::{_escape(f'{finding.subject}: {finding.message}')}")
    lines.append(f"::notice title=tpcalc verify::{_escape(summary(report))}")
    return "\n".join(lines)


def _place(where: str, file: Optional[str]) -> list[tuple[str, str]]:
    source = where.rpartition(", ")[2]
    name, colon, line = source.rpartition(":")
    if not colon or not line.isdecimal():
        return [("file", file)] if file else []
    if file and file.replace("\\", "/").rpartition("/")[2] == name:
        name = file
    return [("file", name), ("line", line)]


def _escape(text: str, inside: bool = False) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if inside else text


__all__ = ["report_github", "report_json", "report_text", "summary"]
