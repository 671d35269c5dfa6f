"""The axes that rules declare, and those inferred, tried on real tensors.

An axis of a result is an axis of an operand if the op, given a part of the operand along it (and of all others that
have it), gives that part of the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tpcalc.algebra.size import Size
from tpcalc.program.ir import Node, Ref, Value
from tpcalc.rules import REGISTRY, Registry, rule
from tpcalc.rules.axes import MIXED, At, Kept, Permuted
from tpcalc.rules.layout import Layout, grouped, regrouped
from tpcalc.rules.structures import Contract, LinearLike, Softmax, Structure, Sum, View

aten = torch.ops.aten
torch.manual_seed(0)


def x(*shape: int) -> Tensor:
    return torch.randn(shape or (3, 5, 7))


def node_of(op: str, args: tuple, outs: tuple) -> tuple[Node, dict[int, Value], list[Tensor]]:
    """A call as a node of a program, with its values and tensors."""
    tensors: list[Tensor] = []
    values: dict[int, Value] = {}

    def value(tensor: Tensor) -> int:
        vid = len(values)
        shape = tuple(Size.constant(size) for size in tensor.shape)
        values[vid] = Value(vid, shape, str(tensor.dtype).removeprefix("torch."))
        return vid

    def ref(arg: Any) -> Any:
        if isinstance(arg, Tensor):
            tensors.append(arg)
            return Ref(value(arg))
        return tuple(ref(item) for item in arg) if isinstance(arg, (list, tuple)) else arg

    inner = tuple(ref(arg) for arg in args)
    ids = tuple(value(out) if isinstance(out, Tensor) else None for out in outs)
    return Node(0, op, inner, (), ids), values, tensors


def called(op: Any, args: tuple) -> tuple:
    found = op(*args)
    return tuple(found) if isinstance(found, (tuple, list)) else (found,)


def layout_of(op: Any, args: tuple) -> tuple[Layout, tuple, list[Tensor]]:
    outs = called(op, args)
    node, values, tensors = node_of(str(op), args, outs)
    return REGISTRY.layout(node, values), outs, tensors


def part_of(args: Any, tables: Iterator[dict[int, int]], start: int, length: int) -> Any:
    """``args`` with every tensor cut: the next table says along which axes."""
    if isinstance(args, Tensor):
        for axis in next(tables):
            args = args.narrow(axis, start, length)
        return args
    if isinstance(args, (list, tuple)):
        return type(args)(part_of(arg, tables, start, length) for arg in args)
    return args


#: (op, arguments); sizes are primes, each axis has its own.
CALLS: list[tuple[Any, tuple]] = [
    (aten.add.Tensor, (x(), x(5, 7))),
    (aten.add.Tensor, (x(), x(3, 1, 1))),
    (aten.mul.Tensor, (x(), 2.0)),
    (aten.where.self, (x() > 0, x(), x(7))),
    (aten.mish.default, (x(),)),
    (aten.flip.default, (x(), [1])),
    (aten.roll.default, (x(), [2], [2])),
    (aten.tril.default, (x(),)),
    (aten.sort.default, (x(), 1)),
    (aten.cumsum.default, (x(), 0)),
    (aten.cumprod.default, (x(), -1)),
    (aten.logcumsumexp.default, (x(), 1)),
    (aten._softmax.default, (x(), 1, False)),
    (aten._log_softmax.default, (x(), -1, False)),
    (aten._softmax_backward_data.default, (x(), x(), 1, torch.float32)),
    (aten.native_layer_norm.default, (x(), [7], x(7), x(7), 1e-5)),
    (aten.native_layer_norm.default, (x(), [5, 7], None, None, 1e-5)),
    (aten.native_group_norm.default, (x(2, 6, 5), x(6), x(6), 2, 6, 5, 3, 1e-5)),
    (aten.native_batch_norm.default, (x(), x(5), x(5), None, None, True, 0.1, 1e-5)),
    (aten.sum.dim_IntList, (x(), [1])),
    (aten.sum.dim_IntList, (x(), [0, 2], True)),
    (aten.mean.dim, (x(), [-1], True)),
    (aten.amax.default, (x(), [1])),
    (aten.max.dim, (x(), 1)),
    (aten.var.correction, (x(), [0])),
    (aten.linalg_vector_norm.default, (x(), 2, [1])),
    (aten.logsumexp.default, (x(), [1])),
    (aten.argmax.default, (x(), 1)),
    (aten.transpose.int, (x(), 0, 2)),
    (aten.permute.default, (x(), [2, 0, 1])),
    (aten.t.default, (x(3, 5),)),
    (aten.squeeze.dim, (x(3, 1, 7), 1)),
    (aten.unsqueeze.default, (x(), 1)),
    (aten.slice.Tensor, (x(), 1, 1, 4)),
    (aten.slice.Tensor, (x(), 1, 0, 5, 2)),
    (aten.select.int, (x(), 1, 2)),
    (aten.split.Tensor, (x(), 2, 1)),
    (aten.unbind.int, (x(), 1)),
    (aten.cat.default, ([x(), x(3, 2, 7)], 1)),
    (aten.stack.default, ([x(), x()], 1)),
    (aten.constant_pad_nd.default, (x(), [0, 0, 1, 2])),
    (aten.reflection_pad1d.default, (x(), [1, 2])),
    (aten.max_pool2d_with_indices.default, (x(2, 3, 6, 6), [3, 3], [1, 1], [1, 1])),
    (aten.avg_pool2d.default, (x(2, 3, 6, 6), [3, 3], [1, 1], [1, 1])),
    (aten.pixel_shuffle.default, (x(2, 4, 3, 5), 2)),
    (aten.embedding.default, (x(11, 7), torch.tensor([[1, 2, 3], [4, 5, 6]]))),
    (aten.index_select.default, (x(), 1, torch.tensor([0, 2]))),
    (aten.gather.default, (x(), 1, torch.zeros(3, 2, 7, dtype=torch.int64))),
    (aten.index.Tensor, (x(), [None, torch.tensor([0, 2])])),
    (aten.index.Tensor, (x(), [torch.tensor([[0, 2], [1, 1]])])),
    (aten.index.Tensor, (x(), [torch.tensor([0, 2]), None, torch.tensor([1, 3])])),
    (aten.index_put.default, (x(), [torch.tensor([0, 2])], x(2, 5, 7))),
    (aten.index_add.default, (x(), 1, torch.tensor([0, 2]), x(3, 2, 7))),
    (aten.scatter_add.default, (x(), 1, torch.zeros(3, 2, 7, dtype=torch.int64), x(3, 2, 7))),
    (aten.slice_scatter.default, (x(), x(3, 2, 7), 1, 1, 3)),
    (aten.mm.default, (x(3, 5), x(5, 7))),
    (aten.bmm.default, (x(2, 3, 5), x(2, 5, 7))),
    (aten.matmul.default, (x(2, 3, 5), x(5, 7))),
    (aten.mv.default, (x(3, 5), x(5))),
    (aten.addmm.default, (x(7), x(3, 5), x(5, 7))),
    (aten.linear.default, (x(2, 3, 5), x(7, 5), x(7))),
    (aten.convolution.default, (x(2, 3, 11), x(5, 3, 3), x(5), [1], [1], [1], False, [0], 1)),
    (aten.convolution.default, (x(2, 3, 11), x(3, 5, 3), x(5), [1], [1], [1], True, [0], 1)),
    (aten.repeat.default, (x(), [2, 1, 1])),
    (aten.linalg_inv_ex.default, (x(2, 3, 3),)),
    (aten.cross.default, (x(5, 3), x(5, 3))),
    (aten.masked_scatter.default, (x(), torch.ones(3, 5, 7, dtype=torch.bool), x())),
    (aten.glu.default, (x(4, 6), 1)),
]


@pytest.mark.parametrize("index", range(len(CALLS)), ids=lambda i: str(CALLS[i][0]))
def test_a_part_of_the_operands_gives_that_part_of_the_result(index):
    op, args = CALLS[index]
    layout, outs, tensors = layout_of(op, args)
    labels = {label for result in layout.results for label in result if label is not None}
    for label in labels - layout.shared:  # along an axis of a norm each entry counts in a mean
        axes = [[i for i, found in enumerate(names) if found == label] for names in layout.operands]
        sizes = {tensor.shape[i] for tensor, found in zip(tensors, axes) for i in found}
        if not sizes:
            continue  # made by the op
        assert len(sizes) == 1, "all operands with an axis have it at the same length"
        (size,) = sizes
        start, length = size // 3, max(1, size // 2)
        cut = called(op, part_of(args, iter([dict.fromkeys(found, 0) for found in axes]), start, length))
        for names, whole, part in zip(layout.results, outs, cut):
            for i, found in enumerate(names):
                if found == label:
                    torch.testing.assert_close(part, whole.narrow(i, start, length))


@pytest.mark.parametrize("index", range(len(CALLS)), ids=lambda i: str(CALLS[i][0]))
def test_every_axis_is_told_of(index):
    op, args = CALLS[index]
    layout, outs, tensors = layout_of(op, args)
    assert [len(names) for names in layout.operands] == [tensor.dim() for tensor in tensors]
    assert [len(names) for names in layout.results] == [out.dim() for out in outs]


def kept(op: Any, *args: Any) -> tuple:
    return layout_of(op, args)[0].results[0]


def test_what_passes():
    """Which axes of the result stay, of some ops."""
    assert kept(aten.flip.default, x(), [1]) == (3, None, 1)
    assert kept(aten.roll.default, x(), [1], [2]) == (3, 2, None) and kept(aten.roll.default, x(), [1]) == (None,) * 3
    assert kept(aten.tril.default, x()) == (3, None, None)
    for op, args, shared in (
        (aten._softmax.default, (x(), 1, False), {2}),
        (aten.native_layer_norm.default, (x(), [7], None, None, 1e-5), {1}),
    ):
        assert kept(op, *args) == (3, 2, 1) and layout_of(op, args)[0].shared == shared
    assert kept(aten.constant_pad_nd.default, x(), [0, 0, 1, 2]) == (3, None, 1)
    assert kept(aten.embedding.default, x(11, 7), torch.tensor([1, 2])) == (None, 1)
    assert kept(aten.index.Tensor, x(), [None, torch.tensor([0, 2])]) == (3, None, 1)
    assert kept(aten.sum.dim_IntList, x(), [1], True) == (3, None, 1)
    assert None not in kept(aten.mul.Tensor, x(), x(7)) and None not in kept(aten.neg.default, x())
    for op, args in ((aten.pixel_shuffle.default, (x(2, 4, 3, 5), 2)), (aten.unfold.default, (x(), 1, 2, 1))):
        assert set(kept(op, *args)) == {None}


def test_depthwise_convolutions_keep_their_channels():
    args = (x(2, 3, 11), x(3, 1, 3), x(3), [1], [1], [1], False, [0], 3)
    layout = layout_of(aten.convolution.default, args)[0]
    assert layout.operands[0][1] == layout.operands[1][0] == layout.operands[2][0] == layout.results[0][1] is not None
    assert layout.counter == 8 and not layout.summed & {layout.results[0][1]}
    grouped = layout_of(aten.convolution.default, (x(2, 4, 11), x(6, 2, 3), None, [1], [1], [1], False, [0], 2))[0]
    assert grouped.results[0][1] is None and grouped.counter is None


def size(k: int, d: int = 0) -> Size:
    return Size.linear(k, d) if k else Size.constant(d)


@pytest.mark.parametrize(
    "before, after, cut, expected",
    [
        # 16 n + 32 entries as heads of 16, and back
        ([size(0, 3), size(16, 32)], [size(0, 3), size(1, 2), size(0, 16)],
         (1, (size(16), size(0, 32))), (2, (size(1), size(0, 2)))),
        ([size(0, 3), size(1, 2), size(0, 16)], [size(0, 3), size(16, 32)],
         (2, (size(1), size(0, 2))), (1, (size(16), size(0, 32)))),
        # three matrices in one
        ([size(3)], [size(0, 3), size(1)], (1, (size(1),) * 3), (2, (size(0, 1),) * 3)),
        # blocks that are no whole pieces
        ([size(16, 32)], [size(1, 2), size(0, 16)], (1, (size(16, 8), size(0, 24))), None),
    ],
)  # fmt: skip
def test_reshapes_keep_blocks_of_whole_pieces(before, after, cut, expected):
    assert regrouped(tuple(before), tuple(after), cut) == expected


# --- axes of rules that declare none ----------------------------------------------------------------------------------


def inferred(structure, shapes: list[tuple[Size, ...]], *outs: tuple[Size, ...]) -> Layout:
    """The layout of an op of a user's own, with operands 0, 1, ..."""
    registry = Registry({}, {})
    rule("own.op", registry=registry)(structure)
    values = {i: Value(i, tuple(shape), "float32") for i, shape in enumerate([*shapes, *outs])}
    made = tuple(range(len(shapes), len(values)))
    return registry.layout(Node(0, "own.op.default", tuple(Ref(i) for i in range(len(shapes))), (), made), values)


