"""What is computed twice, once: the same op on the same values gives the same value.

An inner step that runs the forward pass again, recomputation in the backward pass, a module that is called twice on one
input.  A value and its copy are one value to every law: of which weights it depends, what is aligned with it, and what
it may be made less by.  All that reads a copy reads the first one instead, and gradients of copies are what they were:
ops of their own, which add up.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

from tpcalc.program.ir import Node, Program, Ref, references
from tpcalc.rules.axes import SAME
from tpcalc.rules.registry import Registry
from tpcalc.rules.structures import View


def without_copies(program: Program, registry: Registry) -> Program:
    """The program with values that are computed again replaced by the first ones; the ops that made them are left.

    Random ops give other numbers each time, and of ops that are not torch's nobody knows.  Each period of a stack
    stands for itself.
    """
    first: dict[Hashable, tuple[Any, ...]] = {}
    copies: dict[int, int] = {}
    same: dict[int, int] = {}  # and views that are the same, or are all of what they show
    nodes: list[Node] = []
    for node in program.nodes:
        if not copies.keys().isdisjoint(node.refs):
            node = replace(node, args=_renamed(node.args, copies), kwargs=_renamed(node.kwargs, copies))
        nodes.append(node)
        refs, outs = node.refs, node.outputs
        if node.random or not refs or not node.op.startswith("aten.") or outs[0] is None:
            continue
        if registry.axes(node.op) is SAME and len(refs) == len(outs) == 1:
            x, out = program.values[refs[0]], program.values[outs[0]]
            if (x.shape, x.dtype) == (out.shape, out.dtype):
                same[out.id] = same.get(x.id, x.id)
                continue
        turn = tuple(loop.turn(node.index) for loop in program.repeats.loops if loop.covers(node.index))
        args, kwargs = node.args, node.kwargs
        if not same.keys().isdisjoint(refs):
            args, kwargs = _renamed(args, same), _renamed(kwargs, same)
        known = first.setdefault((node.op, args, kwargs, node.derivative, turn), outs)
        if known is not outs:
            views = all(isinstance(s, View) for s in registry.structure(node, program.values))
            (same if views else copies).update((x, y) for x, y in zip(outs, known) if x is not None and y is not None)
    return program if not copies else replace(program, nodes=tuple(nodes))


def _renamed(arg: Any, table: dict[int, int]) -> Any:
    """An argument of a node with other values in it."""
    if isinstance(arg, Ref):
        return Ref(table[arg.id]) if arg.id in table else arg
    if not table.keys().isdisjoint(references(arg)):
        return tuple(_renamed(item, table) for item in arg)
    return arg
