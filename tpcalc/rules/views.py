"""Views, casts, copies, slices, concatenation, indexing: entries move, orders pass through."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order
from tpcalc.algebra.size import Size
from tpcalc.program.nodes import references
from tpcalc.rules.axes import KEPT, MIXED, PICKED, SAME, At, Axes, Before, Indexed, Kept, Last, Moved, Permuted, Viewed
from tpcalc.rules.call import Call, number_order
from tpcalc.rules.parts import Joined, Padded, Picked, PutBack
from tpcalc.rules.registry import rule
from tpcalc.rules.structures import (
    Bounded,
    Contract,
    Discrete,
    Gather,
    Known,
    Operand,
    Product,
    Reduce,
    Scale,
    Structure,
    Structures,
    Sum,
    View,
)

#: Ops that pass their entries on, by what becomes of the axes.
PASSING: dict[Axes, str] = {
    SAME: """alias detach clone contiguous _to_copy to lift_fresh lift_fresh_copy lift type_as expand expand_as
    expand_copy""",
    KEPT: "_conj conj _neg_view resolve_conj resolve_neg real imag set_data repeat tile",
    Viewed(): """view reshape _unsafe_view _reshape_alias flatten unflatten view_as ravel view_copy squeeze
    unsqueeze""",
    Permuted(): "permute",
    Permuted("reversed"): "t numpy_T",
    Permuted((-2, -1)): "mT",
    Permuted("given"): "transpose swapaxes",
    Picked(At(1, default=0), start=2, step=4): "slice",
    Picked(At(1), start=2): "select narrow",
    Moved(): "flip",
    Moved(At(2, "dims"), shifts=1): "roll",
    Kept(but=Last(2)): """triu tril reflection_pad2d replication_pad2d upsample_nearest2d _upsample_nearest_exact2d
    upsample_bilinear2d upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa upsample_nearest2d_backward
    upsample_bilinear2d_backward upsample_bicubic2d_backward _upsample_nearest_exact2d_backward
    _upsample_bilinear2d_aa_backward _upsample_bicubic2d_aa_backward""",
    Kept(but=Last(1)): """reflection_pad1d replication_pad1d upsample_nearest1d upsample_linear1d
    upsample_nearest1d_backward upsample_linear1d_backward""",
    Kept(but=Last(3)): """reflection_pad3d replication_pad3d upsample_nearest3d upsample_trilinear3d
    upsample_nearest3d_backward upsample_trilinear3d_backward""",
    Padded(): "constant_pad_nd",
    MIXED: """diagonal movedim unfold as_strided repeat_interleave view_as_real view_as_complex pixel_shuffle
    pixel_unshuffle channel_shuffle rot90 im2col col2im masked_scatter_backward diag_embed""",
}


def passes(call: Call) -> Structure:
    """The same entries (padding adds zeros, resampling averages finitely many neighbours)."""
    return View(call[0])


for _axes, _names in PASSING.items():
    rule(*(f"aten.{name}" for name in _names.split()), axes=_axes)(passes)


@rule("aten._fft_r2c", "aten._fft_c2r", "aten._fft_c2c", axes=MIXED)
def fourier(call: Call) -> Structure:
    """sqrt(N) times a unitary map (Parseval), divided by nothing, by sqrt(N) or by N: so many times the size, at init
    and of a change, whatever the signs are."""
    over = call.growth(0, *call.arg(1))
    return Scale(call[0], over / 2 * (1 - int(call.arg(2))), mixes=over) if over > 0 else View(call[0])


def split(call: Call) -> Structures:
    return tuple(View(call[0]) for _ in call.node.outputs)


#: Ops that cut an axis into parts that follow on each other.
rule(
    *(f"aten.{name}" for name in "split split_with_sizes chunk tensor_split unsafe_split unsafe_chunk".split()),
    axes=Picked(At(2, default=0)),
)(split)
rule("aten.unbind", axes=Picked(At(1, default=0)))(split)
rule("aten.hsplit", axes=MIXED)(split)


@rule("aten.cat", "aten.stack", "aten.concat", axes=Joined())
def cat(call: Call) -> Structure:
    return Sum(call.tensors(call.arg(0)), how="choice")


@rule("aten.grid_sampler_2d", axes=Kept(but=Last(2), of=(0,)))
@rule("aten.grid_sampler_3d", axes=Kept(but=Last(3), of=(0,)))
def grid_sampler(call: Call) -> Structure:
    """Each entry is a mean of neighbours of one of x, at a place that the grid gives."""
    return Product(call[0], Bounded(call[1], zero=False))


@rule("aten.broadcast_tensors", "aten.meshgrid", axes=MIXED)
def each(call: Call) -> Structures:
    return tuple(View(x) for x in call.tensors(call.arg(0)))


def gather(call: Call) -> Structure:
    """Rows picked by an index."""
    return Gather(call[0])


#: Rows of a table; indices along one axis; indices along some.
LAST = Kept(but=Before(1), of=(0,))
ALONG = Kept(but=At(1), of=(0,))
rule("aten.embedding", axes=replace(LAST, picks=Before(1)))(gather)
rule("aten.index_select", axes=replace(ALONG, picks=At(1)))(gather)
rule("aten.gather", axes=Kept(but=At(1), of=(0, 2), picks=At(1)))(gather)
rule("aten.take_along_dim", axes=Kept(but=At(2), of=(0,), picks=At(2)))(gather)
rule("aten.index", "aten._unsafe_index", axes=Indexed())(gather)
rule("aten.take", axes=PICKED)(gather)


@rule("aten.masked_select", axes=MIXED)
def masked_select(call: Call) -> Structure:
    return View(call[0])


@rule("aten._embedding_bag", "aten._embedding_bag_forward_only", axes=LAST)
def embedding_bag(call: Call) -> Structures:
    """A sum or mean of finitely many rows, each times its weight where there are any."""
    weights = call.optional(6, "per_sample_weights")
    rows: Structure = Gather(call[0]) if weights is None else Product(Gather(call[0]), weights)
    return (rows,) + (Discrete(),) * (len(call.node.outputs) - 1)


@rule("aten._embedding_bag_per_sample_weights_backward", axes=MIXED)
def embedding_bag_weights_backward(call: Call) -> Structure:
    """dy . row."""
    return Contract(call[0], Gather(call[1]), call.growth(1, 1), ZERO, ZERO)


@rule("aten.where.self", "aten.where.ScalarSelf", "aten.where.ScalarOther", "aten.where.Scalar", axes=KEPT)
def where(call: Call) -> Structure:
    """One of two; the first times the condition, where this is known to hold for few of many entries only."""
    mask = call.values[call.arg(0).id]
    chosen = Product(call[0], call[1]) if mask.few and mask.magnitude is not None else call[1]
    return Sum((chosen, call[2]), how="choice")


@rule("aten.where.default", "aten.nonzero", "aten.nonzero_numpy", "aten.nonzero_static", axes=MIXED)
def where_index(call: Call) -> Structures:
    return tuple(Discrete(call.tensors()[:1]) for _ in call.node.outputs)


@rule("aten.masked_fill", axes=KEPT)
def masked_fill(call: Call) -> Structure:
    """Masked entries take a constant; a masking constant (-inf, -1e30) leaves the others' order."""
    value = call.arg(2)
    if isinstance(value, (int, float)) and abs(value) > 1e9:
        return View(call[0])
    return Sum((call[2], call[0]), how="choice")


