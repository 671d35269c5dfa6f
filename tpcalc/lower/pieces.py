"""Pieces of packed values: parts taken, put among zeros, joined."""

from __future__ import annotations

from functools import cached_property
from typing import Optional

from tpcalc.algebra.order import MINUS_INFINITY
from tpcalc.algebra.size import NOTHING, UNIT, Size, size_difference, size_sum
from tpcalc.lower.atoms import Writer
from tpcalc.lower.cuts import between, ends_of
from tpcalc.lower.segments import Segments, differ, fine
from tpcalc.lower.wiring import Wiring
from tpcalc.program.ir import Node
from tpcalc.rules.layout import Cut, Pieces
from tpcalc.rules.structures import Known, Sum, View

#: Gradients are not cut into more blocks than this; beyond, blocks are joined.
MOST_BLOCKS = 12


class Pieced:
    """The values that come in blocks so far, and the ops that cut an axis or join one.  Mutable while a program is
    lowered.

    ``wanted``: how values of the forward pass are cut.  ``mixed``: results some of whose entries are taken apart,
    nobody knows which.
    """

    def __init__(self, writer: Writer, wiring: Wiring) -> None:
        self.writer, self.wiring = writer, wiring
        self.program = wiring.program
        self.segments: dict[int, Segments] = {}
        self.lengths: set[tuple[Size, ...]] = set()
        self.packed: dict[int, Segments] = {}
        self.wanted: dict[int, Cut] = {}
        self.mixed: dict[int, int] = {}

    @cached_property
    def gradients(self) -> frozenset[int]:
        """Values that depend on what enters the backward pass; ops of that pass are linear in them."""
        found = {seed for _, seed in self.program.seeds}
        for node in self.program.nodes:
            if node.phase == "backward" and any(ref in found for ref in node.refs):
                found.update(out for out in node.outputs if out is not None)
        return frozenset(found)

    def take(self, node: Node, ref: int, takes: Pieces) -> bool:
        """Parts of a packed value: blocks, groups of blocks, or what is left of them."""
        held = self.segments.get(ref)
        if held is None or held.axis != takes.axis or held.scattered:
            return False
        pieces = [takes.ends(index) for index, out in enumerate(node.outputs) if out is not None]
        ends = {end for piece in pieces if piece is not None for end in piece}
        held = fine(self.writer, held, ends, node.index)
        places = ends_of(held.lengths) if held is not None else None
        if held is None or places is None or None in pieces or not ends <= set(places) or None in node.outputs:
            return False
        for out, piece in zip(node.outputs, pieces):
            if out is None or piece is None:
                continue
            first, last = (places.index(end) for end in piece)
            lengths, parts = held.lengths[first:last], held.parts[first:last]
            if not parts:  # a piece without entries
                self.writer.emit(Known(MINUS_INFINITY), node.index, out)
                continue
            if len(parts) > 1:
                self.segments[out] = Segments(takes.axis, lengths, parts)
            self.writer.emit(View(parts[0]) if len(parts) == 1 else Sum(parts, how="choice"), node.index, out)
        return True

    def put_back(self, node: Node, ref: int, puts: Pieces) -> bool:
        """A part with zeros beside it: the gradient of a slice (or select), padding."""
        out, piece = node.outputs[0], puts.ends(0)
        if out is None or piece is None:
            return False
        value, inner = self.program.values[out], self.segments.get(ref)
        whole = value.shape[-puts.axis]
        if inner is not None and (inner.axis != puts.axis or inner.scattered):
            inner = None
        ends = self.ends_around(out, whole, piece, inner)
        lengths = between(ends, self.program.widths) if ends is not None else None
        places = ends_of(lengths) if lengths is not None else None
        if lengths is None or places is None:
            return False
        first, last = (places.index(end) for end in piece)
        if inner is not None:
            within = [size_difference(end, piece[0]) for end in places[first : last + 1]]
            inner = fine(self.writer, inner, [end for end in within if end is not None], node.index)
        alike = inner is not None and inner.lengths == lengths[first:last]
        parts = tuple(self.writer.part(value, puts.axis, length) for length in lengths)
        for i, part in enumerate(parts):
            source = inner.parts[i - first] if alike and inner is not None and first <= i < last else ref
            self.writer.emit(View(source) if first <= i < last else Known(MINUS_INFINITY), node.index, part)
        self.segments[out] = Segments(puts.axis, lengths, parts)
        self.writer.emit(Sum(parts, how="choice"), node.index, out)
        return True

    def ends_around(
        self, out: int, whole: Size, piece: tuple[Size, Size], inner: Optional[Segments]
    ) -> Optional[tuple[Size, ...]]:
        """The ends of blocks of a value into which ``piece`` is put: of a packed weight's, else of the piece alone."""
        alike = []
        for lengths in sorted(self.lengths, key=len, reverse=True):
            ends = ends_of(lengths)
            if ends is not None and ends[-1] == whole:
                alike.append(ends)
        fitting = next((ends for ends in alike if set(piece) <= set(ends)), None)
        packed = out in self.wanted or any(differ(lengths) for lengths in self.lengths if ends_of(lengths) in alike)
        if fitting is None and not packed:
            return None
        within = ends_of(inner.lengths) if inner is not None and packed else ()
        moved = [size_sum((piece[0], end)) for end in within or ()]
        found = {*(fitting or (NOTHING, whole)), *piece, *(end for end in moved if end is not None)}
        return tuple(found) if len(found) <= MOST_BLOCKS else fitting

    def put_few(self, node: Node) -> bool:
        """The gradient of a look-up along a packed axis: of few entries, nobody knows which, beside zeros."""
        out = node.outputs[0]
        value = self.program.values[out] if out is not None else None
        if out is None or value is None or len(node.outputs) > 1 or not self.gradients.intersection(node.refs):
            return False
        packed = {size_sum(lengths) for lengths in self.lengths if differ(lengths)}
        at = [axis for axis in range(1, len(value.shape) + 1) if value.shape[-axis] in packed]
        (s,) = self.wiring.structures(node) if at else (None,)
        if not isinstance(s, Sum) or s.how not in ("choice", "put"):
            return False
        given = [x for x in s.xs if x not in self.writer.known]
        if len(given) != 1 or given[0] not in self.gradients or self.writer.growths[given[0]] >= value.growth:
            return False
        lengths = (value.shape[-at[0]], UNIT)
        parts = tuple(self.writer.part(value, at[0], length) for length in lengths)
        for part, structure in zip(parts, (Known(MINUS_INFINITY), View(given[0]))):
            self.writer.emit(structure, node.index, part)
        self.segments[out] = Segments(at[0], lengths, parts, scattered=True)
        self.writer.emit(s, node.index, out)
        return True

    def join(self, node: Node, refs: tuple[int, ...], puts: Pieces) -> bool:
        """A concatenation of blocks as long as a packed weight's is packed again (the gradient of a split)."""
        out = node.outputs[0]
        lengths: list[Size] = []
        parts: list[int] = []
        for ref, length in zip(refs, puts.lengths):
            if not length.terms:  # no entries
                continue
            inner = self.segments.get(ref)
            alike = inner is not None and inner.axis == puts.axis and len(self.program.values[ref].shape) >= inner.axis
            if (
                inner is not None
                and alike
                and not inner.scattered
                and self.program.values[ref].shape[-inner.axis] == length
            ):
                lengths.extend(inner.lengths)
                parts.extend(inner.parts)
            else:
                lengths.append(length)
                parts.append(ref)
        count = len(lengths)
        known = count > 1 and any(
            cut[i : i + count] == tuple(lengths) for cut in self.lengths for i in range(len(cut) - count + 1)
        )
        if not known and out is not None and count > 1:
            whole = self.program.values[out].shape[-puts.axis]
            packed = (cut for cut in self.lengths if differ(cut) and size_sum(cut) == whole)
            known = out in self.wanted or (node.phase == "backward" and any(True for _ in packed))
        if known and out is not None:
            parts = [self.beside(node, part, out, puts.axis) for part in parts]
            self.segments[out] = Segments(puts.axis, tuple(lengths), tuple(parts))
        return known

    def beside(self, node: Node, ref: int, out: int, axis: int) -> int:
        """An operand of a stack with the axis that it gets there."""
        values = self.writer.values
        if len(values[ref].shape) == len(values[out].shape):
            return ref
        return self.writer.emit(View(ref), node.index, self.writer.part(values[out], axis, UNIT))
