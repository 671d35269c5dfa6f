"""Mutants: what can be changed in a function or in a table of exponents, one term at a time.

A :class:`Subject` is a module whose laws are changed: its functions, the methods of its classes, and the fields of the
dataclass instances that it names (``NONE = Alignment(...)``) or holds in a dict ``LAWS``.  All are found by
introspection: a new law is changed without being listed.  Each :class:`Mutant` changes one of them when it is
installed; that can't be undone, so it is done in a process of its own.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple, Optional

from tpcalc.algebra.order import HALF, Order


class Mutant(NamedTuple):
    """``of``: what is changed; ``words``: how; ``install``: do it; ``lines``: of which file, if it is in its source."""

    of: str
    words: str
    install: Callable[[], None]
    lines: Optional[tuple[str, range]] = None

    def __str__(self) -> str:
        return f"{self.of}: {self.words}"


@dataclass(frozen=True)
class Subject:
    """``skip``: name of a function that holds no law -> why."""

    module: ModuleType
    skip: Mapping[str, str] = field(default_factory=dict)

    def mutants(self, only: str = "") -> list[Mutant]:
        """All of them, or those of laws whose name contains ``only``; each with words of its own."""
        package = self.module.__name__.rpartition(".")[0]
        functions = {name: f for name, f in self.functions().items() if only in f"{self.module.__name__}.{name}"}
        found = [
            *(mutant for name, function in functions.items() for mutant in self.of_function(name, function)),
            *(mutant for name, instance in self.instances().items() for mutant in self.of_instance(name, instance)),
            *(mutant for holders in self.closures() for mutant in self.of_closure(holders)),
        ]
        counts: dict[str, int] = {}
        result = []
        for mutant in found:
            if only not in f"{package}.{mutant.of}":
                continue
            counts[str(mutant)] = count = counts.get(str(mutant), 0) + 1
            result.append(mutant if count == 1 else mutant._replace(words=f"{mutant.words} #{count}"))
        return result

    @property
    def short(self) -> str:
        return self.module.__name__.rpartition(".")[2]

    # -- functions ---------------------------------------------------------------------------------

    def functions(self) -> dict[str, FunctionType]:
        """Qualified name -> function, of all that the module's own source holds.

        But for those that make laws when the module is imported: what they have made is changed, law by law.
        """
        makers = called_at_import(self.module)
        found: dict[str, FunctionType] = {}
        for thing in vars(self.module).values():
            inner = vars(thing).values() if inspect.isclass(thing) and thing.__module__ == self.module.__name__ else ()
            for candidate in (thing, *inner):
                function = plain(candidate)
                if function is not None and function.__code__.co_filename == self.module.__file__:
                    found.setdefault(function.__qualname__, function)
        return {name: f for name, f in found.items() if not {name} & (self.skip.keys() | makers) and "<" not in name}

    def of_function(self, name: str, function: FunctionType) -> Iterator[Mutant]:
        for words, tree, lines in variants(node_of(function)):

            def install(tree: ast.AST = tree) -> None:
                function.__code__ = compiled(tree, function).__code__

            yield Mutant(f"{self.short}.{name}", words, install, (function.__code__.co_filename, lines))

    # -- tables of exponents -----------------------------------------------------------------------

    def instances(self) -> dict[str, Any]:
        """Name -> instance of a dataclass of the module, named there, in its dict ``LAWS``, or held by one of these."""
        things = dict(vars(self.module))
        laws = things.get("LAWS")
        if isinstance(laws, dict):
            things.update({f"LAWS[{key!r}]": law for key, law in laws.items() if isinstance(key, str)})
        found: dict[str, Any] = {}
        while things:
            name = next(iter(things))
            thing = things.pop(name)
            if self.owns(thing) and not any(thing is other for other in found.values()):
                found[name] = thing
                things.update({f"{name}.{f.name}": getattr(thing, f.name) for f in dataclasses.fields(thing)})
        return found

    def owns(self, thing: Any) -> bool:
        kind = type(thing)
        return dataclasses.is_dataclass(kind) and kind.__module__ == self.module.__name__

    def of_instance(self, name: str, instance: Any) -> Iterator[Mutant]:
        for f in dataclasses.fields(instance):
            value = getattr(instance, f.name)
            for words, make, lines in self.of_value(value, str(f.type)):

                def install(field: str = f.name, make: Callable[[], Any] = make) -> None:
                    object.__setattr__(instance, field, make())

                yield Mutant(f"{self.short}.{name}.{f.name}", words, install, lines)

    def closures(self) -> list[list[tuple[Any, str]]]:
        """Of each function that another one has made for several laws: the instances and fields that hold it."""
        holders: dict[CodeType, list[tuple[Any, str]]] = {}
        for instance in self.instances().values():
            for f in dataclasses.fields(instance):
                value = getattr(instance, f.name)
                if isinstance(value, FunctionType) and value.__closure__:
                    holders.setdefault(value.__code__, []).append((instance, f.name))
        return list(holders.values())

    def of_closure(self, holders: list[tuple[Any, str]]) -> Iterator[Mutant]:
        """One change in all of them: what one has captured, an exponent 0, may hide a term that another shows."""
        first = getattr(*holders[0])
        for words, tree, lines in variants(node_of(first)):

            def install(tree: ast.AST = tree) -> None:
                for instance, name in holders:
                    object.__setattr__(instance, name, compiled(tree, getattr(instance, name)))

            of = f"{self.short}.{first.__qualname__.replace('.<locals>', '')}"
            yield Mutant(of, words, install, (first.__code__.co_filename, lines))

    def of_value(
        self, value: Any, annotation: str
    ) -> Iterator[tuple[str, Callable[[], Any], Optional[tuple[str, range]]]]:
        if isinstance(value, bool):
            yield f"{value} -> {not value}", lambda: not value, None
        elif isinstance(value, (Fraction, Order)):
            other = value / 2 if value else HALF
            yield f"{value} -> {other}", lambda: other, None
        elif isinstance(value, int):
            for number in {value + 1, max(value - 1, 0)} - {value}:
                yield f"{value} -> {number}", lambda number=number: number, None
        elif value is None and ("Fraction" in annotation or "Order" in annotation) and "Callable" not in annotation:
            yield "None -> 1/2", lambda: HALF, None
        elif isinstance(value, FunctionType):
            if value.__closure__ or not value.__module__.startswith(self.module.__name__.partition(".")[0]):
                return
            for words, tree, lines in variants(node_of(value)):
                yield words, lambda tree=tree: compiled(tree, value), (value.__code__.co_filename, lines)
        elif self.owns(value) or value is None:
            yield from ((words, make, None) for words, make in self.of_convention(value, annotation))

    def of_convention(self, value: Any, annotation: str) -> Iterator[tuple[str, Callable[[], Any]]]:
        """One of a few named ones: another, or none."""
        named = {name: thing for name, thing in vars(self.module).items() if self.owns(thing)}
        alike = [name for name, thing in named.items() if type(thing).__name__ in annotation and thing is not value]
        known = next((name for name, thing in named.items() if thing is value), "None" if value is None else "its own")
        for name in alike:
            yield f"{known} -> {name}", lambda name=name: named[name]
        if value is not None and "Optional" in annotation:
            yield f"{known} -> None", lambda: None


# -- source and functions --------------------------------------------------------------------------


@lru_cache(maxsize=None)
def source(module: ModuleType) -> ast.Module:
    return ast.parse(inspect.getsource(module))


def called_at_import(module: ModuleType) -> set[str]:
    """Names of functions that statements of the module call, outside of functions and classes."""
    found: set[str] = set()
    for statement in source(module).body:
        if isinstance(statement, (ast.Assign, ast.AnnAssign, ast.Expr)):
            calls = (node for node in ast.walk(statement) if isinstance(node, ast.Call))
            found |= {call.func.id for call in calls if isinstance(call.func, ast.Name)}
    return found


def plain(thing: Any) -> Optional[FunctionType]:
    """The function inside of a method, a static method, a property ..."""
    for name in ("__func__", "fget", "func"):
        thing = getattr(thing, name, None) or thing if not isinstance(thing, FunctionType) else thing
    return thing if isinstance(thing, FunctionType) else None


def node_of(function: FunctionType) -> ast.AST:
    """The part of the source that holds ``function``."""
    code = function.__code__
    for node in ast.walk(source(sys.modules[function.__module__])):
        if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
            if min(n.lineno for n in (node, *node.decorator_list)) == code.co_firstlineno:
                return node
        elif isinstance(node, ast.Lambda) and code.co_name == "<lambda>" and node.lineno == code.co_firstlineno:
            if alike(compiled(node, function).__code__, code):
                return node
    raise LookupError(f"the source of {function.__qualname__} is not in {function.__module__}")


def compiled(tree: ast.AST, function: FunctionType) -> FunctionType:
    """``tree`` as a function that sees what ``function`` sees."""
    tree = copy.deepcopy(tree)
    free = function.__code__.co_freevars
    values = [cell.cell_contents for cell in function.__closure__ or ()]
    if isinstance(tree, ast.FunctionDef):
        bare(tree)
        tree.name = "_changed"  # of its own name, so that a function which calls itself finds that where it did
        body: list[ast.stmt] = [tree, ast.Return(ast.Name(tree.name, ast.Load()))]
    else:
        body = [ast.Return(tree)]
    outer = ast.parse(f"def outer({', '.join(free)}): pass").body[0]
    outer.body = body
    made: dict[str, Any] = {}
    module = ast.fix_missing_locations(ast.Module([outer], []))
    exec(compile(module, function.__code__.co_filename, "exec"), function.__globals__, made)
    return made["outer"](*values)


def bare(tree: ast.FunctionDef) -> None:
    """Without decorators, annotations and the docstring."""
    tree.decorator_list, tree.returns = [], None
    for arg in (*tree.args.posonlyargs, *tree.args.args, *tree.args.kwonlyargs, tree.args.vararg, tree.args.kwarg):
        if arg is not None:
            arg.annotation = None
    if isinstance(tree.body[0], ast.Expr) and isinstance(tree.body[0].value, ast.Constant):
        tree.body = tree.body[1:] or [ast.Pass()]


def alike(a: CodeType, b: CodeType) -> bool:
    def parts(code: CodeType) -> tuple:
        plain = [const for const in code.co_consts if not isinstance(const, CodeType)]
        return code.co_code, code.co_names, code.co_varnames, code.co_freevars, plain

    return parts(a) == parts(b)


# -- what a node of the syntax tree may become -----------------------------------------------------

CONSTANTS = {"ZERO": ("HALF",), "HALF": ("ONE", "ZERO"), "ONE": ("HALF",), "MINUS_INFINITY": ("ZERO",)}
PARITIES = {"odd": "even", "even": "none", "none": "odd"}
COMPARED = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
#: The order of a value, taken for another one; of a demand likewise.
ORDERS = {"init": "trained", "trained": "init", "change": "trained"}
DEMANDED = {"init": "change", "change": "init"}
DEMANDS = {"demand", "d", "least", "passed"}
#: Exponents that a structure states.
STRUCTURAL = {"order", "shift", "growth", "K"}
#: What a fact holds besides its orders, with the values of one that knows nothing.
KNOWN = {"depends": 0, "odd": 0, "mixed": 0, "weight": 0, "gathered": False, "data": False}
#: Bounds: the last argument without them.
BOUNDS = {"_at_most_zero", "_settled", "capped"}
#: What says little without what stands around it.
SMALL = (ast.Constant, ast.Name, ast.Attribute)
#: Texts: not a law.
TEXTS = {"law", "why", "message"}


def parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def less(nodes: list, index: int) -> list:
    return [*nodes[:index], *nodes[index + 1 :]]


def changed(node: ast.AST, **fields: Any) -> ast.AST:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def replacements(node: ast.AST) -> Iterator[ast.AST]:
    """What ``node`` may become."""
    make = BECOMES.get(type(node))
    if make is not None:
        yield from make(node)


def _binary(node: ast.BinOp) -> Iterator[ast.AST]:
    """Drop a term or a factor."""
    yield node.left
    if not isinstance(node.op, ast.Div):
        yield node.right
    if isinstance(node.op, (ast.Add, ast.Sub)):
        yield changed(node, op=ast.Sub() if isinstance(node.op, ast.Add) else ast.Add())


def _unary(node: ast.UnaryOp) -> Iterator[ast.AST]:
    yield node.operand


def _call(node: ast.Call) -> Iterator[ast.AST]:
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    if name in ("max_order", "max", "min"):
        if len(node.args) > 1:
            for index in range(len(node.args)):
                rest = less(node.args, index)
                single = len(rest) == 1 and not isinstance(rest[0], ast.Starred)
                yield rest[0] if single else changed(node, args=rest)
        if name != "max_order" and not node.keywords:
            yield changed(node, func=ast.Name("min" if name == "max" else "max", ast.Load()))
    elif name in BOUNDS:
        yield node.args[-1] if name != "capped" else node.args[0]
    elif name == "isinstance" and isinstance(node.args[1], ast.Tuple):
        kinds = node.args[1]
        for index in range(len(kinds.elts)):
            yield changed(node, args=[node.args[0], changed(kinds, elts=less(kinds.elts, index))])
    elif name in ("_replace", "shifted", "Demand"):
        for index, keyword in enumerate(node.keywords):
            if keyword.arg not in TEXTS:
                yield changed(node, keywords=less(node.keywords, index))
    elif name == "Fact":
        for index, known in enumerate(KNOWN, 3):
            if index < len(node.args) and not isinstance(node.args[index], ast.Constant):
                args = list(node.args)
                args[index] = ast.Constant(KNOWN[known])
                yield changed(node, args=args)
        for index in range(len(node.keywords)):
            yield changed(node, keywords=less(node.keywords, index))
    elif name == "ask" and len(node.args) == 3:
        yield changed(node, args=node.args[:2])


def _if_expression(node: ast.IfExp) -> Iterator[ast.AST]:
    yield node.body
    yield node.orelse


def _if(node: ast.If) -> Iterator[ast.AST]:
    for taken in (True, False):
        yield changed(node, test=ast.Constant(taken))


def _compare(node: ast.Compare) -> Iterator[ast.AST]:
    for index, op in enumerate(node.ops):
        for other in COMPARED[type(op)]:
            yield changed(node, ops=[*node.ops[:index], other(), *node.ops[index + 1 :]])
    if len(node.ops) > 1:  # y <= 2 < x without one of its ends
        yield changed(node, ops=node.ops[:-1], comparators=node.comparators[:-1])
        yield changed(node, left=node.comparators[0], ops=node.ops[1:], comparators=node.comparators[1:])


def _boolean(node: ast.BoolOp) -> Iterator[ast.AST]:
    for index in range(len(node.values)):
        rest = less(node.values, index)
        yield rest[0] if len(rest) == 1 else changed(node, values=rest)
    yield changed(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())


def _comprehension(node: ast.comprehension) -> Iterator[ast.AST]:
    for index in range(len(node.ifs)):
        yield changed(node, ifs=less(node.ifs, index))


def _name(node: ast.Name) -> Iterator[ast.AST]:
    for other in CONSTANTS.get(node.id, ()):
        yield ast.Name(other, ast.Load())


def _constant(node: ast.Constant) -> Iterator[ast.AST]:
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, int):
        yield ast.Constant(node.value + 1)
        if node.value > 0:
            yield ast.Constant(node.value - 1)
    elif isinstance(node.value, str) and node.value in PARITIES:
        yield ast.Constant(PARITIES[node.value])


def _attribute(node: ast.Attribute) -> Iterator[ast.AST]:
    of_demand = isinstance(node.value, ast.Name) and node.value.id in DEMANDS
    other = (DEMANDED if of_demand else ORDERS).get(node.attr)
    if other is not None and isinstance(node.ctx, ast.Load):
        yield changed(node, attr=other)
    if node.attr in STRUCTURAL and isinstance(node.ctx, ast.Load):
        yield ast.Name("ZERO", ast.Load())


def _statement(node: ast.stmt) -> Iterator[ast.AST]:
    """A statement that adds to what there is is left out.  Words of an inner function add nothing."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.Assign):
        names = {n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)}
        if not names & {n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)}:
            return
    yield ast.Pass()


