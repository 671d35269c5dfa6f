"""Modules as one file: imports once and in order, code without them, nothing of the package."""

from __future__ import annotations

import ast

import pytest

from tpcalc.scaling.standalone import MARKER, code, copied, imports

PARTS = ("weight", "assumed", "shards", "runtime", "relative", "factors")


def names_of(text: str) -> list[str]:
    """``module`` or ``module.name``, in order."""
    found = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def test_imports_are_merged_and_each_stands_once():
    merged = names_of(imports(*PARTS))
    assert len(merged) == len(set(merged))
    wanted = {name for part in PARTS for name in names_of(copied(part)) if not name.startswith("tpcalc.")}
    assert set(merged) == wanted and {"dataclasses.dataclass", "dataclasses.replace", "torch.nn"} <= wanted


def test_the_standard_library_comes_first():
    block = imports(*PARTS)
    standard, torch = block.split("\n\n")
    assert "torch" not in standard and all("torch" in line for line in torch.splitlines())
    assert imports("weight").strip() and "torch" not in imports("weight")


@pytest.mark.parametrize("part", PARTS)
def test_code_is_the_module_without_imports(part):
    text = code(part)
    assert names_of(text) == [] and MARKER not in text and "tpcalc" not in text
    assert text in copied(part) and text.endswith("\n") and not text.startswith("\n")


def test_together_they_run_by_themselves():
    space: dict = {}
    exec(
        compile(
            "\n\n".join((imports(*PARTS), *map(code, PARTS))),
            "standalone",
            "exec",
            dont_inherit=True,
            flags=__import__("__future__").annotations.compiler_flag,
        ),
        space,
    )
    assert space["Multipliers"]([]) is not None and not any(name.startswith("tpcalc") for name in space)
