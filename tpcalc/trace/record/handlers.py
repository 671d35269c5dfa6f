"""Ops the recorder treats in their own way: those that read numbers, those that are no computation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Optional

import torch

from tpcalc.errors import TraceError
from tpcalc.trace.record.calls import Calls
from tpcalc.trace.record.draws import decides
from tpcalc.trace.record.ops import Op, op_of
from tpcalc.trace.record.phantom import Memory, geometry, make_alias, make_phantom

__all__ = ["Handler", "handler"]

Handler = Callable[[Calls, Op, tuple, dict], Any]


def handler(name: str) -> Optional[Handler]:
    """The handler of the op ``name``, if it has one."""
    if name.startswith(("profiler.", "aten._assert_", "aten.sym_constrain", "aten._functional_assert_")):
        return _ignore
    return _foreach if name.startswith("aten._foreach_") else _HANDLERS.get(name)


def _foreach(calls: Calls, op: Op, args: tuple, kwargs: dict) -> Any:
    """An op on lists of tensors: that op on each tensor."""
    base = op.name.split(".")[1].removeprefix("_foreach_")
    packet = getattr(torch.ops.aten, {"norm": "linalg_vector_norm"}.get(base, base), None)
    results = []
    for index in range(len(args[0])):
        own = tuple(arg[index] if isinstance(arg, (list, tuple)) else arg for arg in args)
        single = next((one for one in _overloads(packet) if _takes(one, own)), None)
        if single is None:
            raise TraceError(f"{calls.here()} calls {op.name}, which can't be traced; call the op on each tensor")
        results.append(calls.record(op_of(single), own, kwargs))
    return None if op.writes else results


def _overloads(packet: Any) -> list[Any]:
    names = [] if packet is None else [name for name in packet.overloads() if "out" not in name]
    return [getattr(packet, name) for name in names]


def _takes(overload: Any, args: tuple) -> bool:
    """Whether an overload takes these arguments, tensors and numbers where it wants them."""
    specs = overload._schema.arguments
    if len(args) > len(specs) or any(not s.has_default_value() and not s.kwarg_only for s in specs[len(args) :]):
        return False
    return all(isinstance(arg, torch.Tensor) == (str(spec.type) == "Tensor") for arg, spec in zip(args, specs))


def _ignore(calls: Calls, op: Op, args: tuple, kwargs: dict) -> Any:
    """Checks and profiling marks are no computation."""
    if op.name.startswith("profiler."):
        return op.func(*args, **kwargs)
    return args[0] if "functional" in op.name else None


def _lift(calls: Calls, op: Op, args: tuple, kwargs: dict) -> Any:
    """``torch.tensor(...)``: a constant, known whatever its size."""
    return calls.phantom(args[0])


def _detach(calls: Calls, op: Op, args: tuple, kwargs: dict) -> Any:
    """Same numbers, no gradient.  The backward pass detaches only what autograd saved: no node there."""
    source = calls.phantom(args[0])
    calls.refresh(source)
    ref = source.ref
    if calls.stage == "forward":
        ref = calls.new_value(source.geometry, source.content)
        calls.append(op.name, (source.ref,), (), (ref.id,))
    alias = make_alias(source.geometry, source, ref, source.shadow)
    alias.supposed = source.supposed
    calls.tell(alias)
    return alias


def _math_attention(calls: Calls, op: Op, args: tuple, kwargs: dict) -> int:
    """Scaled dot product attention takes its decomposed path."""
    return 0


def _read_number(calls: Calls, op: Op, args: tuple, kwargs: dict) -> Any:
    """``.item()``, ``int(x)``, ``if x:``."""
    if not calls.measured and any(calls.phantom(arg).memory.drawn for arg in args if isinstance(arg, torch.Tensor)):
        raise decides(calls.here())
    real = [calls.phantom(arg).content for arg in args if isinstance(arg, torch.Tensor)]
    if any(number is None for number in real):
        raise TraceError(
            f"{calls.here()} reads a number (.item(), int(), a branch or a loop bound) out of a tensor that "
            "depends on the weights or is too large to compute, which a trace can't know; keep the computation in "
            "torch, for instance with torch.where"
        )
    return op.func(*real, *args[len(real) :], **kwargs)


def _sparse_addmm(calls: Calls, op: Op, args: tuple, kwargs: dict) -> Any:
    """A product with a fixed sparse matrix, which is traced as a dense one."""
    named = dict(zip(("beta", "alpha"), args[3:])) | kwargs
    return calls.record(op_of(torch.ops.aten.addmm.default), args[:3], named)


def _all_close(calls: Calls, op: Op, args: tuple, kwargs: dict) -> bool:
    """A sanity check of the code on its own weights; it holds where it can't be computed."""
    real = [calls.phantom(arg).content for arg in args[:2]]
    if any(number is None for number in real):
        calls.assume("torch.allclose on weights holds")
        return True
    return op.func(*real, *args[2:], **kwargs)


# -- results whose size depends on numbers ---------------------------------------------------------


def _nominal(sized: Handler) -> Handler:
    """Where numbers are not known, ``sized`` gives the geometry of the result, and perhaps numbers to go on with."""

    def handle(calls: Calls, op: Op, args: tuple, kwargs: dict) -> Any:
        return calls.record(op, args, kwargs, lambda: sized(calls, op, args, kwargs))

    return handle