def _return(node: ast.Return) -> Iterator[ast.AST]:
    """A fact that is passed on forgets a part of itself."""
    value = node.value
    passes = isinstance(value, ast.Subscript) and getattr(value.value, "id", "") == "facts"
    replaces = isinstance(value, ast.Call) and getattr(value.func, "attr", "") == "_replace"
    # of a fact made here, only what it was made with counts
    replaces = replaces and not isinstance(value.func.value, ast.Call)
    if not (passes or replaces):
        return
    given = {keyword.arg for keyword in value.keywords} if replaces else set()
    forgets = {**{name: str(blank) for name, blank in KNOWN.items()}, "change": "MINUS_INFINITY"}
    if passes:
        forgets |= {"init": "ZERO", "trained": "ZERO"}
    for name, blank in forgets.items():
        if name not in given:
            forgotten = ast.keyword(name, parsed(blank))
            call = ast.Call(ast.Attribute(value, "_replace", ast.Load()), [], [forgotten])
            yield changed(node, value=changed(value, keywords=[*value.keywords, forgotten]) if replaces else call)


def _lambda(node: ast.Lambda) -> Iterator[ast.AST]:
    """The law that is one of its arguments, or a part of one."""
    if isinstance(node.body, (ast.Name, ast.Attribute)):
        yield changed(node, body=ast.Name("ZERO", ast.Load()))


