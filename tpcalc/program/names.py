"""Folding of repeated blocks in printed tables.

Names that differ only in integer path components (``blocks.0.q.weight``, ``blocks.1.q.weight``) become one
name where all copies agree in everything shown: ``blocks.*.q.weight``.  Where only some agree, runs
of indices are listed apart: ``blocks.{0..3}.q.weight`` and ``blocks.4.q.weight``.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Optional

Index = tuple[int, ...]


@dataclass(frozen=True)
class Folded:
    """One printed name and the names it stands for, in their original order."""

    name: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Pattern:
    """Texts of the index positions, and the index tuples they stand for."""

    texts: tuple[str, ...]
    key: Hashable
    members: tuple[Index, ...]


def fold(items: Iterable[tuple[str, Hashable]], star: bool = True) -> list[Folded]:
    """Fold ``(name, key)`` pairs; names fold together only if their keys are equal.

    Rows stand in the order of their first name.  With ``star=False`` a full range is written out
    (``{0..11}``), for lists that may not name every copy of a block.  Names must be distinct.
    """
    templates: dict[tuple[str, ...], dict[Index, Hashable]] = {}
    position: dict[str, int] = {}
    for name, key in items:
        template, index = _split(name)
        position[name] = len(position)
        templates.setdefault(template, {})[index] = key
    rows = []
    for template, table in templates.items():
        for pattern in _patterns(table, star):
            names = sorted((_join(template, index) for index in pattern.members), key=position.__getitem__)
            rows.append(Folded(_join(template, pattern.texts), tuple(names)))
    return sorted(rows, key=lambda row: position[row.names[0]])


def fold_names(names: Iterable[str]) -> list[str]:
    """Fold bare names, ranges written out."""
    return [row.name for row in fold(((name, None) for name in names), star=False)]


def first_meant(printed: str, names: Iterable[str]) -> Optional[str]:
    """The first of ``names`` that a printed one stands for, None where there is none.

    ``blocks.*.q.weight``, ``h.{0..3}.{wq,wk}.weight``, ``wte = head``, ``blocks.*.at...v.weight`` (shortened).
    """
    pattern = ""
    for token in re.findall(r"\.{3}|\*|\{[^{}]+\}|.", printed.partition(" = ")[0].strip()):
        if token == "...":
            pattern += ".*"
        elif token == "*":
            pattern += r"\d+"
        elif len(token) > 1:
            pattern += f"(?:{'|'.join(re.escape(each) for part in token[1:-1].split(',') for each in _run(part))})"
        else:
            pattern += re.escape(token)
    return next((name for name in names if re.fullmatch(pattern, name)), None)


def _run(part: str) -> Iterable[str]:
    """``0..3`` as its numbers, what is none as it is."""
    ends = re.fullmatch(r"(\d+)\.\.(\d+)", part)
    return map(str, range(int(ends[1]), int(ends[2]) + 1)) if ends else (part,)


def starred(name: str) -> str:
    """``blocks.*.q.weight``: equal for all copies of a block."""
    return ".".join(part or "*" for part in _split(name)[0])


def _split(name: str) -> tuple[tuple[str, ...], Index]:
    """``a.3.b`` -> ``(("a", "", "b"), (3,))``: the empty component stands for an index."""
    parts = name.split(".")
    is_index = [part.isdecimal() and part.isascii() and str(int(part)) == part for part in parts]
    template = tuple("" if index else part for part, index in zip(parts, is_index, strict=True))
    return template, tuple(int(part) for part, index in zip(parts, is_index, strict=True) if index)


def _join(template: tuple[str, ...], indices: Iterable[object]) -> str:
    remaining = iter(indices)
    return ".".join(part if part else str(next(remaining, "")) for part in template)


def _patterns(table: dict[Index, Hashable], star: bool) -> list[_Pattern]:
    """Fold one template: fold behind every first index, then merge first indices with equal rows."""
    if () in table:
        return [_Pattern((), table[()], ((),))]
    behind: dict[int, dict[Index, Hashable]] = {}
    for index, key in table.items():
        behind.setdefault(index[0], {})[index[1:]] = key
    merged: dict[tuple[tuple[str, ...], Hashable], dict[int, _Pattern]] = {}
    for first, rest in behind.items():
        for pattern in _patterns(rest, star):
            merged.setdefault((pattern.texts, pattern.key), {})[first] = pattern
    rows = []
    for (texts, key), by_first in merged.items():
        complete = star and len(by_first) == len(behind) > 1
        members = tuple((first, *index) for first, pattern in by_first.items() for index in pattern.members)
        rows.append(_Pattern(("*" if complete else _runs(by_first), *texts), key, members))
    return rows


def _runs(indices: Iterable[int]) -> str:
    """``4``, ``{0..3}`` or ``{0,2,4..7}``."""
    runs: list[list[int]] = []
    for index in sorted(indices):
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    if len(runs) == 1 and runs[0][0] == runs[0][1]:
        return str(runs[0][0])
    texts = [str(lo) if lo == hi else f"{lo},{hi}" if hi == lo + 1 else f"{lo}..{hi}" for lo, hi in runs]
    return "{" + ",".join(texts) + "}"


_PATH_INDEX = re.compile(r"(?<=[A-Za-z_*]\.)\d+\b(?![/\d])|(?<![\w./^*-])\d+(?=\.[A-Za-z_])")
_VALUE_ID = re.compile(r"\b([hgx])\d+\b")


def mask_indices(text: str) -> str:
    """A sentence with the block indices and value ids in it starred: equal for all copies of a block."""
    previous = None
    while previous != text:
        previous, text = text, _PATH_INDEX.sub("*", text)
    return _VALUE_ID.sub(r"\1*", text)
