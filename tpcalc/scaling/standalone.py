"""Modules of this package as the text of one file that needs torch alone: their imports merged, then their code."""

from __future__ import annotations

import ast
import sys
from importlib.resources import files

#: Copied is what stands below it, but for imports of one another, which a single file does not need.
MARKER = "# --- copied into generated files from here on ---\n"


def copied(module: str) -> str:
    """What a generated file has of a module, its imports included."""
    text = files("tpcalc.scaling").joinpath(f"{module}.py").read_text(encoding="utf-8")
    return text.partition(MARKER)[2]


def code(module: str) -> str:
    """The same without its imports, which come first in it."""
    text = copied(module)
    last = max((node.end_lineno or 0 for node in _imports(text)), default=0)
    return "".join(text.splitlines(keepends=True)[last:]).strip() + "\n"


def imports(*modules: str, first: str = "") -> str:
    """The imports of modules as one block, sorted: the standard library, then others.  ``first``: more of them."""
    whole: set[str] = set()
    parts: dict[str, set[str]] = {}
    for node in (node for text in (first, *map(copied, modules)) for node in _imports(text)):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tpcalc."):
            continue
        if isinstance(node, ast.ImportFrom):
            parts.setdefault(str(node.module), set()).update(name.name for name in node.names)
        else:
            whole.update(name.name for name in node.names)
    lines = [(name, f"import {name}\n") for name in sorted(whole)]
    lines += [(name, f"from {name} import {_sorted(parts[name])}\n") for name in sorted(parts)]
    own: list[str] = []
    others: list[str] = []
    for name, line in lines:
        (own if name.partition(".")[0] in sys.stdlib_module_names else others).append(line)
    return "".join((*own, *(["\n"] if own and others else []), *others))


def _imports(text: str) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.parse(text).body if isinstance(node, (ast.Import, ast.ImportFrom))]


def _sorted(names: set[str]) -> str:
    """As isort has them: classes before functions."""
    return ", ".join(sorted(names, key=lambda name: (not name[0].isupper(), name)))