BECOMES: dict[type, Callable[[Any], Iterator[ast.AST]]] = {
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.Call: _call,
    ast.IfExp: _if_expression,
    ast.If: _if,
    ast.Compare: _compare,
    ast.BoolOp: _boolean,
    ast.comprehension: _comprehension,
    ast.Name: _name,
    ast.Constant: _constant,
    ast.Attribute: _attribute,
    ast.Expr: _statement,
    ast.AugAssign: _statement,
    ast.Assign: _statement,
    ast.Return: _return,
    ast.Lambda: _lambda,
}


def places(node: ast.AST, path: tuple = ()) -> Iterator[tuple[tuple, ast.AST]]:
    """Every part of the tree that may be changed, and the way to it."""
    if isinstance(node, (ast.Raise, ast.Assert, ast.JoinedStr, ast.arguments)):
        return
    if isinstance(node, ast.IfExp) and isinstance(node.body, ast.Constant) and isinstance(node.body.value, str):
        return  # words for a reader
    yield path, node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else ((None, value),):
            if isinstance(child, ast.keyword) and child.arg in TEXTS:
                continue
            if isinstance(child, ast.AST):
                yield from places(child, (*path, (name, index)))


def put(tree: ast.AST, path: tuple, new: ast.AST) -> ast.AST:
    """A copy of ``tree`` with ``new`` at the end of ``path``."""
    if not path:
        return new
    tree = copy.copy(tree)
    (name, index), rest = path[0], path[1:]
    value = getattr(tree, name)
    if index is None:
        setattr(tree, name, put(value, rest, new))
    else:
        setattr(tree, name, [*value[:index], put(value[index], rest, new), *value[index + 1 :]])
    return tree


