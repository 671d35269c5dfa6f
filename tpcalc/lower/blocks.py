"""Packed values in blocks: how ops act on them.

Each block of a packed weight is a leaf of its own.  An op on the way acts on each block alone, as the axes of its rule
say; where it mixes the blocks, they are joined again.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Optional

from tpcalc.algebra.order import ZERO
from tpcalc.algebra.size import NOTHING, UNIT, Size, size_sum
from tpcalc.lower.cuts import alike, between, ends_of, plan
from tpcalc.lower.lowered import Leaf
from tpcalc.lower.pieces import MOST_BLOCKS, Pieced
from tpcalc.lower.segments import Segments, averaged, by_growth, coarse, differ, fine
from tpcalc.lower.sizes import sized, sums
from tpcalc.program.ir import Node, Ref, Weight
from tpcalc.rules.layout import Layout
from tpcalc.rules.structures import (
    Contract,
    Known,
    Operand,
    Reduce,
    Structures,
    Sum,
    View,
    leaves,
    operands,
    renamed,
)


class Blocks(Pieced):
    """The values that come in blocks so far.  Mutable while a program is lowered."""

    def cut_weights(self, picked: Collection[int]) -> None:
        """Make the blocks of packed weights; the whole weight is their join."""
        planned = plan(self.wiring, picked)
        self.wanted, self.mixed = planned.wanted, planned.mixed
        self.lengths.update(lengths for _, lengths in self.wanted.values() if differ(lengths))
        for vid, (axis, lengths) in planned.weights.items():
            value = self.program.values[vid]
            parts = tuple(self.writer.part(value, axis, length) for length in lengths)
            self.packed[vid] = self.segments[vid] = Segments(axis, lengths, parts)
            self.lengths.add(lengths)
            if len(set(lengths)) == 1:
                self.lengths.add((UNIT,) * len(lengths))
            self.writer.emit(Sum(parts, how="choice"), self.program.consumers[vid][0].index, vid)

    def leaves(self, weight: Weight) -> list[Leaf]:
        blocks = self.packed.get(weight.value)
        grads = self.segments.get(weight.grad) if weight.grad is not None else None
        if blocks is None:
            bulk = self.bulk(grads)
            return [Leaf(weight.name, weight, weight.value, weight.shape, weight.grad, bulk=bulk)]
        if grads is not None and weight.grad in self.program.producers and grads.axis == blocks.axis:
            at = self.program.producers[weight.grad].index
            grads = grads if grads.scattered else coarse(self.writer, grads, blocks.lengths, at)
        cut_alike = grads is not None and (grads.axis, grads.lengths) == (blocks.axis, blocks.lengths)
        cut_alike = cut_alike and grads is not None and not grads.scattered
        dim = len(weight.shape) - blocks.axis
        result = []
        start: Optional[Size] = NOTHING
        for index, (vid, length) in enumerate(zip(blocks.parts, blocks.lengths)):
            grad = grads.parts[index] if cut_alike and grads is not None else weight.grad
            end = size_sum((start, length)) if start is not None else None
            name = f"{weight.name}[{start}:{end}]" if dim == 0 else f"{weight.name}[:, {start}:{end}]"
            bulk = None if cut_alike or length.growth == 0 else self.bulk(grads)
            result.append(Leaf(name, weight, vid, self.writer.values[vid].shape, grad, dim, start, length, bulk))
            start = end
        return result

    @staticmethod
    def bulk(held: Optional[Segments]) -> Optional[int]:
        """Of a gradient in scattered parts the one with most entries."""
        if held is None or not held.scattered:
            return None
        return max(zip(held.lengths, held.parts), key=lambda pair: pair[0].growth)[1]

    def lower(self, node: Node) -> bool:
        """Act on the blocks of a node's operands; False where it must see them whole."""
        if not self.lengths:
            return False
        refs = node.refs
        if not any(ref in self.segments for ref in refs) and not self.wiring.has_pieces(node):
            return node.phase == "backward" and self.put_few(node)
        layout = self.wiring.layout(node)
        if layout.takes is not None and self.take(node, refs[0], layout.takes):
            return True
        if layout.puts is not None and len(layout.puts.lengths) == 1 and self.put_back(node, refs[0], layout.puts):
            return True
        if layout.puts is not None and self.join(node, refs, layout.puts):
            return False
        return self.apply(node, refs, layout)

    def apply(self, node: Node, refs: tuple[int, ...], layout: Layout) -> bool:
        """Apply an op to each block of its packed operands; the whole result is their join."""
        structures = self.wiring.structures(node)
        used = [leaves(structure) for structure in structures]
        seen: frozenset[int] = frozenset().union(*used)
        held = {slot: self.segments[ref] for slot, ref in enumerate(refs) if ref in seen and ref in self.segments}
        if not held:
            return False
        backward = node.phase == "backward"
        slot = next((slot for slot in held if backward and refs[slot] in self.gradients), next(iter(held)))
        label = layout.label(slot, held[slot].axis)
        if label is None:
            if layout.move(held[slot].axis) is not None and self.moved(node, refs[slot], layout):
                return True
            return self.regroup(node, refs[slot], layout) or (
                backward and refs[slot] in self.gradients and self.scatter(node, refs[slot], structures)
            )
        along = dict(layout.along(label, held[slot].lengths))
        linear = backward and refs[slot] in self.gradients
        if any(i not in along or along[i][0] != s.axis for i, s in held.items()):
            return False
        if not linear and any(i not in held and refs[i] in seen and self.differs(refs[i]) for i in along):
            return False
        found = self.common(node, refs, held, [i for i in along if refs[i] in seen], layout, label)
        if found is None:
            return False
        held_ids = {refs[i] for i in held}
        places: list[Optional[int]] = []
        for index, structure in enumerate(structures):
            place = layout.place(index, label)
            summed = label in layout.summed and _contracts(structure, held_ids, whole=linear)
            summed = summed or (linear and isinstance(structure, Reduce) and structure.x in held_ids)
            if place is None and not summed and used[index] & held_ids and label not in layout.shared:
                return False
            places.append(place)
        axes = {refs[i]: axis for i, (axis, _) in along.items() if refs[i] in seen}
        self.apply_along(node, refs, layout, label, found, axes, places)
        return True

    def common(
        self, node: Node, refs: tuple[int, ...], held: dict[int, Segments], along: list[int], layout: Layout, label: Any
    ) -> Optional[dict[int, Segments]]:
        """Operands in blocks of the same lengths: as they are, joined to what the result is wanted in, or (gradients)
        cut further.  Of gradients that are scattered, parts by growth."""
        linear = [i for i in along if node.phase == "backward" and refs[i] in self.gradients]
        if any(held[i].scattered for i in linear if i in held):
            return by_growth(self.writer, node, refs, held, linear)
        lengths = {s.lengths for s in held.values()}
        if len(lengths) == 1:
            return {refs[i]: s for i, s in held.items()}
        ends = [set(ends_of(cut) or ()) for cut in lengths]
        if linear:
            target = between(set.union(*ends), self.program.widths) if all(ends) else None
            if target is not None and len(target) <= MOST_BLOCKS:
                cut = {refs[i]: fine(self.writer, s, ends_of(target) or (), node.index) for i, s in held.items()}
                known = {ref: s for ref, s in cut.items() if s is not None}
                return known if len(known) == len(cut) else None
        wanted = [self.wanted[out] for out in node.outputs if out in self.wanted]
        at = [cut[1] for cut in wanted if any(layout.place(i, label) == cut[0] for i in range(len(node.outputs)))]
        target = at[0] if at else between(set.intersection(*ends), self.program.widths)
        if target is None or len(target) < 2:
            return None
        joined = {refs[i]: coarse(self.writer, s, target, node.index) for i, s in held.items()}
        known = {ref: s for ref, s in joined.items() if s is not None}
        return known if len(known) == len(joined) else None

    def apply_along(
        self,
        node: Node,
        refs: tuple[int, ...],
        layout: Layout,
        label: Hashable,
        cut: dict[int, Segments],
        axes: dict[int, int],
        places: list[Optional[int]],
    ) -> None:
        """Apply an op to the blocks along the axis with ``label``, which operands have at ``axes`` and results at
        ``places``.  ``cut``: operands in blocks."""
        writer, values, registry = self.writer, self.program.values, self.wiring.registry
        first = next(iter(cut.values()))
        lengths, shared = first.lengths, label in layout.shared
        whole = self.wiring.structures(node) if shared else ()
        if len(lengths) > 1 and not first.scattered:
            self.lengths.add(lengths)
        blocks: list[list[int]] = [[] for _ in node.outputs]
        for index, length in enumerate(lengths):
            table = {ref: self.block(node, ref, axis, cut.get(ref), length, index) for ref, axis in axes.items()}
            outs = tuple(
                out if out is None or place is None else writer.part(values[out], place, length)
                for out, place in zip(node.outputs, places)
            )
            if shared:
                structures = tuple(
                    renamed(s, table) if s is not None and place is not None else None
                    for s, place in zip(whole, places)
                )
            else:
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
        if shared and node.phase == "backward":
            blocks = [averaged(self.writer, node, lengths, parts) for parts in blocks]
        for index, (out, place, parts) in enumerate(zip(node.outputs, places, blocks)):
            if out is None:
                continue
            if shared and place is None:
                writer.emit(whole[index] or Known(ZERO), node.index, out)
                continue
            if place is not None:
                self.segments[out] = Segments(place, lengths, tuple(parts), first.scattered)
            join = Sum(tuple(parts), how="choice" if place is not None else "sum") if parts else Known(ZERO)
            writer.emit(join, node.index, out)

    def scatter(self, node: Node, ref: int, structures: Structures) -> bool:
        """An op on a gradient that mixes its blocks, linear as all are: the sum of what it makes of each part."""
        held, writer = self.segments[ref], self.writer
        axis = held.axis
        found = by_growth(self.writer, node, (ref,), {0: held}, [0])[ref]
        size = self.program.values[ref].shape[-held.axis]
        for out, structure in zip(node.outputs, structures):
            if out is None:
                continue
            if structure is None or ref not in leaves(structure):
                writer.emit(structure or Known(ZERO), node.index, out)
                continue
            value = self.program.values[out]
            place = None if sums(structure, growing=True) else alike(value.shape, size, axis)
            parts = []
            for length, part in zip(found.lengths, found.parts):
                new = writer.copy(out) if place is None else writer.part(value, place, length)
                own = renamed(structure, {ref: part})
                if isinstance(own, Reduce) and own.K >= size.growth:
                    own = replace(own, K=own.K - size.growth + length.growth)
                parts.append(writer.emit(own, node.index, new))
            if place is not None:
                self.segments[out] = Segments(place, found.lengths, tuple(parts), scattered=True)
            writer.emit(Sum(tuple(parts)), node.index, out)
        return True

    def moved(self, node: Node, ref: int, layout: Layout) -> bool:
        """Entries that only change places along the packed axis."""
        held, out = self.segments[ref], node.outputs[0]
        move = layout.move(held.axis)
        if move is None or out is None or held.scattered:
            return False
        ends = (move.start,) if move.start is not None else ()
        cut = fine(self.writer, held, ends, node.index)
        order = move.order(cut.lengths) if cut is not None else None
        if cut is None or order is None:
            return False
        lengths = tuple(cut.lengths[i] for i in order)
        parts = tuple(self.writer.part(self.program.values[out], held.axis, length) for length in lengths)
        for part, i in zip(parts, order):
            self.writer.emit(View(cut.parts[i]), node.index, part)
        self.lengths.add(lengths)
        self.segments[out] = Segments(held.axis, lengths, parts)
        self.writer.emit(Sum(parts, how="choice"), node.index, out)
        return True

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

    def block(self, node: Node, ref: int, axis: int, held: Optional[Segments], length: Size, index: int) -> int:
        """A block of an operand: its own, or a slice of what did not come in blocks (a mask, a constant)."""
        if held is not None:
            return held.parts[index]
        part = self.writer.part(self.program.values[ref], axis, length)
        own = self.segments.get(ref)
        if own is not None and own.axis == axis:
            # a scattered gradient of few entries meets the few rows that are cut for them, one of most the others
            alike = tuple(p for size, p in zip(own.lengths, own.parts) if size.growth == length.growth)
            if alike:
                return self.writer.emit(Sum(alike, how="choice"), node.index, part)
        return self.writer.emit(View(ref), node.index, part)

    def regroup(self, node: Node, ref: int, layout: Layout) -> bool:
        """A reshape that keeps blocks of whole pieces."""
        held, out = self.segments[ref], node.outputs[0]
        cut = layout.forth(0, (held.axis, held.lengths))
        if cut is None or out is None or len(node.outputs) > 1:
            return False
        if not held.scattered:
            self.lengths.add(cut[1])
        parts = tuple(self.writer.part(self.program.values[out], cut[0], length) for length in cut[1])
        for part, inner in zip(parts, held.parts):
            self.writer.emit(View(inner), node.index, part)
            self.see(node, (part,), inner)
        self.segments[out] = Segments(*cut, parts, held.scattered)
        self.writer.emit(Sum(parts, how="choice"), node.index, out)
        return True

    def see(self, node: Node, outs: tuple[Optional[int], ...], x: Optional[int] = None) -> None:
        """Note what ``outs`` are of the first operand, or of a block ``x`` of it."""
        axes = self.wiring.axes(node)
        if axes is not None and (axes.same or axes.mean is not None):
            self.writer.recogniser.see(axes, node.refs[0] if x is None else x, outs)


def _contracts(structure: Optional[Operand], held: set[int], whole: bool) -> bool:
    """Whether a structure contracts two of the values; ``whole``: one of them and another."""
    if structure is None or isinstance(structure, int):
        return False
    if isinstance(structure, Contract) and (structure.x in held) + (structure.y in held) >= 2 - whole:
        return True
    return any(_contracts(x, held, whole) for x in operands(structure))


def _renamed(arg: Any, table: Mapping[int, int]) -> Any:
    """``arg`` with every tensor argument renamed by ``table``."""
    if isinstance(arg, Ref):
        return Ref(table.get(arg.id, arg.id))
    if isinstance(arg, tuple):
        return tuple(_renamed(item, table) for item in arg)
    return arg
