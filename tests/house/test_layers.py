"""Imports point down only, and only the layers that need torch know it.

The check reads the source (AST) of every module, so it sees imports that no test happens to run.  Imports inside
functions and those only for types count like any other.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[2]

#: From the bottom up.  A module may import its own layer and those before it; a package counts as one name.
LAYERS = (
    "late",
    "collector",
    "errors",
    "files",
    "progress",
    "installed",
    "show",
    "algebra",
    "optimizers",
    "horizon",
    "program",
    "trace",
    "rules",
    "lower",
    "calculus",
    "dynamics",
    "derive",
    "document",
    "probe",
    "verify",
    "scaling",
    "integrations",
    "check",
    "transfer",
    "tune",
    "report",
    "console",
    "cli",
    "__main__",
    "__init__",
)
LEVEL = {name: level for level, name in enumerate(LAYERS)}

TORCH_ALLOWED = frozenset({"trace", "probe", "scaling", "integrations", "verify", "check", "transfer", "tune"})
TORCH = frozenset({"torch", "transformers", "torchvision", "mup", "numpy", "accelerate", "lightning", "deepspeed"})

#: Modules over 450 lines, each with a reason in docs/architecture.md.
MOST_LINES = 450


@dataclass(frozen=True)
class Import:
    """``importer`` imports the module ``imported`` at ``line``."""

    importer: str
    imported: str
    line: int


def modules(root: Path) -> dict[str, Path]:
    """Module name -> file, for the package ``tpcalc`` under ``root``."""
    found = {}
    for path in sorted((root / "tpcalc").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path) -> list[Import]:
    known = modules(root)
    return [found for name, path in known.items() for found in _imports_of(name, path, known)]


def _imports_of(name: str, path: Path, known: dict[str, Path]) -> Iterator[Import]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            targets = [
                f"{source}.{alias.name}" if f"{source}.{alias.name}" in known else source for alias in node.names
            ]
        else:
            continue
        for target in dict.fromkeys(targets):
            yield Import(name, target, node.lineno)


def layer(module: str) -> str:
    """``tpcalc.rules.views`` -> ``rules``."""
    return module.split(".")[1] if "." in module else "__init__"


def violations(root: Path) -> list[str]:
    """One sentence for each import that breaks the layers."""
    problems = [
        f"{name} stands in no layer: add {layer(name)} to LAYERS" for name in modules(root) if layer(name) not in LEVEL
    ]
    graph = nx.DiGraph()
    for found in imports(root):
        where = f"{found.importer} line {found.line}"
        top = found.imported.split(".")[0]
        if top in TORCH and layer(found.importer) not in TORCH_ALLOWED:
            problems.append(f"{where}: imports {top}; only {', '.join(sorted(TORCH_ALLOWED))} may")
        if top != "tpcalc" or {layer(found.importer), layer(found.imported)} - set(LEVEL):
            continue
        if found.imported == "tpcalc" and layer(found.importer) == "cli":
            continue  # for __version__
        if found.importer != found.imported:
            graph.add_edge(found.importer, found.imported)
        if LEVEL[layer(found.imported)] > LEVEL[layer(found.importer)]:
            problems.append(f"{where}: imports {found.imported}, which stands above it")
    problems += [
        f"import cycle: {' -> '.join(sorted(group))}"
        for group in nx.strongly_connected_components(graph)
        if len(group) > 1
    ]
    return sorted(problems)


def test_imports_point_down():
    assert violations(ROOT) == []


SYNTHETIC = [
    (
        "algebra/order.py",
        "from tpcalc.program import ir",
        "tpcalc.algebra.order line 1: imports tpcalc.program.ir, which",
    ),
    ("algebra/order.py", "from tpcalc import program", "tpcalc.algebra.order line 1: imports tpcalc.program, which"),
    ("algebra/order.py", "import tpcalc.program.ir", "tpcalc.algebra.order line 1: imports tpcalc.program.ir, which"),
    ("algebra/order.py", "from ..program.ir import P", "tpcalc.algebra.order line 1: imports tpcalc.program.ir, which"),
    ("errors.py", "from . import program", "tpcalc.errors line 1: imports tpcalc.program, which"),
    ("rules/views.py", "from ..derive import derive", "tpcalc.rules.views line 1: imports tpcalc.derive, which"),
    ("errors.py", "def f():\n    from tpcalc.program.ir import P", "tpcalc.errors line 2: imports tpcalc.program.ir"),
    ("derive/result.py", "import tpcalc.report.text", "tpcalc.derive.result line 1: imports tpcalc.report.text"),
    ("derive/solve.py", "import torch", "tpcalc.derive.solve line 1: imports torch"),
    ("derive/solve.py", "def f():\n    import torch.nn as nn", "tpcalc.derive.solve line 2: imports torch"),
    ("derive/solve.py", "class A:\n    from torch import nn", "tpcalc.derive.solve line 2: imports torch"),
    (
        "derive/solve.py",
        "if True:\n    try:\n        import torch\n    except ImportError: pass",
        "tpcalc.derive.solve line 3",
    ),
    ("rules/a.py", "from tpcalc.rules import views", "import cycle: tpcalc.rules.a -> tpcalc.rules.views"),
    (
        "rules/a.py",
        "def f():\n    from tpcalc.rules import views",
        "import cycle: tpcalc.rules.a -> tpcalc.rules.views",
    ),
    (
        "errors.py",
        "if TYPE_CHECKING:\n    from tpcalc.program.ir import P",
        "tpcalc.errors line 2: imports tpcalc.program",
    ),
    ("novel.py", "", "tpcalc.novel stands in no layer"),
]


@pytest.mark.parametrize("file, source, problem", SYNTHETIC)
def test_the_check_can_fail(tmp_path, file, source, problem):
    tree = {
        "__init__.py": "",
        "errors.py": "",
        "algebra/__init__.py": "",
        "algebra/order.py": "",
        "program/__init__.py": "",
        "program/ir.py": "from tpcalc.algebra.order import order",
        "derive/__init__.py": "",
        "derive/result.py": "",
        "derive/solve.py": "",
        "rules/__init__.py": "",
        "rules/views.py": "from tpcalc.rules import a",
        "rules/a.py": "",
        "report/__init__.py": "",
        "report/text.py": "from tpcalc.derive.result import Rule",
        "trace/__init__.py": "import torch",
    }
    for name, text in tree.items():
        (tmp_path / "tpcalc" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tpcalc" / name).write_text(text)
    assert violations(tmp_path) == []
    (tmp_path / "tpcalc" / file).write_text(source)
    found = violations(tmp_path)
    assert any(sentence.startswith(problem) for sentence in found), found


def test_long_modules_have_a_written_reason():
    page = (ROOT / "docs" / "architecture.md").read_text()
    long = [
        path.relative_to(ROOT).as_posix()
        for path in modules(ROOT).values()
        if len(path.read_text().splitlines()) > MOST_LINES and f"`{path.relative_to(ROOT).as_posix()}`" not in page
    ]
    assert long == []


WITHOUT_TORCH = """
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "numpy"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
import tpcalc
tpcalc.Program, tpcalc.Rule, tpcalc.derive, tpcalc.explain, tpcalc.TpcalcError
for name in sys.argv[1:]:
    importlib.import_module(name)
