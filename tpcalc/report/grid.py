"""Columns of plain text.

Where a terminal is narrow, prose and names give way; a number is never cut, nor broken over two lines.
"""

from __future__ import annotations

import textwrap
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
#: The least columns that prose is wrapped into, and to which names are shortened.
_PROSE, _NAME = 20, 16


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


def fitted(head: Sequence[str], rows: Sequence[Sequence[str]], width: Optional[int], prose: bool = False) -> list[str]:
    """Lines of a table that fit ``width`` columns, every number whole.

    The first column holds names; with ``prose`` the last may be wrapped.  What does not fit: the prose is left out and
    said to be, names are shortened in their middle as long as they stay distinct, and at worst each row is written
    below the one before as a list of its cells.
    """
    if width is None:
        return ruled(head, rows)
    natural = _natural([head, *rows])
    if prose:
        others = [row[:-1] for row in rows]
        needed = _natural([head[:-1], *others]) + 2 + _PROSE
        if needed <= width:
            return ruled(head, rows, width)
        if natural > width:
            short = fitted(head[:-1], others, width)
            return [*short, "", *wrapped(f"({head[-1]}: printed on {needed} columns or more)", width)]
    if natural <= width:
        return ruled(head, rows)
    room = max((len(row[0]) for row in rows), default=0) - (natural - width)
    names = [shortened(row[0], room) for row in rows]
    if room >= max(_NAME, len(head[0])) and len(set(names)) == len(rows):
        return ruled(head, [(name, *row[1:]) for name, row in zip(names, rows, strict=True)])
    return [line for row in rows for line in _below(head, row, width)]


def _natural(rows: Sequence[Sequence[str]]) -> int:
    """Columns that a table takes, two between each pair."""
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return sum(sizes) + 2 * (len(sizes) - 1)


def shortened(name: str, room: int) -> str:
    """``blocks.*.at...v.weight``: the middle gives way to three dots."""
    if len(name) <= room:
        return name
    kept = max(room - 3, 2)
    return f"{name[: kept - kept // 2]}...{name[len(name) - kept // 2 :]}"


def _below(head: Sequence[str], row: Sequence[str], width: int) -> list[str]:
    """A row as its name and, indented, each cell that says something with the name of its column."""
    cells = [f"{name} {cell}".strip() for name, cell in zip(head[1:], row[1:], strict=True) if cell]
    kept = ", ".join(cell.replace(" ", "\xa0") for cell in cells)  # a cell is not broken if it fits a line
    return [row[0], *(line.replace("\xa0", " ") for line in wrapped(kept, width, "    ", "    "))]


def aligned(rows: Sequence[Sequence[str]], dashes: bool = False) -> list[str]:
    """Lines of a table whose first row is its head; ``dashes`` stand under each column of it."""
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows = [rows[0], ["-" * size for size in sizes], *rows[1:]] if dashes else rows
    return ["  ".join(cell.ljust(size) for cell, size in zip(row, sizes, strict=True)).rstrip() for row in rows]


def wrapped(text: str, width: Optional[int] = None, first: str = "", rest: str = "") -> list[str]:
    """Lines of at most ``width`` columns, broken between words alone; None: one line.

    ``first`` stands before the first line, ``rest`` before the others.
    """
    if width is None:
        return [first + text]
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def within(lines: Sequence[str], width: Optional[int]) -> list[str]:
    """Each line that is longer than ``width`` broken between words, its rest indented a little more than itself."""
    if width is None:
        return list(lines)
    broken = []
    for line in lines:
        margin = line[: len(line) - len(line.lstrip())]
        broken += [line] if len(line) <= width else wrapped(line.strip(), width, margin, margin + "    ")
    return broken


def itemized(*lists: tuple[str, Sequence[str]], width: Optional[int] = None) -> list[str]:
    """A heading and an item a line for each list that is not empty, a blank line before each."""
    lines: list[str] = []
    for heading, items in lists:
        if items:
            lines += ["", f"{heading}:", *(line for item in items for line in wrapped(item, width, "  - ", "    "))]
    return lines
