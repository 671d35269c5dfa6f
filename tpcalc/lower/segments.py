"""Values in blocks: what they are, cut further, joined, and as sums of parts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Optional

from tpcalc.algebra.order import MINUS_INFINITY, Order
from tpcalc.algebra.size import UNIT, Size
from tpcalc.lower.atoms import Writer
from tpcalc.lower.cuts import between, ends_of
from tpcalc.program.ir import Node
from tpcalc.rules.structures import Known, Scale, Sum, View


@dataclass(frozen=True)
class Segments:
    """A value in blocks along ``axis`` (counted from the right: 1 is the last one), with their lengths.

    A gradient may be ``scattered``: the sum of its parts, each with as many entries as its length says, anywhere.
    """

    axis: int
    lengths: tuple[Size, ...]
    parts: tuple[int, ...]
    scattered: bool = False


def differ(lengths: tuple[Size, ...]) -> bool:
    """Whether blocks grow differently."""
    return len({length.growth for length in lengths}) > 1


def fine(writer: Writer, held: Segments, ends: Collection[Size], node: int) -> Optional[Segments]:
    """Blocks of a value that also end at ``ends``; None where the order of the ends depends on the width."""
    own = ends_of(held.lengths)
    if own is None or set(ends) <= set(own):
        return None if own is None else held
    lengths = between({*own, *ends}, writer.program.widths)
    if lengths is None:
        return None
    places: Any = ends_of(lengths)
    if places[-1] != own[-1]:
        return None
    parts, block = [], -1
    for length, start in zip(lengths, places):
        block += start in own
        inner = held.parts[block]
        if length != held.lengths[block]:
            part = writer.part(writer.values[inner], held.axis, length)
            inner = writer.emit(View(inner), node, part)
        parts.append(inner)
    return Segments(held.axis, lengths, tuple(parts))


def coarse(writer: Writer, held: Segments, lengths: tuple[Size, ...], node: int) -> Optional[Segments]:
    """Blocks with these lengths, each some of a value's; None where one is not."""
    own, ends = ends_of(held.lengths), ends_of(lengths)
    if own is None or ends is None or not set(ends) <= set(own) or held.scattered:
        return None
    parts = []
    for length, start, end in zip(lengths, ends, ends[1:]):
        group = held.parts[own.index(start) : own.index(end)]
        if len(group) == 1:
            parts.append(group[0])
            continue
        part = writer.part(writer.values[group[0]], held.axis, length)
        parts.append(writer.emit(Sum(group, how="choice"), node, part))
    return Segments(held.axis, lengths, tuple(parts))


def by_growth(
    writer: Writer, node: Node, refs: tuple[int, ...], held: dict[int, Segments], linear: list[int]
) -> dict[int, Segments]:
    """Gradients as sums of parts, one for each growth: most entries, and the few with gradients of their own."""
    tables: dict[int, dict[Order, int]] = {}
    lengths: dict[Order, Size] = {}
    axes: dict[int, int] = {}
    for i in linear:
        s = held.get(i)
        axes[refs[i]] = axis = next(iter(held.values())).axis if s is None else s.axis
        whole = (
            writer.program.values[refs[i]].shape[-axis] if axis <= len(writer.program.values[refs[i]].shape) else UNIT
        )
        pairs = ((whole, refs[i]),) if s is None else tuple(zip(s.lengths, s.parts))
        table: dict[Order, list[int]] = {}
        for length, part in pairs:
            lengths.setdefault(length.growth, length)
            table.setdefault(length.growth, []).append(part)
        tables[refs[i]] = {
            growth: parts[0] if len(parts) == 1 else writer.emit(
                Sum(tuple(parts), how="choice"), node.index, writer.copy(parts[0])
            )
            for growth, parts in table.items()
        }  # fmt: skip
    found = {}
    for ref, own in tables.items():
        parts = []
        for growth, length in lengths.items():
            if growth in own:
                parts.append(own[growth])
                continue
            part = writer.part(writer.program.values[ref], axes[ref], length)
            parts.append(writer.emit(Known(MINUS_INFINITY), node.index, part))
        found[ref] = Segments(axes[ref], tuple(lengths.values()), tuple(parts), scattered=True)
    return found


def averaged(writer: Writer, node: Node, lengths: tuple[Size, ...], parts: list[int]) -> list[int]:
    """Gradients behind a norm over all blocks: each has a mean over the others beside its own."""
    if len(parts) != len(lengths):
        return parts
    growths = [length.growth for length in lengths]
    most = max(growths)
    spread = [Scale(part, growth - most) for part, growth in zip(parts, growths)]
    return [
        writer.emit(Sum((part, *spread[:i], *spread[i + 1 :])), node.index, writer.copy(part))
        for i, part in enumerate(parts)
    ]
