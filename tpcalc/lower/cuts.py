"""The plan of cuts: which weights come in blocks.

A packed weight (q, k and v in one matrix; Mamba's ``x_proj`` of size ``n/16 + 2*state``) makes a value whose axis is
later split.  The blocks may grow differently and have different budgets.  The plan walks from every split back to the
weight, and from every concatenation to the weight that contracts it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Optional

from tpcalc.algebra.size import NOTHING, UNIT, Size, size_difference, size_sum
from tpcalc.errors import FitError
from tpcalc.lower.wiring import Wiring
from tpcalc.program.ir import Node
from tpcalc.rules.layout import Cut, Layout, Move, Shape, places
from tpcalc.rules.structures import Discrete, Gather, Power, View, operands

#: An axis longer than this is not taken for a stack of packed blocks (q, k, v; the four gates).
MOST_STACKED = 6


def ends_of(lengths: Sequence[Size]) -> Optional[tuple[Size, ...]]:
    """0 and the end of every block; None when one is rounded."""
    ends = [end for end in places(tuple(lengths)) if end is not None]
    return tuple(ends) if len(ends) > len(lengths) else None


def between(ends: Collection[Size], widths: Sequence[int]) -> Optional[tuple[Size, ...]]:
    """The lengths between places on an axis, in order; None where the order depends on the width."""
    try:
        ordered = sorted(ends, key=lambda end: end.at(widths[-1]))
        lengths = [size_difference(b, a) for a, b in zip(ordered, ordered[1:])]
        known = tuple(length for length in lengths if length is not None)
        if len(known) < len(lengths) or any(length.at(width) <= 0 for length in known for width in widths):
            return None
    except FitError:
        return None
    return known


def inside(lengths: Sequence[Size], start: Size, end: Size, widths: Sequence[int]) -> Optional[tuple[Size, ...]]:
    """The blocks of the part from ``start`` to ``end`` of an axis in blocks; None where they can't be told."""
    try:
        low, high, last = start.at(widths[-1]), end.at(widths[-1]), widths[-1]
        found = [place for place in ends_of(lengths) or () if low < place.at(last) < high]
        moved = [size_difference(place, start) for place in (start, *found, end)]
        return between([place for place in moved if place is not None], widths)
    except FitError:
        return None


def alike(shape: Shape, size: Size, axis: int) -> Optional[int]:
    """The axis that is likely to hold what ``axis`` of another value held: as long, or mixed as it is."""
    axes = range(1, len(shape) + 1)
    found = [i for i in axes if shape[-i] == size] or [
        i for i in axes if shape[-i].is_mixed and shape[-i].growth == size.growth
    ]
    return axis if axis in found else next(iter(found), None)


@dataclass(frozen=True)
class Plan:
    """``weights``: how each is cut, its rows where its result is split or sliced in the forward pass, its columns where
    it meets a concatenation of parts that grow differently.  ``wanted``: how values of the forward pass are cut.
    ``mixed``: results of contractions some of whose entries are taken apart, behind an op that no cut passes."""

    weights: dict[int, Cut]
    wanted: dict[int, Cut]
    mixed: dict[int, int]


def plan(wiring: Wiring, picked: Collection[int] = ()) -> Plan:
    """``picked``: values of which masks leave few entries, that are none of their own."""
    return _Plan(wiring, picked).run()


