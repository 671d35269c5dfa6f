"""Phantom tensors: everything autograd needs to know about a CPU tensor, and no memory.

A phantom is a wrapper subclass of ``torch.Tensor`` on device ``cpu``.  It stands where a fake tensor
would, but it is about sixty times cheaper to make, and it carries the recorder's own facts as plain
attributes: which value of the trace it holds, which memory it is a view of, and (where they are known)
its real numbers, the *shadow*.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import Any, Iterator, Optional

import torch
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import _disable_current_modes, _get_current_dispatch_mode

from tpcalc.errors import TraceError
from tpcalc.program.raw import RawValue, Ref
from tpcalc.trace.record.draws import Drawn, Range, decides
from tpcalc.trace.record.where import SourceLines

__all__ = [
    "CPU", "REAL", "Geometry", "Memory", "Phantom", "geometry", "make_alias", "make_phantom",
    "unwritten_numbers",
]  # fmt: skip

CPU = torch.device("cpu")
#: Key in the memo of a deep copy: a function from a phantom to the real tensor that stands for it in the copy.
REAL = "real tensors for phantoms"
_wrap = torch.Tensor._make_wrapper_subclass
_data: Any = torch._C.TensorBase.data


class Geometry:
    """Size, strides, offset and dtype of a tensor.  Interned (:func:`geometry`), so compared by identity."""

    __slots__ = ("size", "stride", "offset", "dtype", "numel", "value", "differentiable")

    def __init__(self, size: tuple[int, ...], stride: tuple[int, ...], offset: int, dtype: torch.dtype) -> None:
        self.size, self.stride, self.offset, self.dtype = size, stride, offset, dtype
        self.numel = 1
        for length in size:
            self.numel *= length
        self.differentiable = dtype.is_floating_point or dtype.is_complex
        self.value = RawValue(size, str(dtype))
        """The RawValue of an op result of this geometry: immutable, so every such result shares it."""


_geometries: dict[tuple, Geometry] = {}


def geometry(size: tuple[int, ...], stride: tuple[int, ...], offset: int, dtype: torch.dtype) -> Geometry:
    """The one Geometry with these properties, the same in all traces."""
    key = (size, stride, offset, dtype)
    found = _geometries.get(key)
    if found is None:
        found = _geometries[key] = Geometry(*key)
    return found


class Memory:
    """What several views share: the storage of a real tensor, without the storage.

    ``version`` counts writes.  ``base`` is the value of the whole memory as of the last write folded in;
    ``pending`` holds the values written through views since then.  ``drawn``: its numbers follow from random ones drawn
    in the forward pass, which lie in that range.  ``data``: its numbers follow from the inputs.  ``supposed``: numbers
    it might have, of what follows from weights alone and was written (:mod:`tpcalc.trace.record.supports`).
    """

    __slots__ = ("version", "known", "base", "base_geometry", "pending", "drawn", "data", "supposed")

    def __init__(self, known: bool = False) -> None:
        self.version = 0
        self.known = known
        self.base: Optional[Ref] = None
        self.base_geometry: Optional[Geometry] = None
        self.pending: list[tuple[Ref, Geometry, Optional[torch.Tensor]]] = []
        self.drawn: Optional[Range] = None
        self.data = False
        self.supposed: Any = None


class Phantom(torch.Tensor):
    """A tensor without memory.  Only the recorder makes them, with :func:`make_phantom`."""

    geometry: Geometry
    memory: Memory
    ref: Optional[Ref]
    """Value of the trace this tensor held at ``version`` of its memory; None before its first use."""
    version: int
    shadow: Optional[torch.Tensor]
    """Its real numbers, where known; valid only while ``memory.known``."""
    supposed: Any
    """Numbers it might have, of a function of weights; valid until its memory is written."""

    __module__ = "torch"  # some libraries tell whose tensors they are given by this (opt_einsum)

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise TraceError(
            f"{func} was called on a traced tensor outside of the trace; a lazy module, or a model kept after its "
            "trace, does this: build the model anew in the factory, with explicit sizes"
        )

    @property
    def content(self) -> Optional[torch.Tensor]:
        """The real numbers, or None."""
        return self.shadow if self.memory.known else None

    def _numbers(self, reader: str) -> torch.Tensor:
        if self.content is None:
            where = SourceLines().current(sys._getframe(1))
            raise TraceError(
                f"{reader}(){f' in {where}' if where else ''} reads the numbers of a tensor of shape "
                f"{tuple(self.shape)}, which has none while the model is traced; keep the computation in torch"
            )
        return self.content

    def tolist(self) -> Any:
        numbers = self._numbers("tolist")
        if self.memory.drawn is not None and not numbers.is_floating_point():
            raise decides(SourceLines().current(sys._getframe(1)) or "the model")
        return numbers.tolist()

    def item(self) -> Any:
        drawn = self.memory.drawn
        if drawn is None or self.content is None or not self.content.is_floating_point():
            return super().item()
        return Drawn(self.content.item(), drawn)

    def numpy(self, *, force: bool = False) -> Any:
        numbers = self._numbers("numpy")
        recording: Any = _get_current_dispatch_mode()
        if self.ref is not None and numbers.is_floating_point() and recording is not None:
            recording.may_leave(self.ref)
        with _disable_current_modes():  # else torch reads the memory of a phantom made on the way
            return numbers.numpy(force=force)

    def __format__(self, spec: str) -> str:
        return format(self.content.item() if self.dim() == 0 and self.content is not None else repr(self), spec)

    def __array__(self, dtype: Any = None) -> Any:
        numbers = Phantom.numpy(self)
        return numbers.astype(dtype) if dtype else numbers

    def cuda(self, *args: Any, **kwargs: Any) -> "Phantom":
        return self

    def to(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Conversions of dtype and layout; a trace has one device."""
        if args and isinstance(args[0], (str, int, torch.device)):
            rest = list(args[1:])
            dtype = {"dtype": rest.pop(0)} if rest and isinstance(rest[0], torch.dtype) else {}
            flags = {name: flag for name, flag in zip(("non_blocking", "copy"), rest) if flag is not None}
            args, kwargs = (), {**dtype, **flags, **kwargs}
        kwargs.pop("device", None)
        return super().to(*args, **kwargs) if args or kwargs else self

    def data_ptr(self) -> int:
        return 0

    def __deepcopy__(self, memo: dict[int, Any]) -> "Phantom":
        if id(self) in memo:
            return memo[id(self)]
        real: Any = memo.get(REAL)  # type: ignore[call-overload]
        if real is not None:
            return memo.setdefault(id(self), real(self))
        with torch.no_grad():
            copy: Any = self.detach().clone()
        if getattr(self, "_is_param", False):
            copy._is_param = True
        copy.requires_grad_(self.requires_grad)
        memo[id(self)] = copy
        return copy

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TraceError("a traced tensor can't be pickled; don't save the model inside the factory")

    def __repr__(self, **kwargs: Any) -> str:  # type: ignore[override]
        return f"Phantom({tuple(self.shape)}, {self.dtype})"

    @property
    def data(self) -> torch.Tensor:
        alias = make_alias(self.geometry, self, self.ref, self.shadow)
        alias.supposed = self.supposed
        return alias

    @data.setter  # type: ignore[override]
    def data(self, source: "Phantom") -> None:
        _data.__set__(self, source)
        self.geometry, self.memory, self.version = source.geometry, source.memory, source.version
        self.ref, self.shadow, self.supposed = source.ref, source.shadow, source.supposed


