"""What an op does to axes, as rules declare it.

A rule names one of the small classes below beside its ops, or leaves its axes to the structure
(:mod:`tpcalc.rules.inference`).  Either way a call gives a :class:`~tpcalc.rules.layout.Layout`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Optional

from tpcalc.algebra.size import NOTHING, UNIT, Size, size_difference
from tpcalc.program.ir import Ref, references
from tpcalc.rules.call import Call
from tpcalc.rules.layout import (
    Labels,
    Layout,
    Move,
    Shape,
    broadcast,
    linear_labels,
    long,
    matmul_labels,
    position,
    powers,
)
from tpcalc.rules.structures import Sizes

# Which axes: of a call, counted from the right.


@dataclass(frozen=True, slots=True)
class At:
    """The axes that an argument names (none named: all)."""

    index: int
    name: str = "dim"
    default: Any = None

    def of(self, call: Call, rank: int) -> Collection[int]:
        dims = call.arg(self.index, self.name, self.default)
        if isinstance(dims, int) and not isinstance(dims, bool):
            dims = (dims,)
        if not isinstance(dims, tuple) or not dims or not all(isinstance(dim, int) for dim in dims):
            return range(1, rank + 1)
        return {rank - dim % rank for dim in dims} if rank else ()


@dataclass(frozen=True, slots=True)
class Last:
    """The last ``count`` axes; with ``listed`` as many as that argument lists."""

    count: int = 0
    listed: Optional[int] = None

    def of(self, call: Call, rank: int) -> Collection[int]:
        return range(1, 1 + (self.count if self.listed is None else len(call.arg(self.listed))))


@dataclass(frozen=True, slots=True)
class Before:
    """All but the last ``count`` axes."""

    count: int

    def of(self, call: Call, rank: int) -> Collection[int]:
        return range(1 + self.count, rank + 1)


@dataclass(frozen=True, slots=True)
class PaddedAxes:
    """The axes that a list of (left, right) pads, from the last axis on, changes."""

    index: int

    def of(self, call: Call, rank: int) -> Collection[int]:
        pads = call.arg(self.index)
        return [1 + i // 2 for i, pad in enumerate(pads) if pad != 0]


# The declarations.


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Base class.  ``same``: the result has each entry of the first operand and no others.  ``mean``: which result is a
    mean of the first operand.  ``pieces``: whether results or operands are pieces of an axis.  ``picks``: the axes of
    the first operand of which it takes some entries (the largest, those that an index names) or weighs them."""

    same: bool = False
    mean: Optional[int] = None
    picks: "At | Last | Before | None" = None
    pieces: ClassVar[bool] = False

    def picked(self, call: Call) -> Collection[int]:
        """The axes that ``picks`` names, from the right."""
        return () if self.picks is None else self.picks.of(call, len(call.shape(0)))

    def layout(self, call: Call) -> Layout:
        raise NotImplementedError


@dataclass(frozen=True)
class Kept(Axes):
    """Entry by entry with broadcasting, ``but`` along some axes: elementwise ops, casts, norms and softmax (all but
    what they normalise over), look-ups, padding, pooling.

    ``of``: places of the arguments that take part (None: every tensor).  ``shared``: along the axes that ``but`` names
    each entry keeps its place, and counts in a mean over all.
    """

    but: "At | Last | Before | PaddedAxes | None" = None
    of: Optional[tuple[int, ...]] = None
    shared: bool = field(default=False, kw_only=True)

    def layout(self, call: Call) -> Layout:
        frame = first_shape(call)
        rank = max(len(frame), len(call.shape(0)))
        named = self.but.of(call, rank) if self.but is not None else ()
        changed, shared = ((), frozenset(named)) if self.shared else (named, frozenset())

        def labels(shape: Shape) -> Labels:
            axes = range(len(shape), 0, -1)
            return tuple(
                axis if axis <= len(frame) and axis not in changed and shape[-axis] == frame[-axis] else None
                for axis in axes
            )

        taking_part = _tensors(call) if self.of is None else {i: call.shape(i) for i in self.of if call.is_tensor(i)}
        by_arg = {i: labels(shape) for i, shape in taking_part.items()}
        return wired(call, by_arg, [labels(s) for s in result_shapes(call)], shared=shared)


