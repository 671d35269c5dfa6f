"""The code's own initialisation, read exactly from its calls while the model is built.

:class:`InitRecorder` is a dispatch mode entered around the user's factory.  It interprets the tensor
operations of the construction abstractly: every storage carries a :class:`Law`, the distribution of
its entries.  ``normal_``, ``uniform_``, ``zeros`` and the like create laws; multiplying by a number
scales them; a sum of independent draws adds variances; ``copy_``, ``clone`` (so ``deepcopy`` too),
``detach``, ``.data =`` and views carry them; a write through a view that covers only part of a storage
leaves a patch.  Nothing is drawn, so it works under fake tensors at any size.

``mean`` and ``std`` follow closed formulas through everything affine.  Any other pointwise op (the
``exp``, ``clamp`` and ``log`` of a Mamba time-step bias) is applied to the quantiles of its operands.

The law of a weight whose parts were written differently is the mixture over its entries.  Slabs set to
zero (the row of ``padding_idx``) are left out of it: they stay zero under any multiplier.  Entries
that are unequal but not random (``eye_``, ``arange``) count as ``random`` with their spread as ``std``.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Optional

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from tpcalc.program.ir import InitLaw

__all__ = ["InitRecorder", "Law", "measured_law", "truncated_normal_moments"]

#: Points of the quantile grid on which non-affine pointwise ops are evaluated.
GRID = 4096
#: Largest tensor made of plain data (``arange``, ``torch.tensor([...])``) whose entries are looked at.
LARGEST_DATA = 1 << 20


@dataclass(frozen=True)
class Law:
    """Distribution of the entries of a tensor.  ``mean`` is None where it is unknown.

    ``quantiles`` yields real float64 entries representative of the law, or None.  Laws with the same
    ``source`` are functions of the same draw, entry by entry; different sources are independent.
    """

    mean: Optional[float]
    std: float
    call: str
    quantiles: Optional[Callable[[], torch.Tensor]] = None
    source: Any = field(default_factory=object)

    @property
    def known(self) -> bool:
        return self.mean is not None

    @property
    def is_constant(self) -> bool:
        return self.known and self.std == 0.0

    def sample(self) -> Optional[torch.Tensor]:
        """Representative entries, real even while everything else is fake; None if there are none."""
        with _disable_current_modes():
            if self.is_constant:
                return torch.full((1,), self.mean, dtype=torch.float64)
            return self.quantiles() if self.quantiles is not None else None

    def affine(self, scale: float, shift: float, call: str) -> "Law":
        """Law of ``scale * x + shift``."""
        if not self.known:
            return self
        quantiles, inner = None, self.quantiles
        if inner is not None:
            quantiles = lambda: inner() * scale + shift  # noqa: E731
        return Law(scale * self.mean + shift, abs(scale) * self.std, call, quantiles, self.source)

    def summary(self) -> InitLaw:
        if not self.known or not math.isfinite(self.mean) or not math.isfinite(self.std):
            return InitLaw("unknown", call=self.call)
        return InitLaw("random" if self.std else "constant", self.std, self.mean, self.call)


def _unknown(why: str) -> Law:
    return Law(None, 0.0, why)


def _constant(value: float, call: str) -> Law:
    return Law(float(value), 0.0, call)


# -- distributions ---------------------------------------------------------------------------------


def _probabilities() -> torch.Tensor:
    return (torch.arange(GRID, dtype=torch.float64) + 0.5) / GRID


def _normal(mean: float, std: float, call: str) -> Law:
    return Law(mean, abs(std), call, lambda: torch.special.ndtri(_probabilities()) * std + mean)


def _uniform(low: float, high: float, call: str) -> Law:
    return Law(
        (low + high) / 2,
        abs(high - low) / math.sqrt(12.0),
        call,
        lambda: _probabilities() * (high - low) + low,
        _Uniform(low, high),
    )


@dataclass(frozen=True, eq=False)
class _Uniform:
    """Source of a uniform draw; its bounds make ``erfinv`` of it, the classical truncated normal, exact."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class _Norm:
    """Source of the norms of rows of ``count`` entries; dividing by them leaves entries of rms ``1/sqrt(count)``."""

    of: Any
    count: int


def _independent(x: Law, y: Law) -> bool:
    """A transpose counts as independent of its tensor: off the diagonal it is."""
    return x.source is not y.source and x.source != y.source


def _density(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi) if math.isfinite(x) else 0.0


def _interval_probability(low: float, high: float) -> float:
    """``P(low < z < high)`` of a standard normal, accurate in the tails."""
    if low > 0:
        return (math.erfc(low / math.sqrt(2)) - math.erfc(high / math.sqrt(2))) / 2
    if high < 0:
        return (math.erfc(-high / math.sqrt(2)) - math.erfc(-low / math.sqrt(2))) / 2
    return (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))) / 2


def truncated_normal_moments(mean: float, std: float, low: float, high: float) -> tuple[float, float]:
    """Mean and standard deviation of ``N(mean, std^2)`` conditioned on ``low <= x <= high``."""
    if std == 0:
        return mean, 0.0
    alpha, beta = (low - mean) / std, (high - mean) / std
    mass = _interval_probability(alpha, beta)
    if mass <= 0.0:
        nearest = min(max(mean, low), high)
        return nearest, 0.0
    shift = (_density(alpha) - _density(beta)) / mass

    def edge(x: float) -> float:
        return x * _density(x) if math.isfinite(x) else 0.0

    variance = 1 + (edge(alpha) - edge(beta)) / mass - shift * shift
    return mean + std * shift, std * math.sqrt(max(variance, 0.0))


