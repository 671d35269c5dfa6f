"""The scaling table as plain text."""

from __future__ import annotations

from io import StringIO
from typing import Optional

from rich.box import Box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from tpcalc.derive.result import Parametrization
from tpcalc.report.table.rows import Cell, Code, Table, table_of

#: Only a rule under the header, in ASCII: any terminal and any diff can show it.
_HEAD_RULE = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
_UNLIMITED = 100_000
_NARROWEST = 100


def table_text(parametrization: Parametrization, width: Optional[int] = None) -> str:
    """The table; nothing is ever cut.  ``width`` (a terminal's) wraps the last column; None: one line for each row."""
    table = table_of(parametrization)
    lines = [table.title, "", *_table_lines(table, max(width, _NARROWEST) if width else _UNLIMITED)]
    for heading, sentences in table.lists:
        lines += ["", f"{heading}:", *(f"  - {sentence}" for sentence in sentences)]
    return "\n".join(lines) + "\n"


def _table_lines(table: Table, width: int) -> list[str]:
    rich_table = RichTable(box=_HEAD_RULE, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), header_style="")
    last = len(table.columns) - 1
    for position, column in enumerate(table.columns):
        rich_table.add_column(Text(column), no_wrap=position != last, overflow="fold")
    for row in table.rows:
        rich_table.add_row(*(Text(_plain(cell)) for cell in row))
    stream = StringIO()
    Console(file=stream, width=width, color_system=None, force_terminal=False, legacy_windows=False).print(rich_table)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def _plain(cell: Cell) -> str:
    return cell.text if isinstance(cell, Code) else str(cell)
