"""Numbers in ops: what the rule of an op makes of one, seen by asking it about a number that grows instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Optional

from tpcalc.algebra.order import ONE, ZERO, Order
from tpcalc.algebra.size import Scalar, Size
from tpcalc.program.ir import Node, Program
from tpcalc.program.repeat import Repeats
from tpcalc.rules.registry import Registry
from tpcalc.rules.structures import Operand, Scale, operands


def with_powers(program: Program, growths: Mapping[str, Order]) -> Program:
    """``program`` with its numbers that depend on a depth as powers of it, by the growth of each depth."""
    repeats: Repeats = program.repeats
    if not repeats.constants:
        return program
    nodes = list(program.nodes)
    for index, scale, power in repeats.constants:
        nodes[index] = _with_number(nodes[index], power * growths[scale])
    return replace(program, nodes=tuple(nodes))


def _with_number(node: Node, by: Order) -> Node:
    """``node`` with its floats times a power."""

    def grown(arg: Any) -> Any:
        if isinstance(arg, tuple):
            return tuple(grown(item) for item in arg)
        if isinstance(arg, Scalar):
            return Scalar(arg.k if arg.k else arg.d, arg.order + by)
        return Scalar(arg, by) if isinstance(arg, float) else arg

    args = tuple(grown(arg) for arg in node.args)
    return replace(node, args=args, kwargs=tuple((key, grown(value)) for key, value in node.kwargs))


def factor(node: Node, out: int, carried: int, program: Program, registry: Registry) -> Optional[str]:
    """The number other than 1 by which a node multiplies its operand ``carried``, as text; None without one.

    1 less what vanishes with the depth is as good as 1.
    """
    which = node.outputs.index(out)
    numbers = [arg for arg in node.args if _is_number(arg) and arg != 1]
    named = [value for _, value in node.kwargs if _is_number(value) and value != 1]
    made = registry.structure(node, program.values)[which]
    if made is not None and _power(made, carried):
        return ", ".join(str(number) for number in (*numbers, *named))
    numbers, named = ([n for n in some if not isinstance(n, Scalar) or n.order >= 0] for some in (numbers, named))
    for number in (*numbers, *named):
        grown = replace(
            node,
            args=tuple(_one(arg) if arg is number else arg for arg in node.args),
            kwargs=tuple((key, _one(value) if value is number else value) for key, value in node.kwargs),
        )
        after = registry.structure(grown, program.values)[which]
        if after is not None and _power(after, carried):
            return str(number)
    return None


def _is_number(arg: Any) -> bool:
    return isinstance(arg, (int, float, Scalar, Size)) and not isinstance(arg, bool)


def _one(arg: Any) -> Scalar:
    return Scalar(1.0, ONE)


def _power(s: Operand, leaf: int) -> Optional[Order]:
    """The order of the constants between a structure and one of its operands; None where it is not in it."""
    if isinstance(s, int):
        return ZERO if s == leaf else None
    found = [power for x in operands(s) if (power := _power(x, leaf)) is not None]
    own = s.order if isinstance(s, Scale) else ZERO
    return own + found[0] if found else None


__all__ = ["factor", "with_powers"]