N, M, B = size(1), size(4), size(0, 3)


def matmul(call) -> Structure:
    return Contract(call[0], call[1], K=call.growth(0, -1), rest_x=call.growth(0, -2), rest_y=call.growth(1, -1))


def linear(call) -> Structure:
    return Contract(call[0], call[1], K=call.growth(0, -1), rest_x=call.growth(0, -2), rest_y=call.growth(1, 0))


def test_an_entrywise_structure_keeps_axes_and_broadcasts():
    layout = inferred(lambda call: Sum((LinearLike(call[0]), call[1])), [(B, N), (N,)], (B, N))
    (batch, features), (bias,) = layout.operands
    assert layout.results == ((batch, features),) and bias == features and None not in (batch, features)
    # a result of another shape: not understood
    assert inferred(lambda call: LinearLike(call[0]), [(B, N)], (B, M)).results == ((None, None),)


def test_a_softmax_tells_nothing_of_its_axes():
    assert inferred(lambda call: Softmax(call[0], call.growth(0, -1)), [(B, N)], (B, N)).results == ((None, None),)


def test_a_view_of_another_shape_is_a_reshape():
    layout = inferred(lambda call: View(call[0]), [(B, size(16, 32))], (B, size(1, 2), size(0, 16)))
    assert layout.forth(0, (1, (size(16), size(0, 32)))) == (2, (size(1), size(0, 2)))
    assert layout.forth(0, (2, (size(0, 1), size(0, 2)))) == (3, (size(0, 1), size(0, 2)))
    # fewer entries: not understood
    assert inferred(lambda call: View(call[0]), [(B, N)], (N,)).regrouped is None