def make_phantom(geometry: Geometry, memory: Memory, ref: Optional[Ref], shadow: Optional[torch.Tensor]) -> Phantom:
    """A phantom of this geometry over this memory."""
    phantom = _wrap(Phantom, geometry.size, geometry.stride, geometry.offset, None, geometry.dtype, torch.strided, CPU)
    phantom.geometry, phantom.memory, phantom.version = geometry, memory, memory.version
    phantom.ref, phantom.shadow, phantom.supposed = ref, shadow, None
    return phantom


def make_alias(geometry: Geometry, source: Phantom, ref: Optional[Ref], shadow: Optional[torch.Tensor]) -> Phantom:
    """A phantom view of the memory of ``source``; to torch, too, they share a storage."""
    phantom = make_phantom(geometry, source.memory, ref, shadow)
    _share(phantom, source)
    return phantom


def _set_storage(phantom: Phantom, source: Phantom) -> None:
    """What ``_functionalize_unsafe_set`` is since torch 2.5, in the words of torch 2.4's own wrapper subclasses."""
    with no_dispatch():
        before = torch._C._meta_in_tls_dispatch_include()
        torch._C._set_meta_in_tls_dispatch_include(True)
        try:
            shape = phantom.storage_offset(), phantom.shape, phantom.stride()
            torch.ops.aten.set_.source_Storage_storage_offset(phantom, source.untyped_storage(), *shape)
        finally:
            torch._C._set_meta_in_tls_dispatch_include(before)


_share: Any = getattr(torch, "_functionalize_unsafe_set", _set_storage)


@contextmanager
def unwritten_numbers() -> Iterator[None]:
    """While it is held, numpy may read the numbers of phantoms but not write them: no recorder would see it."""

    def numpy(self: Phantom, *, force: bool = False) -> Any:
        array = own(self, force=force)
        array.flags.writeable = False
        return array

    own = Phantom.numpy
    Phantom.numpy = numpy  # type: ignore[method-assign]
    try:
        yield
    finally:
        Phantom.numpy = own  # type: ignore[method-assign]