#: Positions change in ways that no block survives.
MIXED = Kept(but=Before(0))
#: The same, of ops that take the largest entry of all, or those that an index names.
PICKED = Kept(but=Before(0), picks=Before(0))
KEPT = Kept()
SAME = Kept(same=True)


@dataclass(frozen=True)
class Moved(Axes):
    """The entries along some axes in another order: reversed, or with ``shifts`` rolled by what that argument says."""

    axes: At = At(1, "dims")
    shifts: Optional[int] = None

    def layout(self, call: Call) -> Layout:
        shape = call.shape(0)
        over = list(self.axes.of(call, len(shape)))
        if self.shifts is None:
            moves = [Move(axis, None) for axis in over]
        else:
            shifts, dims = call.arg(self.shifts, "shifts"), call.arg(self.axes.index, self.axes.name, ())
            dims = (dims,) if isinstance(dims, int) else dims
            over = [len(shape) - dim % len(shape) for dim in dims] or over
            shifts = shifts if isinstance(shifts, tuple) else (shifts,)
            ends = [position(_negative(shift), shape[-axis]) for axis, shift in zip(over, shifts) if dims]
            moves = [Move(axis, end) for axis, end in zip(over, ends) if end is not None]
        labels = tuple(None if axis in over else axis for axis in range(len(shape), 0, -1))
        return wired(call, {0: labels}, [labels], moves=tuple(moves))


def _negative(shift: Any) -> Any:
    if isinstance(shift, Size):
        return size_difference(NOTHING, shift)
    return -shift


@dataclass(frozen=True)
class Reduced(Axes):
    """A sum, mean, norm or extremum over some axes; the others stay, also where the reduced ones keep length 1."""

    over: "At | Last" = At(1)

    def layout(self, call: Call) -> Layout:
        shape = call.shape(0)
        over = self.over.of(call, len(shape))
        labels = tuple(range(len(shape), 0, -1))
        gone = {axis for axis in labels if axis in over}

        def left(out: Shape) -> Labels:
            if len(out) == len(shape):
                return tuple(None if axis in gone else axis for axis in labels)
            kept = tuple(axis for axis in labels if axis not in gone)
            return kept if len(kept) == len(out) else (None,) * len(out)

        return wired(call, {0: labels}, [left(out) for out in result_shapes(call)])


@dataclass(frozen=True)
class Permuted(Axes):
    """The axes in another order: ``reversed``, as ``listed`` by argument 1, or two exchanged: those at ``swap``, or
    ``given`` by arguments 1 and 2."""

    swap: "tuple[int, int] | str" = "listed"
    same: bool = field(default=True, kw_only=True)

    def layout(self, call: Call) -> Layout:
        rank = len(call.shape(0))
        order = list(range(rank))
        if self.swap == "reversed":
            order.reverse()
        elif self.swap == "listed":
            order = [dim % rank for dim in call.arg(1)]
        elif rank > 1:
            swap = self.swap if isinstance(self.swap, tuple) else (call.arg(1), call.arg(2))
            i, j = (int(dim) % rank for dim in swap)
            order[i], order[j] = order[j], order[i]
        return wired(call, {0: tuple(range(rank))}, [tuple(order)])


@dataclass(frozen=True)
class Viewed(Axes):
    """The same entries in the same order in another shape: axes carried along, merged, split, added and dropped."""

    same: bool = field(default=True, kw_only=True)

    def layout(self, call: Call) -> Layout:
        return viewed(call)


