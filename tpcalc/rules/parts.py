"""Parts of an axis, as rules declare them: taken, put back among zeros, joined one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Optional

from tpcalc.algebra.size import UNIT, Size
from tpcalc.program.ir import references
from tpcalc.rules.axes import At, Axes, PaddedAxes, first_shape, result_shapes, wired
from tpcalc.rules.call import Call
from tpcalc.rules.layout import Labels, Layout, Pieces, Shape, places, position


@dataclass(frozen=True)
class Padded(Axes):
    """Zeros beside one axis, from the list of (left, right) of argument 1; where that is negative, a part of it."""

    pieces: ClassVar[bool] = True

    def layout(self, call: Call) -> Layout:
        before, after = call.shape(0), first_shape(call)
        over = set(PaddedAxes(1).of(call, len(before)))
        labels = tuple(None if axis in over else axis for axis in range(len(before), 0, -1))
        takes = puts = None
        if len(over) == 1 and not call.arg(2, "value", 0):
            (axis,) = over
            left, right = call.arg(1)[2 * axis - 2 : 2 * axis]
            if isinstance(left, int) and isinstance(right, int):
                if left >= 0 and right >= 0:
                    puts = Pieces(axis, (Size.constant(left),), (before[-axis],))
                elif left <= 0 and right <= 0:
                    takes = Pieces(axis, (Size.constant(-left),), (after[-axis],))
        return wired(call, {0: labels}, [labels], takes=takes, puts=puts)


@dataclass(frozen=True)
class Picked(Axes):
    """Parts of an axis: split, chunk, unbind, slice, select, narrow.  ``start``, ``step``: their arguments; without a
    start the parts follow on each other."""

    pieces: ClassVar[bool] = True

    axis: At = At(1)
    start: Optional[int] = None
    step: Optional[int] = None

    def layout(self, call: Call) -> Layout:
        whole = call.shape(0)
        parts = result_shapes(call)
        axis, pieces = _pieces(
            self, call, whole, [part for out, part in zip(call.node.outputs, parts) if out is not None]
        )
        labels = tuple(range(len(whole), 0, -1))
        entire = pieces is not None and pieces.lengths == (whole[-axis],)
        if pieces is not None and (entire or len(pieces.lengths) < len(parts)):
            pieces = None
        return wired(call, {0: labels}, [_without(labels, axis, part, whole, entire) for part in parts], takes=pieces)


@dataclass(frozen=True)
class PutBack(Axes):
    """The backward of a slice or select: the operand is put into zeros."""

    pieces: ClassVar[bool] = True

    axis: At = At(2)
    start: Optional[int] = 3
    step: Optional[int] = None

    def layout(self, call: Call) -> Layout:
        whole, part = first_shape(call), call.shape(0)
        axis, pieces = _pieces(self, call, whole, [part])
        labels = tuple(range(len(whole), 0, -1))
        entire = pieces is not None and pieces.lengths == (whole[-axis],)
        inner = _without(labels, axis, part, whole, entire)
        return wired(call, {0: inner}, [labels], puts=None if entire else pieces)


@dataclass(frozen=True)
class Joined(Axes):
    """Operands one after the other along an axis: cat, and stack, where it is new."""

    pieces: ClassVar[bool] = True

    axis: At = At(1, default=0)

    def layout(self, call: Call) -> Layout:
        whole = first_shape(call)
        (axis,) = self.axis.of(call, len(whole))
        labels = tuple(range(len(whole), 0, -1))
        shapes = [call.values[vid].shape for vid in references(call.arg(0))]
        inner = [_without(labels, axis, shape, whole, False) for shape in shapes]
        lengths = tuple(shape[-axis] if len(shape) == len(whole) else UNIT for shape in shapes)
        outer = tuple(None if label == axis else label for label in labels)
        return Layout(tuple(inner), (outer,), puts=Pieces(axis, places(lengths)[:-1], lengths))


def _pieces(axes: "Picked | PutBack", call: Call, whole: Shape, parts: Sequence[Shape]) -> tuple[int, Optional[Pieces]]:
    """The axis that is cut, and the pieces where they can be told."""
    found = axes.axis.of(call, len(whole))
    if len(found) != 1:
        return 0, None
    (axis,) = found
    if axes.step is not None and call.arg(axes.step) not in (None, 1):
        return axis, None
    lengths = tuple(part[-axis] if len(part) == len(whole) else UNIT for part in parts)
    if axes.start is not None:
        start = position(call.arg(axes.start), whole[-axis])
        return axis, None if start is None else Pieces(axis, (start,), lengths)
    starts = places(lengths)
    return axis, Pieces(axis, starts[:-1], lengths) if starts[-1] == whole[-axis] else None


def _without(labels: Labels, axis: int, part: Shape, whole: Shape, entire: bool) -> Labels:
    """The labels of a piece along ``axis`` (0: some axis): the others stay, and this one too where it is ``entire``."""
    if entire or (axis == 0 and len(part) == len(whole)):
        return tuple(label if a == b else None for label, a, b in zip(labels, part, whole))
    if len(part) == len(whole):
        return tuple(None if label == axis else label for label in labels)
    left = tuple(label for label in labels if label != axis)
    return left if axis and len(left) == len(part) else (None,) * len(part)
