"""Change every law of the calculus, one term at a time, and see whether a test notices.

    python benchmarks/mutate.py [--only contract] [--list]

Mutants of each law (and of what laws share): a factor 1/2 becomes 1, a term of a max or of a sum is dropped, a bound is
lifted, a comparison is turned, a parity or a dependence is forgotten.  Each is tried in a process of its own, on
tests that run in seconds; those that survive are tried on the slower ones.  Prints the survivors; exit code 1 if
there are any.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import inspect
import io
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import tpcalc.propagate as propagate  # noqa: E402

#: Quick tests first; the slow ones only for what survives them.
QUICK = ("test_check_laws.py", "test_propagate.py", "test_papers.py", "test_derive.py")
SLOW = ("test_examples.py", "test_rule_oracles.py", "test_check.py")

#: Not laws: names in which a change does not alter an order, each with the reason.
EQUIVALENT: dict[str, str] = {}


def functions() -> dict[str, tuple[Callable, Callable[[Callable], None]]]:
    """Name -> (function, how to put another in its place)."""
    found: dict[str, tuple[Callable, Callable[[Callable], None]]] = {}
    for structure, law in propagate.LAWS.items():
        found[law.__name__] = (law, lambda new, s=structure: propagate.LAWS.__setitem__(s, new))
    for name in (
        "_function_of",
        "_product_parity",
        "K_update",
        "_power",
        "_at_most_zero",
        "_settled",
        "leaf_fact",
        "weight_fact",
    ):
        found[name] = (getattr(propagate, name), lambda new, name=name: setattr(propagate, name, new))
    for name in ("weight_change", "initial_on_change", "values"):
        found[name] = (
            getattr(propagate.Alignment, name),
            lambda new, name=name: setattr(propagate.Alignment, name, new),
        )
    return found


def tree_of(function: Callable) -> ast.FunctionDef:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    tree.decorator_list = []
    if isinstance(tree.body[0], ast.Expr) and isinstance(tree.body[0].value, ast.Constant):
        tree.body = tree.body[1:] or [ast.Pass()]
    return tree


def variants(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """What a node may become, with words for it."""
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant):
            yield "factor 1/2 -> 1", node.left
        elif isinstance(node.op, (ast.Add, ast.Sub)):
            yield f"dropped {ast.unparse(node.right)}", node.left
            yield f"dropped {ast.unparse(node.left)}", node.right
        elif isinstance(node.op, (ast.BitOr, ast.BitAnd, ast.BitXor)):
            yield f"dropped {ast.unparse(node.right)}", node.left
        elif isinstance(node.op, ast.Mult):
            yield f"dropped factor {ast.unparse(node.right)}", node.left
            yield f"dropped factor {ast.unparse(node.left)}", node.right
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id in ("max_order", "max", "min") and len(node.args) > 1:
            for index, arg in enumerate(node.args):
                less = copy.copy(node)
                less.args = [other for place, other in enumerate(node.args) if place != index]
                yield f"{node.func.id}: dropped {ast.unparse(arg)}", less.args[0] if len(less.args) == 1 else less
        elif node.func.id in ("_at_most_zero", "_settled"):
            yield f"no {node.func.id}", node.args[-1]
    elif isinstance(node, ast.IfExp):
        yield f"always {ast.unparse(node.body)}", node.body
        yield f"always {ast.unparse(node.orelse)}", node.orelse
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "sign", node.operand


def mutants(function: Callable) -> Iterator[tuple[str, ast.FunctionDef]]:
    original = tree_of(function)
    count = sum(1 for _ in ast.walk(original))
    for position in range(count):
        node = list(ast.walk(original))[position]
        for index, (words, _) in enumerate(list(variants(node))):
            tree = copy.deepcopy(original)
            target = list(ast.walk(tree))[position]
            replacement = list(variants(target))[index][1]
            if _replace(tree, target, replacement):
                yield f"{words}   in: {ast.unparse(node)[:90]}", tree


def _replace(tree: ast.AST, target: ast.AST, replacement: ast.AST) -> bool:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is target:
                if name in ("annotation", "returns"):
                    return False
                setattr(parent, name, replacement)
                return True
            if isinstance(value, list):
                for place, item in enumerate(value):
                    if item is target:
                        value[place] = replacement
                        return True
    return False


def compiled(tree: ast.FunctionDef) -> Callable:
    module = ast.fix_missing_locations(ast.Module([tree], []))
    code = ["from __future__ import annotations"]
    scope = propagate.__dict__
    made: dict = {}
    exec(compile("\n".join(code) + "\n" + ast.unparse(module), "<mutant>", "exec"), scope, made)
    return made[tree.name]


def noticed(put: Callable[[Callable], None], tree: ast.FunctionDef, tests: tuple[str, ...], limit: float) -> bool:
    """Whether a test fails under the mutant, in a process of its own."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException), open(os.devnull, "w") as sink:
            os.dup2(sink.fileno(), 1)
            os.dup2(sink.fileno(), 2)
            put(compiled(tree))
            import pytest

            files = [str(ROOT / "tests" / name) for name in tests if (ROOT / "tests" / name).exists()]
            with contextlib.redirect_stdout(io.StringIO()):
                code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *files]))
        os._exit(code)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status) != 0
        time.sleep(0.02)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return True  # a calculus that does not end is noticed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", help="laws whose name contains this")
    parser.add_argument("--list", action="store_true", help="list the mutants and stop")
    parser.add_argument("--quick", action="store_true", help="only the tests that run in seconds")
    parser.add_argument("--tests", help="only these files, separated by commas")
    arguments = parser.parse_args()
    quick = tuple(arguments.tests.split(",")) if arguments.tests else QUICK
    slow = () if arguments.quick or arguments.tests else SLOW
    import torch

    torch.set_num_threads(1)
    import models  # noqa: F401  (shared by the children)
    import pytest  # noqa: F401

    total, survivors = 0, []
    for name, (function, put) in functions().items():
        if arguments.only and arguments.only not in name:
            continue
        for words, tree in mutants(function):
            total += 1
            if arguments.list:
                print(f"{name}: {words}")
                continue
            dead = noticed(put, tree, quick, 120) or (bool(slow) and noticed(put, tree, slow, 300))
            if not dead:
                survivors.append(f"{name}: {words}")
                print(f"SURVIVED {name}: {words}", flush=True)
    if not arguments.list:
        print(f"{total} mutants, {total - len(survivors)} noticed, {len(survivors)} survived")
        sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
