"""Every sentence that the package raises as an error of the user's, from its source."""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from pathlib import Path

from .words import cell

ROOT = Path(__file__).resolve().parents[3]


def refusals() -> str:
    """Every sentence that the package raises as an error of the user's, from its source."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted((ROOT / "tpcalc").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                error = ast.unparse(node.exc.func).rpartition(".")[2]
                text = _template(node.exc.args[0])
                if error in _errors() and text:
                    found[error][path.relative_to(ROOT / "tpcalc").parts[0].removesuffix(".py")].append(text)
    count = sum(len(each) for parts in found.values() for each in parts.values())
    parts = [
        "# Refusals\n\n"
        f"The {count} sentences that tpcalc says when it can't go on, `…` for a name or a number of yours. On the "
        "command line they come after `error:`, with exit code 2; in Python they are the text of the error."
    ]
    for error, said in sorted(_errors().items()):
        if error in found:
            rows = [f"- {text}" for part in sorted(found[error]) for text in dict.fromkeys(found[error][part])]
            parts.append(f"## {error}\n\n{cell(said)}\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


def _errors() -> dict[str, str]:
    from tpcalc import errors

    return {
        name: (inspect.getdoc(found) or "").split("\n")[0]
        for name, found in vars(errors).items()
        if inspect.isclass(found) and issubclass(found, errors.TpcalcError)
    }


def _template(node: ast.expr) -> str:
    """The text of a message, an ellipsis where something is put in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = node.value
    elif isinstance(node, ast.JoinedStr):
        text = "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
    else:
        return ""
    text = " ".join(text.split())
    return re.sub(r"([\\`*_<>\[\]$|~#^])", r"\\\1", text) if re.search(r"[a-z]{3}", text) else ""
