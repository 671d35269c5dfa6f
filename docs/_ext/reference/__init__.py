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


def setup(app) -> dict[str, bool]:
    app.connect("config-inited", lambda app, config: write())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
