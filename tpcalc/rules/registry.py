"""The registry of rules: which structure an op has.

::

    @rule("aten.mm", "aten.bmm")
    def matmul(call):
        "x[..., i, k] y[..., k, j]"
        return Contract(call[0], call[1], K=call.growth(0, -1), rest_x=call.growth(0, -2), rest_y=call.growth(1, -1))

A rule is a pure function of a :class:`Call` and returns one :class:`~tpcalc.rules.structures.Structure` (or, for an
op with several results, a tuple with None for those that carry no order).  Its axes follow from the structure, or are
declared beside the names: ``@rule("aten.flip", axes=Kept(but=At(1)))``.  A duplicate is refused.  An op may instead
be *ignored* with a written reason.  There is no default rule: an op with none is an error that names the op, the
module, the line and this decorator.

Names: ``"aten.add"`` covers every overload and the in-place form ``add_``; ``"aten.pow.Scalar"`` only that overload,
and wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Optional, Union

from tpcalc.errors import UnsupportedOpError
from tpcalc.files import same_place
from tpcalc.program.ir import Node, Value
from tpcalc.rules.axes import Axes
from tpcalc.rules.call import Call
from tpcalc.rules.inference import inferred
from tpcalc.rules.layout import Layout
from tpcalc.rules.structures import Structure, Structures

RuleFunction = Callable[[Call], Union[Structure, Structures]]


@dataclass(frozen=True, slots=True)
class Rule:
    """The structure of an op, and its axes (None: they follow from the structure)."""

    function: RuleFunction
    axes: Optional[Axes] = None


@dataclass(frozen=True)
class Registry:
    """Rules and ignored ops by name."""

    rules: dict[str, Rule]
    ignored: dict[str, str]

    def add(self, names: tuple[str, ...], rule: Rule) -> None:
        for name in names:
            old = self.rules.get(name)
            if name in self.ignored or (old is not None and not same_place(old.function, rule.function)):
                raise ValueError(
                    f"op {name} already has a rule; remove one of the two, or name one overload to replace it there"
                )
            self.rules[name] = rule

    def ignore(self, names: tuple[str, ...], reason: str) -> None:
        if not reason:
            raise ValueError("an ignored op needs a written reason")
        for name in names:
            if name in self.rules or self.ignored.get(name, reason) != reason:
                raise ValueError(f"op {name} already has a rule; remove one of the two")
            self.ignored[name] = reason

    @staticmethod
    @cache
    def names_of(op: str) -> tuple[str, ...]:
        """The names under which ``aten.add_.Tensor`` may be registered, most specific first."""
        base, _, _ = op.rpartition(".")
        plain = base[:-1] if base.endswith("_") and not base.endswith("__") else base
        return tuple(dict.fromkeys((op, base, op.replace(base, plain, 1), plain)))

    def find(self, op: str) -> Optional[Rule]:
        for name in self.names_of(op):
            if name in self.rules:
                return self.rules[name]
        return None

    def reason_ignored(self, op: str) -> Optional[str]:
        for name in self.names_of(op):
            if name in self.ignored:
                return self.ignored[name]
        return None

    def axes(self, op: str) -> Optional[Axes]:
        """The axes that the rule of ``op`` declares."""
        rule = self.find(op)
        return rule.axes if rule is not None else None

    def layout(self, node: Node, values: Mapping[int, Value], known: Optional[Structures] = None) -> Layout:
        """Which axis of a node's results is which axis of its operands; ``known``: its structures, where they are."""
        axes, call = self.axes(node.op), Call(node, values)
        return axes.layout(call) if axes is not None else inferred(call, known or self.structure(node, values))

    def structure(self, node: Node, values: Mapping[int, Value]) -> Structures:
        """The structures of a node's outputs; raises UnsupportedOpError for an op without a rule."""
        rule = self.find(node.op)
        if rule is None:
            if self.reason_ignored(node.op) is not None:
                return (None,) * len(node.outputs)
            raise UnsupportedOpError(
                f"op {node.op} has no rule (module {node.module or '(top)'}, line {node.source or 'unknown'}); "
                f'add one with @tpcalc.rule("{node.op.rpartition(".")[0]}") in your own file'
            )
        result = rule.function(Call(node, values))
        return result if isinstance(result, tuple) else (result,)


#: The rules that ship with tpcalc and those that a user's own file adds.
REGISTRY = Registry({}, {})


def rule(
    *names: str, axes: Optional[Axes] = None, registry: Registry = REGISTRY
) -> Callable[[RuleFunction], RuleFunction]:
    """Register the decorated function as the rule of the ops ``names`` (``"aten.mm"``, ``"mylib.myop"``).

    ``axes``: which axis of a result is which axis of an operand, where the structure does not tell
    (:mod:`tpcalc.rules.axes`).  Raises ValueError when one of the ops has a rule already.
    """

    def register(function: RuleFunction) -> RuleFunction:
        registry.add(names, Rule(function, axes))
        return function

    return register


def ignore(*names: str, reason: str, registry: Registry = REGISTRY) -> None:
    """Declare that the ops ``names`` carry no order, with the reason."""
    registry.ignore(names, reason)
