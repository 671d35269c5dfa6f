"""The geometry of what a call returns, without running it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, Optional

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, UnsupportedOperatorException

from tpcalc.errors import TraceError
from tpcalc.trace.record.ops import Op
from tpcalc.trace.record.phantom import CPU, Geometry
from tpcalc.trace.record.tape import Tape

__all__ = ["Inference", "mapped", "tensors_in"]

LARGEST_EXAMPLE = 2**22
"""Most entries of the operands of an op whose result is found out by a run on zeros."""

_BY_LENGTHS = frozenset(("aten._pack_padded_sequence.default", "aten._ctc_loss.Tensor", "aten._ctc_loss.default"))
"""Ops whose results depend on numbers only through lengths the user gives."""
_unseen = object()
_of_torch: dict[torch.dtype, dict[tuple, Any]] = {}
"""Geometries of calls of torch's own ops, under each default dtype."""


class Inference:
    """Infers geometries for the calls of one tape, once for each distinct call: by PyTorch's own fake tensors.

    What torch's own ops return stays known, as the next trace asks mostly the same; others' ops may be registered anew.
    The tape, which holds this, is told at each call: a trace that is done goes without the garbage collector.
    """

    def __init__(self) -> None:
        self._known: dict[tuple, Any] = {}

    @cached_property
    def _fake(self) -> FakeTensorMode:
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        mode.cache_enabled = False  # it is asked only what is not in ours
        return mode

    def recall(self, tape: Tape, op: Op, args: tuple, kwargs: dict, key: tuple) -> Any:
        """Geometry of the results of a call, remembered for calls alike, which have the same ``key``."""
        known = _of_torch.setdefault(torch.get_default_dtype(), {}) if op.name.startswith("aten.") else self._known
        inferred = known.get(key, _unseen)
        if inferred is _unseen:
            inferred = known[key] = self.on_meta(tape, op, args, kwargs) or self.on_fake(tape, op.func, args, kwargs)
        return inferred

    def on_meta(self, tape: Tape, op: Op, args: tuple, kwargs: dict) -> Any:
        """The cheap way to infer, for ops that allow it; None if it fails or gives nothing."""
        layout = _LAYOUTS.get(op.name)
        if layout is not None:
            return layout(tape, args)
        if op.constructs:
            kwargs = {**kwargs, "device": "meta"}
        elif not op.on_meta or "device" in kwargs or not (args and isinstance(args[0], (torch.Tensor, list))):
            return None
        try:
            result = op.func(*[mapped(partial(_to_meta, tape), arg) for arg in args], **kwargs)
        except (RuntimeError, TypeError, ValueError, NotImplementedError):
            return None  # fake tensors may do better; if not, the error is theirs
        return mapped(tape.geometry_of, result)

    def on_fake(self, tape: Tape, func: Any, args: tuple, kwargs: dict) -> Any:
        """Geometry of the results of a call, by running it on fake tensors."""

        def to_fake(arg: Any) -> Any:
            return FakeTensor(self._fake, _to_meta(tape, arg), CPU) if isinstance(arg, torch.Tensor) else arg

        fakes = [mapped(to_fake, arg) for arg in args]
        named = {name: mapped(to_fake, arg) for name, arg in kwargs.items()}
        try:
            with self._fake:
                return mapped(tape.geometry_of, func(*fakes, **named))
        except (UnsupportedOperatorException, NotImplementedError) as error:
            raise TraceError(
                f"{tape.here()} calls {func}, which has no fake implementation; "
                "register one with torch.library.register_fake"
            ) from error

    def by_example(self, tape: Tape, op: Op, args: tuple, kwargs: dict, known: bool) -> tuple[Any, Any]:
        """Geometry of a result that depends on numbers: from a run on what is known, and zeros for the rest.

        Integers among the results (the batch sizes of a packed sequence) are taken as known.
        """
        tensors = [t for arg in (*args, *kwargs.values()) for t in tensors_in(arg)]
        if sum(t.numel() for t in tensors) > LARGEST_EXAMPLE:
            raise TraceError(
                f"{tape.here()} calls {op.name}, whose result depends on the numbers of a large tensor; "
                "trace with smaller inputs, or write it with masks instead of data-dependent sizes"
            )
        if not known and op.name not in _BY_LENGTHS:
            tape.assume(f"the result of {op.name} depends on trained numbers; its size is that for zeros")
        example = partial(_to_example, tape)
        real = op.func(
            *(mapped(example, arg) for arg in args), **{name: mapped(example, arg) for name, arg in kwargs.items()}
        )
        kept = real if known else mapped(lambda r: None if _is_float(r) else r, real)
        return mapped(tape.geometry_of, real), kept


