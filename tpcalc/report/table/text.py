"""The scaling table as plain text."""

from __future__ import annotations

from typing import Optional

from tpcalc.report.grid import fitted, itemized, wrapped
from tpcalc.report.table.rows import AnyParametrization, Cell, Code, table_of


def table_text(parametrization: AnyParametrization, width: Optional[int] = None) -> str:
    """The table; no number is ever cut.  ``width`` (a terminal's) is kept to; None: a line for each row."""
    table = table_of(parametrization)
    rows = [[_plain(cell) for cell in row] for row in table.rows]
    lines = [*wrapped(table.title, width), "", *fitted(table.columns, rows, width, prose=True)]
    return "\n".join([*lines, *itemized(*table.lists, width=width)]) + "\n"


def _plain(cell: Cell) -> str:
    return cell.text if isinstance(cell, Code) else str(cell)
