"""The plan of cuts: which weights come in blocks.

A packed weight (q, k and v in one matrix; Mamba's ``x_proj`` of size ``n/16 + 2*state``) makes a value whose axis is later
split.  The blocks may grow differently and have different budgets.  The plan walks from every split back to the
weight, and from every concatenation to the weight that contracts it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

from tpcalc.algebra.size import Size, size_difference, size_sum
from tpcalc.errors import FitError
from tpcalc.lower.wiring import Wiring
from tpcalc.program.ir import Node, Program
from tpcalc.rules.layout import UNIT, Cut, Layout, Shape, places

#: An axis longer than this is not taken for a stack of packed blocks (q, k, v; the four gates).
MOST_STACKED = 6


def ends_of(lengths: Sequence[Size]) -> Optional[tuple[Size, ...]]:
    """0 and the end of every block; None when one is rounded."""
    ends = places(tuple(lengths))
    return None if None in ends else tuple(end for end in ends if end is not None)


def _between(ends: "set[Size]", widths: Sequence[int]) -> Optional[tuple[Size, ...]]:
    """The lengths between places on an axis, in order; None where the order depends on the width."""
    try:
        ordered = sorted(ends, key=lambda end: end.at(widths[-1]))
        lengths = [size_difference(b, a) for a, b in zip(ordered, ordered[1:])]
        if any(length is None or length.at(width) <= 0 for length in lengths for width in widths):
            return None
    except FitError:
        return None
    return tuple(lengths)


def plan(wiring: Wiring) -> dict[int, Cut]:
    """Weight value -> how it is cut: its rows where its result is split or sliced in the forward pass, its columns where
    it meets a concatenation of parts that grow differently."""
    program = wiring.program
    wanted: dict[int, Cut] = {}
    places: dict[int, dict[int, set[Size]]] = {}
    weights = {weight.value for weight in program.weights}
    forward = [node for node in program.nodes if node.phase == "forward"]
    joined = _joined(wiring, forward)
    for node in reversed(forward):
        for out in node.outputs:
            _want_places(program, wanted, out, places.pop(out, None) if out is not None else None)
        asked = wiring.has_pieces(node) or any(out in wanted for out in node.outputs)
        if not asked and not (joined and any(ref in joined for ref in node.refs)):
            continue
        refs, layout = tuple(node.refs), wiring.layout(node)
        _want_columns(program, wanted, node, layout, joined)
        if layout.takes is not None and any(out in program.consumers for out in node.outputs):
            whole = program.values[refs[0]].shape
            axis, ends = layout.takes.axis, layout.takes.ends(0)
            if len(node.outputs) == 1 and ends is not None and whole[-axis].growth > 0:
                inner = _pop(wanted, node.outputs[0])
                places.setdefault(refs[0], {}).setdefault(axis, set()).update(_inner_places((axis, *ends), inner))
                continue
            cut = _split_cut(layout, whole)
            if cut is not None:
                pieces = [_pop(wanted, out) for out in node.outputs]
                _want(program, wanted, refs[0], _refined(cut, pieces))
                continue
        for index, out in enumerate(node.outputs):
            cut = _pop(wanted, out)
            if cut is not None:
                for slot, source in layout.back(index, cut):
                    _want(program, wanted, refs[slot], source)
    for vid in weights:
        _want_places(program, wanted, vid, places.pop(vid, None))
    # blocks of a fixed axis (the three of an axis of size 3) are no packing
    return {vid: cut for vid, cut in wanted.items() if vid in weights and any(length.growth > 0 for length in cut[1])}


def _pop(wanted: dict[int, Cut], vid: Optional[int]) -> Optional[Cut]:
    return None if vid is None else wanted.pop(vid, None)


def _inner_places(pick: tuple[int, Size, Size], inner: Optional[Cut]) -> set[Size]:
    """The ends of a slice, and those of the blocks that it is cut into in turn."""
    dim, start, end = pick
    found = {start, end}
    if inner is not None and inner[0] == dim:
        found.update(size_sum((start, place)) or start for place in ends_of(inner[1]) or ())
    return found


def _want_places(
    program: Program, wanted: dict[int, Cut], vid: Optional[int], found: "Optional[dict[int, set[Size]]]"
) -> None:
    """Turn the ends of all slices of a value into a cut."""
    if vid is None or not found:
        return
    for dim, places in sorted(found.items()):
        lengths = _between(places | {Size(()), program.values[vid].shape[-dim]}, program.widths)
        if lengths is not None and len(lengths) > 1:
            _want(program, wanted, vid, (dim, lengths))


def _joined(wiring: Wiring, forward: Sequence[Node]) -> dict[int, Cut]:
    """Values that are concatenations of parts that grow differently, with the parts."""
    joined: dict[int, Cut] = {}
    for node in forward:
        if not wiring.has_pieces(node) and not (joined and any(ref in joined for ref in node.refs)):
            continue
        refs, layout = tuple(node.refs), wiring.layout(node)
        if layout.puts is not None and node.outputs[0] is not None:
            lengths: list[Size] = []
            stacked = len(layout.operands[0]) < len(layout.results[0])
            for ref, length in zip(refs, layout.puts.lengths):
                inner = None if stacked else joined.get(ref)
                lengths.extend(inner[1] if inner is not None and inner[0] == layout.puts.axis else (length,))
            if len({length.growth for length in lengths}) > 1:
                joined[node.outputs[0]] = layout.puts.axis, tuple(lengths)
        for slot, ref in enumerate(refs):
            for index, out in enumerate(node.outputs):
                cut = layout.forth(slot, joined[ref], index) if ref in joined and out is not None else None
                if cut is not None and out is not None:
                    joined[out] = cut
    return joined


def _want_columns(
    program: Program, wanted: dict[int, Cut], node: Node, layout: Layout, joined: Mapping[int, Cut]
) -> None:
    """A weight that contracts a concatenation is cut into the columns that meet each part; what is added to one, into its
    parts."""
    refs = tuple(node.refs)
    for slot, ref in enumerate(refs):
        label = layout.label(slot, joined[ref][0]) if ref in joined else None
        if label is not None and label in layout.summed:
            for other, cut in layout.along(label, joined[ref][1]):
                if other != slot:
                    _want(program, wanted, refs[other], cut)
    out = node.outputs[0] if node.outputs else None
    if out in joined and layout.regrouped is None:
        for slot, cut in layout.back(0, joined[out]):
            _want(program, wanted, refs[slot], cut)


def _want(program: Program, wanted: dict[int, Cut], vid: int, cut: Cut) -> None:
    """Record a cut.  Two along one axis are merged; of two along different axes that of the growing axis stays, if there is one."""
    other = wanted.get(vid)
    if other is None or other == cut:
        wanted[vid] = cut
        return
    if other[0] == cut[0] and other[1] and cut[1]:
        ends, more = ends_of(other[1]), ends_of(cut[1])
        lengths = _between({*ends, *more}, program.widths) if ends is not None and more is not None else None
        wanted[vid] = (cut[0], lengths or ())
        return
    grow = [c for c in (other, cut) if any(length.growth > 0 for length in c[1])]
    wanted[vid] = grow[0] if len(grow) == 1 else (cut[0], ())


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