@pytest.mark.parametrize("structure, w", [(matmul, (N, M)), (linear, (M, N))])
def test_a_contraction_is_a_matmul_or_a_linear_layer(structure, w):
    layout = inferred(structure, [(B, N), w], (B, M))
    (batch, features), weight = layout.operands
    p, k = (weight[1], weight[0]) if structure is matmul else weight
    assert layout.results == ((batch, p),) and k == features and layout.summed == {k}
    assert layout.sizes is not None
    assert layout.sizes.summed == ((N, 1),) and layout.sizes.rest_y == ((M, 1),)


@pytest.mark.parametrize("structure", [matmul, linear])
def test_of_a_square_matrix_the_axes_are_not_known_but_the_sizes_are(structure):
    layout = inferred(structure, [(B, N), (N, N)], (B, N))
    assert layout.operands[1] == (None, None) and layout.results[0][1] is None and not layout.summed
    assert layout.results[0][0] == layout.operands[0][0] is not None
    assert layout.sizes is not None and layout.sizes.summed == layout.sizes.rest_y == ((N, 1),)


def test_the_gradient_of_a_weight_contracts_over_the_leading_axes():
    def gradient(call) -> Structure:
        return Contract(call[0], call[1], K=call.growth(0, 0), rest_x=call.growth(0, -1), rest_y=call.growth(1, -1))

    layout = inferred(gradient, [(B, N), (B, M)], (N, M))
    assert layout.results == ((layout.operands[0][1], layout.operands[1][1]),)
    assert layout.summed == {layout.operands[0][0]} == {layout.operands[1][0]}
    turned = inferred(gradient, [(B, N), (B, M)], (M, N))
    assert turned.results == ((turned.operands[1][1], turned.operands[0][1]),)