class _Plan:
    """One pass over the forward nodes and one back.  Mutable while it runs, discarded afterwards.

    ``wanted``: how values must be cut.  ``places``: value -> axis -> start and end of its slices.  ``joined``: values
    that are concatenations of parts that grow differently, with the parts.  ``known``: of values passed.
    ``lost``: value -> axis on which few entries are taken apart, nobody knows which.
    """

    def __init__(self, wiring: Wiring, picked: Collection[int]) -> None:
        self.wiring, self.program = wiring, wiring.program
        self.wanted: dict[int, Cut] = {}
        self.places: dict[int, dict[int, set[tuple[Size, Size]]]] = {}
        self.joined: dict[int, Cut] = {}
        self.known: dict[int, Cut] = {}
        self.lost: dict[int, int] = {}
        self.mixed: dict[int, int] = {}
        for vid in picked:
            shape = self.program.values[vid].shape
            growing = [axis for axis in range(1, len(shape) + 1) if shape[-axis].growth > 0]
            if len(growing) == 1:
                self.lost[vid] = growing[0]

    def run(self) -> Plan:
        forward = [node for node in self.program.nodes if node.phase == "forward"]
        for node in forward:
            if self.wiring.has_pieces(node) or (self.joined and any(ref in self.joined for ref in node.refs)):
                self.join(node, self.wiring.layout(node))
        for node in reversed(forward):
            outs = [out for out in node.outputs if out is not None]
            for out in outs:
                self.settle(out)
            self.pick(node)
            if any(out in self.lost for out in outs):
                self.lose(node, outs)
            wanted = self.wiring.has_pieces(node) or any(out in self.wanted for out in outs)
            if wanted or (self.joined and any(ref in self.joined for ref in node.refs)):
                self.go_back(node, self.wiring.layout(node))
        weights = {weight.value for weight in self.program.weights}
        for vid in weights:
            self.settle(vid)
        # blocks of a fixed axis (the three of an axis of size 3) are no packing
        cuts = {
            vid: cut
            for vid, cut in self.wanted.items()
            if vid in weights and any(length.growth > 0 for length in cut[1])
        }
        return Plan(cuts, self.known, self.mixed)

    def join(self, node: Node, layout: Layout) -> None:
        """Note a concatenation of parts that grow differently, and what keeps the parts of one."""
        refs, out, puts = node.refs, node.outputs[0], layout.puts
        if puts is not None and out is not None:
            lengths: list[Size] = []
            stacked = len(layout.operands[0]) < len(layout.results[0])
            for ref, length in zip(refs, puts.lengths):
                inner = None if stacked else self.joined.get(ref)
                lengths.extend(inner[1] if inner is not None and inner[0] == puts.axis else (length,))
            if len({length.growth for length in lengths if length.terms}) > 1:
                self.joined[out] = _some((puts.axis, tuple(lengths)))
        for slot, ref in enumerate(refs):
            for index, made in enumerate(node.outputs):
                cut = layout.forth(slot, self.joined[ref], index) if ref in self.joined else None
                if cut is not None and made is not None:
                    self.joined[made] = cut

    def go_back(self, node: Node, layout: Layout) -> None:
        """From what is wanted of a node's results to what must be cut before it."""
        refs, takes = node.refs, layout.takes
        self.want_columns(node, refs, layout)
        if takes is not None and any(out in self.program.consumers or out in self.program.ends for out in node.outputs):
            whole, ends = self.program.values[refs[0]].shape, takes.ends(0)
            if len(node.outputs) == 1 and ends is not None and whole[-takes.axis].growth > 0:
                found = _inner_pieces((takes.axis, *ends), self.pop(node.outputs[0]))
                self.places.setdefault(refs[0], {}).setdefault(takes.axis, set()).update(found)
                return
            split = _split_cut(layout, whole)
            if split is not None:
                self.want(refs[0], _some(_refined(split, [self.pop(out) for out in node.outputs])))
                return
        for index, out in enumerate(node.outputs):
            cut = self.pop(out)
            if cut is None:
                continue
            sources = self.through(layout, index, cut)
            for slot, source in sources or ():
                self.want(refs[slot], source)
            if sources is None and out is not None and len({length.growth for length in cut[1]}) > 1:
                self.lost[out] = cut[0]
                self.lose(node, [out])

    def through(self, layout: Layout, result: int, cut: Cut) -> Optional[list[tuple[int, Cut]]]:
        """How operands must be cut so that a result is, also where its axis is joined from pieces or moved; None where
        no cut passes."""
        axis, lengths = cut
        widths = self.program.widths
        if layout.puts is not None and layout.puts.axis == axis:
            ends = [layout.puts.ends(slot) for slot in range(len(layout.puts.lengths))]
            inner = [None if end is None else inside(lengths, *end, widths) for end in ends]
            alike = [len(labels) == len(layout.results[0]) for labels in layout.operands]
            return [(slot, (axis, part)) for slot, part in enumerate(inner) if part and len(part) > 1 and alike[slot]]
        move = layout.move(axis)
        if move is not None:
            moved = moved_back(move, lengths, widths)
            return None if moved is None else [(0, (axis, moved))]
        labels = layout.results[result]
        known = axis <= len(labels) and labels[-axis] is not None
        return layout.back(result, cut) or ([] if known else None)

    def pick(self, node: Node) -> None:
        """Finitely many entries of a growing axis that an index picks are taken apart, nobody knows which."""
        values, (ref, *_), (out, *_) = self.program.values, (*node.refs, None), (*node.outputs, None)
        if ref is None or out is None or values[out].growth >= values[ref].growth:
            return
        structure = self.wiring.structures(node)[0]
        few = isinstance(structure, Gather) or (isinstance(structure, Power) and structure.largest)
        if structure is None or not few or operands(structure) != (ref,) or self.decides(out):
            return
        layout, shape = self.wiring.layout(node), values[ref].shape
        kept = {*layout.results[0]} - {None}
        gone = [axis for axis in range(1, len(shape) + 1) if shape[-axis].growth > 0]
        gone = [axis for axis in gone if layout.label(0, axis) not in kept]
        if len(gone) == 1 and values[ref].growth - values[out].growth == shape[-gone[0]].growth:
            self.lost[ref] = gone[0]

    def decides(self, vid: int) -> bool:
        """Whether a value is only compared with others."""
        uses = [node for node in self.program.consumers.get(vid, ()) if node.phase == "forward"]
        for node in uses:
            made = self.wiring.structures(node)[0]
            onward = [out for out in node.outputs if out is not None]
            if not isinstance(made, Discrete) and not (isinstance(made, View) and all(map(self.decides, onward))):
                return False
        return bool(uses)

    def lose(self, node: Node, outs: Sequence[int]) -> None:
        """Follow an axis whose few entries of their own can't be told apart to the contraction that makes it."""
        layout = self.wiring.layout(node)
        for out in outs:
            axis = self.lost.pop(out, None)
            if axis is None:
                continue
            size = self.program.values[out].shape[-axis]
            labels = layout.results[node.outputs.index(out)]
            label = labels[-axis] if axis <= len(labels) else None
            if layout.summed and label is not None:
                self.mixed[out] = axis
                continue
            for slot, ref in enumerate(node.refs):
                shape = self.program.values[ref].shape
                place = alike(shape, size, axis)
                if label is not None:
                    place = next((i for i in range(1, len(shape) + 1) if layout.label(slot, i) == label), place)
                if place is not None:
                    self.lost[ref] = place

    def want_columns(self, node: Node, refs: tuple[int, ...], layout: Layout) -> None:
        """A weight that contracts a concatenation is cut into the columns that meet each part; what is added to one,
        into its parts."""
        for slot, ref in enumerate(refs):
            label = layout.label(slot, self.joined[ref][0]) if ref in self.joined else None
            if label is not None and label in layout.summed:
                for other, cut in layout.along(label, self.joined[ref][1]):
                    if other != slot:
                        self.want(refs[other], cut)
        joined = self.joined.get(node.outputs[0]) if node.outputs and node.outputs[0] is not None else None
        for slot, cut in layout.back(0, joined) if joined is not None and layout.regrouped is None else ():
            self.want(refs[slot], cut)

    def settle(self, vid: int) -> None:
        """Turn the ends of all slices of a value into a cut."""
        for axis, found in sorted(self.places.pop(vid, {}).items()):
            lengths = _taken(found, self.program.values[vid].shape[-axis], self.program.widths)
            if lengths is not None and len(lengths) > 1:
                self.want(vid, (axis, lengths))

    def pop(self, vid: Optional[int]) -> Optional[Cut]:
        cut = None if vid is None else self.wanted.pop(vid, None)
        if vid is not None and cut is not None:
            self.known[vid] = cut
        return cut

    def want(self, vid: int, cut: Cut) -> None:
        """Record a cut.  Two along one axis are merged; of two along different axes that of the growing axis stays, if
        there is one."""
        other = self.wanted.get(vid)
        if other is None or other == cut:
            self.wanted[vid] = cut
        elif other[0] == cut[0] and other[1] and cut[1]:
            ends, more = ends_of(other[1]), ends_of(cut[1])
            lengths = between({*ends, *more}, self.program.widths) if ends is not None and more is not None else None
            self.wanted[vid] = (cut[0], lengths or ())
        else:
            grow = [c for c in (other, cut) if any(length.growth > 0 for length in c[1])]
            self.wanted[vid] = grow[0] if len(grow) == 1 else (cut[0], ())


