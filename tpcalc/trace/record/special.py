"""Ops the recorder treats in their own way: those that read numbers, those that are no computation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional

import torch

from tpcalc.errors import TraceError
from tpcalc.trace.record.phantom import make_alias

if TYPE_CHECKING:
    from tpcalc.trace.record.mode import Recording
    from tpcalc.trace.record.ops import Op
    from tpcalc.trace.record.phantom import Geometry

__all__ = ["handler", "layout"]

Handler = Callable[["Recording", "Op", tuple, dict], Any]


def handler(name: str) -> Optional[Handler]:
    """The handler of the op ``name``, if it has one."""
    if name.startswith(("profiler.", "aten._assert_", "aten.sym_constrain", "aten._functional_assert_")):
        return _ignore
    return _HANDLERS.get(name)


def layout(name: str) -> Optional[Callable[["Recording", tuple], Optional[tuple]]]:
    """What tells the geometry of the results of the op ``name`` from its arguments, or None for unusual ones."""
    return _LAYOUTS.get(name)


def _ignore(recording: "Recording", op: "Op", args: tuple, kwargs: dict) -> Any:
    """Checks and profiling marks are no computation."""
    if op.name.startswith("profiler."):
        return op.func(*args, **kwargs)
    return args[0] if "functional" in op.name else None


def _lift(recording: "Recording", op: "Op", args: tuple, kwargs: dict) -> Any:
    """``torch.tensor(...)``: a constant, known whatever its size."""
    return recording.phantom(args[0])


def _detach(recording: "Recording", op: "Op", args: tuple, kwargs: dict) -> Any:
    """Same numbers, no gradient.  The backward pass detaches only what autograd saved: no node there."""
    source = recording.phantom(args[0])
    if source.ref is None or source.version != source.memory.version:
        recording.refresh(source)
    if recording.stage != "forward":
        return make_alias(source.geometry, source, source.ref, source.shadow)
    ref = recording.new_value(source.geometry, source.content)
    recording.append(op.name, (source.ref,), (), (ref.id,))
    return make_alias(source.geometry, source, ref, source.shadow)


def _math_attention(recording: "Recording", op: "Op", args: tuple, kwargs: dict) -> int:
    """Scaled dot product attention takes its decomposed path."""
    return 0


def _read_number(recording: "Recording", op: "Op", args: tuple, kwargs: dict) -> Any:
    """``.item()``, ``int(x)``, ``if x:``."""
    real = [recording.phantom(arg).content for arg in args if isinstance(arg, torch.Tensor)]
    if any(number is None for number in real):
        raise TraceError(
            f"{recording.here()} reads a number (.item(), int(), a branch or a loop bound) out of a tensor that "
            "depends on the weights or is too large to compute, which a trace can't know; keep the computation in "
            "torch, for instance with torch.where"
        )
    return op.func(*real, *args[len(real) :], **kwargs)


def _all_close(recording: "Recording", op: "Op", args: tuple, kwargs: dict) -> bool:
    """A sanity check of the code on its own weights; it holds where it can't be computed."""
    real = [recording.phantom(arg).content for arg in args[:2]]
    if any(number is None for number in real):
        recording.assume("torch.allclose on weights holds")
        return True
    return op.func(*real, *args[2:], **kwargs)


def _finite(answer: bool, asks: Callable[[tuple], bool]) -> Handler:
    """A test for NaN or infinity: on numbers that are not known, it finds none."""

    def handle(recording: "Recording", op: "Op", args: tuple, kwargs: dict) -> Any:
        if not asks(args):
            return recording.record(op, args, kwargs)

        def nominal() -> tuple[Any, Any]:
            recording.assume("tests for NaN and infinity find none")
            size = tuple(args[0].shape)
            real = torch.full((), answer).expand(size)
            return recording.geometry(size, torch.empty(size, device="meta").stride(), 0, torch.bool), real

        return recording.record(op, args, kwargs, nominal)

    return handle


# -- results whose size depends on numbers ---------------------------------------------------------


def _selected(recording: "Recording", mask: torch.Tensor, shape: torch.Size, what: str) -> int:
    """How many entries a mask selects: counted if its numbers are known."""
    real = recording.phantom(mask).content
    return _some_of(recording, shape, what) if real is None else int((real != 0).expand(shape).sum())


