"""The code's own initialisation, read exactly from its calls while the model is built.

:class:`InitRecorder` is a dispatch mode entered around the user's factory.  It interprets the tensor operations of the
construction abstractly: every storage carries a :class:`Law`, the distribution of its entries.  ``normal_``,
``uniform_``, ``zeros`` and the like create laws; multiplying by a number scales them; a sum of independent draws adds
variances; ``copy_``, ``clone`` (so ``deepcopy`` too), ``detach``, ``.data =`` and views carry them; a write through a
view that covers only part of a storage leaves a patch.  What is then done to the whole, entry by entry, is done to each
patch.  Nothing is drawn, so it works under fake tensors at any size.

``mean`` and ``std`` follow closed formulas through everything affine.  Any other pointwise op (the ``exp``, ``clamp``
and ``log`` of a Mamba time-step bias) is applied to the quantiles of its operands.

The law of a weight whose parts were written differently is the mixture over its entries.  Slabs set to zero (the row of
``padding_idx``) are left out of it: they stay zero under any multiplier.  Entries that are unequal but not random
(``eye_``, ``arange``) count as ``random`` with their spread as ``std``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, Optional

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from tpcalc.program.ir import InitLaw
from tpcalc.trace.init.law import Law, of_entries, truncated_normal, unknown
from tpcalc.trace.init.operations import LARGEST_DATA, Call, law_of_call, said
from tpcalc.trace.init.storage import Block, Region, Storage, grid, storage_key
from tpcalc.trace.record.ops import op_of
from tpcalc.trace.record.phantom import Phantom

__all__ = ["InitRecorder"]

#: Ops that give the entries of one operand at their places.
_COPIES = ("clone", "copy", "_to_copy")
_FROM_OUTSIDE = "made outside the model's construction"


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
        self._storages: dict[int, Storage] = {}
        self._seeds = count(1)
        self._original_trunc_normal: Any = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # the guard against Dynamo costs more than what it guards

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
        return {name: self._law_of(p).summary() for name, p in model.named_parameters(remove_duplicate=False)}

    def law_of(self, tensor: torch.Tensor) -> InitLaw:
        """The law of any tensor made inside, or of one whose few entries are known."""
        return self._law_of(tensor).summary()

    def law_of_block(self, tensor: torch.Tensor, dim: int, start: int, length: int) -> InitLaw:
        """The law of the ``length`` indices of ``tensor`` along ``dim`` from ``start`` on."""
        return self._law_of(tensor, (dim, start, length)).summary()

    def _law_of(self, tensor: torch.Tensor, *block: Block) -> Law:
        """The law of the entries of ``tensor``, or of a block of it, as they stand now."""
        storage = self._storages.get(storage_key(tensor))
        if storage is None:
            return _first_seen(tensor, *block)
        law = storage.read(Region.of(tensor, *block))
        if law.known and not law.is_constant and tensor.dim() > 1 and not tensor.is_contiguous():
            strides = tensor.stride()
            if list(strides) != sorted(strides, reverse=True):  # a transpose does not meet itself entry by entry
                return replace(law, source=(law.source, strides))
        return law

    def _write(self, tensor: torch.Tensor, law: Law, blocks: Sequence[tuple[tuple[Block, ...], Law]] = ()) -> None:
        """``law`` for all of ``tensor``, or for each of the ``blocks`` that it consists of one of its own."""
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
            return
        key = storage_key(tensor)
        storage = self._storages.get(key)
        if storage is None:
            storage = self._storages[key] = Storage(tensor, law)
            if Region.of(tensor).count < storage.total:
                storage.base = unknown(_FROM_OUTSIDE)
        storage.write(Region.of(tensor), law)
        for block, own in blocks:
            storage.write(Region.of(tensor, *block), own)

    def _trunc_normal(
        self, tensor: torch.Tensor, mean: float, std: float, a: float, b: float, generator: Any = None
    ) -> torch.Tensor:
        if not tensor.is_meta and type(tensor) in (torch.Tensor, torch.nn.Parameter):
            self._original_trunc_normal(tensor, mean, std, a, b, generator=generator)
        call = f"trunc_normal_({said(mean=mean, std=std, a=a, b=b)})"
        self._write(tensor, truncated_normal(mean, std, a, b, call))
        return tensor

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Optional[dict] = None) -> Any:
        kwargs = kwargs or {}
        op = op_of(func)
        name = func._schema.name.removeprefix("aten::")
        slots = [kwargs.get(slot) if isinstance(slot, str) else args[slot] for slot in op.writes]
        written = next((tensor for tensor in slots if isinstance(tensor, torch.Tensor)), None)
        views = (op.views or op.cuts) and written is None and name != "lift_fresh"  # which makes a tensor out of data
        if func.namespace == "prim" or op.reshapes or views:
            return func(*args, **kwargs)
        bare = name.rstrip("_") if written is not None else name
        call = Call(op, bare, args, kwargs, self._law_of, self._seeds)
        law = law_of_call(call)
        blocks = self._blocks(call, written.shape) if written is not None else []
        out = func(*args, **kwargs)
        if bare in _COPIES and self._copy_patches(bare, args, out):
            return out
        if isinstance(out, torch.Tensor) and written is None:
            blocks = self._blocks(call, out.shape)
        if bare in ("index_put", "_index_put_impl") and written is not None:
            self._index_put(args, law)
        elif written is not None:
            self._write(written, law, blocks)
        else:
            for position, part in enumerate(out if isinstance(out, (tuple, list)) else (out,)):
                own = (law, blocks) if position == 0 else (unknown(f"result {position} of {name}"),)
                self._write(part, *own)
        return out

    def _copy_patches(self, name: str, args: tuple, out: torch.Tensor) -> bool:
        """Copy a storage with all its patches where the copy has the same layout (``deepcopy``)."""
        source, target = (args[1], args[0]) if name == "copy" else (args[0], out)
        if not isinstance(source, torch.Tensor) or source.shape != target.shape or source.stride() != target.stride():
            return False
        old = self._storages.get(storage_key(source))
        if old is None or not (old.patches or old.scattered) or Region.of(source).count < old.total:
            return False
        self._write(target, old.base)
        new = self._storages[storage_key(target)]
        if Region.of(target).count < new.total:
            return False
        new.base, new.patches, new.scattered = old.base, dict(old.patches), list(old.scattered)
        return True

    def _blocks(self, call: Call, shape: torch.Size) -> list[tuple[tuple[Block, ...], Law]]:
        """Blocks of what an op makes that have laws of their own; none where all of it has one law, or it is not known.

        Entry by entry a block comes from the blocks at its place, also through broadcasting; joined parts are blocks.
        """
        if call.name in ("cat", "stack"):
            found = self._joined(call, len(shape))
        elif call.name in _COPIES or torch.Tag.pointwise in call.op.func.tags:
            found = self._entrywise(call, shape)
        else:
            return []
        first = found[0][1] if found else None
        alike = all(first is not None and law.known and law.summary() == first.summary() for _, law in found)
        return [] if alike else found

    def _entrywise(self, call: Call, shape: torch.Size) -> list[tuple[tuple[Block, ...], Law]]:
        given = call.args[1:] if call.name == "copy" else (*call.args, *call.kwargs.values())
        cuts: dict[int, set[int]] = {}
        for tensor in (arg for arg in given if isinstance(arg, torch.Tensor)):
            own = self._cuts(tensor)
            if own is None:
                return []
            for axis, places in own.items():
                cuts.setdefault(axis + len(shape) - tensor.dim(), set()).update(places)

        def read(box: tuple[Block, ...], tensor: torch.Tensor) -> Law:
            at = [(axis + tensor.dim() - len(shape), start, length) for axis, start, length in box]
            return self._law_of(tensor, *(block for block in at if block[0] >= 0 and tensor.shape[block[0]] > 1))

        boxes = grid(cuts, shape) if cuts else []
        return [(box, law_of_call(replace(call, law_of=partial(read, box)))) for box in boxes]

    def _joined(self, call: Call, rank: int) -> list[tuple[tuple[Block, ...], Law]]:
        found: list[tuple[tuple[Block, ...], Law]] = []
        new, start = call.name == "stack", 0
        axis = call.named.get("dim", 0) % rank
        for part in call.args[0]:
            if part.dim() + new != rank:
                continue  # cat takes empty vectors beside anything
            cuts = self._cuts(part)
            if cuts is None:
                return []
            length = 1 if new else part.shape[axis]
            for box in grid(cuts, part.shape):
                moved = {a + (new and a >= axis): (first, size) for a, first, size in box}
                first, size = moved.pop(axis, (0, length))
                there = (*((a, *rest) for a, rest in moved.items()), (axis, start + first, size))
                found.append((there, self._law_of(part, *box)))
            start += length
        return found

    def _cuts(self, tensor: torch.Tensor) -> Optional[dict[int, set[int]]]:
        storage = self._storages.get(storage_key(tensor)) if tensor.layout == torch.strided else None
        return storage.cuts(tensor) if storage is not None else {}

    def _index_put(self, args: tuple, law: Law) -> None:
        """``w[rows, column] = value``: that many entries, wherever they are."""
        target, indices = args[0], args[1]
        shapes = [index.shape for index in indices if index is not None]
        masks = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)
        accumulate = len(args) > 3 and args[3]
        if masks or accumulate:
            before = self._law_of(target)
            if not (law.is_constant and before.is_constant and law.mean == before.mean and not accumulate):
                self._write(target, unknown("written through an index that is not known"))
            return
        rest = [size for axis, size in enumerate(target.shape) if axis >= len(indices) or indices[axis] is None]
        entries = math.prod(torch.broadcast_shapes(*shapes)) * math.prod(rest)
        if entries >= target.numel():
            self._write(target, law)
        elif storage_key(target) in self._storages:
            self._storages[storage_key(target)].scattered.append((entries, law))


def _first_seen(tensor: torch.Tensor, *block: Block) -> Law:
    """The law of a tensor, or a block, made outside the recorder: looked up where its entries exist and are few."""
    real: Optional[torch.Tensor] = tensor
    if isinstance(tensor, FakeTensor):
        real = tensor.constant
    elif isinstance(tensor, Phantom):
        real = tensor.content
    plain = type(real) in (torch.Tensor, torch.nn.Parameter)
    if real is None or not plain or real.is_meta or real.is_complex() or real.numel() > LARGEST_DATA:
        return unknown(_FROM_OUTSIDE)
    with _disable_current_modes():
        for along in block:
            real = real.narrow(*along)
        return of_entries(real, "data")
