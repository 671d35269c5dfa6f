"""Only rules and the recorder know ops by name.

Everything else asks the rule of an op for its structure and its axes, so that an op of a user's own file is treated as
one that ships.  What must name ops all the same, and words that happen to be names of ops, stand in a table.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import torch

from tpcalc.rules import REGISTRY

ROOT = Path(__file__).parents[2] / "tpcalc"
#: Where ops may be named.
FREE = ("rules/", "trace/record/")


@lru_cache(maxsize=1)
def op_names() -> frozenset[str]:
    """Names of ATen ops and of registered rules, without namespace and overload."""
    schemas = torch._C._dispatch_get_all_op_names()
    aten = {name[6:].split(".")[0] for name in schemas if name.startswith("aten::")}
    return frozenset(aten | {name.split(".")[1] for name in REGISTRY.rules if "." in name})


def named(text: str) -> Iterator[str]:
    """The ops that a string names: it is the name of one, or a list of nothing else."""
    words = text.split()
    if len(words) == 1:
        words = [words[0].removeprefix("aten.").split(".")[0] if text.startswith("aten.") else words[0]]
    if words and all(word in op_names() for word in words):
        yield from words
    elif text.startswith("aten."):
        yield text


def strings(tree: ast.AST) -> Iterator[str]:
    """The string constants of a module that are no docstrings."""
    docstrings = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            docstrings |= {id(line.value) for line in body if isinstance(line, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def offenders() -> dict[str, set[str]]:
    """Module -> the names of ops in it."""
    found: dict[str, set[str]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        module = path.relative_to(ROOT).as_posix()
        if not module.startswith(FREE):
            for text in strings(ast.parse(path.read_text())):
                found.setdefault(module, set()).update(named(text))
    return {module: names for module, names in found.items() if names}
