"""Packed axes: which weights are cut into blocks, and how ops act on the blocks.

A packed weight (q, k and v in one matrix; Mamba's ``x_proj`` of size ``n/16 + 2*state``) makes a value whose axis is later split.
The blocks may grow differently and have different budgets, so each becomes a leaf of its own.  The plan walks from every split
back to the weight; ops on the way act on each block alone.  Where an op mixes the blocks, they are joined again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from tpcalc.algebra.size import Size, size_difference, size_product, size_quotient, size_sum
from tpcalc.errors import FitError
from tpcalc.program.ir import Node, Program, Ref, Value

ELEMENTWISE = frozenset(
    "add sub mul div neg clone detach _to_copy contiguous alias silu gelu relu sigmoid tanh exp softplus square pow sqrt rsqrt abs "
    "silu_backward gelu_backward threshold_backward sigmoid_backward tanh_backward native_dropout_backward lift_fresh".split()
)
VIEWS = frozenset("view _unsafe_view reshape _reshape_alias expand".split())
SPLITS = frozenset("split split_with_sizes chunk unsafe_split unsafe_chunk tensor_split unbind select".split())
#: An axis longer than this is not taken for a stack of packed blocks (q, k, v; the four gates).
MOST_STACKED = 6
PICKS = frozenset(("slice", "select"))
RANKS = frozenset(("squeeze", "unsqueeze", "select"))
PADDED = frozenset("constant_pad_nd".split())
MATMULS = frozenset("mm bmm addmm linear".split())


def base_name(node: Node) -> str:
    """``add`` for ``aten.add_.Tensor``; the whole name outside aten."""
    if not node.op.startswith("aten."):
        return node.op
    name = node.op[5:].rpartition(".")[0]
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


UNIT = Size.constant(1)


@dataclass(frozen=True)
class Segments:
    """A value in blocks along ``dim`` (counted from the right: 1 is the last axis), with their lengths."""

    dim: int
    lengths: tuple[Size, ...]
    parts: tuple[int, ...] = ()


Cut = tuple[int, tuple[Size, ...]]


def _from_right(shape: Sequence[Size], dim: int) -> int:
    return len(shape) - dim if dim >= 0 else -dim


def _mapped(shape_in: Sequence[Size], shape_out: Sequence[Size], dim: int) -> Optional[int]:
    """The axis of ``shape_out`` that a view or broadcast carries from axis ``dim`` of ``shape_in``: the axes to its right and itself agree."""
    if dim > len(shape_in) or dim > len(shape_out):
        return None
    for d in range(1, dim + 1):
        if shape_in[-d] != shape_out[-d]:
            return None
    return dim


def _viewed(shape_in: Sequence[Size], shape_out: Sequence[Size], cut: Cut) -> Optional[Cut]:
    """The cut of a view's result, given that of its operand (called the other way round, the reverse).

    Either the axis is carried along, or it becomes an axis that counts pieces before axes that hold one piece (blocks of
    whole pieces stay blocks: 3 matrices, or heads of a fixed dimension), or that is undone.
    """
    dim, lengths = cut
    if _mapped(shape_in, shape_out, dim) is not None:
        return cut
    if dim > len(shape_in):
        return None
    # (pieces, axes of a piece) -> one axis
    for right in range(1, min(dim, len(shape_out) + 1)):
        inner = size_product(shape_in[len(shape_in) - dim + 1 : len(shape_in) - right + 1])
        if inner is None or tuple(shape_in[len(shape_in) - right + 1 :]) != tuple(
            shape_out[len(shape_out) - right + 1 :]
        ):
            continue
        if shape_out[-right] == size_product((inner, shape_in[-dim])):
            whole = tuple(size_product((inner, length)) for length in lengths)
            return None if None in whole else (right, whole)
    # one axis -> (pieces, axes of a piece)
    if tuple(shape_in[len(shape_in) - dim + 1 :]) != tuple(shape_out[len(shape_out) - dim + 1 :]):
        return None
    for right in range(dim + 1, len(shape_out) + 1):
        inner = size_product(shape_out[len(shape_out) - right + 1 : len(shape_out) - dim + 1])
        if inner is None or size_product((inner, shape_out[-right])) != shape_in[-dim]:
            continue
        pieces = tuple(size_quotient(length, inner) for length in lengths)
        whole = all(k.denominator == 1 for piece in pieces if piece is not None for p, k in piece.terms if p == 0)
        return (right, pieces) if None not in pieces and whole else None
    return None


def picked(node: Node, values: Mapping[int, Value]) -> Optional[tuple[int, Size, Size]]:
    """Axis (from the right), start and end of a slice or select that takes part of an axis; None for anything else."""
    name = base_name(node)
    if name not in PICKS or not node.args or not isinstance(node.args[0], Ref) or node.outputs[0] is None:
        return None
    args = (*node.args, *(None,) * 5)[:5]
    return _range(values[node.args[0].id].shape, values[node.outputs[0]].shape, name, args[1] or 0, args[2], args[4])


def put_back(node: Node, values: Mapping[int, Value]) -> Optional[tuple[int, Size, Size]]:
    """Likewise for the backward of a slice or select: where in its result the gradient is put."""
    name = base_name(node)
    if name not in ("slice_backward", "select_backward") or node.outputs[0] is None or len(node.args) < 4:
        return None
    args = (*node.args, *(None,) * 6)[:6]
    inner = values[node.args[0].id].shape
    return _range(values[node.outputs[0]].shape, inner, name[:-9], args[2], args[3], args[5])


def _range(shape, part, name: str, axis, start, step) -> Optional[tuple[int, Size, Size]]:
    if not isinstance(axis, int) or (name == "slice" and step not in (None, 1)):
        return None
    axis %= len(shape)
    length = part[axis] if name == "slice" else UNIT
    if length == shape[axis]:
        return None
    first = _position(0 if start is None else start, shape[axis])
    end = None if first is None else size_sum((first, length))
    return None if end is None else (len(shape) - axis, first, end)


def _position(index: Any, size: Size) -> Optional[Size]:
    """An index as a distance from the left end (a negative one counts from the right end)."""
    if isinstance(index, int):
        index = Size.constant(index)
    if not isinstance(index, Size) or index.rounded:
        return None
    return size_sum((size, index)) if index.terms and index.terms[0][1] < 0 else index


def ends_of(lengths: Sequence[Size]) -> Optional[tuple[Size, ...]]:
    """0 and the end of every block; None when one is rounded."""
    ends = [Size(())]
    for length in lengths:
        end = size_sum((ends[-1], length))
        if end is None:
            return None
        ends.append(end)
    return tuple(ends)


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


def plan(program: Program) -> dict[int, Cut]:
    """Weight value -> how it is cut: its rows where its result is split or sliced in the forward pass, its columns where it
    meets a concatenation of parts that grow differently."""
    wanted: dict[int, Cut] = {}
    places: dict[int, dict[int, set[Size]]] = {}
    weights = {weight.value for weight in program.weights}
    joined = _joined(program)
    for node in reversed(program.nodes):
        if node.phase != "forward":
            continue
        for out in node.outputs:
            _want_places(program, wanted, out, places.pop(out, None))
        _want_columns(program, wanted, node, joined)
        name = base_name(node)
        if name in PICKS:
            pick = picked(node, program.values)
            if pick is not None and program.values[node.args[0].id].shape[-pick[0]].growth > 0:
                inner = wanted.pop(node.outputs[0], None)
                found = places.setdefault(node.args[0].id, {}).setdefault(pick[0], set())
                found.update(_inner_places(pick, inner))
                continue
        if name in SPLITS:
            cut = _split_cut(program, node)
            if cut is not None or name != "select":
                inner = [wanted.pop(out, None) for out in node.outputs]
                if cut is not None:
                    _want(program, wanted, node.args[0].id, _refined(cut, inner))
                continue
        for out in node.outputs:
            if out in wanted:
                cut = wanted.pop(out)
                if name in VIEWS:
                    operand = node.args[0].id
                    source = _viewed(program.values[out].shape, program.values[operand].shape, cut) if cut[1] else None
                    if source is not None:
                        _want(program, wanted, operand, source)
                    continue
                for vid, dim in _sources(program, node, name, cut[0]):
                    _want(program, wanted, vid, (dim, cut[1]))
    for vid in weights:
        _want_places(program, wanted, vid, places.pop(vid, None))
    # blocks of a fixed axis (the three of an axis of size 3) are no packing
    return {vid: cut for vid, cut in wanted.items() if vid in weights and any(length.growth > 0 for length in cut[1])}


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


def _joined(program: Program) -> dict[int, Cut]:
    """Values that are concatenations of parts that grow differently, with the parts."""
    joined: dict[int, Cut] = {}
    for node in program.nodes:
        if node.phase != "forward" or node.outputs[0] is None:
            continue
        name, shape = base_name(node), program.values[node.outputs[0]].shape
        if name == "cat":
            dim = _from_right(shape, node.args[1] if len(node.args) > 1 else 0)
            lengths: list[Size] = []
            for ref in node.args[0]:
                inner = joined.get(ref.id)
                part = program.values[ref.id].shape
                lengths.extend(inner[1] if inner is not None and inner[0] == dim else part[-dim:][:1])
            if len({length.growth for length in lengths}) > 1:
                joined[node.outputs[0]] = dim, tuple(lengths)
        elif name in ELEMENTWISE or name in VIEWS or name == "native_dropout":
            for ref in dict.fromkeys(node.refs):
                if ref in joined and _mapped(program.values[ref].shape, shape, joined[ref][0]) is not None:
                    joined[node.outputs[0]] = joined[ref]
    return joined


def _want_columns(program: Program, wanted: dict[int, Cut], node: Node, joined: Mapping[int, Cut]) -> None:
    """A weight that contracts a concatenation is cut into the columns that meet each part; what is added to one, into its parts."""
    name = base_name(node)
    out = node.outputs[0] if node.outputs else None
    if name in ELEMENTWISE and out in joined:
        dim, lengths = joined[out]
        for ref in dict.fromkeys(node.refs):
            if _mapped(program.values[ref].shape, program.values[out].shape, dim) is not None:
                _want(program, wanted, ref, (dim, lengths))
    elif name in ("mm", "addmm", "linear"):
        first, second, _ = _matmul_operands(node, name)
        if first in joined and joined[first][0] == 1:
            _want(program, wanted, second, (1 if name == "linear" else 2, joined[first][1]))
    elif name == "convolution" and node.args[8] == 1 and not node.args[6]:
        x, weight = node.args[0].id, node.args[1].id
        rank = len(program.values[weight].shape)
        if x in joined and joined[x][0] == rank - 1:
            _want(program, wanted, weight, (rank - 1, joined[x][1]))


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


def _split_cut(program: Program, node: Node) -> Optional[Cut]:
    value = program.values[node.args[0].id]
    if base_name(node) in ("unbind", "select"):
        axis = node.args[1] if len(node.args) > 1 else 0
        size = value.shape[axis]
        count = size.terms[0][1] if size.is_constant and size.terms else 0
        return (_from_right(value.shape, axis), (UNIT,) * int(count)) if 2 <= count <= MOST_STACKED else None
    dim = node.args[2] if len(node.args) > 2 else dict(node.kwargs).get("dim", 0)
    if not isinstance(dim, int) or any(out is None for out in node.outputs):
        return None
    lengths = tuple(program.values[out].shape[dim] for out in node.outputs)
    if size_sum(lengths) != value.shape[dim]:
        return None
    return _from_right(value.shape, dim), lengths


def _sources(program: Program, node: Node, name: str, dim: int) -> list[tuple[int, int]]:
    """The operands that carry axis ``dim`` (from the right) of a node's result, with the axis in each."""
    out = program.values[node.outputs[0]].shape
    shapes = {ref: program.values[ref].shape for ref in dict.fromkeys(node.refs)}
    if name in ELEMENTWISE:
        return [(ref, dim) for ref, shape in shapes.items() if _mapped(shape, out, dim) is not None]
    if name in ("t", "transpose", "permute"):
        mapped = _permuted(node, len(out), dim, inverse=True)
        return [(node.args[0].id, mapped)] if mapped else []
    if name in RANKS:
        source = _reranked(node, program.values, dim, inverse=True)
        return [(node.args[0].id, source)] if source else []
    if name == "slice" or name in PADDED:
        shape = shapes[node.args[0].id]
        return [(node.args[0].id, dim)] if len(shape) == len(out) and shape[-dim] == out[-dim] else []
    if name in MATMULS:
        first, second, bias = _matmul_operands(node, name)
        sources: list[tuple[int, int]] = []
        if dim == 1:
            sources.append((second, 2 if name == "linear" else 1))
            if bias is not None and len(shapes[bias]) >= 1 and shapes[bias][-1] == out[-1]:
                sources.append((bias, 1))
        elif dim == 2 and name in ("mm", "bmm"):
            sources.append((first, 2))
        return sources
    if name == "convolution" and dim == len(out) - 1 and not node.args[6]:
        weight = node.args[1].id
        depthwise = is_depthwise(node, program.values)
        if node.args[8] != 1 and not depthwise:
            return []
        sources = [(weight, len(shapes[weight]))]
        if isinstance(node.args[2], Ref):
            sources.append((node.args[2].id, 1))
        if depthwise:
            sources.append((node.args[0].id, dim))
        return sources
    return []


