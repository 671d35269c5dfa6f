"""What has been recorded so far: nodes, values, which value each tensor holds, and where in the code a call stands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Optional

import torch
from torch.utils._pytree import tree_leaves

from tpcalc.errors import TraceError
from tpcalc.program.raw import InitLaw, RawNode, RawValue, Ref
from tpcalc.trace.record.numbers import Seen, filled, measured
from tpcalc.trace.record.phantom import Geometry, Memory, Phantom, geometry, make_phantom
from tpcalc.trace.record.supports import drawn, supposed_of
from tpcalc.trace.record.where import SourceLines

__all__ = ["SparseError", "Tape"]

MOST_MEASURED = 2**20
"""Known results up to this size get a magnitude."""

MOST_DENSE = 2**22
"""Fixed sparse tensors up to this size are traced as dense ones."""

_NOWHERE = ("", "")
_sequence_number = torch.autograd._get_sequence_nr
_running_node = torch._C._current_autograd_node


def _unusual(tensor: torch.Tensor) -> str:
    if tensor.is_nested:
        return "a nested (ragged) tensor, which can't be traced; pad the batch to one length"
    return "a sparse tensor; of these only fixed ones can be traced, of up to 4 million entries: make it dense there"


class SparseError(TraceError):
    """A result that no phantom can stand for."""


class Tape:
    """Nodes and values of one pass.

    ``stage`` is ``build`` (the factory runs: nothing is recorded), ``forward`` or ``backward``.  A ``measured`` pass
    has the real numbers of every tensor: the same value ids, shown to ``callback``, and no nodes.
    """

    def __init__(
        self, sources: bool = True, measured: bool = False, callback: Optional[Callable[[int, Any], None]] = None
    ) -> None:
        self.stage = "build"
        self.nodes: list[RawNode] = []
        self.values: dict[int, RawValue] = {}
        self.assumptions: dict[str, None] = {}
        self.modules: list[str] = [""]
        """Qualified names of the running modules, innermost last."""
        self.measured = measured
        self.law_of: Optional[Callable[[torch.Tensor], Optional[InitLaw]]] = None
        """How the code made a tensor while the model was built, where that was recorded."""
        self._callback = callback
        self._seen = Seen()
        self._sources = SourceLines() if sources else None
        self._adopted: dict[int, tuple[torch.Tensor, Phantom]] = {}
        self._memories: dict[int, Memory] = {}
        self._origins: dict[int, tuple[str, str]] = {}

    # -- tensors -----------------------------------------------------------------------------------

    def contiguous(self, size: Sequence[int], dtype: torch.dtype) -> Geometry:
        """The Geometry of a new tensor."""
        return geometry(tuple(size), torch.empty(size, device="meta").stride(), 0, dtype)

    def geometry_of(self, tensor: Any) -> Any:
        """The Geometry of a tensor; anything else as it is."""
        if not isinstance(tensor, torch.Tensor):
            return tensor
        if tensor.layout != torch.strided:
            raise SparseError(f"{self.here()} makes {_unusual(tensor)}")
        return geometry(tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()), tensor.dtype)

    def phantom(self, tensor: torch.Tensor) -> Phantom:
        """``tensor`` itself, or the phantom that stands for a real tensor made outside the trace."""
        if type(tensor) is Phantom:
            return tensor
        entry = self._adopted.get(id(tensor))
        if entry is None:
            if tensor.layout != torch.strided:
                return self._dense(tensor)
            memory = self._memories.setdefault(tensor.untyped_storage()._cdata, Memory(known=True))
            if isinstance(tensor, torch.nn.Parameter) and not self.measured:
                memory.known = False
            shadow = tensor.detach() if tensor.requires_grad else tensor
            entry = (tensor, make_phantom(self.geometry_of(tensor), memory, None, shadow))
            self._adopted[id(tensor)] = entry
        return entry[1]

    def _dense(self, tensor: torch.Tensor) -> Phantom:
        """The phantom of a fixed sparse tensor: of its numbers, zeros and all."""
        if tensor.is_nested or tensor.requires_grad or tensor.numel() > MOST_DENSE:
            raise TraceError(f"{self.here()} uses {_unusual(tensor)}")
        phantom = self.phantom(tensor.to_dense())
        self._adopted[id(tensor)] = (tensor, phantom)
        return phantom

    def made_real(self, phantom: Phantom) -> torch.Tensor:
        """The real tensor behind a phantom, which stands for it from now on."""
        if phantom.shadow is None:
            return phantom
        self._adopted[id(phantom.shadow)] = (phantom.shadow, phantom)
        return phantom.shadow

    # -- values ------------------------------------------------------------------------------------

    def leaf(self, tensor: torch.Tensor, kind: str, name: str) -> int:
        """The value id of a tensor made outside the recorded calls: weight, buffer, input, seed or constant."""
        phantom = self.phantom(tensor)
        if phantom.ref is not None:
            return phantom.ref.id
        memory = phantom.memory
        if kind == "weight" and not self.measured:
            memory.known = False
            phantom.supposed = drawn(phantom.geometry, len(self.values))
        memory.data = memory.data or kind == "input"
        if kind == "constant" and memory.base is not None and memory.base_geometry is phantom.geometry:
            phantom.ref, phantom.version = self._fold(memory), memory.version  # the same tensor under another object
            return phantom.ref.id
        real = phantom.content
        vid = len(self.values)
        numbers = (None, None, None) if self.measured else measured(real)
        law = self.law_of(phantom) if self.law_of is not None and kind in ("buffer", "constant") else None
        geometry = phantom.geometry
        few = None if self.measured else filled(real)
        self.values[vid] = RawValue(geometry.size, geometry.value.dtype, kind, name, *numbers, law, few)
        if self._callback is not None:
            self._callback(vid, real)
        phantom.ref, phantom.version = Ref(vid), memory.version
        if memory.base is None:
            memory.base, memory.base_geometry = phantom.ref, geometry
        return vid

    def id_of(self, tensor: torch.Tensor) -> int:
        """The id of the value that a tensor holds now."""
        phantom = self.phantom(tensor)
        self.refresh(phantom)
        assert phantom.ref is not None
        return phantom.ref.id

    def refresh(self, phantom: Phantom) -> None:
        """Make ``phantom.ref`` the value the tensor holds now: its memory was written, or it is new to the trace."""
        memory = phantom.memory
        if self.stage == "build":
            return
        if phantom.ref is None:
            self.leaf(phantom, "constant", "")
        elif phantom.version != memory.version:
            base = self._fold(memory)
            if phantom.geometry is memory.base_geometry:
                phantom.ref = base
            else:
                phantom.ref = self._synthetic(
                    "tpcalc.reread.default", base, phantom.ref, phantom.geometry, phantom.content
                )
            phantom.version = memory.version
            self.tell(phantom)

    def _fold(self, memory: Memory) -> Ref:
        """Write the values written through views back into the value of the whole memory, which is returned."""
        base, geometry = memory.base, memory.base_geometry
        assert base is not None and geometry is not None
        for written, _, shadow in memory.pending:
            real = None
            if self.measured and shadow is not None:
                real = shadow.as_strided(geometry.size, geometry.stride, geometry.offset)
            base = self._synthetic("tpcalc.write.default", base, written, geometry, real)
        memory.base = base
        memory.pending.clear()
        return base

    def _synthetic(self, name: str, first: Ref, second: Ref, geometry: Geometry, real: Optional[torch.Tensor]) -> Ref:
        ref = self.new_value(geometry, real)
        self.append(name, (first, second), (), (ref.id,))
        return ref

    def new_value(self, geometry: Geometry, real: Optional[torch.Tensor]) -> Ref:
        """A value of this geometry, and of these numbers where they are known."""
        vid = len(self.values)
        value = geometry.value
        if real is not None:
            if self._callback is not None:
                self._callback(vid, real)
            if not self.measured and real.numel() <= MOST_MEASURED:
                top, rms, sums, zeros = self._seen.of(real)
                value = RawValue(value.shape, value.dtype, "op", "", top, rms, sums, None, zeros)
        self.values[vid] = value
        return Ref(vid)

    def tell(self, holder: Phantom) -> None:
        """Tell the trace which entries of a function of weights are zero."""
        supposed = supposed_of(holder)
        if supposed is not None and not supposed.plain and holder.ref is not None:
            vid = holder.ref.id
            self.values[vid] = replace(self.values[vid], filled=filled(supposed.numbers))

    def append(self, name: str, args: tuple, kwargs: tuple, outputs: tuple, random: bool = False) -> None:
        """Add a node; a measured run needs none."""
        stage = self.stage
        if stage == "build" or self.measured:
            return
        module, source = place = self.place()
        if stage == "forward":
            self._origins.setdefault(_sequence_number() - 1, place)
        derivative = stage == "forward" and _running_node() is not None
        self.nodes.append(RawNode(name, args, kwargs, outputs, module, source, stage, derivative, random))

    # -- places ------------------------------------------------------------------------------------

    def place(self) -> tuple[str, str]:
        """Module and source line of the running call; in the backward pass, of the forward op it differentiates."""
        if self.stage == "backward":
            node = _running_node()
            return self._origins.get(node._sequence_nr(), _NOWHERE) if node is not None else _NOWHERE
        source = self._sources.current(sys._getframe(1)) if self._sources is not None else ""
        return self.modules[-1], source

    def here(self) -> str:
        """``"blocks.0.attn (gpt.py:41)"``, for messages."""
        module, source = self.place()
        if not source and self.stage != "backward":
            source = SourceLines().current(sys._getframe(1))
        name = module or "the model"
        return f"{name} ({source})" if source else name

    def may_leave(self, ref: Ref) -> None:
        """Raises TraceError where the numbers of a value follow from the inputs: made tensors of again, they would pass
        for constants.
        """
        makers = {out: node for node in self.nodes for out in node.outputs}
        stack, seen = [ref.id], {ref.id}
        while stack and self.stage == "forward":
            vid = stack.pop()
            if self.values[vid].kind == "input":
                raise TraceError(
                    f"{self.here()} reads the numbers of its inputs by numpy, where no trace can follow them; keep the "
                    f"computation in torch"
                )
            node = makers.get(vid)
            found = [] if node is None else tree_leaves((node.args, [value for _, value in node.kwargs]))
            behind = [leaf.id for leaf in found if isinstance(leaf, Ref) and leaf.id not in seen]
            seen.update(behind)
            stack.extend(behind)

    def assume(self, what: str) -> None:
        """Note an assumption at this place, once."""
        self.assumptions[f"{self.here()}: {what}"] = None