def brief(node: ast.AST) -> str:
    if isinstance(node, ast.Pass):
        return "nothing"
    if isinstance(node, ast.If):
        return f"if {ast.unparse(node.test)}"
    if isinstance(node, ast.comprehension):
        return " ".join(["for", *(f"if {ast.unparse(test)}" for test in node.ifs)])
    text = ast.unparse(node).split("\n")[0]
    return text if len(text) <= 130 else text[:60] + " ... " + text[-60:]


def variants(tree: ast.AST) -> Iterator[tuple[str, ast.AST, range]]:
    """All changes of one function, in words, as a tree, and the lines of what is changed; no two are the same."""
    tree = copy.deepcopy(tree)
    if isinstance(tree, ast.FunctionDef):
        bare(tree)
    seen = {ast.unparse(tree)}
    around = {path: node for path, node in places(tree)}
    for path, node in around.items():
        for new in map(ast.fix_missing_locations, replacements(node)):
            mutant = put(tree, path, new)
            text = ast.unparse(mutant)
            if text not in seen:
                seen.add(text)
                parent = around.get(path[:-1])
                small = isinstance(node, SMALL) and isinstance(parent, (ast.expr, ast.stmt))
                where = f"   in {brief(parent)}" if small else ""
                yield f"{brief(node)}  ->  {brief(new)}{where}", mutant, lines_of(path, around, tree)


def lines_of(path: tuple, around: Mapping[tuple, ast.AST], tree: ast.AST) -> range:
    """Those of the statement that holds what is at ``path``, without the statements inside of it."""
    while path and not isinstance(around.get(path), ast.stmt):
        path = path[:-1]
    holder: Any = around.get(path, tree)
    body = getattr(holder, "body", None)
    inner = body[0].lineno if isinstance(body, list) else holder.end_lineno + 1
    return range(holder.lineno, max(inner, holder.lineno + 1))
