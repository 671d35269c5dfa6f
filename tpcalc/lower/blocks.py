"""Packed values in blocks: how ops act on them.

Each block of a packed weight is a leaf of its own.  An op on the way acts on each block alone, as the axes of its rule
say; where it mixes the blocks, they are joined again.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Optional

from tpcalc.algebra.order import MINUS_INFINITY, ZERO
from tpcalc.algebra.size import Size, size_sum
from tpcalc.lower.atoms import Writer
from tpcalc.lower.cuts import ends_of, plan
from tpcalc.lower.lowered import Leaf
from tpcalc.lower.sizes import sized
from tpcalc.lower.wiring import Wiring
from tpcalc.program.ir import Node, Ref, Weight
from tpcalc.rules.layout import UNIT, Layout, Pieces
from tpcalc.rules.structures import Contract, Known, Operand, Sum, View, leaves, operands


@dataclass(frozen=True)
class Segments:
    """A value in blocks along ``axis`` (counted from the right: 1 is the last one), with their lengths."""

    axis: int
    lengths: tuple[Size, ...]
    parts: tuple[int, ...]


class Blocks:
    """The values that come in blocks so far.  Mutable while a program is lowered."""

    def __init__(self, writer: Writer, wiring: Wiring) -> None:
        self.writer, self.wiring = writer, wiring
        self.program = wiring.program
        self.segments: dict[int, Segments] = {}
        self.lengths: set[tuple[Size, ...]] = set()
        self.packed: dict[int, Segments] = {}

    def cut_weights(self) -> None:
        """Make the blocks of packed weights; the whole weight is their join."""
        for vid, (axis, lengths) in plan(self.wiring).items():
            value = self.program.values[vid]
            parts = tuple(self.writer.part(value, axis, length) for length in lengths)
            self.packed[vid] = self.segments[vid] = Segments(axis, lengths, parts)
            self.lengths.add(lengths)
            if len(set(lengths)) == 1:
                self.lengths.add((UNIT,) * len(lengths))
            self.writer.emit(Sum(parts, how="choice"), self.program.consumers[vid][0].index, vid)

    def leaves(self, weight: Weight) -> list[Leaf]:
        blocks = self.packed.get(weight.value)
        if blocks is None:
            return [Leaf(weight.name, weight, weight.value, weight.shape, weight.grad)]
        grads = self.segments.get(weight.grad) if weight.grad is not None else None
        cut_alike = grads is not None and (grads.axis, grads.lengths) == (blocks.axis, blocks.lengths)
        dim = len(weight.shape) - blocks.axis
        result = []
        start: Optional[Size] = Size(())
        for index, (vid, length) in enumerate(zip(blocks.parts, blocks.lengths)):
            grad = grads.parts[index] if cut_alike and grads is not None else weight.grad
            end = size_sum((start, length)) if start is not None else None
            name = f"{weight.name}[{start}:{end}]" if dim == 0 else f"{weight.name}[:, {start}:{end}]"
            result.append(Leaf(name, weight, vid, self.writer.parts[vid].shape, grad, dim, start, length))
            start = end
        return result

    def lower(self, node: Node) -> bool:
        """Act on the blocks of a node's operands; False where it must see them whole."""
        if not self.lengths:
            return False
        refs = tuple(node.refs)
        if not any(ref in self.segments for ref in refs) and not self.wiring.has_pieces(node):
            return False
        layout = self.wiring.layout(node)
        if layout.takes is not None and self.take(node, refs[0], layout.takes):
            return True
        if layout.puts is not None and len(layout.puts.lengths) == 1 and self.put_back(node, refs[0], layout.puts):
            return True
        if layout.puts is not None and self.join(node, refs, layout.puts):
            return False
        return self.apply(node, refs, layout)

    def take(self, node: Node, ref: int, takes: Pieces) -> bool:
        """Parts of a packed value between ends of its blocks are blocks, or groups of them."""
        held = self.segments.get(ref)
        ends = ends_of(held.lengths) if held is not None and held.axis == takes.axis else None
        groups = []
        for index, out in enumerate(node.outputs):
            piece = takes.ends(index)
            if held is None or ends is None or out is None or piece is None or not set(piece) <= set(ends):
                return False
            first, last = (ends.index(end) for end in piece)
            groups.append((out, held.lengths[first:last], held.parts[first:last]))
        for out, lengths, parts in groups:
            if len(parts) > 1:
                self.segments[out] = Segments(takes.axis, lengths, parts)
            self.writer.emit(View(parts[0]) if len(parts) == 1 else Sum(parts, how="choice"), node.index, out)
        return True

    def put_back(self, node: Node, ref: int, puts: Pieces) -> bool:
        """The gradient of a slice (or select) is zero outside it."""
        out, piece = node.outputs[0], puts.ends(0)
        if out is None or piece is None:
            return False
        value, inner = self.program.values[out], self.segments.get(ref)
        for lengths in sorted(self.lengths, key=len, reverse=True):
            ends = ends_of(lengths)
            if ends is None or ends[-1] != value.shape[-puts.axis] or not set(piece) <= set(ends):
                continue
            first, last = (ends.index(end) for end in piece)
            alike = inner is not None and inner.lengths == lengths[first:last]
            parts = tuple(self.writer.part(value, puts.axis, length) for length in lengths)
            for i, part in enumerate(parts):
                source = inner.parts[i - first] if alike and inner is not None and first <= i < last else ref
                self.writer.emit(View(source) if first <= i < last else Known(MINUS_INFINITY), node.index, part)
            self.segments[out] = Segments(puts.axis, lengths, parts)
            self.writer.emit(Sum(parts, how="choice"), node.index, out)
            return True
        return False

    def join(self, node: Node, refs: tuple[int, ...], puts: Pieces) -> bool:
        """A concatenation of blocks as long as a packed weight's is packed again (the gradient of a split)."""
        out = node.outputs[0]
        lengths: list[Size] = []
        parts: list[int] = []
        for ref, length in zip(refs, puts.lengths):
            inner = self.segments.get(ref)
            alike = inner is not None and inner.axis == puts.axis and len(self.program.values[ref].shape) >= inner.axis
            if inner is not None and alike and self.program.values[ref].shape[-inner.axis] == length:
                lengths.extend(inner.lengths)
                parts.extend(inner.parts)
            else:
                lengths.append(length)
                parts.append(ref)
        count = len(lengths)
        known = count > 1 and any(
            cut[i : i + count] == tuple(lengths) for cut in self.lengths for i in range(len(cut) - count + 1)
        )
        if known and out is not None:
            self.segments[out] = Segments(puts.axis, tuple(lengths), tuple(parts))
        return known

    def apply(self, node: Node, refs: tuple[int, ...], layout: Layout) -> bool:
        """Apply an op to each block of its packed operands; the whole result is their join."""
        structures = self.wiring.registry.structure(node, self.program.values)
        used = [leaves(structure) for structure in structures]
        seen: frozenset[int] = frozenset().union(*used)
        held = {slot: self.segments[ref] for slot, ref in enumerate(refs) if ref in seen and ref in self.segments}
        if not held:
            return False
        slot, first = next(iter(held.items()))
        label = layout.label(slot, first.axis)
        if label is None:
            return self.regroup(node, refs[slot], layout)
        along = dict(layout.along(label, first.lengths))
        if any(along.get(i) != (s.axis, s.lengths) for i, s in held.items()):
            return False
        if any(i not in held and refs[i] in seen and self.differs(refs[i]) for i in along):
            return False
        held_ids = {refs[i] for i in held}
        places: list[Optional[int]] = []
        for index, structure in enumerate(structures):
            place = layout.place(index, label)
            summed = label in layout.summed and _contracts(structure, held_ids)
            if place is None and not summed and used[index] & held_ids:
                return False
            places.append(place)
        self.apply_along(node, refs, layout, label, first.lengths, seen, places)
        return True

    def apply_along(
        self,
        node: Node,
        refs: tuple[int, ...],
        layout: Layout,
        label: Hashable,
        lengths: tuple[Size, ...],
        seen: frozenset[int],
        places: list[Optional[int]],
    ) -> None:
        """Apply an op to the blocks along the axis with ``label``, which results have at ``places``."""
        writer, values, registry = self.writer, self.program.values, self.wiring.registry
        operands_cut = {refs[slot]: axis for slot, (axis, _) in layout.along(label, lengths) if refs[slot] in seen}
        if len(lengths) > 1:
            self.lengths.add(lengths)
        blocks: list[list[int]] = [[] for _ in node.outputs]
        for index, length in enumerate(lengths):
            table = {ref: self.block(node, ref, axis, lengths, index) for ref, axis in operands_cut.items()}
            outs = tuple(
                out if out is None or place is None else writer.part(values[out], place, length)
                for out, place in zip(node.outputs, places)
            )
            args = list(_renamed(node.args, table))
            if layout.counter is not None:
                args[layout.counter] = length
            block = replace(node, args=tuple(args), kwargs=_renamed(node.kwargs, table), outputs=outs)
            structures = registry.structure(block, writer.values)
            if node.phase == "forward":
                structures = sized(block, structures, writer.values, partial(registry.layout, values=writer.values))
            for found, out, place, structure in zip(blocks, outs, places, structures):
                if out is None or structure is None:
                    continue
                if place is not None:
                    found.append(writer.emit(structure, node.index, out))
                elif index == 0 or leaves(structure) & set(table.values()):
                    found.append(writer.emit(structure, node.index, writer.copy(out)))
            self.see(node, outs, table.get(refs[0]))
        for out, place, parts in zip(node.outputs, places, blocks):
            if out is None:
                continue
            if place is not None:
                self.segments[out] = Segments(place, lengths, tuple(parts))
            join = Sum(tuple(parts), how="choice" if place is not None else "sum") if parts else Known(ZERO)
            writer.emit(join, node.index, out)

    def differs(self, vid: int) -> bool:
        """Whether the blocks of a value that came whole may differ in ways that are not known."""
        return vid in self.trained and vid not in self.writer.known

    @cached_property
    def trained(self) -> frozenset[int]:
        """Values that depend on weights."""
        found = {weight.value for weight in self.program.weights}
        for node in self.program.nodes:
            if any(ref in found for ref in node.refs):
                found.update(out for out in node.outputs if out is not None)
        return frozenset(found)

    def block(self, node: Node, ref: int, axis: int, lengths: tuple[Size, ...], index: int) -> int:
        """A block of an operand: its own, or a slice of what did not come in blocks (a mask, a constant)."""
        held = self.segments.get(ref)
        if held is not None:
            return held.parts[index]
        part = self.writer.part(self.program.values[ref], axis, lengths[index])
        return self.writer.emit(View(ref), node.index, part)

    def regroup(self, node: Node, ref: int, layout: Layout) -> bool:
        """A reshape that keeps blocks of whole pieces."""
        held, out = self.segments[ref], node.outputs[0]
        cut = layout.forth(0, (held.axis, held.lengths))
        if cut is None or out is None or len(node.outputs) > 1:
            return False
        self.lengths.add(cut[1])
        parts = tuple(self.writer.part(self.program.values[out], cut[0], length) for length in cut[1])
        for part, inner in zip(parts, held.parts):
            self.writer.emit(View(inner), node.index, part)
            self.see(node, (part,), inner)
        self.segments[out] = Segments(*cut, parts)
        self.writer.emit(Sum(parts, how="choice"), node.index, out)
        return True

    def see(self, node: Node, outs: tuple[Optional[int], ...], x: Optional[int] = None) -> None:
        """Note what ``outs`` are of the first operand, or of a block ``x`` of it."""
        axes = self.wiring.axes(node)
        if axes is not None and (axes.same or axes.mean is not None):
            self.writer.recogniser.see(axes, next(node.refs) if x is None else x, outs)


def _contracts(structure: Optional[Operand], held: set[int]) -> bool:
    """Whether a structure contracts two of the values."""
    if structure is None or isinstance(structure, int):
        return False
    if isinstance(structure, Contract) and structure.x in held and structure.y in held:
        return True
    return any(_contracts(x, held) for x in operands(structure))


def _renamed(arg: Any, table: Mapping[int, int]) -> Any:
    """``arg`` with every tensor argument renamed by ``table``."""
    if isinstance(arg, Ref):
        return Ref(table.get(arg.id, arg.id))
    if isinstance(arg, tuple):
        return tuple(_renamed(item, table) for item in arg)
    return arg
