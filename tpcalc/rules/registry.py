"""The registry of rules: which structure an op has.

::

    @rule("aten.mm", "aten.bmm")
    def matmul(call):
        "x[..., i, k] y[..., k, j]"
        return Contract(call[0], call[1], K=call.growth(0, -1), rest_x=call.growth(0, -2), rest_y=call.growth(1, -1))

A rule is a pure function of a :class:`Call` and returns one :class:`~tpcalc.rules.structures.Structure` (or, for an
op with several results, a tuple with None for those that carry no order).  A duplicate is refused.  An op may
instead be *ignored* with a written reason.  There is no default rule: an op with none is an error that names the
op, the module, the line and this decorator.

Names: ``"aten.add"`` covers every overload and the in-place form ``add_``; ``"aten.pow.Scalar"`` only that overload, and wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Optional, Union

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order
from tpcalc.algebra.size import Scalar, Size
from tpcalc.errors import UnsupportedOpError
from tpcalc.program.ir import Node, Ref, Value
from tpcalc.rules.structures import Known, Operand, Structure

RuleFunction = Callable[["Call"], Union[Structure, tuple]]


@dataclass(frozen=True, slots=True)
class Call:
    """What a rule sees of a node: its arguments with the fitted shapes of its tensors."""

    node: Node
    values: Mapping[int, Value]

    def arg(self, index: int, name: str = "", default: Any = None) -> Any:
        """Positional argument ``index``, or keyword ``name``, or ``default``."""
        if index < len(self.node.args):
            return self.node.args[index]
        for key, value in self.node.kwargs:
            if key == name:
                return value
        return default

    def __getitem__(self, index: int) -> Operand:
        """Argument ``index`` as an operand: a tensor, or a number as a known constant."""
        return self.operand(self.arg(index))

    def operand(self, arg: Any) -> Operand:
        if isinstance(arg, Ref):
            return arg.id
        return Known(number_order(arg), uniform=True)

    def optional(self, index: int, name: str = "") -> Optional[Operand]:
        arg = self.arg(index, name)
        return None if arg is None else self.operand(arg)

    def tensors(self, arg: Any = None) -> tuple[Operand, ...]:
        """All tensors in ``arg`` (default: in the whole call)."""
        if arg is None:
            return tuple(self.node.refs)
        return tuple(item.id for item in arg if isinstance(item, Ref))

    def is_tensor(self, index: int) -> bool:
        return isinstance(self.arg(index), Ref)

    def shape(self, index: int) -> tuple[Size, ...]:
        arg = self.arg(index)
        return self.values[arg.id].shape if isinstance(arg, Ref) else ()

    def out_shape(self, index: int = 0) -> tuple[Size, ...]:
        out = self.node.outputs[index]
        return self.values[out].shape if out is not None else ()

    def growth(self, index: int, *dims: int) -> Fraction:
        """Total growth of the axes ``dims`` of tensor argument ``index``."""
        shape = self.shape(index)
        return sum((shape[dim].growth for dim in dims), ZERO)

    def positions(self, index: int) -> Fraction:
        """Growth of batch and space of tensor argument ``index``, [batch, channels, *space]."""
        return self.growth(index, 0) + sum((size.growth for size in self.shape(index)[2:]), ZERO)

    def reduced(self, index: int, dims: Any) -> Fraction:
        """Total growth of the axes that a reduction over ``dims`` (None or (): all) removes."""
        shape = self.shape(index)
        if not shape:
            return ZERO
        if dims is None or dims == ():
            return sum((size.growth for size in shape), ZERO)
        if isinstance(dims, int):
            dims = (dims,)
        return sum((shape[dim].growth for dim in dims), ZERO)


def number_order(arg: Any) -> Order:
    """Order of a Python number, a fitted Size or a fitted Scalar; of None or text: 0."""
    if isinstance(arg, Size):
        return arg.growth
    if isinstance(arg, Scalar):
        return arg.order
    if isinstance(arg, (int, float, complex)) and not isinstance(arg, bool):
        return ZERO if arg else MINUS_INFINITY
    return ZERO


def _same_place(one: RuleFunction, other: RuleFunction) -> bool:
    """The same lines of the same file, imported twice (a target and its loss in one file)."""
    a, b = getattr(one, "__code__", None), getattr(other, "__code__", None)
    return a is not None and b is not None and (a.co_filename, a.co_firstlineno) == (b.co_filename, b.co_firstlineno)


@dataclass(frozen=True)
class Registry:
    """Rules and ignored ops by name."""

    rules: dict[str, RuleFunction]
    ignored: dict[str, str]

    def add(self, names: tuple[str, ...], function: RuleFunction) -> None:
        for name in names:
            if name in self.ignored or (name in self.rules and not _same_place(self.rules[name], function)):
                raise ValueError(
                    f"op {name} already has a rule; remove one of the two, or name one overload to replace it there"
                )
            self.rules[name] = function

    def ignore(self, names: tuple[str, ...], reason: str) -> None:
        if not reason:
            raise ValueError("an ignored op needs a written reason")
        for name in names:
            if name in self.rules or self.ignored.get(name, reason) != reason:
                raise ValueError(f"op {name} already has a rule; remove one of the two")
            self.ignored[name] = reason

    def names_of(self, op: str) -> tuple[str, ...]:
        """The names under which ``aten.add_.Tensor`` may be registered, most specific first."""
        base, _, _ = op.rpartition(".")
        plain = base[:-1] if base.endswith("_") and not base.endswith("__") else base
        return tuple(dict.fromkeys((op, base, op.replace(base, plain, 1), plain)))

    def find(self, op: str) -> Optional[RuleFunction]:
        for name in self.names_of(op):
            if name in self.rules:
                return self.rules[name]
        return None

    def reason_ignored(self, op: str) -> Optional[str]:
        for name in self.names_of(op):
            if name in self.ignored:
                return self.ignored[name]
        return None

    def structure(self, node: Node, values: Mapping[int, Value]) -> tuple[Optional[Structure], ...]:
        """The structures of a node's outputs; raises UnsupportedOpError for an op without a rule."""
        function = self.find(node.op)
        if function is None:
            if self.reason_ignored(node.op) is not None:
                return (None,) * len(node.outputs)
            raise UnsupportedOpError(
                f"op {node.op} has no rule (module {node.module or '(top)'}, line {node.source or 'unknown'}); "
                f'add one with @tpcalc.rule("{node.op.rpartition(".")[0]}") in your own file'
            )
        result = function(Call(node, values))
        return result if isinstance(result, tuple) else (result,)


#: The rules that ship with tpcalc and those that a user's own file adds.
REGISTRY = Registry({}, {})


def rule(*names: str, registry: Registry = REGISTRY) -> Callable[[RuleFunction], RuleFunction]:
    """Register the decorated function as the rule of the ops ``names`` (``"aten.mm"``, ``"mylib.myop"``).

    Raises ValueError when one of them has a rule already.
    """

    def register(function: RuleFunction) -> RuleFunction:
        registry.add(names, function)
        return function

    return register


def ignore(*names: str, reason: str, registry: Registry = REGISTRY) -> None:
    """Declare that the ops ``names`` carry no order, with the reason."""
    registry.ignore(names, reason)
