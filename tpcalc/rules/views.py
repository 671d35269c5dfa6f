"""Views, casts, copies, slices, concatenation, indexing: entries move, orders pass through."""

from __future__ import annotations

from tpcalc.algebra.order import MINUS_INFINITY
from tpcalc.rules.registry import Call, rule
from tpcalc.rules.structures import Discrete, Gather, Known, Product, Reduce, Sum, View

PASS = """view reshape _unsafe_view _reshape_alias permute transpose t expand expand_as squeeze unsqueeze slice select narrow
alias detach clone contiguous _to_copy to lift_fresh lift_fresh_copy lift diagonal flip roll movedim swapaxes unfold as_strided
repeat tile repeat_interleave flatten unflatten view_as ravel mT numpy_T view_as_real view_as_complex _conj conj _neg_view resolve_conj
resolve_neg real imag type_as triu tril constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d
replication_pad3d pixel_shuffle pixel_unshuffle channel_shuffle rot90 view_copy expand_copy
upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact2d upsample_bilinear2d upsample_bicubic2d upsample_linear1d
upsample_trilinear3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler_2d im2col col2im
upsample_nearest1d_backward upsample_nearest2d_backward upsample_bilinear2d_backward upsample_bicubic2d_backward
upsample_nearest3d_backward _upsample_nearest_exact2d_backward upsample_linear1d_backward upsample_trilinear3d_backward
_upsample_bilinear2d_aa_backward _upsample_bicubic2d_aa_backward masked_scatter_backward
_fft_r2c _fft_c2r _fft_c2c set_data diag_embed grid_sampler_3d""".split()


@rule(*(f"aten.{name}" for name in PASS))
def passes(call: Call):
    """The same entries (padding adds zeros, resampling averages finitely many neighbours)."""
    return View(call[0])


@rule(
    "aten.split",
    "aten.split_with_sizes",
    "aten.chunk",
    "aten.unbind",
    "aten.tensor_split",
    "aten.unsafe_split",
    "aten.unsafe_chunk",
    "aten.hsplit",
)
def split(call: Call):
    return tuple(View(call[0]) for _ in call.node.outputs)


@rule("aten.cat", "aten.stack", "aten.concat")
def cat(call: Call):
    return Sum(call.tensors(call.arg(0)))


@rule("aten.broadcast_tensors", "aten.meshgrid")
def each(call: Call):
    return tuple(View(x) for x in call.tensors(call.arg(0)))


@rule(
    "aten.embedding",
    "aten.index_select",
    "aten.gather",
    "aten.index",
    "aten._unsafe_index",
    "aten.take",
    "aten.take_along_dim",
)
def gather(call: Call):
    """Rows picked by an index."""
    return Gather(call[0])


@rule("aten.masked_select")
def masked_select(call: Call):
    return View(call[0])


@rule("aten._embedding_bag", "aten._embedding_bag_forward_only")
def embedding_bag(call: Call):
    """A sum or mean of finitely many rows."""
    return (Gather(call[0]),) + (Discrete(),) * (len(call.node.outputs) - 1)


@rule("aten.where.self", "aten.where.ScalarSelf", "aten.where.ScalarOther", "aten.where.Scalar")
def where(call: Call):
    return Sum((call[1], call[2]))


@rule("aten.where.default", "aten.nonzero", "aten.nonzero_numpy", "aten.nonzero_static")
def where_index(call: Call):
    return tuple(Discrete(call.tensors()[:1]) for _ in call.node.outputs)


@rule("aten.masked_fill")
def masked_fill(call: Call):
    """Masked entries take a constant; a masking constant (-inf, -1e30) leaves the others' order."""
    value = call.arg(2)
    if isinstance(value, (int, float)) and abs(value) > 1e9:
        return View(call[0])
    return Sum((call[0], call[2]))


@rule("aten.masked_scatter")
def masked_scatter(call: Call):
    return Sum((call[0], call[2]))


@rule("aten.index_put", "aten._unsafe_index_put", "aten._index_put_impl", "aten.put")
def index_put(call: Call):
    return Sum((call[0], call[2]))


@rule(
    "aten.scatter.src",
    "aten.scatter.value",
    "aten.scatter_add",
    "aten.index_add",
    "aten.index_copy",
    "aten.scatter.reduce",
    "aten.scatter_reduce",
    "aten.slice_scatter",
    "aten.select_scatter",
    "aten.diagonal_scatter",
    "aten.as_strided_scatter",
)
def scatter(call: Call):
    """Written (or finitely often added) into another tensor."""
    source = call[1] if "_scatter" in call.node.op and "scatter_" not in call.node.op else call[3]
    return Sum((call[0], source))


@rule("aten.index_fill")
def index_fill(call: Call):
    return Sum((call[0], call[3]))


@rule("aten.fill", "aten.fill_")
def fill(call: Call):
    return View(call[1])


@rule("aten.copy", "aten.copy_")
def copy(call: Call):
    """``a.copy_(b)``: the entries of ``b``."""
    return View(call[1])


@rule("aten.zero", "aten.zero_")
def zero(call: Call):
    return Known(MINUS_INFINITY)


@rule("tpcalc.write")
def write(call: Call):
    """A tensor after a write through one of its views: old and new entries side by side."""
    return Sum((call[0], call[1]))


@rule("tpcalc.reread")
def reread(call: Call):
    """A view read after its base was written."""
    return View(call[0])


@rule("aten.lerp")
def lerp(call: Call):
    return Sum((call[0], call[1]))


# Backward of views: the gradient's entries are put back among zeros, or finitely many of them are added.


@rule(
    "aten.slice_backward",
    "aten.select_backward",
    "aten.diagonal_backward",
    "aten.unfold_backward",
    "aten.value_selecting_reduction_backward",
    "aten.embedding_dense_backward",
    "aten.embedding_backward",
    "aten.index_select_backward",
    "aten.reflection_pad2d_backward",
    "aten.reflection_pad1d_backward",
    "aten.replication_pad2d_backward",
    "aten.replication_pad1d_backward",
    "aten.reflection_pad3d_backward",
    "aten.replication_pad3d_backward",
    "aten.max_pool2d_with_indices_backward",
    "aten.max_pool3d_with_indices_backward",
    "aten.avg_pool2d_backward",
    "aten._adaptive_avg_pool2d_backward",
    "aten._adaptive_avg_pool3d_backward",
    "aten.avg_pool3d_backward",
    "aten.adaptive_max_pool2d_backward",
    "aten._embedding_bag_dense_backward",
    "aten._embedding_bag_backward",
)
def put_back(call: Call):
    return tuple(View(call[0]) for _ in call.node.outputs)


@rule("aten.grid_sampler_2d_backward")
def grid_sampler_backward(call: Call):
    """(dy, x, grid): the grid's gradient sums dy times differences of x over the channels."""
    return (View(call[0]), Reduce(Product(call[0], call[1]), call.growth(1, 1)))
