"""What a verification found, as text and as GitHub annotations."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Optional

from tpcalc.algebra.scales import Scale
from tpcalc.algebra.text import power_text, powers_text
from tpcalc.program.names import fold
from tpcalc.report.grid import aligned, fitted, within
from tpcalc.verify.findings import Finding, Powers, Report

LINE = 118


def report_text(report: Report, width: Optional[int] = None) -> str:
    """The report; ``width`` is that of a terminal, in which every number stays whole."""
    where = "at widths " + ", ".join(map(str, report.widths))
    if report.scales:
        where = "along " + " and ".join(f"{name}={','.join(map(str, own))}" for name, own in report.scales.items())
    lines = [f"{report.name} {where}, on {report.how}", report.summary]
    for finding in report.findings:
        lines += [
            "",
            f"{finding.severity}: {finding.kind}: {finding.subject}" + _at(finding),
        ]
        lines += textwrap.wrap(
            finding.message,
            min(LINE, width or LINE),
            initial_indent="    ",
            subsequent_indent="    ",
            break_long_words=False,
        )
    lines += ["", f"what the code does, where {_symbols(report)}:", "", *_table(report, width)]
    if report.why:
        lines += ["", f"Real instances, because on fake tensors: {report.why}"]
    lines += [f"Note: {note}" for note in report.notes]
    lines += [f"Assumption: {text}" for text in report.assumptions]
    return "\n".join(within(lines, width))


def _at(finding: Finding) -> str:
    """Where it breaks, and who trains it: as a comment."""
    told = [finding.where, f"trained by {finding.trained_by}" if finding.trained_by else ""]
    return f"   # {'; '.join(filter(None, told))}" if any(told) else ""


def _symbols(report: Report) -> str:
    """``n is the width, over that of the base``: what powers are powers of."""
    named = [f"{Scale(name).symbol} is the {name}, over that of the base" for name in report.scales or ("width",)]
    return " and ".join(named)


def _table(report: Report, width: Optional[int]) -> list[str]:
    """Effective exponents, repeated blocks folded."""
    rows = {name: row for name, row in report.weights.items() if name not in row.aliases}
    cells = {
        name: (row.role, _n(row.b, -1), _n(row.c, -1), _n(row.weight_decay), _n(row.eps), ", ".join(row.kinds))
        for name, row in rows.items()
    }
    head = ("weight", "role", "init std", "lr", "weight decay", "eps", "")
    table = [(folded.name, *cells[folded.names[0]]) for folded in fold(cells.items())]
    lines = aligned([head, *table])
    return lines if width is None or max(map(len, lines)) <= width else fitted(head, table, width)


def _n(exponent: Optional[Powers], sign: int = 1) -> str:
    if isinstance(exponent, Mapping):
        return powers_text({symbol: sign * x for symbol, x in exponent.items()})
    return "0" if exponent is None else power_text(sign * exponent)


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
    lines.append(f"::notice title=tpcalc verify::{_escape(report.summary)}")
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