def _to_example(tape: Tape, arg: Any) -> Any:
    if not isinstance(arg, torch.Tensor):
        return arg
    phantom = tape.phantom(arg)
    real = phantom.content
    return real if real is not None else torch.zeros(phantom.geometry.size, dtype=phantom.geometry.dtype)


def _to_meta(tape: Tape, arg: Any) -> Any:
    if not isinstance(arg, torch.Tensor):
        return arg
    geometry = tape.phantom(arg).geometry
    size, stride, offset, dtype = geometry.size, geometry.stride, geometry.offset, geometry.dtype
    if not offset:
        return torch.empty_strided(size, stride, dtype=dtype, device="meta")
    span = offset + 1 + sum((length - 1) * step for length, step in zip(size, stride, strict=True) if length)
    return torch.empty(span, dtype=dtype, device="meta").as_strided(size, stride, offset)


def mapped(function: Callable[[Any], Any], structure: Any) -> Any:
    """``function`` of an argument, or of every item of a nested list."""
    if isinstance(structure, (list, tuple)):
        return type(structure)([mapped(function, item) for item in structure])
    return function(structure)


def tensors_in(argument: Any) -> list[torch.Tensor]:
    """The tensors of one argument: itself, a list of them, or none."""
    if isinstance(argument, torch.Tensor):
        return [argument]
    items = argument if isinstance(argument, (list, tuple)) else ()
    return [item for item in items if isinstance(item, torch.Tensor)]


def _is_float(tensor: Any) -> bool:
    return isinstance(tensor, torch.Tensor) and (tensor.is_floating_point() or tensor.is_complex())


# -- geometries that need no run -------------------------------------------------------------------
# To fake and meta tensors a layer norm is a long Python decomposition, slow and, in the backward pass of a permuted
# input, of another memory layout than what the kernel returns.  A look-up goes by fake tensors alone, which import half
# of torch's compiler.


def _embedding(tape: Tape, args: tuple) -> Optional[Geometry]:
    table, indices = args[:2]
    return tape.contiguous((*indices.shape, table.shape[1]), table.dtype) if table.dim() == 2 else None


def _layer_norm(tape: Tape, args: tuple) -> Optional[tuple]:
    x, normalised, *parameters = args[:4]
    over, rows = tuple(normalised), x.shape[: x.dim() - len(normalised)]
    alike = all(p is None or (tuple(p.shape) == over and p.dtype == x.dtype) for p in parameters)
    if not over or (*rows, *over) != tuple(x.shape) or not alike or not x.is_floating_point():
        return None
    kept = tape.contiguous((*rows, *(1 for _ in over)), x.dtype)
    return tape.contiguous(x.shape, x.dtype), kept, kept


def _layer_norm_backward(tape: Tape, args: tuple) -> tuple:
    _, x, _, _, _, weight, bias, wanted = args
    return tuple(
        tape.contiguous(of.shape, of.dtype) if want and of is not None else None
        for of, want in zip((x, weight, bias), wanted, strict=True)
    )


_LAYOUTS: dict[str, Callable[[Tape, tuple], Any]] = {
    "aten.embedding.default": _embedding,
    "aten.native_layer_norm.default": _layer_norm,
    "aten.native_layer_norm_backward.default": _layer_norm_backward,
}
