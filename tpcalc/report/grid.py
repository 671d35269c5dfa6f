"""Columns of plain text."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from typing import Optional

from rich.box import Box
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Only a rule under the header, in ASCII: any terminal and any diff can show it.
_HEAD_RULE = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
_UNLIMITED = 100_000


def ruled(head: Sequence[str], rows: Sequence[Sequence[str]], width: Optional[int] = None) -> list[str]:
    """Lines of a table with a rule under its head.  Nothing is cut; ``width`` wraps the last column."""
    table = Table(box=_HEAD_RULE, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), header_style="")
    for position, column in enumerate(head, 1):
        table.add_column(Text(column), no_wrap=position != len(head), overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    stream = StringIO()
    console = Console(
        file=stream, width=width or _UNLIMITED, color_system=None, force_terminal=False, legacy_windows=False
    )
    console.print(table)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def aligned(rows: Sequence[Sequence[str]], dashes: bool = False) -> list[str]:
    """Lines of a table whose first row is its head; ``dashes`` stand under each column of it."""
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows = [rows[0], ["-" * size for size in sizes], *rows[1:]] if dashes else rows
    return ["  ".join(cell.ljust(size) for cell, size in zip(row, sizes, strict=True)).rstrip() for row in rows]


def itemized(*lists: tuple[str, Sequence[str]]) -> list[str]:
    """A heading and an item a line for each list that is not empty, a blank line before each."""
    lines: list[str] = []
    for heading, items in lists:
        if items:
            lines += ["", f"{heading}:", *(f"  - {item}" for item in items)]
    return lines
