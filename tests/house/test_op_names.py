"""Only rules know ops by name.

Everything else asks the rule of an op for its structure and its axes, so that an op of a user's own file is treated as
one that ships.  What must name ops all the same stands in a table, with the reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import torch

from tpcalc.rules import REGISTRY

ROOT = Path(__file__).parents[2]
#: Where ops may be named.
FREE = ("rules/", "trace/record/")


def op_names() -> frozenset[str]:
    """Names of ATen ops and of registered rules, without namespace and overload."""
    registered = {name.split(".")[1] for name in REGISTRY.rules if "." in name}
    return frozenset(dir(torch.ops.aten)) | registered | frozenset(torch._C._dispatch_get_all_op_names() and ())


def strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The string constants of a module that are no docstrings and no part of a message (an f-string)."""
    skipped = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            skipped |= {id(line.value) for line in body if isinstance(line, ast.Expr)}
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.lineno, node.value
