"""The reference, made from the code when the site is built: docs/reference/*.md, which git ignores.

API from docstrings, the command line from its own commands, documents from their models, rules from the registry, and
refusals from the sentences that the package raises.
"""

from __future__ import annotations

from pathlib import Path

from .api import api
from .commands import command_line
from .documents import documents
from .refusals import refusals
from .rules import rules

FOLDER = Path(__file__).resolve().parents[2] / "reference"
MADE = {"api": api, "command-line": command_line, "json": documents, "rules": rules, "refusals": refusals}


def write(folder: Path = FOLDER) -> None:
    """Each page, where it says something else than before."""
    for name, made in MADE.items():
        path, text = folder / f"{name}.md", made().rstrip() + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def lead(app, docname: str, source: list[str]) -> None:
    """Under each heading of the overview: a link to the page, which is on the site alone."""
    if docname == "reference/index":
        for name in MADE:
            title = (FOLDER / f"{name}.md").read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
            head = f"## {title}\n\n"
            assert head in source[0], f"docs/reference/index.md has no heading {title}"
            source[0] = source[0].replace(head, f"{head}To the page: [{title}]({name}.md).\n\n")


def setup(app) -> dict[str, bool]:
    app.connect("config-inited", lambda app, config: write())
    app.connect("source-read", lead)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