def is_depthwise(node: Node, values: Mapping[int, Value]) -> bool:
    """A convolution (or its backward) with one group a channel: channels don't mix."""
    backward = base_name(node) == "convolution_backward"
    groups = node.args[9 if backward else 8]
    channels = values[node.args[1 if backward else 0].id].shape[1]
    return groups == channels or (isinstance(groups, int) and groups > 1 and channels == Size.constant(groups))


def _matmul_operands(node: Node, name: str) -> tuple[int, int, Optional[int]]:
    if name == "addmm":
        return node.args[1].id, node.args[2].id, node.args[0].id
    bias = node.args[2].id if name == "linear" and len(node.args) > 2 and isinstance(node.args[2], Ref) else None
    return node.args[0].id, node.args[1].id, bias


def _permuted(node: Node, ndim: int, dim: int, *, inverse: bool) -> Optional[int]:
    """Where a transpose or permutation puts an axis counted from the right (``inverse``: where it comes from)."""
    name = base_name(node)
    axis = ndim - dim
    if name == "t":
        order = list(range(ndim))[::-1]
    elif name == "transpose":
        a, b = (d % ndim for d in node.args[1:3])
        order = list(range(ndim))
        order[a], order[b] = order[b], order[a]
    else:
        order = [d % ndim for d in node.args[1]]
    source = order[axis] if inverse else order.index(axis)
    return ndim - source