def test_declared_axes_come_before_the_structure():
    registry = Registry({}, {})
    values = {i: Value(i, (N, N), "float32") for i in range(2)}
    node = Node(0, "own.turn.default", (Ref(0),), (), (1,))
    rule("own.turn", axes=Permuted("reversed"), registry=registry)(lambda call: View(call[0]))
    layout = registry.layout(node, values)
    assert layout.results[0] == layout.operands[0][::-1]
    for axes, results in ((MIXED, (None, None)), (Kept(but=At(1, default=-1)), (2, None))):
        other = Registry({}, {})
        rule("own.turn", axes=axes, registry=other)(lambda call: View(call[0]))
        assert other.layout(node, values).results == (results,)


@pytest.mark.parametrize(
    "before, after, expected",
    [
        ((6, 4), (2, 3, 4), [({2}, {3, 2}), ({1}, {1})]),
        ((2, 3, 4), (6, 4), [({3, 2}, {2}), ({1}, {1})]),
        ((6, 6), (3, 2, 3, 2), [({2}, {4, 3}), ({1}, {2, 1})]),
        ((6, 4), (4, 6), [({2, 1}, {2, 1})]),
        ((1, 6, 24), (6, 1, 4, 6), [({3, 2}, {4}), ({1}, {3, 2, 1})]),
    ],
)
def test_a_reshape_in_runs(before, after, expected):
    """Axes from the right; what has length 1 is in some run or none."""
    assert grouped(*(tuple(map(Size.constant, shape)) for shape in (before, after))) == expected


def test_axes_of_length_1_are_nowhere():
    layout = layout_of(aten.view.default, (x(1, 3, 10), [3, 1, 2, 5]))[0]
    assert layout.operands[0][1] == layout.results[0][0] is not None and layout.results[0][2:] == (None, None)