def _some_of(recording: "Recording", shape: torch.Size, what: str) -> int:
    """A nominal count: all of a list (each expert has its tokens), half of anything else."""
    everything = len(shape) == 1
    extent = "all" if everything else "half"
    recording.assume(f"{what} depends on trained numbers; taken as {extent} of the possible entries")
    return shape.numel() if everything else shape.numel() // 2 + 1


def _nonzero(recording: "Recording", op: "Op", args: tuple, kwargs: dict) -> Any:
    mask = recording.phantom(args[0])

    def nominal() -> tuple[Any, Any]:
        rows = _some_of(recording, mask.shape, "the number of nonzero entries")
        first = torch.stack(torch.unravel_index(torch.arange(rows), mask.shape), dim=0).t() if mask.dim() else None
        return recording.geometry((rows, mask.dim()), (1, rows), 0, torch.int64), first

    return recording.record(op, args, kwargs, nominal)


def _masked_select(recording: "Recording", op: "Op", args: tuple, kwargs: dict) -> Any:
    def nominal() -> tuple[Any, Any]:
        shape = torch.broadcast_shapes(args[0].shape, args[1].shape)
        rows = _selected(recording, args[1], shape, "the number of selected entries")
        return recording.geometry((rows,), (1,), 0, args[0].dtype), None

    return recording.record(op, args, kwargs, nominal)


def _index(recording: "Recording", op: "Op", args: tuple, kwargs: dict) -> Any:
    """``x[mask]``; indexing by integers has nothing special."""
    masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
    if not masks:
        return recording.record(op, args, kwargs)

    def nominal() -> tuple[Any, Any]:
        indices: list[Any] = []
        for index in args[1]:
            if index is None or index.dtype not in (torch.bool, torch.uint8):
                indices.append(index)
                continue
            rows = _selected(recording, index, index.shape, "the number of entries a mask selects")
            row = recording.geometry((rows,), (1,), 0, torch.int64)
            indices.extend(recording.scratch(row) for _ in range(index.dim()))
        return recording.infer(op.func, (args[0], indices), {}), None

    return recording.record(op, args, kwargs, nominal)


def _unique(recording: "Recording", op: "Op", args: tuple, kwargs: dict) -> Any:
    def nominal() -> tuple[Any, Any]:
        source = recording.phantom(args[0])
        along = "dim" in op.name and args[1] if "unique_dim" in op.name else None
        count = source.shape[along] if along is not None else source.numel()
        rows = _some_of(recording, torch.Size([1, count]), "the number of distinct entries")
        size = list(source.shape) if along is not None else [rows]
        if along is not None:
            size[along] = rows
        stride = torch.empty(size, device="meta").stride()
        inverse = source.geometry.size if along is None else (count,)
        parts = [
            recording.geometry(tuple(size), stride, 0, source.dtype),
            recording.geometry(inverse, torch.empty(inverse, device="meta").stride(), 0, torch.int64),
            recording.geometry((rows,), (1,), 0, torch.int64),
        ]
        return tuple(parts[: len(op.aliases)]), None

    return recording.record(op, args, kwargs, nominal)


def _bincount(recording: "Recording", op: "Op", args: tuple, kwargs: dict) -> Any:
    def nominal() -> tuple[Any, Any]:
        least = args[2] if len(args) > 2 else kwargs.get("minlength", 0)
        weights = args[1] if len(args) > 1 else kwargs.get("weights")
        rows = least or _some_of(recording, args[0].shape, "the number of bins")
        return recording.geometry((rows,), (1,), 0, torch.int64 if weights is None else weights.dtype), None

    return recording.record(op, args, kwargs, nominal)


def _repeat_interleave(recording: "Recording", op: "Op", args: tuple, kwargs: dict) -> Any:
    def nominal() -> tuple[Any, Any]:
        total = kwargs.get("output_size") or args[0].numel()
        if not kwargs.get("output_size"):
            recording.assume("the number of repeated entries depends on trained numbers; taken as one each")
        return recording.geometry((total,), (1,), 0, torch.int64), None

    return recording.record(op, args, kwargs, nominal)