def viewed(call: Call) -> Layout:
    before, after = call.shape(0), first_shape(call)
    # axes of length 1 are nowhere: what stands first, or last, among the others is the same where it is as long
    long_before, long_after = ([i for i, size in enumerate(s) if size != UNIT] for s in (before, after))
    pairs = []
    for ends in (zip(long_before, long_after), zip(reversed(long_before), reversed(long_after))):
        for i, j in ends:
            if before[i] != after[j]:
                break
            pairs.append((i, j))
    carried, found = {i: i for i, _ in pairs}, {j: i for i, j in pairs}
    source = tuple(carried.get(i) for i in range(len(before)))
    return wired(call, {0: source}, [tuple(found.get(j) for j in range(len(after)))], regrouped=(before, after))


@dataclass(frozen=True)
class Contracted(Axes):
    """``x[..., m, k] y[..., k, p]``, or with ``linear`` ``x[..., k] y[p, k]``, of arguments ``x`` and ``y``, onto which
    the argument ``bias`` is added.  A vector stands for a matrix of one row or column."""

    x: int = 0
    y: int = 1
    bias: Optional[int] = None
    linear: bool = False

    def layout(self, call: Call) -> Layout:
        x, y, out = call.shape(self.x), call.shape(self.y), first_shape(call)
        labels = linear_labels(len(x), len(y)) if self.linear else matmul_labels(len(x), len(y), len(out))
        by_arg: dict[int, Labels] = {
            self.x: long(labels[0], x, out, labels[2]),
            self.y: long(labels[1], y, out, labels[2]),
        }
        if self.bias is not None and call.is_tensor(self.bias):
            by_arg[self.bias] = broadcast(call.shape(self.bias), out, labels[2])
        rest_x = x[-2:-1] if labels[0][-2:-1] else ()
        rest_y = y[:1] if self.linear else y[-1:]
        rest_y = rest_y if len(y) > 1 else ()
        sizes = Sizes(powers(x[-1:]), powers(rest_x), powers(rest_y))
        return wired(call, by_arg, [labels[2]], summed=frozenset("k"), sizes=sizes)


@dataclass(frozen=True)
class Convolved(Axes):
    """A convolution: channels are contracted over, unless each has a group of its own; batch is kept, space mixed.

    Places of the arguments: ``x`` and ``weight`` (and the gradient ``dy``, in the backward op, whose results are the
    gradients of x, weight and bias), ``bias``, ``transposed``, ``groups``.
    """

    x: int = 0
    weight: int = 1
    bias: Optional[int] = 2
    transposed: int = 6
    groups: int = 8
    dy: Optional[int] = None

    def layout(self, call: Call) -> Layout:
        x, weight = call.shape(self.x), call.shape(self.weight)
        transposed, groups = bool(call.arg(self.transposed)), call.arg(self.groups)
        outer, inner, *kernel = weight
        depthwise = not transposed and _is_size(groups, x[1]) and outer == x[1]
        channels: tuple[Any, Any] = ("o", "i") if groups == 1 else ("c", "c") if depthwise else (None, None)
        of_out, of_in = channels
        space = (None,) * (len(x) - 2)
        rows = (of_out,) if not depthwise else ("c",)
        columns = (of_in,) if not depthwise else (None,)
        by_arg: dict[int, Labels] = {
            self.x: ("b", of_in, *space),
            self.weight: (*columns, *rows, *space) if transposed else (*rows, *columns, *space),
        }
        result: Labels = ("b", of_out, *space)
        if self.bias is not None:
            by_arg[self.bias] = (of_out,)
        if self.dy is not None:
            by_arg[self.dy] = result
        results = [result] if self.dy is None else [by_arg[self.x], by_arg[self.weight], (of_out,)]
        divided = ((groups, -1),) if isinstance(groups, Size) else ((Size.constant(int(groups)), -1),)
        if transposed:  # [in, out / groups, *kernel]
            sizes = Sizes(((outer, 1), *divided, *powers(kernel)), rest_y=((inner, 1),))
        else:
            sizes = Sizes(powers((inner, *kernel)), rest_y=((outer, 1), *divided))
        summed = frozenset("i") if self.dy is None else frozenset("bio")
        return wired(
            call, by_arg, results, summed=summed, counter=self.groups if depthwise else None,
            sizes=sizes if self.dy is None else None,
        )  # fmt: skip