def _written(call: Call, indices: Any, source: int) -> str:
    """``put`` where as many entries are written as the source has; more where it is repeated or a mask says where."""
    refs = [call.values[vid] for vid in references(indices)]
    masks = any("bool" in value.dtype for value in refs)
    growth = max((value.growth for value in refs), default=ZERO)
    return "choice" if masks or _growth(call.shape(source)) < growth else "put"


def _collected(x: Operand, growth: Order) -> Operand:
    """Entries of ``x`` added up in fewer places, ``n^growth`` of them in each."""
    return Reduce(x, growth) if growth > ZERO else x


def put(call: Call) -> Structure:
    values = call[2]
    if call.arg(3, "accumulate", False):
        values = _collected(values, _growth(call.shape(2)) - _growth(call.shape(0)))
    return Sum((call[0], values), how=_written(call, call.arg(1), 2))


def _growth(shape: tuple[Size, ...]) -> Order:
    return sum((size.growth for size in shape), ZERO)


rule("aten.index_put", "aten._unsafe_index_put", "aten._index_put_impl", axes=Indexed(values=2))(put)
rule("aten.masked_scatter", "aten.put", axes=MIXED)(put)


SCATTERED = "scatter.src scatter.value scatter_add scatter.reduce scatter_reduce"


@rule(*(f"aten.{name}" for name in SCATTERED.split()), axes=Kept(but=At(1), of=(0, 2, 3)))
@rule("aten.index_add", "aten.index_copy", axes=Kept(but=At(1), of=(0, 3)))
@rule("aten.slice_scatter", axes=Kept(but=At(2, default=0), of=(0, 1)))
@rule("aten.select_scatter", "aten.diagonal_scatter", "aten.as_strided_scatter", axes=MIXED)
def scatter(call: Call) -> Structure:
    """Written or added into another tensor; of a longer axis than that has, many entries into each place."""
    whole = "_scatter" in call.node.op and "scatter_" not in call.node.op
    at = 1 if whole else 3
    source = call[at]
    if ("_add" in call.node.op or "reduce" in call.node.op) and call.is_tensor(at):
        source = _collected(source, _growth(call.shape(at)) - _growth(call.shape(0)))
    return Sum((call[0], source), how="put" if whole else _written(call, call.arg(2), 3))