def _truncated_normal(mean: float, std: float, low: float, high: float, call: str) -> Law:
    def quantiles() -> torch.Tensor:
        bounds = torch.tensor([low, high], dtype=torch.float64)
        a, b = torch.special.ndtr((bounds - mean) / std)
        return (torch.special.ndtri(a + (b - a) * _probabilities()) * std + mean).clamp(low, high)

    return Law(*truncated_normal_moments(mean, std, low, high), call, quantiles)


def _data(values: torch.Tensor, call: str) -> Law:
    """The law of known entries."""
    flat = values.detach().to(torch.float64).flatten()
    if flat.numel() == 0:
        return _constant(0.0, call)
    mean = float(flat.mean())
    if bool((flat == flat[0]).all()):
        return _constant(float(flat[0]), call)
    return Law(mean, float(flat.std(correction=0)), call, lambda: flat)


def _mixture(parts: Iterable[tuple[int, Law]]) -> Law:
    """Law of a tensor of which ``count`` entries follow each law."""
    parts = [(count, law) for count, law in parts if count > 0]
    random = [(count, law) for count, law in parts if not law.is_constant]
    parts = [(count, law) for count, law in parts if not (random and law.is_constant and law.mean == 0)]
    if not parts:
        return _constant(0.0, "no entries")
    first = parts[0][1]
    if all(law is first or (law.mean, law.std) == (first.mean, first.std) for _, law in parts):
        return first
    for _, law in parts:
        if not law.known:
            return law
    return _blend(parts)


def _blend(parts: list[tuple[int, Law]]) -> Law:
    total = sum(count for count, _ in parts)
    mean = sum(count * law.mean for count, law in parts) / total
    square = sum(count * (law.std**2 + law.mean**2) for count, law in parts) / total
    call = " and ".join(dict.fromkeys(law.call for _, law in parts))
    return Law(mean, math.sqrt(max(square - mean * mean, 0.0)), f"parts: {call}" if len(call) < 200 else "parts")


# -- storages --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Region:
    """The entries of a storage that a view reaches: an interval, or a strided set ``(size, stride)...``."""

    start: int
    dims: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        return math.prod(size for size, _ in self.dims)

    @property
    def stop(self) -> int:
        return self.start + 1 + sum((size - 1) * stride for size, stride in self.dims)

    @property
    def is_interval(self) -> bool:
        return self.stop - self.start == self.count

    def within(self, other: "_Region") -> bool:
        return self == other or (other.is_interval and other.start <= self.start and self.stop <= other.stop)

    def apart(self, other: "_Region") -> bool:
        """Surely no common entry."""
        if self.stop <= other.start or other.stop <= self.start:
            return True
        # Slices of one matrix along its inner axis: the same stride, columns that do not meet.
        if self.dims and other.dims and not self.is_interval and not other.is_interval:
            stride = self.dims[0][1]
            if stride == other.dims[0][1]:
                a, b = self.start % stride, other.start % stride
                a_stop = a + self.stop - self.start - (self.dims[0][0] - 1) * stride
                b_stop = b + other.stop - other.start - (other.dims[0][0] - 1) * stride
                return a_stop <= stride and b_stop <= stride and (a_stop <= b or b_stop <= a)
        return False


def _region(tensor: torch.Tensor) -> _Region:
    return _region_of(tensor.shape, tensor.stride(), tensor.storage_offset())


def _region_of(shape: Iterable[int], stride: Iterable[int], offset: int) -> _Region:
    dims = sorted(((s, st) for s, st in zip(shape, stride) if s != 1 and st != 0), key=lambda d: -d[1])
    merged: list[tuple[int, int]] = []
    for size, stride in dims:
        if merged and merged[-1][1] == size * stride:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    return _Region(offset, tuple(merged))


class _Storage:
    """Laws of one storage: ``base``, and patches written later through views of part of it."""

    def __init__(self, tensor: torch.Tensor, base: Law) -> None:
        self.keep = _memory(tensor)  # so that its address is not given to another
        self.total = _region(tensor).count
        if isinstance(self.keep, torch.UntypedStorage):
            self.total = self.keep.nbytes() // tensor.element_size()
        self.base = base
        self.patches: dict[Any, tuple[int, Law]] = {}
        self.scattered: list[tuple[int, Law]] = []

    def write(self, region: _Region, law: Law) -> None:
        if region.count >= self.total:
            self.base, self.patches, self.scattered = law, {}, []
            return
        if self.base is law and not self.patches:
            return
        for other in list(self.patches):
            if other.within(region):
                del self.patches[other]
            elif not region.apart(other):
                if not (region.is_interval and other.is_interval):
                    law = _unknown("overlapping writes through different views")
                else:
                    self._cut(other, region)
        self.patches[region] = (region.count, law)

    def _cut(self, old: _Region, new: _Region) -> None:
        _, law = self.patches.pop(old)
        for start, stop in ((old.start, min(old.stop, new.start)), (max(old.start, new.stop), old.stop)):
            if stop > start:
                self.patches[_Region(start, ((stop - start, 1),))] = (stop - start, law)

    def scatter(self, count: int, law: Law) -> None:
        """``count`` entries at unknown places follow ``law``."""
        self.scattered.append((count, law))

    def read(self, region: _Region) -> Law:
        if not self.patches and not self.scattered:
            return self.base
        if not self.scattered:
            for other, (_, law) in self.patches.items():
                if region.within(other):
                    return law
            if all(region.apart(other) for other in self.patches):
                return self.base
        parts = [part for other, part in self.patches.items() if not region.apart(other)]
        rest = region.count - sum(count for count, _ in parts)
        scattered = sum(count for count, _ in self.scattered)
        if not scattered:
            return _mixture([(rest, self.base), *parts])
        slabs = _mixture([(rest, self.base), *parts])
        share = min(scattered, region.count)
        if not slabs.known or not all(law.known for _, law in self.scattered):
            return slabs if not slabs.known else _unknown("entries written at unknown places")
        return _blend([(region.count - share, slabs), (share, _mixture(self.scattered))])


