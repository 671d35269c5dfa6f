"""What the nodes of a program are, and their axes, asked of the rules once each."""

from __future__ import annotations

from collections.abc import Collection
from typing import Optional

from tpcalc.program.ir import Node, Program
from tpcalc.rules.axes import Axes
from tpcalc.rules.call import Call
from tpcalc.rules.layout import Layout
from tpcalc.rules.registry import Registry
from tpcalc.rules.structures import Structures


class Wiring:
    """Which axis of a node's results is which axis of its operands."""

    def __init__(self, program: Program, registry: Registry) -> None:
        self.program, self.registry = program, registry
        self._structures: dict[int, Structures] = {}
        self._layouts: dict[int, Layout] = {}
        self._axes: dict[str, Optional[Axes]] = {}

    def structures(self, node: Node) -> Structures:
        """Of its outputs; raises UnsupportedOpError for an op without a rule."""
        found = self._structures.get(node.index)
        if found is None:
            found = self._structures[node.index] = self.registry.structure(node, self.program.values)
        return found

    def layout(self, node: Node) -> Layout:
        found = self._layouts.get(node.index)
        if found is None:
            found = self._layouts[node.index] = self.registry.layout(
                node, self.program.values, self._structures.get(node.index)
            )
        return found

    def axes(self, node: Node) -> Optional[Axes]:
        """What the node's rule declares."""
        if node.op not in self._axes:
            self._axes[node.op] = self.registry.axes(node.op)
        return self._axes[node.op]

    def picked(self, node: Node) -> Collection[int]:
        """The axes of the first operand, from the right, of which a node takes some entries, or weighs them."""
        axes = self.axes(node)
        return () if axes is None else axes.picked(Call(node, self.program.values))

    def has_pieces(self, node: Node) -> bool:
        """Whether a node cuts an axis or joins one."""
        axes = self.axes(node)
        return axes is not None and axes.pieces
