"""Every sentence that the package raises as an error of the user's, from its source."""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from .words import cell

ROOT = Path(__file__).resolve().parents[3]


def refusals() -> str:
    """Every sentence that the package raises as an error of the user's, from its source."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "tpcalc").rglob("*.py"))}
    named = {name: value for tree in trees.values() for name, value in _named(tree)}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                error = ast.unparse(node.exc.func).rpartition(".")[2]
                if error in _errors():
                    part = path.relative_to(ROOT / "tpcalc").parts[0].removesuffix(".py")
                    said = [_escaped(text) for text in _texts(node.exc.args[0], named | dict(_named(tree)))]
                    found[error][part] += [text for text in said if text]
    count = sum(len(set(each)) for parts in found.values() for each in parts.values())
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


def _named(tree: ast.Module) -> Iterator[tuple[str, list[ast.expr]]]:
    """What a module calls by a name: texts, and functions by what they return."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, [node.value]
        elif isinstance(node, ast.FunctionDef):
            returned = [each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value]
            yield node.name, returned


def _texts(node: ast.expr, named: dict[str, list[ast.expr]]) -> list[str]:
    """The texts that a message may be, an ellipsis where something is put in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)]
    if isinstance(node, ast.BinOp):
        left, right = (_texts(side, {}) or ["…"] for side in (node.left, node.right))
        return [left[0] + right[0]]
    if isinstance(node, ast.IfExp):
        return _texts(node.body, named) + _texts(node.orelse, named)
    called = node.func if isinstance(node, ast.Call) else node
    others = named.get(called.id, []) if isinstance(called, ast.Name) else []
    return [text for each in others for text in _texts(each, {})]


def _escaped(text: str) -> str:
    """As Markdown; empty if it has no words of its own."""
    text = re.sub("…+", "…", " ".join(text.split()))
    return re.sub(r"([\\`*_<>\[\]$|~#^])", r"\\\1", text) if re.search(r"[a-z]{3}", text) else ""