def _reranked(node: Node, values: Mapping[int, Value], dim: int, *, inverse: bool) -> Optional[int]:
    """Where squeeze or unsqueeze of one axis puts an axis counted from the right (``inverse``: where it comes from)."""
    if len(node.args) < 2 or not isinstance(node.args[1], int):
        return None
    before, after = len(values[node.args[0].id].shape), len(values[node.outputs[0]].shape)
    if before == after:
        return dim
    axis = max(before, after) - node.args[1] % max(before, after)  # the axis that comes or goes, from the right
    grows = (after > before) != inverse
    if grows:
        return dim + 1 if dim >= axis else dim
    return None if dim == axis else dim - 1 if dim > axis else dim


def replace_refs(arg: Any, table: Mapping[int, int]) -> Any:
    """``arg`` with every tensor argument renamed by ``table``."""
    if isinstance(arg, Ref):
        return Ref(table.get(arg.id, arg.id))
    if isinstance(arg, tuple):
        return tuple(replace_refs(item, table) for item in arg)
    return arg


def part_value(value: Value, dim: int, length: Size, vid: int) -> Value:
    """A block of ``value``: the same but for the length of axis ``dim``."""
    shape = list(value.shape)
    shape[-dim] = length
    return replace(value, id=vid, shape=tuple(shape), name="")


