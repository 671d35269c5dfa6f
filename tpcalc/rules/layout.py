"""The labels of a call's axes: which axis of a result is which axis of an operand.

Every axis of every operand and result has a label, and axes with one label are one index, as the letters of an einsum
are.  An axis without a label is mixed with others, or its fate is not known; nothing is guessed.

Axes are counted from the right, 1 is the last one: that is how tensors broadcast.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from operator import mul
from typing import Any, NamedTuple, Optional

from tpcalc.algebra.size import NOTHING, UNIT, Size, size_difference, size_product, size_quotient, size_sum
from tpcalc.rules.structures import Powers, Sizes

Labels = tuple[Optional[Hashable], ...]
Shape = tuple[Size, ...]
#: An axis and the lengths of the blocks along it.
Cut = tuple[int, tuple[Size, ...]]


def places(lengths: tuple[Size, ...]) -> tuple[Optional[Size], ...]:
    """0 and the end of every block; None from the first rounded one on."""
    found: list[Optional[Size]] = [NOTHING]
    for length in lengths:
        found.append(None if found[-1] is None else size_sum((found[-1], length)))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pieces of the axis ``axis`` of a whole: where each starts (None: not exact) and how long it is (1 where it lacks
    the axis)."""

    axis: int
    starts: tuple[Optional[Size], ...]
    lengths: tuple[Size, ...]

    def ends(self, index: int) -> Optional[tuple[Size, Size]]:
        """Start and end of a piece."""
        start = self.starts[index]
        end = None if start is None else size_sum((start, self.lengths[index]))
        return None if start is None or end is None else (start, end)


@dataclass(frozen=True, slots=True)
class Move:
    """The entries along ``axis`` in another order: from ``start`` of the operand on, and round; None: reversed."""

    axis: int
    start: Optional[Size]

    def order(self, lengths: tuple[Size, ...]) -> Optional[tuple[int, ...]]:
        """The blocks of the operand, with an end at ``start``, in the order of the result."""
        count = len(lengths)
        if self.start is None:
            return tuple(reversed(range(count)))
        ends = places(lengths)
        if self.start not in ends:
            return None
        first = ends.index(self.start) % count
        return (*range(first, count), *range(first))

    def inverse(self, whole: Size) -> "Optional[Move]":
        """The move back, of an axis as long as ``whole``."""
        if self.start is None:
            return self
        start = size_difference(whole, self.start)
        return None if start is None else Move(self.axis, start)


class Layout(NamedTuple):
    """The labels of a call's tensors: ``operands`` in the order of ``node.refs``, ``results`` in that of the outputs.

    ``summed``: labels that a contraction sums over.  ``takes``: the results are pieces of the first operand.
    ``puts``: the operands are pieces of the result.  ``regrouped``: shapes of operand and result with the same entries
    in the same order.  ``counter``: the argument that counts the channels of a block.  ``sizes``: of a contraction.
    ``shared``: labels that a norm runs along: each entry keeps its place and counts in a mean over all.  ``moves``:
    axes whose entries only change places.
    """

    operands: tuple[Labels, ...]
    results: tuple[Labels, ...]
    summed: frozenset[Hashable] = frozenset()
    takes: Optional[Pieces] = None
    puts: Optional[Pieces] = None
    regrouped: Optional[tuple[Shape, Shape]] = None
    counter: Optional[int] = None
    sizes: Optional[Sizes] = None
    shared: frozenset[Hashable] = frozenset()
    moves: tuple[Move, ...] = ()

    def label(self, slot: int, axis: int) -> Optional[Hashable]:
        labels = self.operands[slot]
        return labels[-axis] if 0 < axis <= len(labels) else None

    def place(self, result: int, label: Optional[Hashable]) -> Optional[int]:
        """The axis of a result with ``label``."""
        return _place(self.results[result], label)

    def move(self, axis: int) -> Optional[Move]:
        return next((move for move in self.moves if move.axis == axis), None)

    def forth(self, slot: int, cut: Cut, result: int = 0) -> Optional[Cut]:
        """How a result is cut if an operand is."""
        axis = self.place(result, self.label(slot, cut[0]))
        if axis is None:
            return regrouped(*self.regrouped, cut) if self.regrouped is not None and slot == result == 0 else None
        return axis, cut[1]

    def back(self, result: int, cut: Cut) -> list[tuple[int, Cut]]:
        """How operands must be cut so that a result is: ``(operand, cut)``."""
        labels = self.results[result]
        label = labels[-cut[0]] if cut[0] <= len(labels) else None
        if label is not None:
            return self.along(label, cut[1])
        source = regrouped(self.regrouped[1], self.regrouped[0], cut) if self.regrouped is not None else None
        return [(0, source)] if source is not None else []

    def along(self, label: Hashable, lengths: tuple[Size, ...]) -> list[tuple[int, Cut]]:
        """The operands that have an axis with ``label``, each cut along it."""
        places = ((slot, _place(labels, label)) for slot, labels in enumerate(self.operands))
        return [(slot, (axis, lengths)) for slot, axis in places if axis is not None]