@rule("aten.block_diag", axes=MIXED)
def block_diag(call: Call) -> Structure:
    """Matrices along a diagonal, zeros beside them."""
    return Sum(call.tensors(), how="choice")


@rule("aten.index_fill", axes=ALONG)
def index_fill(call: Call) -> Structure:
    return Sum((call[0], call[3]), how="choice")


@rule("aten.fill", "aten.fill_")
def fill(call: Call) -> Structure:
    return View(call[1])


@rule("aten.copy", "aten.copy_")
def copy(call: Call) -> Structure:
    """``a.copy_(b)``: the entries of ``b``."""
    return View(call[1])


@rule("aten.zero", "aten.zero_")
def zero(call: Call) -> Structure:
    return Known(MINUS_INFINITY)


@rule("tpcalc.write", axes=MIXED)
def write(call: Call) -> Structure:
    """A tensor after a write through one of its views: old and new entries side by side."""
    return Sum((call[0], call[1]), how="put")


@rule("tpcalc.reread", axes=MIXED)
def reread(call: Call) -> Structure:
    """A view read after its base was written."""
    return View(call[0])


@rule("aten.lerp")
def lerp(call: Call) -> Structure:
    """a + w * (b - a); a number for w changes nothing, unless it grows or vanishes."""
    if not call.is_tensor(2):
        w = number_order(call.arg(2))
        if w is MINUS_INFINITY or w == 0:
            return Sum((call[0], call[1]))
        a = Scale(call[0], w) if w > 0 else call[0]
        return Sum((a, Scale(call[1], w)))
    return Sum((call[0], Product(call[2], Sum((call[1], call[0]), how="difference"))))


# Backward of views: the gradient's entries are put back among zeros, or finitely many of them are added.


#: Ops that put their gradients back, by what becomes of the axes.
BACKWARD: dict[Axes, str] = {
    PutBack(step=5): "slice_backward",
    PutBack(): "select_backward",
    LAST: "_embedding_bag_dense_backward _embedding_bag_backward",
    Kept(but=At(2), of=(0,)): "index_select_backward",
    Kept(but=Last(2), of=(0,)): "max_pool2d_with_indices_backward adaptive_max_pool2d_backward",
    Kept(but=Last(3), of=(0,)): "max_pool3d_with_indices_backward",
    MIXED: "diagonal_backward unfold_backward value_selecting_reduction_backward",
}
#: Those that add up finitely many, or spread one over many.
SPREAD: dict[Axes, str] = {
    Kept(but=Last(1), of=(0,)): "reflection_pad1d_backward replication_pad1d_backward",
    Kept(but=Last(2), of=(0,)): """reflection_pad2d_backward replication_pad2d_backward avg_pool2d_backward
    _adaptive_avg_pool2d_backward""",
    Kept(but=Last(3), of=(0,)): """reflection_pad3d_backward replication_pad3d_backward avg_pool3d_backward
    _adaptive_avg_pool3d_backward""",
}


def put_back(call: Call) -> Structures:
    zeros = Known(MINUS_INFINITY, uniform=True)
    return tuple(Sum((zeros, call[0]), how="put") for _ in call.node.outputs)


@rule("aten.embedding_dense_backward", "aten.embedding_backward", axes=LAST)
def embedding_backward(call: Call) -> Structure:
    """(dy, indices, rows): each row collects the gradients of all places where it stands."""
    dy = _collected(call[0], _growth(call.shape(1)) - number_order(call.arg(2)))
    return Sum((Known(MINUS_INFINITY, uniform=True), dy), how="put")


for _axes, _names in BACKWARD.items():
    rule(*(f"aten.{name}" for name in _names.split()), axes=_axes)(put_back)
for _axes, _names in SPREAD.items():
    rule(*(f"aten.{name}" for name in _names.split()), axes=_axes)(split)


@rule("aten.grid_sampler_2d_backward", "aten.grid_sampler_3d_backward", axes=MIXED)
def grid_sampler_backward(call: Call) -> Structures:
    """(dy, x, grid): the grid's gradient sums dy times differences of x over the channels."""
    return (View(call[0]), Reduce(Product(call[0], call[1]), call.growth(1, 1)))


@rule("aten._pack_padded_sequence", axes=MIXED)
def packed(call: Call) -> Structures:
    """The rows of a batch of sequences one step after another, without their padding; the batch of each step."""
    return View(call[0]), None


@rule("aten._pack_padded_sequence_backward", axes=MIXED)
def packed_backward(call: Call) -> Structure:
    return View(call[0])
