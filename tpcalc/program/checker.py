"""What must hold of every program: each value is made once, before it is used, and names are unique."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tpcalc.errors import ProgramError
from tpcalc.program.nodes import Node, Value, Weight


def check(
    nodes: Iterable[Node], values: Mapping[int, Value], weights: Sequence[Weight], outputs: Iterable[tuple[str, int]]
) -> None:
    """Raise ProgramError unless every value is defined once and before it is used."""
    defined = {vid for vid, value in values.items() if value.kind != "op"}
    for node in nodes:
        for ref in node.refs:
            if ref not in values:
                raise ProgramError(f"{_place(node)} uses the unknown value {ref}")
            if ref not in defined:
                raise ProgramError(f"{_place(node)} uses value {ref} before it is made")
        for out in node.outputs:
            if out is None:
                continue
            if out in defined:
                raise ProgramError(f"{_place(node)} redefines value {out}")
            if out not in values:
                raise ProgramError(f"{_place(node)} makes the unknown value {out}")
            defined.add(out)
    counts = Counter(name for weight in weights for name in weight.names)
    for name in sorted(name for name, count in counts.items() if count > 1):
        raise ProgramError(f"weight name {name} appears twice")
    for weight in weights:
        for vid in (weight.value, weight.grad, weight.slope):
            if vid is not None and vid not in defined:
                raise ProgramError(f"weight {weight.name} refers to the undefined value {vid}")
    for _, vid in outputs:
        if vid not in defined:
            raise ProgramError(f"output value {vid} is never made")


def _place(node: Node) -> str:
    return f"node {node.index} ({node.op}, {node.where})"