@dataclass(frozen=True)
class Action:
    """How a node acts on segmented operands.

    ``outs``: for each result the axis (from the right) along which it is segmented; one None means that the blocks are summed
    (a contraction over the packed axis).  ``lengths``: of the blocks.  ``refs``: the operands that come in blocks.
    ``groups``: position of an argument that counts the channels of the block (a depthwise convolution's groups).
    """

    outs: tuple[Optional[int], ...]
    lengths: tuple[Size, ...]
    refs: tuple[int, ...]
    groups: Optional[int] = None

    def block(self, node: Node, index: int, parts: Mapping[int, int], outputs: tuple) -> Node:
        """``node`` applied to block ``index``."""
        args = list(replace_refs(node.args, parts))
        if self.groups is not None:
            args[self.groups] = self.lengths[index]
        return replace(node, args=tuple(args), kwargs=replace_refs(node.kwargs, parts), outputs=outputs)


def action(node: Node, values: Mapping[int, Value], segments: Mapping[int, Segments]) -> Optional[Action]:
    """How to apply ``node`` block by block; None where it must see its operands whole."""
    held = {ref: segments[ref] for ref in dict.fromkeys(node.refs) if ref in segments}
    if not held:
        return None
    name = base_name(node)
    first = next(iter(held.values()))
    if any(s.lengths != first.lengths for s in held.values()):
        return None
    lengths, refs = first.lengths, tuple(held)
    if name == "native_dropout":
        return Action((first.dim,) * len(node.outputs), lengths, refs)
    if name == "convolution_backward":
        return _conv_backward_action(node, values, held, lengths, refs)
    if len(node.outputs) != 1 or node.outputs[0] is None:
        return None
    out = values[node.outputs[0]].shape
    if name in VIEWS:
        cut = _viewed(values[refs[0]].shape, out, (first.dim, lengths))
        return Action((cut[0],), cut[1], refs) if cut is not None else None
    if name in ELEMENTWISE:
        dims = {s.dim for s in held.values()}
        dim = first.dim
        if len(dims) != 1 or any(_mapped(values[ref].shape, out, dim) is None for ref in refs):
            return None
        for ref in node.refs:
            shape = values[ref].shape
            if ref not in held and len(shape) >= dim and shape[-dim] == out[-dim]:
                return None
        return Action((dim,), lengths, refs)
    if name in ("t", "transpose", "permute"):
        return Action((_permuted(node, len(out), first.dim, inverse=False),), lengths, refs)
    if name in RANKS:
        target = _reranked(node, values, first.dim, inverse=False)
        return Action((target,), lengths, refs) if target else None
    if name in ("slice", "slice_backward") or name in PADDED:
        return _along_action(node, values, first, lengths, refs)
    if name in MATMULS:
        return _matmul_action(node, name, held, lengths, refs)
    if name == "sum":
        return _sum_action(node, values, first, lengths, refs)
    if name == "convolution":
        return _conv_action(node, values, held, lengths, refs)
    return None