def moved_back(move: Move, lengths: Sequence[Size], widths: Sequence[int]) -> Optional[tuple[Size, ...]]:
    """The blocks of an operand whose entries are moved into a result in blocks."""
    whole = size_sum(lengths)
    back = None if whole is None else move.inverse(whole)
    if back is None or whole is None:
        return None
    fine = between({*(ends_of(lengths) or ()), back.start or NOTHING, whole}, widths)
    order = None if fine is None else back.order(fine)
    return None if fine is None or order is None else tuple(fine[i] for i in order)


def _inner_pieces(pick: tuple[int, Size, Size], inner: Optional[Cut]) -> set[tuple[Size, Size]]:
    """The ends of a slice, or of the blocks that it is cut into in turn."""
    dim, start, end = pick
    ends = ends_of(inner[1]) if inner is not None and inner[0] == dim else None
    if not ends:
        return {(start, end)}
    moved = [size_sum((start, place)) or start for place in ends]
    return set(zip(moved, moved[1:]))


def _taken(pieces: Collection[tuple[Size, Size]], whole: Size, widths: Sequence[int]) -> Optional[tuple[Size, ...]]:
    """The blocks of an axis from which ``pieces`` are taken.  Few entries that only growing pieces hold, as their ends
    differ a little (``x[1:] - x[:-1]``), are no block of their own."""
    lengths = between({NOTHING, whole, *(end for piece in pieces for end in piece)}, widths)
    places = ends_of(lengths) if lengths is not None else None
    if lengths is None or places is None:
        return None
    last = widths[-1]
    few = [(a.at(last), b.at(last)) for a, b in pieces if (size_difference(b, a) or a).growth == 0]
    held = [(a.at(last), b.at(last)) for a, b in pieces]

    def alone(index: int) -> bool:
        a, b = places[index].at(last), places[index + 1].at(last)
        inside_one = any(low <= a and b <= high for low, high in held)
        return not inside_one or any(low <= a and b <= high for low, high in few)

    gone = set()
    for index, length in enumerate(lengths):
        if length.growth == 0 and not alone(index):
            # joined to a growing neighbour
            if index and lengths[index - 1].growth > 0:
                gone.add(places[index])
            elif index + 1 < len(lengths) and lengths[index + 1].growth > 0:
                gone.add(places[index + 1])
    return between(set(places) - gone, widths)


def _refined(cut: Cut, inner: Sequence[Optional[Cut]]) -> Cut:
    """A split whose pieces are split again along the same axis cuts into the finest pieces."""
    dim, lengths = cut
    if len(inner) != len(lengths):
        return cut
    fine: list[Size] = []
    for length, further in zip(lengths, inner):
        fine.extend(
            further[1] if further is not None and further[0] == dim and further[1] and length != UNIT else (length,)
        )
    return dim, tuple(fine)


def _some(cut: Cut) -> Cut:
    """Without blocks that have no entries (``split([0, n])``)."""
    return cut[0], tuple(length for length in cut[1] if length.terms)


def _split_cut(layout: Layout, whole: Shape) -> Optional[Cut]:
    """The cut that a split makes, pieces without entries included; of a short axis of blocks, the one that a select or
    unbind does."""
    takes = layout.takes
    if takes is None:
        return None
    if len(layout.results[0]) < len(whole):
        size = whole[-takes.axis]
        count = size.terms[0][1] if size.is_constant and size.terms else 0
        return (takes.axis, (UNIT,) * int(count)) if 2 <= count <= MOST_STACKED else None
    return (takes.axis, takes.lengths) if size_sum(takes.lengths) == whole[-takes.axis] else None
