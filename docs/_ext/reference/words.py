"""Text of the code as Markdown."""

from __future__ import annotations

import re


def prose(text: str | None) -> str:
    return re.sub(r"\s*\n(?!\n)\s*", " ", _escaped((text or "").strip()))


def cell(text: str | None) -> str:
    return _escaped(" ".join((text or "").split())).replace("|", "&#124;")


def _escaped(text: str) -> str:
    """Markdown that shows this text: stars, brackets and dollars are themselves."""
    return re.sub(r"(?<!`)([*_<>\[\]$])(?![^`]*`[^`]*$)", r"\\\1", text) if "`" not in text else text


def first(text: str | None) -> str:
    """The first paragraph of a docstring, in a cell of a table."""
    return cell((text or "").split("\n\n")[0].replace("``", "`"))
