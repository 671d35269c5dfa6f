"""Consoles in colour, where ``(top)`` at the beginning of a line is what a command printed.

Pygments takes brackets there for the name of a virtual environment, and sets them as a prompt.
"""

from __future__ import annotations

import re

from pygments.lexers.shell import BashSessionLexer


class Console(BashSessionLexer):
    """``$`` is the prompt, and nothing is before it."""

    _ps1rgx = re.compile(r"^(\$ )(.*\n?)")
    _venv = re.compile(r"(?!)")


def setup(app) -> dict[str, bool]:
    app.add_lexer("console", Console)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