# -- the recorder ----------------------------------------------------------------------------------

#: Label of a tensor of random signs, which change no zero-mean law.
_SIGNS = "signs"
#: Ops whose result has the entries of their first operand, possibly some of them, or several times.
_CARRY = {
    "clone", "_to_copy", "lift_fresh", "lift_fresh_copy", "lift", "detach_copy", "repeat", "flip", "roll",
    "index_select",
    "gather", "index", "contiguous", "_reshape_copy", "expand_copy", "permute_copy", "view_copy", "t_copy",
    "transpose_copy", "slice_copy", "select_copy", "unsqueeze_copy", "squeeze_copy", "rot90", "sort",
    "repeat_interleave",
    "copy", "alias_copy", "_conj_physical", "embedding", "take", "randperm_like",
}  # fmt: skip
#: In-place ops that touch no entry.
_METADATA = {
    "t_", "transpose_", "swapaxes_", "swapdims_", "squeeze_", "unsqueeze_", "detach_", "as_strided_", "resize_", "set_",
    "requires_grad_",
}  # fmt: skip
_CREATE_EMPTY = {"empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided", "empty_permuted"}
_CREATE_DATA = {"arange", "linspace", "logspace", "scalar_tensor", "tril_indices", "triu_indices"}


class InitRecorder(TorchDispatchMode):
    """Records the :class:`InitLaw` of every parameter of a model built inside it.

    >>> with InitRecorder() as recorder:
    ...     model = torch.nn.Linear(64, 64)
    >>> recorder.laws(model)["weight"]
    InitLaw(kind='random', std=0.07216878364870323, ...)

    Works under real and under fake tensors, and inside or outside other dispatch modes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._storages: dict[int, _Storage] = {}
        self._draws = 0
        self._original_trunc_normal: Any = None

    # ``trunc_normal_`` redraws until all entries fit, a loop over contents that fake tensors don't have.
    # All its aliases (``from torch.nn.init import trunc_normal_``, transformers' copy) reach this helper.
    def __enter__(self) -> "InitRecorder":
        self._original_trunc_normal = torch.nn.init._no_grad_trunc_normal_
        torch.nn.init._no_grad_trunc_normal_ = self._trunc_normal
        super().__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        torch.nn.init._no_grad_trunc_normal_ = self._original_trunc_normal
        super().__exit__(*exc)

    def laws(self, model: torch.nn.Module) -> dict[str, InitLaw]:
        """The law of every parameter under each of its names (tied ones under all of them)."""
        return {name: self.law_of(weight).summary() for name, weight in model.named_parameters(remove_duplicate=False)}

    def law_of(self, tensor: torch.Tensor) -> Law:
        """The law of the entries of ``tensor`` as they stand now."""
        storage = self._storages.get(_key(tensor))
        if storage is None:
            return self._first_seen(tensor)
        law = storage.read(_region(tensor))
        if law.known and not law.is_constant and tensor.dim() > 1 and not tensor.is_contiguous():
            strides = tensor.stride()
            if list(strides) != sorted(strides, reverse=True):  # a transpose does not meet itself entry by entry
                return replace(law, source=(law.source, strides))
        return law

    def law_of_block(self, tensor: torch.Tensor, dim: int, start: int, length: int) -> Law:
        """The law of the ``length`` indices of ``tensor`` along ``dim`` from ``start`` on."""
        storage = self._storages.get(_key(tensor))
        if storage is None:
            return self._first_seen(tensor)
        shape, stride = list(tensor.shape), tensor.stride()
        shape[dim] = length
        return storage.read(_region_of(shape, stride, tensor.storage_offset() + start * stride[dim]))

    def _first_seen(self, tensor: torch.Tensor) -> Law:
        """The law of a tensor made outside the recorder: looked up where its entries exist and are few."""
        if isinstance(tensor, FakeTensor):
            tensor = tensor.constant
        elif hasattr(tensor, "memory"):
            tensor = tensor.content
        if tensor is None:
            return _unknown("made outside the model's construction")
        if type(tensor) in (torch.Tensor, torch.nn.Parameter) and not tensor.is_meta and tensor.numel() <= LARGEST_DATA:
            with _disable_current_modes():
                if not tensor.is_complex():
                    return _data(tensor, "data")
        return _unknown("made outside the model's construction")

    def _write(self, tensor: torch.Tensor, law: Law) -> None:
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
            return
        key = _key(tensor)
        storage = self._storages.get(key)
        if storage is None:
            storage = self._storages[key] = _Storage(tensor, law)
            if _region(tensor).count >= storage.total:
                return
            storage.base = _unknown("made outside the model's construction")
        storage.write(_region(tensor), law)

    def _trunc_normal(
        self, tensor: torch.Tensor, mean: float, std: float, a: float, b: float, generator: Any = None
    ) -> torch.Tensor:
        if not tensor.is_meta and type(tensor) in (torch.Tensor, torch.nn.Parameter):
            self._original_trunc_normal(tensor, mean, std, a, b, generator=generator)
        call = f"trunc_normal_({_arguments(mean=mean, std=std, a=a, b=b)})"
        self._write(tensor, _truncated_normal(mean, std, a, b, call))
        return tensor

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Optional[dict] = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        written = _written(func, args, kwargs)
        if func.namespace == "prim" or name in _METADATA or (written is None and _is_view(func)):
            return func(*args, **kwargs)
        law = self._law(func, name.rstrip("_") if written is not None and name != "_" else name, args, kwargs)
        out = func(*args, **kwargs)
        if name in ("clone", "copy_", "_to_copy") and self._copy_patches(name, args, out):
            return out
        if written is not None:
            if name in ("index_put_", "_index_put_impl_"):
                self._index_put(args, law)
            else:
                self._write(written, law)
        elif isinstance(out, torch.Tensor):
            self._write(out, law)
        elif isinstance(out, (tuple, list)):
            self._write_outputs(name, out, law)
        return out

    def _write_outputs(self, name: str, outputs: Iterable[Any], law: Law) -> None:
        for position, out in enumerate(outputs):
            if isinstance(out, torch.Tensor):
                first = position == 0 or name.endswith("unbind")
                self._write(out, law if first else _unknown(f"result {position} of {name}"))

    def _copy_patches(self, name: str, args: tuple, out: torch.Tensor) -> bool:
        """Copy a storage with all its patches where the copy has the same layout (``deepcopy``)."""
        source, target = (args[1], args[0]) if name == "copy_" else (args[0], out)
        if not isinstance(source, torch.Tensor) or source.shape != target.shape or source.stride() != target.stride():
            return False
        old = self._storages.get(_key(source))
        if old is None or not (old.patches or old.scattered) or _region(source).count < old.total:
            return False
        self._write(target, old.base)
        new = self._storages[_key(target)]
        if _region(target).count < new.total:
            return False
        new.base, new.patches, new.scattered = old.base, dict(old.patches), list(old.scattered)
        return True

    def _index_put(self, args: tuple, law: Law) -> None:
        """``w[rows, column] = value``: that many entries, wherever they are."""
        target, indices = args[0], args[1]
        shapes = [index.shape for index in indices if index is not None]
        masks = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)
        accumulate = len(args) > 3 and args[3]
        if masks or accumulate:
            before = self.law_of(target)
            if not (law.is_constant and before.is_constant and law.mean == before.mean and not accumulate):
                self._write(target, _unknown("written through an index that is not known"))
            return
        rest = [size for axis, size in enumerate(target.shape) if axis >= len(indices) or indices[axis] is None]
        count = math.prod(torch.broadcast_shapes(*shapes)) * math.prod(rest)
        if count >= target.numel():
            self._write(target, law)
        elif _key(target) in self._storages:
            self._storages[_key(target)].scatter(count, law)

    # -- laws of ops -------------------------------------------------------------------------------

    def _law(self, func: Any, name: str, args: tuple, kwargs: dict) -> Law:
        """The law of what ``func`` makes or writes."""
        special = getattr(self, f"_op_{name}", None)
        if special is not None:
            return special(func, args, kwargs)
        if name in _CREATE_EMPTY:
            return _unknown("uninitialised memory")
        if name in _CREATE_DATA:
            return self._computed(func, args, kwargs)
        if name in _CARRY:
            return self._operand(args[0])
        if torch.Tag.pointwise in func.tags:
            return self._pointwise(func, name, args, kwargs)
        return _unknown(f"{name} has no law")

    def _operand(self, arg: Any) -> Law:
        if isinstance(arg, torch.Tensor):
            return self.law_of(arg)
        if isinstance(arg, (bool, int, float)):
            return _constant(arg, f"{arg:g}" if not isinstance(arg, bool) else str(arg))
        return _unknown(f"an operand of type {type(arg).__name__}")

    def _computed(self, func: Any, args: tuple, kwargs: dict) -> Law:
        """Entries that depend on numbers only: computed for real."""
        real = {key: value for key, value in kwargs.items() if key not in ("device", "pin_memory", "layout", "out")}
        name = func._schema.name.removeprefix("aten::")
        with _disable_current_modes():
            values = func(*args, **real)
            if values.numel() > LARGEST_DATA:
                return _unknown(f"{name} of {values.numel()} entries")
            return _data(values, name)

    # Draws.  The name of the torch.nn.init function that called, if any, is the better label.

    def _op_normal(self, func: Any, args: tuple, kwargs: dict) -> Law:
        named = _bind(func, args, kwargs)
        mean, std = named.get("mean", 0.0), named.get("std", 1.0)
        if isinstance(mean, torch.Tensor) or isinstance(std, torch.Tensor):
            mean, std = self._operand(mean), self._operand(std)
            if not mean.known or not std.known:
                return _unknown("normal with unknown mean or std")
            spread = math.sqrt(mean.std**2 + std.std**2 + std.mean**2)
            return Law(mean.mean, spread, f"normal({_arguments(mean=mean.mean, std=spread)})")
        return _normal(mean, std, _label("normal_", std, mean=mean, std=std))

    _op_normal_functional = _op_normal

    def _op_randn(self, func: Any, args: tuple, kwargs: dict) -> Law:
        return _normal(0.0, 1.0, "randn()")

    _op_randn_like = _op_randn

    def _op_uniform(self, func: Any, args: tuple, kwargs: dict) -> Law:
        named = _bind(func, args, kwargs)
        low, high = named.get("from", 0.0), named.get("to", 1.0)
        law = _uniform(low, high, "")
        return replace(law, call=_label("uniform_", law.std, a=low, b=high))

    def _op_rand(self, func: Any, args: tuple, kwargs: dict) -> Law:
        return _uniform(0.0, 1.0, "rand()")

    _op_rand_like = _op_rand

    def _op_randint(self, func: Any, args: tuple, kwargs: dict) -> Law:
        named = _bind(func, args, kwargs)
        low, high = named.get("low", 0), named["high"]
        call = f"randint({low}, {high})"
        spread = math.sqrt(((high - low) ** 2 - 1) / 12)
        return Law((low + high - 1) / 2, spread, call, lambda: (_probabilities() * (high - low) + low).floor())

    def _op_bernoulli(self, func: Any, args: tuple, kwargs: dict) -> Law:
        named = _bind(func, args, kwargs)
        p = named.get("p")
        if not isinstance(p, (int, float)):
            law = self._operand(p if p is not None else args[0])
            p = law.mean if law.is_constant else None
        if p is None:
            return _unknown("bernoulli with unequal probabilities")
        return Law(p, math.sqrt(p * (1 - p)), f"bernoulli({p:g})", lambda: (_probabilities() < p).double())

    def _op_exponential(self, func: Any, args: tuple, kwargs: dict) -> Law:
        rate = _bind(func, args, kwargs).get("lambd", 1.0)
        return Law(1 / rate, 1 / rate, f"exponential_({rate:g})", lambda: -torch.log1p(-_probabilities()) / rate)

    def _op_log_normal(self, func: Any, args: tuple, kwargs: dict) -> Law:
        named = _bind(func, args, kwargs)
        mean, std = named.get("mean", 1.0), named.get("std", 2.0)
        middle = math.exp(mean + std * std / 2)
        return Law(middle, middle * math.sqrt(math.expm1(std * std)), f"log_normal_({_arguments(mean=mean, std=std)})")

    def _op_randperm(self, func: Any, args: tuple, kwargs: dict) -> Law:
        size = args[0]
        return Law((size - 1) / 2, math.sqrt((size * size - 1) / 12), f"randperm({size})")

    # Constants.

    def _op_zeros(self, func: Any, args: tuple, kwargs: dict) -> Law:
        return _constant(0.0, "zeros_()")

    _op_zero = _op_zeros_like = _op_new_zeros = _op_zeros

    def _op_ones(self, func: Any, args: tuple, kwargs: dict) -> Law:
        return _constant(1.0, "ones_()")

    _op_ones_like = _op_new_ones = _op_ones

    def _op_full(self, func: Any, args: tuple, kwargs: dict) -> Law:
        named = _bind(func, args, kwargs)
        value = named["fill_value"] if "fill_value" in named else named["value"]
        law = self._operand(value)
        if law.is_constant:
            name = {0.0: "zeros_()", 1.0: "ones_()"}.get(law.mean, f"constant_({law.mean:g})")
            return _constant(law.mean, name)
        return law

    _op_fill = _op_full_like = _op_new_full = _op_full

    def _op_eye(self, func: Any, args: tuple, kwargs: dict) -> Law:
        """Ones on the diagonal; ``std`` is the rms entry, ``1/sqrt(longer side)``, as of an orthogonal matrix."""
        named = _bind(func, args, kwargs)
        longer = max(int(named["n"]), int(named.get("m", named["n"])))
        return Law(0.0, 1 / math.sqrt(longer), "eye_()")

    # Copies and joins.

    def _op_copy(self, func: Any, args: tuple, kwargs: dict) -> Law:
        return self._operand(args[1])

    def _op_cat(self, func: Any, args: tuple, kwargs: dict) -> Law:
        return _mixture([(part.numel(), self.law_of(part)) for part in args[0]])

    _op_stack = _op_cat

    def _op_constant_pad_nd(self, func: Any, args: tuple, kwargs: dict) -> Law:
        tensor, pad = args[0], args[1]
        value = args[2] if len(args) > 2 else 0
        grown = list(tensor.shape)
        for axis, (before, after) in enumerate(zip(pad[::2], pad[1::2]), start=1):
            grown[-axis] += before + after
        law, added = self.law_of(tensor), math.prod(grown) - tensor.numel()
        return (
            law if added <= 0 else _mixture([(tensor.numel(), law), (added, _constant(value, f"constant_({value})"))])
        )

    def _op_index_put(self, func: Any, args: tuple, kwargs: dict) -> Law:
        return self._operand(args[2])

    _op__index_put_impl = _op_index_put

    def _op_tril(self, func: Any, args: tuple, kwargs: dict) -> Law:
        tensor, diagonal = args[0], (args[1] if len(args) > 1 else 0)
        rows, columns = tensor.shape[-2:]
        lower = sum(min(max(row + diagonal + 1, 0), columns) for row in range(rows))
        return self._part(tensor, lower / (rows * columns), "tril")

    def _op_triu(self, func: Any, args: tuple, kwargs: dict) -> Law:
        tensor, diagonal = args[0], (args[1] if len(args) > 1 else 0)
        rows, columns = tensor.shape[-2:]
        upper = sum(min(max(columns - row - diagonal, 0), columns) for row in range(rows))
        return self._part(tensor, upper / (rows * columns), "triu")

    def _part(self, tensor: torch.Tensor, share: float, name: str) -> Law:
        law = self.law_of(tensor)
        if not law.known:
            return law
        square = share * (law.std**2 + law.mean**2)
        mean = share * law.mean
        return Law(mean, math.sqrt(max(square - mean * mean, 0.0)), f"{name} of {law.call}")

    # Linear algebra.

    def _op_linalg_qr(self, func: Any, args: tuple, kwargs: dict) -> Law:
        """The Q of a Gaussian matrix (``orthogonal_``): entries of rms ``1/sqrt(longer side)``."""
        rows, columns = args[0].shape[-2:]
        law = self.law_of(args[0])
        if not law.known or law.mean != 0 or rows < columns:
            return _unknown("QR of a matrix that is not a tall zero-mean draw")
        return Law(0.0, 1 / math.sqrt(rows), _label("qr", 1 / math.sqrt(rows)))

    _op_qr = _op_linalg_qr

    def _op_mm(self, func: Any, args: tuple, kwargs: dict) -> Law:
        x, y = self.law_of(args[0]), self.law_of(args[1])
        if not (x.known and y.known and _independent(x, y)):
            return _unknown("product of matrices whose laws are unknown or dependent")
        if x.mean and y.mean:
            return _unknown("product of matrices of nonzero mean")
        inner = args[0].shape[-1]
        variance = inner * ((x.std**2 + x.mean**2) * (y.std**2 + y.mean**2))
        return Law(0.0, math.sqrt(variance), f"({x.call}) @ ({y.call})")

    _op_bmm = _op_mm

    def _op_linalg_vector_norm(self, func: Any, args: tuple, kwargs: dict) -> Law:
        """Euclidean norms of rows of ``k`` zero-mean draws: ``std * sqrt(k)``; the spread is from the fourth moment."""
        named, law = _bind(func, args, kwargs), self.law_of(args[0])
        sample = law.sample() if law.known else None
        if sample is None or law.mean != 0 or law.is_constant or named.get("ord", 2) != 2:
            return _unknown("norm")
        with _disable_current_modes():
            kurtosis = float((sample**4).mean()) / float((sample**2).mean()) ** 2
        dims = named.get("dim")
        sizes = args[0].shape if dims is None else [args[0].shape[dim] for dim in dims]
        count = math.prod(sizes)
        variance = law.std**2 * (kurtosis - 1) / 4
        middle = math.sqrt(max(law.std**2 * count - variance, 0.0))
        return replace(_normal(middle, math.sqrt(variance), f"norm of {law.call}"), source=_Norm(law.source, count))

    def _op_norm(self, func: Any, args: tuple, kwargs: dict) -> Law:
        named = _bind(func, args, kwargs)
        return self._op_linalg_vector_norm(func, (args[0], named.get("p") or 2, named.get("dim")), {})

    # Signs, needed by ``orthogonal_``, of whatever it is.

    def _op_sign(self, func: Any, args: tuple, kwargs: dict) -> Law:
        law = self.law_of(args[0])
        if law.known and law.sample() is not None:
            return self._pointwise(func, "sign", args, kwargs)
        return Law(0.0, 1.0, _SIGNS)

    _op_sgn = _op_sign

    # -- pointwise ops -----------------------------------------------------------------------------

    def _op_mul(self, func: Any, args: tuple, kwargs: dict) -> Law:
        x, y = self._operand(args[0]), self._operand(args[1])
        if y.is_constant or x.is_constant:
            law, constant = (x, y) if y.is_constant else (y, x)
            return _scaled(law, constant.mean)
        if y.call == _SIGNS and x.known and x.mean == 0:
            return x
        if x.known and y.known and _independent(x, y):
            mean = x.mean * y.mean
            square = (x.std**2 + x.mean**2) * (y.std**2 + y.mean**2)
            return self._moments(mean, square, f"({x.call}) * ({y.call})", func, args, kwargs)
        return self._pointwise(func, "mul", args, kwargs)

    def _op_div(self, func: Any, args: tuple, kwargs: dict) -> Law:
        divisor = self._operand(args[1])
        if divisor.is_constant and divisor.mean != 0 and kwargs.get("rounding_mode") is None:
            return _scaled(self._operand(args[0]), 1.0 / divisor.mean, f" / {divisor.mean:.6g}")
        law = self._operand(args[0])
        if isinstance(divisor.source, _Norm) and divisor.source.of is law.source and law.mean == 0:
            return Law(0.0, 1 / math.sqrt(divisor.source.count), f"normalised {law.call}")
        return self._pointwise(func, "div", args, kwargs)

    def _op_add(self, func: Any, args: tuple, kwargs: dict, sign: float = 1.0) -> Law:
        x, y = self._operand(args[0]), self._operand(args[1])
        alpha = sign * (args[2] if len(args) > 2 else kwargs.get("alpha", 1))
        if not (x.known and y.known):
            return x if not x.known else y
        if y.is_constant:
            shift = alpha * y.mean
            return x if shift == 0 else x.affine(1.0, shift, f"{x.call} {'-' if shift < 0 else '+'} {abs(shift):.6g}")
        if x.is_constant:
            prefix = f"{x.mean:.6g} + " if x.mean else ""
            return y.affine(alpha, x.mean, prefix + (y.call if alpha == 1 else f"{alpha:.6g} * {y.call}"))
        if _independent(x, y):
            mean = x.mean + alpha * y.mean
            square = x.std**2 + (alpha * y.std) ** 2 + mean**2
            return self._moments(mean, square, f"{x.call} {'-' if alpha < 0 else '+'} {y.call}", func, args, kwargs)
        return self._pointwise(func, "add", args, kwargs)

    def _op_sub(self, func: Any, args: tuple, kwargs: dict) -> Law:
        return self._op_add(func, args, kwargs, sign=-1.0)

    def _op_neg(self, func: Any, args: tuple, kwargs: dict) -> Law:
        law = self._operand(args[0])
        return law.affine(-1.0, 0.0, f"-{law.call}" if " " not in law.call else f"-({law.call})")

    def _op_erfinv(self, func: Any, args: tuple, kwargs: dict) -> Law:
        """``erfinv`` of a uniform draw is a truncated normal of variance 1/2: the classical recipe."""
        law = self._operand(args[0])
        if isinstance(law.source, _Uniform) and law.call.startswith("uniform_"):
            with _disable_current_modes():
                bounds = torch.tensor([law.source.low, law.source.high], dtype=torch.float64)
                low, high = torch.erfinv(bounds.clamp(-1, 1)).tolist()
            return _truncated_normal(0.0, math.sqrt(0.5), low, high, "truncated normal")
        return self._pointwise(func, "erfinv", args, kwargs)

    def _op_where(self, func: Any, args: tuple, kwargs: dict) -> Law:
        """Entries of two laws picked by an independent mask: their mixture."""
        if len(args) == 3:
            mask, x, y = (self._operand(arg) for arg in args)
            if mask.known and x.known and y.known and _independent(mask, x) and _independent(mask, y):
                share = round(mask.mean * GRID)
                return _blend([(share, x), (GRID - share, y)])
        return self._pointwise(func, "where", args, kwargs)

    def _op_masked_fill(self, func: Any, args: tuple, kwargs: dict) -> Law:
        return self._op_where(func, (args[1], args[2], args[0]), kwargs)

    def _moments(self, mean: float, square: float, call: str, func: Any, args: tuple, kwargs: dict) -> Law:
        """A law of known moments whose quantiles are worked out only if asked for."""
        laws = [self._operand(arg) for arg in args[:2]]
        seed = self._draws = self._draws + 1

        def quantiles() -> Optional[torch.Tensor]:
            return _evaluate(func, laws, args, kwargs, seed)

        has = all(law.is_constant or law.quantiles is not None for law in laws)
        return Law(mean, math.sqrt(max(square - mean * mean, 0.0)), call, quantiles if has else None)

    def _pointwise(self, func: Any, name: str, args: tuple, kwargs: dict) -> Law:
        """Any pointwise op, applied to the quantiles of its operands."""
        positions = [i for i, arg in enumerate(args) if isinstance(arg, torch.Tensor)]
        laws = [self.law_of(args[i]) for i in positions]
        for law in laws:
            if not law.known:
                return law
        self._draws += 1
        values = _evaluate(func, laws, args, kwargs, self._draws)
        if values is None:
            return _unknown(f"{name} of {laws[0].call if laws else 'numbers'}")
        varying = [law for law in laws if not law.is_constant]
        sources = {id(law.source): law.source for law in varying}
        call = f"{name} of {laws[0].call}" if len(sources) < 2 else f"about {name} of {laws[0].call}"
        with _disable_current_modes():
            if len(varying) == 1 and _equal(varying[0].sample(), values):
                return varying[0]  # a clamp that clamps nothing
            law = _data(values, call if len(call) < 120 else name)
        return replace(law, source=next(iter(sources.values()))) if len(sources) == 1 and law.std else law


def _scaled(law: Law, factor: float, suffix: str = "") -> Law:
    if factor == 1.0:
        return law
    if law.is_constant:
        return _constant(law.mean * factor, f"constant_({law.mean * factor:.6g})")
    if factor == 0.0:
        return _constant(0.0, "zeros_()")
    return law.affine(factor, 0.0, law.call + (suffix or f" * {factor:.6g}"))


def _evaluate(func: Any, laws: list[Law], args: tuple, kwargs: dict, seed: int) -> Optional[torch.Tensor]:
    """``func`` on representative entries of its tensor operands; None if some operand has none."""
    if "out" in kwargs:
        return None
    with _disable_current_modes(), torch.no_grad():
        samples = [law.sample() for law in laws]
        if any(sample is None for sample in samples):
            return None
        samples = _together(laws, samples, seed)
        feed = iter(samples)
        real = [_as(next(feed), arg.dtype) if isinstance(arg, torch.Tensor) else arg for arg in args]
        try:
            return func(*real, **{key: value for key, value in kwargs.items() if key != "dtype"})
        except RuntimeError:
            return None


def _as(sample: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A copy of ``sample`` as a mask, whole numbers or (at full precision) floats, whichever ``dtype`` is."""
    if dtype.is_floating_point or dtype.is_complex:
        return sample.clone()
    return sample != 0 if dtype == torch.bool else sample.to(torch.int64)


