"""The plan of cuts: which weights come in blocks.

A packed weight (q, k and v in one matrix; Mamba's ``x_proj`` of size ``n/16 + 2*state``) makes a value whose axis is
later split.  The blocks may grow differently and have different budgets.  The plan walks from every split back to the
weight, and from every concatenation to the weight that contracts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from tpcalc.algebra.size import Size, size_difference, size_sum
from tpcalc.errors import FitError
from tpcalc.lower.wiring import Wiring
from tpcalc.program.ir import Node
from tpcalc.rules.layout import UNIT, Cut, Layout, Shape, places

#: An axis longer than this is not taken for a stack of packed blocks (q, k, v; the four gates).
MOST_STACKED = 6


def ends_of(lengths: Sequence[Size]) -> Optional[tuple[Size, ...]]:
    """0 and the end of every block; None when one is rounded."""
    ends = [end for end in places(tuple(lengths)) if end is not None]
    return tuple(ends) if len(ends) > len(lengths) else None


def _between(ends: set[Size], widths: Sequence[int]) -> Optional[tuple[Size, ...]]:
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


def plan(wiring: Wiring) -> dict[int, Cut]:
    """Weight value -> how it is cut: its rows where its result is split or sliced in the forward pass, its columns
    where it meets a concatenation of parts that grow differently."""
    return _Plan(wiring).run()


class _Plan:
    """One pass over the forward nodes and one back.  Mutable while it runs, discarded afterwards.

    ``wanted``: how values must be cut.  ``places``: value -> axis -> the ends of its slices.  ``joined``: values that
    are concatenations of parts that grow differently, with the parts.
    """

    def __init__(self, wiring: Wiring) -> None:
        self.wiring, self.program = wiring, wiring.program
        self.wanted: dict[int, Cut] = {}
        self.places: dict[int, dict[int, set[Size]]] = {}
        self.joined: dict[int, Cut] = {}

    def run(self) -> dict[int, Cut]:
        forward = [node for node in self.program.nodes if node.phase == "forward"]
        for node in forward:
            if self.wiring.has_pieces(node) or (self.joined and any(ref in self.joined for ref in node.refs)):
                self.join(node, self.wiring.layout(node))
        for node in reversed(forward):
            outs = [out for out in node.outputs if out is not None]
            for out in outs:
                self.settle(out)
            wanted = self.wiring.has_pieces(node) or any(out in self.wanted for out in outs)
            if wanted or (self.joined and any(ref in self.joined for ref in node.refs)):
                self.go_back(node, self.wiring.layout(node))
        weights = {weight.value for weight in self.program.weights}
        for vid in weights:
            self.settle(vid)
        # blocks of a fixed axis (the three of an axis of size 3) are no packing
        return {
            vid: cut
            for vid, cut in self.wanted.items()
            if vid in weights and any(length.growth > 0 for length in cut[1])
        }

    def join(self, node: Node, layout: Layout) -> None:
        """Note a concatenation of parts that grow differently, and what keeps the parts of one."""
        refs, out, puts = tuple(node.refs), node.outputs[0], layout.puts
        if puts is not None and out is not None:
            lengths: list[Size] = []
            stacked = len(layout.operands[0]) < len(layout.results[0])
            for ref, length in zip(refs, puts.lengths):
                inner = None if stacked else self.joined.get(ref)
                lengths.extend(inner[1] if inner is not None and inner[0] == puts.axis else (length,))
            if len({length.growth for length in lengths}) > 1:
                self.joined[out] = puts.axis, tuple(lengths)
        for slot, ref in enumerate(refs):
            for index, made in enumerate(node.outputs):
                cut = layout.forth(slot, self.joined[ref], index) if ref in self.joined else None
                if cut is not None and made is not None:
                    self.joined[made] = cut

    def go_back(self, node: Node, layout: Layout) -> None:
        """From what is wanted of a node's results to what must be cut before it."""
        refs, takes = tuple(node.refs), layout.takes
        self.want_columns(node, refs, layout)
        if takes is not None and any(out in self.program.consumers for out in node.outputs):
            whole, ends = self.program.values[refs[0]].shape, takes.ends(0)
            if len(node.outputs) == 1 and ends is not None and whole[-takes.axis].growth > 0:
                found = _inner_places((takes.axis, *ends), self.pop(node.outputs[0]))
                self.places.setdefault(refs[0], {}).setdefault(takes.axis, set()).update(found)
                return
            split = _split_cut(layout, whole)
            if split is not None:
                self.want(refs[0], _refined(split, [self.pop(out) for out in node.outputs]))
                return
        for index, out in enumerate(node.outputs):
            cut = self.pop(out)
            for slot, source in layout.back(index, cut) if cut is not None else ():
                self.want(refs[slot], source)

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
            lengths = _between(found | {Size(()), self.program.values[vid].shape[-axis]}, self.program.widths)
            if lengths is not None and len(lengths) > 1:
                self.want(vid, (axis, lengths))

    def pop(self, vid: Optional[int]) -> Optional[Cut]:
        return None if vid is None else self.wanted.pop(vid, None)

    def want(self, vid: int, cut: Cut) -> None:
        """Record a cut.  Two along one axis are merged; of two along different axes that of the growing axis stays, if
        there is one."""
        other = self.wanted.get(vid)
        if other is None or other == cut:
            self.wanted[vid] = cut
        elif other[0] == cut[0] and other[1] and cut[1]:
            ends, more = ends_of(other[1]), ends_of(cut[1])
            lengths = _between({*ends, *more}, self.program.widths) if ends is not None and more is not None else None
            self.wanted[vid] = (cut[0], lengths or ())
        else:
            grow = [c for c in (other, cut) if any(length.growth > 0 for length in c[1])]
            self.wanted[vid] = grow[0] if len(grow) == 1 else (cut[0], ())


def _inner_places(pick: tuple[int, Size, Size], inner: Optional[Cut]) -> set[Size]:
    """The ends of a slice, and those of the blocks that it is cut into in turn."""
    dim, start, end = pick
    found = {start, end}
    if inner is not None and inner[0] == dim:
        found.update(size_sum((start, place)) or start for place in ends_of(inner[1]) or ())
    return found


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


def _split_cut(layout: Layout, whole: Shape) -> Optional[Cut]:
    """The cut that a split makes; of a short axis of blocks, the one that a select or unbind does."""
    takes = layout.takes
    if takes is None:
        return None
    if len(layout.results[0]) < len(whole):
        size = whole[-takes.axis]
        count = size.terms[0][1] if size.is_constant and size.terms else 0
        return (takes.axis, (UNIT,) * int(count)) if 2 <= count <= MOST_STACKED else None
    return (takes.axis, takes.lengths) if size_sum(takes.lengths) == whole[-takes.axis] else None
