"""The dispatch mode behind the recorder: one ATen call in, one node out.

It stands below autograd, so it sees the forward ops and those of autograd's backward alike.  Three
things make it cheap: results are :class:`Phantom` tensors, the geometry of a result is inferred once
for each distinct call (by PyTorch's own ``FakeTensorMode``) and remembered, and a call is encoded for
the trace and for that memory in one pass over its arguments.

The same mode runs in three stages: ``build`` (the factory runs: nothing is recorded, ops that
initialise weights cost next to nothing), ``forward`` and ``backward``.  With ``measured=True`` every
tensor has its real numbers and each op is also executed: same calls, same value ids, real results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Optional

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from tpcalc.errors import TraceError
from tpcalc.program.raw import RawNode, RawValue, Ref
from tpcalc.trace.record.numbers import magnitude_and_rms
from tpcalc.trace.record.ops import Op, op_of
from tpcalc.trace.record.phantom import CPU, Geometry, Memory, Phantom, make_alias, make_phantom
from tpcalc.trace.record.where import SourceLines

__all__ = ["Recording"]

MOST_INTEGERS = 2**20
MOST_FLOATS = 2**18
MOST_BUILT = 2**16
"""Tensors up to these sizes are computed for real where their operands are known; the last is for floats while the
model is built, most of which are weights about to be initialised."""
MOST_MEASURED = 2**16
"""Known results up to this size get a magnitude."""
LARGEST_EXAMPLE = 2**22
"""Most entries of the operands of an op whose result is found out by a run on zeros."""

_BOOLEANS = {True: object(), False: object()}
"""Stand for booleans in cache keys, where ``True`` would equal ``1``."""
_NAMED = (torch.dtype, torch.layout, torch.memory_format)
_sequence_number = torch.autograd._get_sequence_nr
_running_node = torch._C._current_autograd_node


class Recording(TorchDispatchMode):
    """Records ATen calls into ``nodes`` and ``values``."""

    supports_higher_order_operators = True  # so that ours is the error

    def __init__(
        self,
        *,
        sources: bool = True,
        measured: bool = False,
        callback: Optional[Callable[[int, torch.Tensor], None]] = None,
    ) -> None:
        super().__init__()
        self.stage = "build"
        self.nodes: list[RawNode] = []
        self.values: dict[int, RawValue] = {}
        self.assumptions: dict[str, None] = {}
        self.results: list[Phantom] = []
        """Every differentiable result of the forward pass: autograd is asked for their gradients."""
        self.modules: list[str] = [""]
        """Qualified names of the running modules, innermost last."""
        self.measured = measured
        self._callback = callback
        self._sources = SourceLines() if sources else None
        self._ops: dict[Any, Op] = {}
        self._geometries: dict[tuple, Geometry] = {}
        self._inferred: dict[tuple, Any] = {}
        self._adopted: dict[int, tuple[torch.Tensor, Phantom]] = {}
        self._memories: dict[int, Memory] = {}
        self._origins: dict[int, tuple[str, str]] = {}
        self._draws = 0
        self._all_known = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # the guard against Dynamo costs as much as the dispatch itself

    @cached_property
    def _fake(self) -> FakeTensorMode:
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        mode.cache_enabled = False  # it is asked only what is not in ours
        return mode

    # -- entry -------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Optional[dict] = None) -> Any:
        op = self._ops.get(func)
        if op is None:
            if not isinstance(func, torch._ops.OpOverload):
                raise TraceError(
                    f"{self.here()} calls the higher-order operator {func}, which can't be traced; "
                    "call what is inside it directly"
                )
            op = self._ops[func] = op_of(func)
        if op.random:
            self._draws += 1
        if op.special is not None:
            return op.special(self, op, args, kwargs or {})
        if op.returns_self and self.stage == "build" and not self.measured:
            target = args[0]
            if type(target) is Phantom and (target.shadow is None or not target.memory.known):
                return target  # initialising a weight: there is nothing to write
        return self.record(op, args, kwargs or {})

    def record(self, op: Op, args: tuple, kwargs: dict, nominal: Optional[Callable[[], tuple[Any, Any]]] = None) -> Any:
        """Record one call and return its result.

        ``nominal`` gives the geometry of a result that torch can't infer, as its size depends on numbers that are not
        known, and perhaps numbers to go on with.
        """
        if kwargs:
            kwargs = self._on_cpu(kwargs)
        if self.measured and not (op.writes or op.reshapes):
            return self._measure(op, args, kwargs)
        self._all_known = True
        told: list[Any] = []
        key: list[Any] = [op]
        self._encode(args, told, key)
        told_kwargs = self._encode_kwargs(kwargs, key) if kwargs else ()
        known = self._all_known
        if op.writes or op.reshapes:
            return self._record_write(op, args, kwargs, told, told_kwargs, key, known)
        real = None
        if nominal is not None and known:
            real = self.execute(op, args, kwargs)
            inferred = _mapped(self._geometry_of, real)
        elif nominal is not None:
            inferred, real = nominal()
        else:
            try:
                inferred = self._infer(op, args, kwargs, tuple(key))
            except (DynamicOutputShapeException, DataDependentOutputException):
                inferred, real = self._by_example(op, args, kwargs, known)
            else:
                if known and self.stage != "backward" and self._is_small(inferred):
                    real = self.execute(op, args, kwargs)
        if type(inferred) is Geometry:
            source = self.phantom(args[op.aliases[0]]) if op.views else None
            result = self._result(inferred, real, source)
            outputs: tuple = (result.ref.id,) if result.ref is not None else ()
        else:
            result, outputs = self._results(op, args, inferred, real)
            if outputs is None:
                return result
        if op.hides_writes and not known:
            self._forget_statistics(op, args)
        self.append(op.name, tuple(told), told_kwargs, outputs)
        return result

    def _measure(self, op: Op, args: tuple, kwargs: dict) -> Any:
        """``record`` where every number is known: no node is told of, the results get the ids they have in a trace."""
        operands = [self._operand(arg) for arg in args]
        named = {name: self._operand(arg) for name, arg in kwargs.items()} if kwargs else kwargs
        real = self._call(op, operands, named)
        if isinstance(real, torch.Tensor):
            source = self.phantom(args[op.aliases[0]]) if op.views else None
            return self._result(self._geometry_of(real), real, source)
        return self._results(op, args, _mapped(self._geometry_of, real), real)[0]

    def _operand(self, arg: Any) -> Any:
        """The numbers of an argument; one that is new to the trace, or was written, gets an id first."""
        if type(arg) is Phantom:
            if arg.ref is None or arg.version != arg.memory.version:
                self.refresh(arg)
            return arg.content
        if isinstance(arg, (list, tuple)):
            return type(arg)([self._operand(item) for item in arg])
        return self._operand(self.phantom(arg)) if isinstance(arg, torch.Tensor) else arg

    # -- arguments ---------------------------------------------------------------------------------

    def _encode(self, args: Any, told: list[Any], key: list[Any]) -> None:
        """Append what the trace is told of each argument, and what the geometry of the result depends on."""
        for arg in args:
            kind = type(arg)
            if kind is Phantom:
                memory = arg.memory
                if arg.ref is None or arg.version != memory.version:
                    self.refresh(arg)
                if arg.shadow is None or not memory.known:
                    self._all_known = False
                told.append(arg.ref)
                key.append(arg.geometry)
            elif kind is int or arg is None:
                told.append(arg)
                key.append(arg)
            elif kind is list or kind is tuple:
                inner_told: list[Any] = []
                inner_key: list[Any] = []
                self._encode(arg, inner_told, inner_key)
                told.append(tuple(inner_told))
                key.append(tuple(inner_key))
            elif kind is float:
                told.append(arg)
                key.append((float, arg))
            elif kind is bool:
                told.append(arg)
                key.append(_BOOLEANS[arg])
            else:
                self._encode_rare(arg, told, key)

    def _encode_rare(self, arg: Any, told: list[Any], key: list[Any]) -> None:
        if isinstance(arg, torch.Tensor):
            self._encode((self.phantom(arg),), told, key)
        elif isinstance(arg, torch.Generator):
            told.append(None)
            key.append(None)
        elif isinstance(arg, (*_NAMED, torch.device)):
            told.append(str(arg))
            key.append(arg)
        elif isinstance(arg, (complex, str)):
            told.append(arg)
            key.append((type(arg), arg))
        elif isinstance(arg, torch.SymInt):
            raise TraceError(f"{self.here()} passes a symbolic size to an op; build the model with plain integers")
        else:
            told.append(str(type(arg).__name__))
            key.append(("object", id(arg)))

    def _encode_kwargs(self, kwargs: dict, key: list[Any]) -> tuple:
        told: list[Any] = []
        self._encode(kwargs.values(), told, key)
        key.extend(kwargs)
        return tuple(zip(kwargs, told, strict=True))

    @staticmethod
    def _on_cpu(kwargs: dict) -> dict:
        """A trace has one device, and no pinned memory."""
        if kwargs.get("device") is not None and kwargs["device"] != CPU:
            kwargs = {**kwargs, "device": CPU}
        if kwargs.get("pin_memory"):
            kwargs = {**kwargs, "pin_memory": False}
        return kwargs

    def phantom(self, tensor: torch.Tensor) -> Phantom:
        """``tensor`` itself, or the phantom that stands for a real tensor made outside the trace."""
        if type(tensor) is Phantom:
            return tensor
        entry = self._adopted.get(id(tensor))
        if entry is None:
            if tensor.layout != torch.strided:
                raise TraceError(f"{self.here()} uses a sparse tensor; only dense tensors can be traced")
            memory = self._memories.setdefault(tensor.untyped_storage()._cdata, Memory(known=True))
            if isinstance(tensor, torch.nn.Parameter) and not self.measured:
                memory.known = False
            shadow = tensor.detach() if tensor.requires_grad else tensor
            entry = (tensor, make_phantom(self._geometry_of(tensor), memory, None, shadow))
            self._adopted[id(tensor)] = entry
        return entry[1]

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
        if kind == "constant" and memory.base is not None and memory.base_geometry is phantom.geometry:
            self._fold(memory)
            phantom.ref, phantom.version = memory.base, memory.version  # the same tensor under another object
            return phantom.ref.id
        real = phantom.content
        vid = len(self.values)
        magnitude, rms = (None, None) if self.measured else magnitude_and_rms(real)
        geometry = phantom.geometry
        self.values[vid] = RawValue(geometry.size, geometry.value.dtype, kind, name, magnitude, rms)
        if self._callback is not None:
            self._callback(vid, real)
        phantom.ref, phantom.version = Ref(vid), memory.version
        if memory.base is None:
            memory.base, memory.base_geometry = phantom.ref, geometry
        return vid

    def refresh(self, phantom: Phantom) -> None:
        """Make ``phantom.ref`` the value the tensor holds now: its memory was written, or it is new to the trace."""
        memory = phantom.memory
        if self.stage == "build":
            return
        if phantom.ref is None:
            self.leaf(phantom, "constant", "")
        elif phantom.version != memory.version:
            self._fold(memory)
            if phantom.geometry is memory.base_geometry:
                phantom.ref = memory.base
            else:
                phantom.ref = self._synthetic(
                    "tpcalc.reread.default", memory.base, phantom.ref, phantom.geometry, phantom.content
                )
            phantom.version = memory.version

    def _fold(self, memory: Memory) -> None:
        """Write the values written through views back into the value of the whole memory."""
        for written, _, shadow in memory.pending:
            geometry = memory.base_geometry
            real = shadow.as_strided(geometry.size, geometry.stride, geometry.offset) if self.measured else None
            memory.base = self._synthetic("tpcalc.write.default", memory.base, written, geometry, real)
        memory.pending.clear()

    def _synthetic(self, name: str, first: Ref, second: Ref, geometry: Geometry, real: Optional[torch.Tensor]) -> Ref:
        ref = self.new_value(geometry, real)
        self.append(name, (first, second), (), (ref.id,))
        return ref

    def new_value(self, geometry: Geometry, real: Optional[torch.Tensor]) -> Ref:
        vid = len(self.values)
        value = geometry.value
        if real is not None:
            if self._callback is not None:
                self._callback(vid, real)
            if not self.measured and real.numel() <= MOST_MEASURED:
                value = RawValue(value.shape, value.dtype, "op", "", *magnitude_and_rms(real))
        self.values[vid] = value
        return Ref(vid)

    def _result(self, geometry: Geometry, real: Optional[torch.Tensor], source: Optional[Phantom]) -> Phantom:
        """A fresh result, a view of ``source`` if that is given."""
        ref = self.new_value(geometry, real) if self.stage != "build" else None
        if source is not None:
            phantom = make_alias(geometry, source, ref, real)
        else:
            memory = Memory(real is not None)
            memory.base, memory.base_geometry = ref, geometry
            phantom = make_phantom(geometry, memory, ref, real)
        if geometry.differentiable and self.stage == "forward":
            self.results.append(phantom)
        return phantom

    def _results(self, op: Op, args: tuple, inferred: Any, real: Any) -> tuple[Any, Optional[tuple]]:
        """Results of an op that returns several tensors; ids are None if it returns none at all."""
        if not isinstance(inferred, (tuple, list)):
            return inferred, None
        source = self.phantom(args[op.aliases[0]]) if op.views else None
        if op.cuts and self.stage == "build":  # a weight's chunks, initialised one by one
            source = self.phantom(args[0])
        results, ids = [], []
        for position, part in enumerate(inferred):
            number = None if real is None else real[position]
            if type(part) is Geometry:
                result = self._result(part, number, source)
                ids.append(result.ref.id if result.ref is not None else None)
            elif isinstance(part, (tuple, list)):
                result, inner = self._results(op, args, part, number)
                ids.extend(inner or ())
            else:
                result = part
                ids.append(None)
            results.append(result)
        return type(inferred)(results), tuple(ids)

    # -- writes ------------------------------------------------------------------------------------

    def _record_write(
        self, op: Op, args: tuple, kwargs: dict, told: list, told_kwargs: tuple, key: list, known: bool
    ) -> Any:
        """An op that writes to its arguments: each gets a new value, and other views of its memory go stale."""
        targets = {slot: kwargs.get(slot) if isinstance(slot, str) else args[slot] for slot in op.writes}
        fresh = [position for position, slot in enumerate(op.returned) if slot is None]
        inferred = self._infer(op, args, kwargs, tuple(key)) if (fresh or op.reshapes) and not self.measured else None
        real = self._execute_write(op, args, kwargs, targets, known)
        if op.reshapes:
            return self._reshape(op, args, kwargs, told, told_kwargs, inferred)
        ids: list[Optional[int]] = []
        results: list[Any] = []
        parts = inferred if isinstance(inferred, (tuple, list)) else (inferred,)
        numbers = real if isinstance(real, (tuple, list)) else (real,)
        for position, slot in enumerate(op.returned):
            if slot is not None:
                results.append(targets[slot])
                continue
            number = numbers[position] if real is not None else None
            geometry = self._geometry_of(number) if self.measured else parts[position]
            result = self._result(geometry, number, None)
            results.append(result)
            ids.append(result.ref.id if result.ref is not None else None)
        if self.stage != "build":
            written = [tensor for target in targets.values() for tensor in _tensors(target)]
            ids.extend(self._write(tensor) for tensor in written)
            self.append(op.name, tuple(told), told_kwargs, tuple(ids))
        if not results:
            return None
        return results[0] if len(results) == 1 else tuple(results)

    def _write(self, tensor: torch.Tensor) -> int:
        """``tensor`` was written: give it a new value."""
        phantom = self.phantom(tensor)
        memory = phantom.memory
        ref = self.new_value(phantom.geometry, phantom.content if self.measured else None)
        memory.version += 1
        if phantom.geometry is memory.base_geometry:
            memory.base = ref
            memory.pending.clear()
        elif memory.pending and memory.pending[-1][1] is phantom.geometry:
            memory.pending[-1] = (ref, phantom.geometry, phantom.shadow)
        else:
            memory.pending.append((ref, phantom.geometry, phantom.shadow))
        phantom.ref, phantom.version = ref, memory.version
        return ref.id

    def _execute_write(self, op: Op, args: tuple, kwargs: dict, targets: dict, known: bool) -> Any:
        if self.measured or (known and self.stage != "backward"):
            return self.execute(op, args, kwargs)
        for target in targets.values():
            for tensor in _tensors(target):
                self.phantom(tensor).memory.known = False
        return None

    def _reshape(self, op: Op, args: tuple, kwargs: dict, told: list, told_kwargs: tuple, inferred: Any) -> Any:
        """``t.transpose_(0, 1)``: changes what the tensor looks like, not the memory."""
        phantom = self.phantom(args[0])
        with no_dispatch():
            op.func(phantom, *args[1:], **kwargs)
        phantom.geometry = self._geometry_of(phantom.shadow) if self.measured else inferred
        if self.stage != "build":
            phantom.ref = self.new_value(phantom.geometry, phantom.content)
            self.append(op.name, tuple(told), told_kwargs, (phantom.ref.id,))
        return args[0]

    def _forget_statistics(self, op: Op, args: tuple) -> None:
        """Batch norm writes its running statistics although its schema doesn't say so."""
        for statistic in op.hidden_writes(args):
            if statistic is not None:
                self.phantom(statistic).memory.known = self.measured

    # -- geometry and numbers ----------------------------------------------------------------------

    def geometry(self, size: tuple, stride: tuple, offset: int, dtype: torch.dtype) -> Geometry:
        """The one Geometry with these properties."""
        key = (size, stride, offset, dtype)
        found = self._geometries.get(key)
        if found is None:
            found = self._geometries[key] = Geometry(*key)
        return found

    def _geometry_of(self, tensor: Any) -> Any:
        if not isinstance(tensor, torch.Tensor):
            return tensor
        if tensor.layout != torch.strided:
            raise TraceError(f"{self.here()} makes a sparse tensor; only dense tensors can be traced")
        return self.geometry(tuple(tensor.shape), tensor.stride(), tensor.storage_offset(), tensor.dtype)

    def _infer(self, op: Op, args: tuple, kwargs: dict, key: tuple) -> Any:
        """Geometry of the results of a call, remembered for calls alike."""
        inferred = self._inferred.get(key, _infer_again)
        if inferred is _infer_again:
            inferred = self._inferred[key] = self._infer_on_meta(op, args, kwargs) or self.infer(op.func, args, kwargs)
        return inferred

    def _infer_on_meta(self, op: Op, args: tuple, kwargs: dict) -> Any:
        """The cheap way to infer, for ops that allow it; None if it fails or gives nothing."""
        if op.layout is not None:
            return op.layout(self, args)
        if op.constructs:
            kwargs = {**kwargs, "device": "meta"}
        elif not op.on_meta or "device" in kwargs or not (args and isinstance(args[0], (torch.Tensor, list))):
            return None
        try:
            return _mapped(self._geometry_of, op.func(*[_mapped(self._to_meta, arg) for arg in args], **kwargs))
        except (RuntimeError, TypeError, ValueError, NotImplementedError):
            return None  # fake tensors may do better; if not, the error is theirs

    def infer(self, func: Any, args: tuple, kwargs: dict) -> Any:
        """Geometry of the results of a call, by running it on fake tensors."""
        args = [_mapped(self._to_fake, arg) for arg in args]
        kwargs = {name: _mapped(self._to_fake, arg) for name, arg in kwargs.items()}
        try:
            with self._fake:
                return _mapped(self._geometry_of, func(*args, **kwargs))
        except (UnsupportedOperatorException, NotImplementedError) as error:
            raise TraceError(
                f"{self.here()} calls {func}, which has no fake implementation; "
                "register one with torch.library.register_fake"
            ) from error

    def _is_small(self, inferred: Any) -> bool:
        """Whether results of these geometries are worth computing for real."""
        if type(inferred) is Geometry:
            most = MOST_BUILT if self.stage == "build" else MOST_FLOATS
            return inferred.numel <= (most if inferred.differentiable else MOST_INTEGERS)
        return isinstance(inferred, (tuple, list)) and all(self._is_small(part) for part in inferred)

    def _by_example(self, op: Op, args: tuple, kwargs: dict, known: bool) -> tuple[Any, Any]:
        """Geometry of a result that depends on numbers: from a run on what is known, and zeros for the rest.

        Integers among the results (the batch sizes of a packed sequence) are taken as known.
        """
        tensors = [t for arg in (*args, *kwargs.values()) for t in _tensors(arg)]
        if sum(t.numel() for t in tensors) > LARGEST_EXAMPLE:
            raise TraceError(
                f"{self.here()} calls {op.name}, whose result depends on the numbers of a large tensor; "
                "trace with smaller inputs, or write it with masks instead of data-dependent sizes"
            )
        if not known and op.name not in _BY_LENGTHS:
            self.assume(f"the result of {op.name} depends on trained numbers; its size is that for zeros")
        real = op.func(
            *(_mapped(self._to_example, arg) for arg in args),
            **{name: _mapped(self._to_example, arg) for name, arg in kwargs.items()},
        )
        kept = real if known else _mapped(lambda r: None if _is_float(r) else r, real)
        return _mapped(self._geometry_of, real), kept

    def _to_example(self, arg: Any) -> Any:
        if not isinstance(arg, torch.Tensor):
            return arg
        geometry = self.phantom(arg).geometry
        real = self.phantom(arg).content
        return real if real is not None else torch.zeros(geometry.size, dtype=geometry.dtype)

    def scratch(self, geometry: Geometry) -> Phantom:
        """A tensor that is no value of the trace."""
        return make_phantom(geometry, Memory(), None, None)

    def _to_fake(self, arg: Any) -> Any:
        return FakeTensor(self._fake, self._to_meta(arg), CPU) if isinstance(arg, torch.Tensor) else arg

    def _to_meta(self, arg: Any) -> Any:
        if not isinstance(arg, torch.Tensor):
            return arg
        geometry = self.phantom(arg).geometry
        meta = torch.empty_strided(geometry.size, geometry.stride, dtype=geometry.dtype, device="meta")
        if geometry.offset:
            steps = zip(geometry.size, geometry.stride, strict=True)
            span = geometry.offset + 1 + sum((length - 1) * stride for length, stride in steps if length)
            whole = torch.empty(span, dtype=geometry.dtype, device="meta")
            meta = whole.as_strided(geometry.size, geometry.stride, geometry.offset)
        return meta

    def execute(self, op: Op, args: tuple, kwargs: dict) -> Any:
        """Run the op on real numbers.  While tracing, each random draw is seeded by its place in the trace."""
        args = tuple(_mapped(self._to_real, arg) for arg in args)
        kwargs = {name: _mapped(self._to_real, arg) for name, arg in kwargs.items()} if kwargs else kwargs
        return self._call(op, args, kwargs)

    def _call(self, op: Op, args: Sequence[Any], kwargs: dict) -> Any:
        if op.name in _LAZY:  # the bit that such a view sets is not honoured below a dispatch mode
            return _LAZY[op.name](*args)
        if self.measured:
            return op.func(*args, **kwargs)
        if op.random:
            torch.default_generator.manual_seed(self._draws)
        result = op.func(*args, **kwargs)
        return result.zero_() if op.empty else result

    def _to_real(self, arg: Any) -> Any:
        return self.phantom(arg).content if isinstance(arg, torch.Tensor) else arg

    # -- places ------------------------------------------------------------------------------------

    def place(self) -> tuple[str, str]:
        """Module and source line of the running call; in the backward pass, of the forward op it differentiates."""
        if self.stage == "backward":
            node = _running_node()
            return self._origins.get(node._sequence_nr(), _NOWHERE) if node is not None else _NOWHERE
        source = self._sources.current(sys._getframe(1)) if self._sources is not None else ""
        return self.modules[-1], source

    def append(self, name: str, args: tuple, kwargs: tuple, outputs: tuple) -> None:
        """Add a node; a measured run needs none."""
        stage = self.stage
        if stage == "build" or self.measured:
            return
        module, source = place = self.place()
        if stage == "forward":
            self._origins.setdefault(_sequence_number() - 1, place)
        self.nodes.append(RawNode(name, args, kwargs, outputs, module, source, stage))

    def here(self) -> str:
        """``"blocks.0.attn (gpt.py:41)"``, for messages."""
        module, source = self.place()
        if not source and self.stage != "backward":
            source = SourceLines().current(sys._getframe(1))
        name = module or "the model"
        return f"{name} ({source})" if source else name

    def assume(self, what: str) -> None:
        """Note an assumption at this place, once."""
        self.assumptions[f"{self.here()}: {what}"] = None


_NOWHERE = ("", "")
_infer_again = object()
_BY_LENGTHS = frozenset(("aten._pack_padded_sequence.default", "aten._ctc_loss.Tensor", "aten._ctc_loss.default"))
"""Ops whose results depend on numbers only through lengths the user gives."""
_LAZY = {"aten._conj.default": torch.ops.aten.conj_physical, "aten._neg_view.default": torch.ops.aten.neg}


def _mapped(function: Callable[[Any], Any], structure: Any) -> Any:
    """``function`` of an argument, or of every item of a nested list."""
    if isinstance(structure, (list, tuple)):
        return type(structure)([_mapped(function, item) for item in structure])
    return function(structure)


def _is_float(tensor: Any) -> bool:
    return isinstance(tensor, torch.Tensor) and (tensor.is_floating_point() or tensor.is_complex())


def _tensors(target: Any) -> list[torch.Tensor]:
    """The tensors of one argument: itself, a list of them, or none."""
    if isinstance(target, torch.Tensor):
        return [target]
    return [item for item in target if isinstance(item, torch.Tensor)] if isinstance(target, (list, tuple)) else []
