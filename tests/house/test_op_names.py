"""Only rules and the recorder know ops by name.

Everything else asks the rule of an op for its structure and its axes, so that an op of a user's own file is treated as
one that ships.  What must name ops all the same, and words that happen to be names of ops, stand in a table.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Optional

import torch

from tpcalc.rules import REGISTRY

ROOT = Path(__file__).parents[2] / "tpcalc"
#: Where ops may be named.
FREE = ("rules/", "trace/record/")


#: (module or folder, words) -> why they stand there.
REASONS: dict[tuple[str, str], str] = {
    ("trace/init/", "*"): "init calls are read by name before any rule exists",
    ("scaling/initial.py", "normal random uniform rand rand_like randn randn_like data"): (
        "init calls, as trace/init/ read them, in words"
    ),
    ("calculus/weights.py", "random"): "a kind of init law",
    ("document/table.py", "normal uniform"): "kinds of init laws, in the schema",
    ("program/nodes.py", "aten."): "a name without its namespace, in listings",
    ("check/effects.py", "aten."): "only ops of torch itself can be run again with another weight",
    ("lower/copies.py", "aten."): "only of ops of torch itself is it known that they draw nothing",
    ("optimizers/recipe.py", "atan2 sign"): "forms of Adam",
    ("optimizers/entrywise.py", "sign"): "an optimizer",
    ("optimizers/law.py", "gradient linear norm"): "kinds of weight decay and of epsilon",
    ("check/optimizers.py", "sign"): "an optimizer",
    ("verify/optimizers.py", "sign"): "an optimizer",
    ("verify/schedules.py", "floor t"): "arguments of schedulers",
    ("probe/", "full gradient size"): "a style of text, numbers of a run",
    ("verify/grouping.py", "all"): "a quantifier, in a message",
    ("verify/gather.py", "gather"): "the module's own function",
    ("verify/words.py", "full"): "a style of text",
    ("algebra/", "full"): "a style of text",
    ("algebra/", "size sum"): "words of messages",
    ("report/", "full"): "a style of text",
    ("calculus/alignment.py", "full"): "the name of an alignment",
    ("derive/", "full"): "the name of an alignment, a style of text",
    ("cli/rules.py", "full"): "the name of an alignment",
    ("cli/page.py", "full"): "the name of an alignment",
    ("calculus/limits.py", "exponential softmax"): "words of messages",
    ("calculus/words.py", "softmax"): "a word of messages",
    ("lower/", "sum put"): "how a Sum is one",
    ("transfer/roles.py", "sum put"): "how a Sum is one",
    ("transfer/", "embedding norm"): "roles of weights",
    ("tune/propose.py", "random"): "a sampler of Optuna",
    ("tune/plan.py", "to"): "a word",
    ("report/tune.py", "range to"): "a column, a word",
    ("calculus/limits.py", "put"): "how a Sum is one",
    ("trace/fixed.py", "random"): "a kind of init law",
    ("scaling/everywhere.py", "max min range sqrt"): "functions of formulas, in Python",
    ("scaling/dialects/__init__.py", "to write"): "words of a file's head, a function of that name",
    ("scaling/shards.py", "max sum"): "kinds of reduction over devices",
    ("scaling/shards.py", "uniform"): "a law of draws",
    ("scaling/", "clip dim"): "fields of a Scaling",
    ("integrations/", "norm"): "a way of clipping, as Lightning calls it",
    ("document/", "dim clip gradient norm index mean size std values full"): "fields of a document",
    ("report/", "clip gradient where log dot"): "fields of a document, kinds of axes and of files",
    (
        "check/",
        "gradient where zero complex floor to",
    ): "fields of a comparison, words of its verdicts, a dtype, a method",
    ("derive/sites.py", "where"): "a field of a site",
    ("trace/", "dim indices trace"): "words of messages, and the package's own function",
    ("__init__.py", "trace"): "the package's own function",
}


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


def reason(module: str, name: str) -> Optional[tuple[str, str]]:
    """The row of the table that holds for the name of an op in a module."""
    rows = (row for row in REASONS if module == row[0] or (row[0].endswith("/") and module.startswith(row[0])))
    return next((row for row in rows if row[1] == "*" or name in row[1].split()), None)


def test_only_rules_and_the_recorder_name_ops():
    found = offenders()
    unknown = {(module, name) for module, names in found.items() for name in names if reason(module, name) is None}
    assert not unknown, f"ask the rule of the op instead, or give a reason: {sorted(unknown)}"


def test_every_reason_is_needed():
    used = {reason(module, name) for module, names in offenders().items() for name in names}
    assert used == set(REASONS)


def test_the_search_finds_names_and_lists_of_names():
    code = '''
"""mm of a docstring"""
OPS = frozenset("silu gelu relu".split())
def f(node):
    "bmm of a docstring"
    return node.short_op in ("mv", "dot") or node.op == "aten.native_layer_norm.default" or f"aten.{node}"
MESSAGE = "the sum of a layer"
'''
    found = {name for text in strings(ast.parse(code)) for name in named(text)}
    assert found == {"silu", "gelu", "relu", "mv", "dot", "native_layer_norm", "aten."}
