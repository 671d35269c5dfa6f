"""The scaling table as plain text."""

from __future__ import annotations

from typing import Optional

from tpcalc.derive.result import Parametrization
from tpcalc.report.grid import itemized, ruled
from tpcalc.report.table.rows import Cell, Code, table_of

_NARROWEST = 100


def table_text(parametrization: Parametrization, width: Optional[int] = None) -> str:
    """The table; nothing is ever cut.  ``width`` (a terminal's) wraps the last column; None: a line for each row."""
    table = table_of(parametrization)
    rows = [[_plain(cell) for cell in row] for row in table.rows]
    lines = [table.title, "", *ruled(table.columns, rows, max(width, _NARROWEST) if width else None)]
    return "\n".join([*lines, *itemized(*table.lists)]) + "\n"


def _plain(cell: Cell) -> str:
    return cell.text if isinstance(cell, Code) else str(cell)
