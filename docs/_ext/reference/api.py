"""Public names from their docstrings, the results of functions, trainers and errors."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

ROOT = Path(__file__).resolve().parents[3]

#: Beside the public names: what their functions return or call a user's code with.
RESULTS = (
    "tpcalc.derive.several.ScaledParametrization",
    "tpcalc.derive.several.ScaledRule",
    "tpcalc.derive.explain.Explanation",
    "tpcalc.scaling.weight.Weight",
    "tpcalc.verify.findings.Report",
    "tpcalc.verify.findings.Finding",
    "tpcalc.check.result.Result",
    "tpcalc.check.result.ScaledResult",
    "tpcalc.transfer.training.Context",
    "tpcalc.transfer.result.Transfer",
    "tpcalc.tune.result.Tuned",
)
TRAINERS = ("transformers", "lightning", "accelerate", "deepspeed")


def api() -> str:
    import tpcalc

    parts = ["# API\n\nEverything public is a name of `tpcalc`, imported when it is first used."]
    errors, others = [], []
    for name in tpcalc.__all__[1:]:
        found = getattr(tpcalc, name)
        found = found._function if inspect.ismodule(found) else found
        is_error = inspect.isclass(found) and issubclass(found, Exception)
        (errors if is_error else others).append((f"tpcalc.{name}", found))
    parts += [_described(name, found) for name, found in others]
    parts.append("## Results\n\nWhat functions return, and what a loop of yours is called with.")
    parts += [_described(path, resolve_name(":".join(path.rsplit(".", 1))), 3) for path in RESULTS]
    parts.append("## Inside trainers\n\nModules of `tpcalc.integrations`; [how each is used](../integrations.md).")
    for trainer in TRAINERS:
        parts.append(_module_members(f"tpcalc.integrations.{trainer}"))
    parts.append(
        "## Errors\n\nEach is a `tpcalc.TpcalcError`; its text is one sentence with the remedy ([all](refusals.md))."
    )
    parts += [_described(name, found, 3) for name, found in errors]
    return "\n\n".join(parts)


def _described(name: str, found: Any, level: int = 2) -> str:
    is_class = inspect.isclass(found)
    arguments = "" if is_class and _is_error(found) else _signature(found)
    lines = [
        f".. py:{'class' if is_class else 'function'}:: {name}{arguments}",
        "",
    ]
    lines += _indented(inspect.getdoc(found) or "")
    if is_class and not _is_error(found):
        for member, value in _methods(found):
            kind = "property" if isinstance(value, property) else "method"
            lines += [
                "",
                f"   .. py:{kind}:: {member}{'' if kind == 'property' else _signature(value, bound=True)}",
                "",
            ]
            lines += _indented(inspect.getdoc(value) or "", 6)
    short = name.rpartition(".")[2]
    return f"{'#' * level} {short}\n\n```{{eval-rst}}\n" + "\n".join(lines).rstrip() + "\n```"


def _is_error(found: type) -> bool:
    return issubclass(found, Exception)


def _methods(found: type) -> Iterator[tuple[str, Any]]:
    seen = set()
    for owner in found.__mro__:
        if not owner.__module__.startswith("tpcalc"):
            continue
        for name, value in vars(owner).items():
            value = getattr(value, "__func__", value)
            if name.startswith("_") or name in seen or not (inspect.isfunction(value) or isinstance(value, property)):
                continue
            seen.add(name)
            if inspect.getdoc(value):
                yield name, value


def _signature(found: Any, bound: bool = False) -> str:
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return "()"
    parameters = list(signature.parameters.values())[bound:]
    plain = []
    for each in parameters:
        default = each.default
        if default is not inspect.Parameter.empty and (len(repr(default)) > 40 or "<" in repr(default)):
            each = each.replace(default=...)
        plain.append(each.replace(annotation=inspect.Parameter.empty))
    return re.sub(
        r"Ellipsis", "...", str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))
    )


def _indented(text: str, by: int = 3) -> list[str]:
    return [" " * by + line if line else "" for line in text.splitlines()]


def _module_members(name: str) -> str:
    """Public functions and classes of a module, from its source: its trainer need not be installed."""
    path = ROOT / (name.replace(".", "/") + ".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lines = [f"### {name.rpartition('.')[2]}", "", (ast.get_docstring(tree) or "").splitlines()[0], "", "```{eval-rst}"]
    for node in tree.body:
        if (
            isinstance(node, (ast.FunctionDef, ast.ClassDef))
            and not node.name.startswith("_")
            and ast.get_docstring(node)
        ):
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            arguments = f"({_plain(node.args)})" if kind == "function" else ""
            lines += [
                f".. py:{kind}:: {name}.{node.name}{arguments}",
                "",
                *_indented(ast.get_docstring(node) or ""),
                "",
            ]
    return "\n".join([*lines, "```"])


def _plain(arguments: ast.arguments) -> str:
    for each in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]:
        if each is not None:
            each.annotation = None
    return ast.unparse(arguments)
