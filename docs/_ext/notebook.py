"""Tutorials as notebooks: beside each page its cells as a file of Jupyter (nbformat 4), and a link to it.

A ``python`` block is a cell of code, what comes between is Markdown; files that a page tells to write are written by
their own cell, and consoles run by ``!``.  The pages are what is tested (``tests/house/test_pages.py``).
"""

from __future__ import annotations

import json
import re
from pathlib import Path

TUTORIALS = Path(__file__).resolve().parents[1] / "tutorials"
_FENCE = re.compile(r"^```([\w{}]*)[^\n]*\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"`([\w./-]+)`:\s*$")
LINK = "\n[Download this page as a notebook]({name}.ipynb).\n"


def cells(text: str) -> list[dict]:
    """The cells of a page."""
    found: list[dict] = []
    at, printed = 0, False
    for match in _FENCE.finditer(text):
        language, content = match.groups()
        between = text[at : match.start()]
        at = match.end()
        if language == "text" and printed and not between.strip():
            printed = False
            continue  # the cell itself prints it
        _markdown(found, between)
        if named := _NAMED.search(between):
            _code(found, f"%%writefile {named.group(1)}\n{content}")
        elif language == "python":
            _code(found, content)
        elif language in ("console", "bash"):
            lines = [
                line.removeprefix("$ ") for line in content.splitlines() if language == "bash" or line.startswith("$ ")
            ]
            _code(found, "".join(f"!{line}\n" for line in lines))
        else:
            _markdown(found, match.group(0))
        printed = language == "python" and not named
    _markdown(found, text[at:])
    return found


def _markdown(found: list[dict], text: str) -> None:
    if text.strip():
        found.append({"cell_type": "markdown", "metadata": {}, "source": text.strip().splitlines(keepends=True)})


def _code(found: list[dict], text: str) -> None:
    cell = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    found.append({**cell, "source": text.rstrip("\n").splitlines(keepends=True)})


def notebook(text: str) -> str:
    made = {
        "cells": cells(text),
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 4,
    }
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def pages() -> list[Path]:
    return [path for path in sorted(TUTORIALS.glob("*.md")) if path.stem != "index"]


def write(app, config) -> None:
    for page in pages():
        path = page.with_suffix(".ipynb")
        text = notebook(page.read_text(encoding="utf-8"))
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def link(app, docname: str, source: list[str]) -> None:
    """Behind the first paragraph of a tutorial: a link to its notebook."""
    folder, _, name = docname.rpartition("/")
    if folder == "tutorials" and name != "index":
        title, _, rest = source[0].partition("\n\n")
        first, _, rest = rest.partition("\n\n")
        source[0] = f"{title}\n\n{first}\n{LINK.format(name=name)}\n{rest}"


def setup(app) -> dict[str, bool]:
    app.connect("config-inited", write)
    app.connect("source-read", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