"""
#: Of ``scaling``, what makes text of a document.
TEXT = (
    "exported",
    "weight",
    "assumed",
    "factors",
    "standalone",
    "codegen",
    "everywhere",
    "dialects",
    "dialects.trainers",
)


def run_without_torch(*names: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", WITHOUT_TORCH, *names]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)


def test_the_calculus_runs_without_torch():
    calculus = [name for name in modules(ROOT) if LEVEL[layer(name)] <= LEVEL["document"] and layer(name) != "trace"]
    result = run_without_torch(*calculus, *(f"tpcalc.scaling.{name}" for name in TEXT), "tpcalc.cli")
    assert result.returncode == 0, result.stderr


def test_the_block_on_torch_works():
    result = run_without_torch("torch")
    assert result.returncode != 0 and "torch is blocked" in result.stderr


WAYS = (
    (), ("package",), ("submodule",), ("from",), ("package", "submodule"), ("alias",), ("submodule", "alias")
)  # fmt: skip
#: Run with the submodules imported before, between or after the public names: both meanings always hold.  A fork for
#: each way; what else all need (torch, for one) is there before.
CALLABLE_SUBMODULES = (
    f"""
import os, sys, torch, tpcalc.derive, tpcalc.trace.align, tpcalc.trace.depth, tpcalc.trace.target
tpcalc.trace, tpcalc.derive, tpcalc.explain
for name in [name for name in sys.modules if name.partition(".")[0] == "tpcalc"]:
    del sys.modules[name]
for way in {WAYS}:
    child = os.fork()
    if not child:
        break
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit("failed after " + repr(way))
else:
    sys.exit()
"""
    + """
steps = {
    "package": lambda: __import__("tpcalc"),
    "submodule": lambda: __import__("tpcalc.trace.align"),
    "from": lambda: exec("from tpcalc.trace.target import load_target"),
    "alias": lambda: exec("import tpcalc.trace as t; t.trace"),
}
for step in way:
    steps[step]()
import inspect, tpcalc, tpcalc.derive
from tpcalc import trace
from tpcalc.trace import trace as function
from tpcalc.errors import TargetError
assert callable(tpcalc.trace) and callable(tpcalc.derive) and callable(tpcalc.explain) and callable(trace)
assert inspect.signature(tpcalc.trace) == inspect.signature(function), inspect.signature(tpcalc.trace)
assert tpcalc.trace is sys.modules["tpcalc.trace"] is trace
assert tpcalc.derive is sys.modules["tpcalc.derive"]
import tpcalc.trace.target
assert tpcalc.trace.target.load_target
try:
    tpcalc.trace(lambda width: None, widths=(1, 2))
except TargetError as error:
    assert "too few" in str(error)
else:
    raise AssertionError("trace was not called")
os._exit(0)
"""
)


def test_functions_that_share_a_name_with_a_submodule():
    command = [sys.executable, "-c", CALLABLE_SUBMODULES]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert result.returncode == 0, result.stderr


def test_unknown_public_name():
    import tpcalc

    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        tpcalc.nonsense  # noqa: B018
    assert set(tpcalc.__all__) <= set(dir(tpcalc))
    for name in tpcalc.__all__:
        assert getattr(tpcalc, name) is not None
