"""True sizes of the axes that sums run over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Optional

from tpcalc.program.ir import Node, Value
from tpcalc.rules.layout import Layout, powers
from tpcalc.rules.structures import Contract, Operand, Reduce, Sizes, Structure, Structures, operands, with_nested


def sized(
    node: Node, structures: Structures, values: Mapping[int, Value], layout: Callable[[Node], Layout]
) -> Structures:
    """The structures of a node, their contractions and sums with true sizes."""
    if not any(map(sums, structures)):
        return structures
    axes, refs = layout(node), node.refs
    return tuple(None if s is None else _filled(s, i, refs, axes, values) for i, s in enumerate(structures))


def sums(x: Optional[Operand], growing: bool = False) -> bool:
    """Whether a structure sums over axes; ``growing``: over growing ones."""
    if isinstance(x, int) or x is None:
        return False
    here = isinstance(x, (Contract, Reduce)) and (not growing or x.K > 0)
    return here or any(sums(y, growing) for y in operands(x))


def _filled(s: Structure, result: int, refs: tuple[int, ...], layout: Layout, values: Mapping[Any, Value]) -> Structure:
    if isinstance(s, Contract) and s.x in refs and s.y in refs:
        return replace(s, sizes=layout.sizes)
    if isinstance(s, Reduce) and s.x in refs:
        x: Any = s.x
        labels, kept = layout.operands[refs.index(x)], layout.results[result]
        gone = [size for label, size in zip(labels, values[x].shape) if label not in kept]
        return replace(s, sizes=Sizes(powers(gone))) if None not in labels else s
    return with_nested(s, lambda x: _filled(x, result, refs, layout, values))
