"""Programs of ops whose structures and axes are given: a letter for each axis, a dot for one without a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from tpcalc.algebra.size import Size
from tpcalc.program.ir import Node, Program, Ref, Value, Weight
from tpcalc.rules.layout import Labels, Layout, Pieces
from tpcalc.rules.structures import Structure

Shape = tuple[Size, ...]


class Op(NamedTuple):
    """``axes``: of operands and results, ``be,en->bn``; ``shapes``: of the results, None for one that nothing reads.

    ``picked``: axes from the right that it picks from.  ``takes``, ``puts``: pieces, along this axis.
    """

    refs: tuple[int, ...]
    structures: tuple[Structure | None, ...]
    axes: str
    shapes: tuple[Shape | None, ...]
    picked: tuple[int, ...] = ()
    regrouped: bool = False
    phase: str = "forward"
    takes: int = 0
    puts: int = 0
    shared: str = ""
    axes_of: Any = None


def labels(words: str) -> tuple[Labels, ...]:
    return tuple(tuple(None if x == "." else x for x in word) for word in words.split(","))


def layout(op: Op, shapes: Mapping[int, Shape]) -> Layout:
    operands, results = map(labels, op.axes.split("->"))
    kept = {x for word in results for x in word}
    gone = {x for word in operands for x in word} - kept - {None} if len(op.refs) > 1 else set()
    regrouped = (shapes[op.refs[0]], op.shapes[0] or ()) if op.regrouped else None
    takes, puts = (Pieces(axis, (), ()) if axis else None for axis in (op.takes, op.puts))
    return Layout(operands, results, frozenset(gone), takes, puts, regrouped, shared=frozenset(op.shared))


def wired(
    ops: Sequence[Op],
    leaves: Mapping[int, Shape],
    weights: Sequence[int],
    inputs: Sequence[int],
    first: int,
    **parts: Any,
) -> Any:
    """What asks a program for structures and axes (a ``Wiring``); results are numbered from ``first``."""
    shapes, outs, number = dict(leaves), [], first - 1
    for op in ops:
        outs.append(tuple(None if shape is None else (number := number + 1) for shape in op.shapes))
        shapes.update((vid, shape) for vid, shape in zip(outs[-1], op.shapes) if vid is not None and shape is not None)
    nodes = [
        Node(i, "op", tuple(map(Ref, op.refs)), (), out, phase=op.phase) for i, (op, out) in enumerate(zip(ops, outs))
    ]
    kinds = {**dict.fromkeys(leaves, "buffer"), **dict.fromkeys(inputs, "input"), **dict.fromkeys(weights, "param")}
    values = {vid: Value(vid, shape, "float32", kinds.get(vid, "op")) for vid, shape in shapes.items()}
    named = tuple(Weight(f"w{vid}", vid, leaves[vid]) for vid in weights)
    program = Program((64, 128, 256), tuple(nodes), values, named, inputs=tuple(inputs), **parts)
    return SimpleNamespace(
        program=program,
        structures=lambda node: ops[node.index].structures,
        layout=lambda node: layout(ops[node.index], shapes),
        picked=lambda node: ops[node.index].picked,
        axes=lambda node: ops[node.index].axes_of,
    )