def _equal(before: Optional[torch.Tensor], after: torch.Tensor) -> bool:
    return before is not None and before.shape == after.shape and torch.equal(before, after)


def _together(laws: list[Law], samples: list[torch.Tensor], seed: int) -> list[torch.Tensor]:
    """Samples of one length, in step where the source is shared, shuffled against each other where not."""
    varying = [sample for law, sample in zip(laws, samples) if not law.is_constant]
    sources = {id(law.source) for law in laws if not law.is_constant}
    if len(sources) <= 1 and len({sample.numel() for sample in varying}) <= 1:
        return samples
    order = {source: index for index, source in enumerate(dict.fromkeys(id(law.source) for law in laws))}
    joined = []
    for law, sample in zip(laws, samples):
        if law.is_constant:
            joined.append(sample)
            continue
        grid = sample[(torch.arange(GRID) * sample.numel()) // GRID]
        generator = torch.Generator().manual_seed(1000 * seed + order[id(law.source)])
        joined.append(grid if order[id(law.source)] == 0 else grid[torch.randperm(GRID, generator=generator)])
    return joined


# -- helpers ---------------------------------------------------------------------------------------


def _memory(tensor: torch.Tensor) -> Any:
    """What the views of one tensor share: its storage, or the recorder's stand-in for one."""
    memory = getattr(tensor, "memory", None)
    return tensor.untyped_storage() if memory is None else memory


def _key(tensor: torch.Tensor) -> int:
    memory = _memory(tensor)
    return memory._cdata if isinstance(memory, torch.UntypedStorage) else id(memory)


def _bind(func: Any, args: tuple, kwargs: dict) -> dict[str, Any]:
    """Arguments by their schema name, as given."""
    return {**{spec.name: value for spec, value in zip(func._schema.arguments, args)}, **kwargs}


def _written(func: Any, args: tuple, kwargs: dict) -> Optional[torch.Tensor]:
    """The tensor an op writes to, None if it makes a new one."""
    for position, spec in enumerate(func._schema.arguments):
        if spec.alias_info is not None and spec.alias_info.is_write:
            target = args[position] if position < len(args) else kwargs.get(spec.name)
            if isinstance(target, torch.Tensor):
                return target
    return None


def _is_view(func: Any) -> bool:
    returns = func._schema.returns
    aliases = bool(returns) and returns[0].alias_info is not None and not returns[0].alias_info.is_write
    return aliases and func._schema.name != "aten::lift_fresh"  # which makes a tensor out of data


def _arguments(**named: float) -> str:
    """``std=0.02``: the arguments worth saying; defaults and bounds too far out to matter are left out."""
    mean, std = named.get("mean"), named.get("std")
    if mean == 0:
        named.pop("mean")
    if "a" in named and std is not None and min(abs(named["a"] - mean), abs(named["b"] - mean)) > 8 * std:
        del named["a"], named["b"]
    return ", ".join(f"{key}={value:.6g}" for key, value in named.items())


def _label(primitive: str, spread: float, /, **named: float) -> str:
    """``normal_(std=0.02)``, or ``kaiming_uniform_(std=0.0722)`` when a function of torch.nn.init made the draw."""
    frame: Any = sys._getframe(2)
    depth, name = 0, ""
    while frame is not None and depth < 24:
        if frame.f_globals.get("__name__") == "torch.nn.init":
            if not frame.f_code.co_name.startswith("_"):
                name = frame.f_code.co_name
        elif name:
            break
        frame, depth = frame.f_back, depth + 1
    if name and name not in (primitive, primitive.rstrip("_")):
        return f"{name}(std={spread:.6g})"
    return f"{primitive}({_arguments(**named)})"


def measured_law(tensor: torch.Tensor) -> InitLaw:
    """The law of a real tensor from its entries: where the code's init can't be read, a small instance is measured.

    A mean within four standard errors of zero is taken for zero.
    """
    entries = tensor.detach().to(torch.float64).flatten()
    if entries.numel() == 0:
        return InitLaw("unknown", call="no entries")
    if bool((entries == entries[0]).all()):
        return InitLaw("constant", 0.0, float(entries[0]), "measured")
    mean, std = float(entries.mean()), float(entries.std(correction=0))
    if not math.isfinite(std):
        return InitLaw("unknown", call="measured: not finite")
    if abs(mean) < 4 * std / math.sqrt(entries.numel()):
        mean, std = 0.0, math.sqrt(mean * mean + std * std)
    return InitLaw("random", std, mean, "measured")