def _along_action(node: Node, values, first: Segments, lengths, refs) -> Optional[Action]:
    """A slice (or padding) along another axis than the packed one keeps the blocks."""
    shape, out = values[refs[0]].shape, values[node.outputs[0]].shape
    same_rank = len(shape) == len(out)
    return Action((first.dim,), lengths, refs) if same_rank and shape[-first.dim] == out[-first.dim] else None


def _conv_action(node: Node, values, held, lengths, refs) -> Optional[Action]:
    x, weight = node.args[0].id, node.args[1].id
    bias = node.args[2].id if isinstance(node.args[2], Ref) else None
    channels = len(values[x].shape) - 1
    columns = (
        x in held and held[x].dim == channels and weight in held and held[weight].dim == len(values[weight].shape) - 1
    )
    if columns and bias not in held and node.args[8] == 1 and not node.args[6]:
        return Action((None,), lengths, refs)
    rows = weight in held and held[weight].dim == len(values[weight].shape) and (bias is None or bias in held)
    if not rows or node.args[6]:
        return None
    if x not in held:
        return Action((channels,), lengths, refs) if node.args[8] == 1 else None
    if held[x].dim == channels and is_depthwise(node, values):
        return Action((channels,), lengths, refs, groups=8)
    return None


def _conv_backward_action(node: Node, values, held, lengths, refs) -> Optional[Action]:
    """The backward of a depthwise convolution acts on each channel alone."""
    dy, x, weight = (node.args[i].id for i in range(3))
    channels = len(values[x].shape) - 1
    blocks = {dy: channels, x: channels, weight: len(values[weight].shape)}
    if not is_depthwise(node, values) or any(held.get(v) is None or held[v].dim != dim for v, dim in blocks.items()):
        return None
    return Action((channels, len(values[weight].shape), 1), lengths, refs, groups=9)


def _matmul_action(node: Node, name: str, held, lengths, refs) -> Optional[Action]:
    first, second, bias = _matmul_operands(node, name)
    x, y = held.get(first), held.get(second)
    y_out, y_in = (2, 1) if name == "linear" else (1, 2)
    if x is not None and y is not None:
        return Action((None,), lengths, refs) if x.dim == 1 and y.dim == y_in and bias not in held else None
    if y is not None and y.dim == y_out and (bias is None or bias in held):
        return Action((1,), lengths, refs)
    if x is not None and x.dim == 2 and bias is None:
        return Action((2,), lengths, refs)
    return None


def _sum_action(node: Node, values, first: Segments, lengths, refs) -> Optional[Action]:
    """A sum over other axes keeps the blocks (the gradient of a packed bias)."""
    shape = values[node.args[0].id].shape
    if "dim" not in node.op.rpartition(".")[2] or len(node.args) < 2:
        return None
    axis = len(shape) - first.dim
    reduced = {d % len(shape) for d in (node.args[1] or range(len(shape)))}
    if axis in reduced:
        return None
    keep = bool(node.args[2]) if len(node.args) > 2 else False
    dim = first.dim if keep else first.dim - sum(1 for d in reduced if d > axis)
    return Action((dim,), lengths, refs)