def _finite(answer: bool, asks: Callable[[tuple], bool]) -> Handler:
    """A test for NaN or infinity: on numbers that are not known, it finds none."""

    @_nominal
    def test(calls: Calls, op: Op, args: tuple, kwargs: dict) -> tuple[Any, Any]:
        calls.assume("tests for NaN and infinity find none")
        real = torch.full((), answer).expand(args[0].shape)
        return calls.contiguous(args[0].shape, torch.bool), real

    def handle(calls: Calls, op: Op, args: tuple, kwargs: dict) -> Any:
        return test(calls, op, args, kwargs) if asks(args) else calls.record(op, args, kwargs)

    return handle


def _selected(calls: Calls, mask: torch.Tensor, shape: torch.Size, what: str) -> int:
    """How many entries a mask selects: counted if its numbers are known."""
    real = calls.phantom(mask).content
    return _some_of(calls, shape, what) if real is None else int((real != 0).expand(shape).sum())


def _some_of(calls: Calls, shape: torch.Size, what: str) -> int:
    """A nominal count: all of a list (each expert has its tokens), half of anything else."""
    everything = len(shape) == 1
    extent = "all" if everything else "half"
    calls.assume(f"{what} depends on trained numbers; taken as {extent} of the possible entries")
    return shape.numel() if everything else shape.numel() // 2 + 1


@_nominal
def _nonzero(calls: Calls, op: Op, args: tuple, kwargs: dict) -> tuple[Any, Any]:
    mask = calls.phantom(args[0])
    rows = _some_of(calls, mask.shape, "the number of nonzero entries")
    first = torch.stack(torch.unravel_index(torch.arange(rows), mask.shape), dim=0).t() if mask.dim() else None
    return geometry((rows, mask.dim()), (1, rows), 0, torch.int64), first


@_nominal
def _masked_select(calls: Calls, op: Op, args: tuple, kwargs: dict) -> tuple[Any, Any]:
    shape = torch.broadcast_shapes(args[0].shape, args[1].shape)
    rows = _selected(calls, args[1], shape, "the number of selected entries")
    return calls.contiguous((rows,), args[0].dtype), None


def _index(calls: Calls, op: Op, args: tuple, kwargs: dict) -> Any:
    """``x[mask]``; indexing by integers has nothing special."""
    by_mask = any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
    return _index_by_mask(calls, op, args, kwargs) if by_mask else calls.record(op, args, kwargs)


@_nominal
def _index_by_mask(calls: Calls, op: Op, args: tuple, kwargs: dict) -> tuple[Any, Any]:
    indices: list[Any] = []
    for index in args[1]:
        if index is None or index.dtype not in (torch.bool, torch.uint8):
            indices.append(index)
            continue
        rows = _selected(calls, index, index.shape, "the number of entries a mask selects")
        row = calls.contiguous((rows,), torch.int64)
        indices.extend(make_phantom(row, Memory(), None, None) for _ in range(index.dim()))
    return calls.inference.on_fake(calls, op.func, (args[0], indices), {}), None


@_nominal
def _unique(calls: Calls, op: Op, args: tuple, kwargs: dict) -> tuple[Any, Any]:
    source = calls.phantom(args[0])
    size, inverse, along = [source.numel()], list(source.shape), 0
    if "unique_dim" in op.name:
        size, along = list(source.shape), args[1]
        inverse = [size[along]]
    size[along] = _some_of(calls, torch.Size([1, size[along]]), "the number of distinct entries")
    parts = [
        calls.contiguous(size, source.dtype),
        calls.contiguous(inverse, torch.int64),
        calls.contiguous((size[along],), torch.int64),
    ]
    return tuple(parts[: len(op.aliases)]), None


@_nominal
def _bincount(calls: Calls, op: Op, args: tuple, kwargs: dict) -> tuple[Any, Any]:
    least = args[2] if len(args) > 2 else kwargs.get("minlength", 0)
    weights = args[1] if len(args) > 1 else kwargs.get("weights")
    rows = least or _some_of(calls, args[0].shape, "the number of bins")
    return calls.contiguous((rows,), torch.int64 if weights is None else weights.dtype), None


@_nominal
def _repeat_interleave(calls: Calls, op: Op, args: tuple, kwargs: dict) -> tuple[Any, Any]:
    if not kwargs.get("output_size"):
        calls.assume("the number of repeated entries depends on trained numbers; taken as one each")
    return calls.contiguous((kwargs.get("output_size") or args[0].numel(),), torch.int64), None


@_nominal
def _grouped_mm(calls: Calls, op: Op, args: tuple, kwargs: dict) -> tuple[Any, Any]:
    """Contraction of groups of rows with one matrix each: torch infers its shape for bfloat16 only."""
    left, right, offsets = (*args, None)[:3]
    if left.dim() == 2 and right.dim() == 2:
        size: tuple[int, ...] = (kwargs.get("offs", offsets).shape[0], left.shape[0], right.shape[1])
    elif left.dim() == 3 and right.dim() == 3:
        size = (*left.shape[:2], right.shape[2])
    else:
        size = (left.shape[-2], right.shape[-1])
    return calls.contiguous(size, kwargs.get("out_dtype") or left.dtype), None


def _pack(calls: Calls, op: Op, args: tuple, kwargs: dict) -> Any:
    """Packed sequences: the recurrent kernels read the batch sizes from memory, so those are a real tensor."""
    data, sizes = calls.record(op, args, kwargs)
    return data, calls.made_real(sizes)


_HANDLERS: dict[str, Handler] = {
    "aten.lift_fresh.default": _lift,
    "aten.lift.default": _lift,
    "aten.detach.default": _detach,
    "aten._fused_sdp_choice.default": _math_attention,
    "aten._local_scalar_dense.default": _read_number,
    "aten.equal.default": _read_number,
    "aten.allclose.default": _all_close,
    "aten._sparse_addmm.default": _sparse_addmm,
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
