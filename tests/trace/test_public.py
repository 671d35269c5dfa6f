"""Outside of the tracer only its public names are used, and each of its modules has a test or a written reason."""

import ast
import importlib
from pathlib import Path

import pytest

import tests.trace

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tpcalc" / "trace"

#: The packages and modules of the tracer that others may import from, by their ``__all__``.
PUBLIC = frozenset(
    (
        "tpcalc.trace",
        *(
            f"tpcalc.trace.{name}"
            for name in ("align", "built", "depth", "hf", "init", "inputs", "quoted", "record", "target")
        ),
    )
)


def misuses(path: Path) -> list[str]:
    """What the file ``path`` imports from the tracer and should not."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            wrong = [name.name for name in node.names if name.name.startswith("tpcalc.trace.")]
            found += [name for name in wrong if name not in PUBLIC]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tpcalc.trace"):
            public = importlib.import_module(node.module).__all__ if node.module in PUBLIC else ()
            found += [f"{node.module}.{name.name}" for name in node.names if name.name not in public]
    return found


def test_only_public_names_are_used_outside():
    folders = [ROOT / name for name in ("tpcalc", "tests", "benchmarks", "examples", "docs")]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    outside = [path for path in files if not {PACKAGE, ROOT / "tests" / "trace"} & set(path.parents)]
    assert len(outside) > 100
    used = {path.relative_to(ROOT).as_posix(): misuses(path) for path in outside}
    assert {name: found for name, found in used.items() if found} == {}


@pytest.mark.parametrize(
    "source, misused",
    [
        ("from tpcalc.trace.record import record, observe", []),
        ("import tpcalc.trace.target", []),
        ("from tpcalc.trace.record.recorder import record", ["tpcalc.trace.record.recorder.record"]),
        ("def f():\n    from tpcalc.trace.init import law", ["tpcalc.trace.init.law"]),
        ("import tpcalc.trace.record.mode", ["tpcalc.trace.record.mode"]),
        ("from tpcalc.trace.target import _either", ["tpcalc.trace.target._either"]),
    ],
)
def test_the_check_can_fail(tmp_path, source, misused):
    (tmp_path / "user.py").write_text(source)
    assert misuses(tmp_path / "user.py") == misused


def test_every_module_has_a_test_or_a_reason():
    untested = []
    for path in PACKAGE.rglob("[!_]*.py"):
        inner = path.relative_to(PACKAGE)
        if not (ROOT / "tests" / "trace" / inner.parent / f"test_{inner.name}").exists():
            untested.append(inner.with_suffix("").as_posix())
    reasons = tests.trace.__doc__.replace("`", "").replace(",", " ").split()
    assert sorted(untested) == ["hf/family", "record/calls", "record/mode", "record/run", "record/tape"]
    assert all(name in reasons or name.rpartition("/")[2] in reasons for name in untested)