def _place(labels: Labels, label: Optional[Hashable]) -> Optional[int]:
    return len(labels) - labels.index(label) if label is not None and label in labels else None


def regrouped(before: Shape, after: Shape, cut: Cut) -> Optional[Cut]:
    """The cut of a reshaped value, given that of the value (called the other way round, the reverse).

    An axis becomes one that counts pieces before axes that hold one piece (blocks of whole pieces stay blocks: 3
    matrices, or heads of a fixed dimension), or that is undone.
    """
    axis, lengths = cut
    if axis > len(before):
        return None
    # (pieces, axes of a piece) -> one axis
    for right in range(1, min(axis, len(after) + 1)):
        inner = size_product(before[len(before) - axis + 1 : len(before) - right + 1])
        if inner is None or before[len(before) - right + 1 :] != after[len(after) - right + 1 :]:
            continue
        if after[-right] == size_product((inner, before[-axis])):
            whole = [size_product((inner, length)) for length in lengths]
            return None if None in whole else (right, tuple(length for length in whole if length is not None))
    # one axis -> (pieces, axes of a piece)
    if before[len(before) - axis + 1 :] != after[len(after) - axis + 1 :]:
        return None
    for right in range(axis + 1, len(after) + 1):
        inner = size_product(after[len(after) - right + 1 : len(after) - axis + 1])
        if inner is None or size_product((inner, after[-right])) != before[-axis]:
            continue
        pieces = [quotient for length in lengths if (quotient := size_quotient(length, inner)) is not None]
        whole_pieces = all(k.denominator == 1 for piece in pieces for p, k in piece.terms if p == 0)
        return (right, tuple(pieces)) if len(pieces) == len(lengths) and whole_pieces else None
    return None


def grouped(before: Shape, after: Shape) -> list[tuple[set[int], set[int]]]:
    """Which axes of a value, from the right, are which of it reshaped: runs with the same product, as short as may be.
    Axes of length 1 are nowhere."""
    ends = {product: end for end, product in enumerate(_products(before))}
    found, start, past = [], 0, 0
    for end, product in enumerate(_products(after)):
        if end and after[end - 1] is not UNIT and product in ends:
            old = range(start, ends[product])
            found.append(({len(before) - i for i in old}, {len(after) - j for j in range(past, end)}))
            start, past = ends[product], end
    return found


def _products(shape: Shape) -> Iterator[Size]:
    """Of the first axes, none of them and more and more: as far as they are known exactly."""
    known = takewhile(lambda size: not size.rounded, shape)
    return accumulate(known, mul, initial=UNIT)


def powers(shape: Sequence[Size]) -> Powers:
    return tuple((size, 1) for size in shape)


def matmul_labels(x: int, y: int, out: int) -> tuple[Labels, Labels, Labels]:
    """Labels of ``x[..., m, k] y[..., k, p]`` and its result, of tensors with these ranks."""
    m, p = ("m",) * (x > 1), ("p",) * (y > 1)
    batch = tuple(range(out - len(m) - len(p), 0, -1))

    def lead(rank: int) -> Labels:
        return tuple(axis if axis <= len(batch) else None for axis in range(rank - 2, 0, -1))

    return (*lead(x), *m, "k"), (*lead(y), "k", *p), (*batch, *m, *p)


def linear_labels(x: int, y: int) -> tuple[Labels, Labels, Labels]:
    """Labels of ``x[..., k] y[p, k]`` and its result."""
    lead, p = tuple(range(x - 1, 0, -1)), ("p",) * (y > 1)
    return (*lead, "k"), (*p, "k"), (*lead, *p)


def long(labels: Labels, shape: Shape, out: Shape, names: Labels) -> Labels:
    """The labels of an operand whose result has labels ``names``, without the axes of length 1 that are broadcast."""
    lengths = dict(zip(names, out))
    return tuple(label if lengths.get(label, size) == size else None for label, size in zip(labels, shape))


def broadcast(shape: Shape, out: Shape, labels: Labels) -> Labels:
    """The labels of an operand that is broadcast to a result with ``labels``."""
    return tuple(
        labels[-axis] if axis <= len(out) and shape[-axis] == out[-axis] else None for axis in range(len(shape), 0, -1)
    )


def position(index: Any, size: Size) -> Optional[Size]:
    """An index as a distance from the left end (a negative one counts from the right end)."""
    if index is None or isinstance(index, int):
        index = Size.constant(index or 0)
    if not isinstance(index, Size) or index.rounded:
        return None
    return size_sum((size, index)) if index.terms and index.terms[0][1] < 0 else index