def _pack(recording: "Recording", op: "Op", args: tuple, kwargs: dict) -> Any:
    """Packed sequences: the recurrent kernels read the batch sizes from memory, so those are a real tensor."""
    data, sizes = recording.record(op, args, kwargs)
    return data, recording.made_real(sizes)


def _grouped_mm(recording: "Recording", op: "Op", args: tuple, kwargs: dict) -> Any:
    """Contraction of groups of rows with one matrix each: torch infers its shape for bfloat16 only."""
    left, right, offsets = (*args, None)[:3]
    offsets = kwargs.get("offs", offsets)

    def nominal() -> tuple[Any, Any]:
        if left.dim() == 2 and right.dim() == 2:
            size: tuple[int, ...] = (offsets.shape[0], left.shape[0], right.shape[1])
        elif left.dim() == 3 and right.dim() == 3:
            size = (*left.shape[:2], right.shape[2])
        else:
            size = (left.shape[-2], right.shape[-1])
        dtype = kwargs.get("out_dtype") or left.dtype
        return recording.geometry(size, torch.empty(size, device="meta").stride(), 0, dtype), None

    return recording.record(op, args, kwargs, nominal)


_HANDLERS: dict[str, Handler] = {
    "aten.lift_fresh.default": _lift,
    "aten.lift.default": _lift,
    "aten.detach.default": _detach,
    "aten._fused_sdp_choice.default": _math_attention,
    "aten._local_scalar_dense.default": _read_number,
    "aten.equal.default": _read_number,
    "aten.allclose.default": _all_close,
    "aten.isnan.default": _finite(False, lambda args: True),
    "aten.isinf.default": _finite(False, lambda args: True),
    "aten.ne.Tensor": _finite(False, lambda args: args[0] is args[1]),
    "aten.eq.Tensor": _finite(True, lambda args: args[0] is args[1]),
    "aten.ne.Scalar": _finite(True, lambda args: args[1] == math.inf),
    "aten.eq.Scalar": _finite(False, lambda args: args[1] == math.inf),
    "aten.nonzero.default": _nonzero,
    "aten.masked_select.default": _masked_select,
    "aten.index.Tensor": _index,
    "aten._unique2.default": _unique,
    "aten._unique.default": _unique,
    "aten.unique_dim.default": _unique,
    "aten.unique_consecutive.default": _unique,
    "aten.bincount.default": _bincount,
    "aten.repeat_interleave.Tensor": _repeat_interleave,
    "aten._grouped_mm.default": _grouped_mm,
    "aten._pack_padded_sequence.default": _pack,
}


# -- results whose geometry needs no run -----------------------------------------------------------
# To fake and meta tensors, layer norm is a long Python decomposition, slow and, in the backward pass of a permuted
# input, of another memory layout than what the kernel returns.


def _contiguous(recording: "Recording", size: Any, dtype: torch.dtype) -> "Geometry":
    size = tuple(size)
    return recording.geometry(size, torch.empty(size, device="meta").stride(), 0, dtype)


def _layer_norm(recording: "Recording", args: tuple) -> Optional[tuple]:
    x, normalised, *parameters = args[:4]
    over, rows = tuple(normalised), x.shape[: x.dim() - len(normalised)]
    alike = all(p is None or (tuple(p.shape) == over and p.dtype == x.dtype) for p in parameters)
    if not over or (*rows, *over) != tuple(x.shape) or not alike or not x.is_floating_point():
        return None
    kept = _contiguous(recording, (*rows, *(1 for _ in over)), x.dtype)
    return _contiguous(recording, x.shape, x.dtype), kept, kept


def _layer_norm_backward(recording: "Recording", args: tuple) -> tuple:
    _, x, _, _, _, weight, bias, wanted = args
    return tuple(
        _contiguous(recording, of.shape, of.dtype) if want and of is not None else None
        for of, want in zip((x, weight, bias), wanted, strict=True)
    )


_LAYOUTS = {
    "aten.native_layer_norm.default": _layer_norm,
    "aten.native_layer_norm_backward.default": _layer_norm_backward,
}