def _is_size(groups: Any, channels: Size) -> bool:
    return groups == channels or (isinstance(groups, int) and groups > 1 and channels == Size.constant(groups))


@dataclass(frozen=True)
class Channelwise(Axes):
    """Only the channels stay, axis 1 of [batch, channels, *space] and the one axis of vectors: batch norm."""

    def layout(self, call: Call) -> Layout:
        def labels(shape: Shape) -> Labels:
            return ("c",) if len(shape) == 1 else (None, "c", *(None,) * (len(shape) - 2)) if shape else ()

        by_arg = {i: labels(shape) for i, shape in _tensors(call).items()}
        return wired(call, by_arg, [labels(shape) for shape in result_shapes(call)])


@dataclass(frozen=True)
class Indexed(Axes):
    """``x[i, :, j]``: axes without an index stay.  ``values``: the argument put there instead (``index_put``)."""

    values: Optional[int] = None

    def picked(self, call: Call) -> Collection[int]:
        rank = len(call.shape(0))
        indexed = (i for i, index in enumerate(call.arg(1)) if isinstance(index, Ref))
        return [rank - i for i in indexed] if self.values is None else ()

    def layout(self, call: Call) -> Layout:
        shape = call.shape(0)
        labels = tuple(range(len(shape), 0, -1))
        indices = call.arg(1)
        at = [i for i, index in enumerate(indices) if isinstance(index, Ref)]
        if not at or any(isinstance(index, Ref) and "bool" in call.values[index.id].dtype for index in indices):
            return wired(call, {}, [(None,) * len(out) for out in result_shapes(call)])
        found = max(len(call.values[indices[i].id].shape) for i in at)
        kept = [label for i, label in enumerate(labels) if i not in at]
        first = at[0] if at == list(range(at[0], at[-1] + 1)) else 0
        picked = (*kept[:first], *(None,) * found, *kept[first:])
        by_arg: dict[int, Labels] = {0: tuple(label if i not in at else None for i, label in enumerate(labels))}
        if self.values is None:
            return wired(call, by_arg, [picked])
        by_arg[self.values] = broadcast(call.shape(self.values), tuple(_sized(picked, shape)), picked)
        return wired(call, by_arg, [by_arg[0]])


def _sized(labels: Labels, shape: Shape) -> list[Any]:
    return [shape[-label] if isinstance(label, int) else None for label in labels]


def wired(call: Call, by_arg: Mapping[int, Labels], results: Sequence[Labels], **more: Any) -> Layout:
    """A layout from the labels of arguments by their places; the other tensors have none."""
    operands: list[Labels] = []
    for index, arg in enumerate(call.node.args):
        if isinstance(arg, Ref):
            rank = len(call.values[arg.id].shape)
            labels = by_arg.get(index)
            operands.append(labels if labels is not None and len(labels) == rank else (None,) * rank)
        else:
            operands.extend((None,) * len(call.values[vid].shape) for vid in references(arg))
    operands.extend((None,) * len(call.values[vid].shape) for _, arg in call.node.kwargs for vid in references(arg))
    return Layout(tuple(operands), tuple(results), **more)


def _tensors(call: Call) -> dict[int, Shape]:
    return {i: call.shape(i) for i, arg in enumerate(call.node.args) if isinstance(arg, Ref)}


def result_shapes(call: Call) -> list[Shape]:
    return [call.out_shape(i) for i in range(len(call.node.outputs))]


def first_shape(call: Call) -> Shape:
    return next((call.out_shape(i) for i, out in enumerate(call.node.outputs) if out is not None), ())
