"""The scaling table as GitHub-flavoured Markdown."""

from __future__ import annotations

import re

from tpcalc.report.table.rows import AnyParametrization, Cell, Code, table_of


def table_markdown(parametrization: AnyParametrization) -> str:
    """A title, a pipe table and a list for each thing noted under it."""
    table = table_of(parametrization)
    lines = [f"**{escape(table.title)}**", "", _row(table.columns), _row("---" for _ in table.columns)]
    lines += [_row(map(_cell, row)) for row in table.rows]
    for heading, sentences in table.lists:
        lines += ["", f"**{escape(heading)}**", "", *(f"- {escape(sentence)}" for sentence in sentences)]
    return "\n".join(lines) + "\n"


def _row(cells) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    if isinstance(cell, Code):
        return "`" + _one_line(cell.text).replace("|", "\\|").replace("`", "'") + "`"
    return escape(str(cell))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def escape(text: str) -> str:
    """Text in which no character is markup."""
    return re.sub(r"([\\`*_|<>\[\]~])", r"\\\1", _one_line(text))
