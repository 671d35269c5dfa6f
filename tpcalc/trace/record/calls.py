"""One ATen call in, one node out.

Three things make it cheap: results are :class:`Phantom` tensors, the geometry of a result is inferred once for each
distinct call and remembered, and a call is encoded for the trace and for that memory in one pass over its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Optional

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.utils._mode_utils import no_dispatch

from tpcalc.errors import TraceError
from tpcalc.trace.record.draws import ANY, Range, range_of, typical
from tpcalc.trace.record.inference import Inference, mapped, tensors_in
from tpcalc.trace.record.ops import Op
from tpcalc.trace.record.phantom import CPU, Geometry, Memory, Phantom, make_alias, make_phantom
from tpcalc.trace.record.supports import result_of, write_of
from tpcalc.trace.record.tape import SparseError, Tape

__all__ = ["Calls"]

MOST_INTEGERS = 2**20
MOST_FLOATS = 2**20
MOST_BUILT = 2**22
MOST_EMPTY = 2**16
"""Tensors up to these sizes are computed for real where their operands are known; the last two are for floats while the
model is built, where most that are made empty are weights about to be initialised."""

_BOOLEANS = {True: object(), False: object()}
"""Stand for booleans in cache keys, where ``True`` would equal ``1``."""
_NAMED = (torch.dtype, torch.layout, torch.memory_format, torch.device)
_LAZY = {"aten._conj.default": torch.ops.aten.conj_physical, "aten._neg_view.default": torch.ops.aten.neg}

Nominal = Callable[[], tuple[Any, Any]]
Told = tuple[tuple, tuple]


class Calls(Tape):
    """A tape that records calls.

    ``draws`` counts the random ones.  ``results`` are the differentiable results of the forward pass: autograd is asked
    for their gradients.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.inference = Inference()
        self._own = object()
        """Marks what is the same within this trace only."""
        self.results: list[Phantom] = []
        self.draws = 0
        self._all_known = True
        self._drawn: Optional[Range] = None
        """Range of the random numbers from which the running call makes its results."""
        self._data = self._of_weights = self._of_others = False
        """Whether inputs, functions of weights, or what follows from both are operands of the running call."""

    def record(self, op: Op, args: tuple, kwargs: dict, nominal: Optional[Nominal] = None) -> Any:
        """Record one call and return its result.

        ``nominal`` gives the geometry of a result that torch can't infer, as its size depends on numbers that are not
        known, and perhaps numbers to go on with.
        """
        if kwargs:
            kwargs = _on_cpu(kwargs)
        if any(type(arg) is torch.Tensor and arg.layout != torch.strided for arg in args):
            found = tensors_in([*args, *kwargs.values()])
            if not any(type(tensor) is Phantom for tensor in found):
                return op.func(*args, **kwargs)  # sparse tensors alone, which stay what they are
        if self.measured and not op.writes:
            return self._measure(op, args, kwargs)
        self._all_known = True
        self._drawn = None
        self._data = self._of_weights = self._of_others = False
        told: list[Any] = []
        key: list[Any] = [op]
        self._encode(args, told, key)
        told_kwargs = self._encode_kwargs(kwargs, key) if kwargs else ()
        known = self._all_known
        if self.stage == "forward" and (op.random or self._drawn is not None):
            self._drawn = range_of(op, args, self._drawn)
        if op.writes:
            return self._record_write(op, args, kwargs, (tuple(told), told_kwargs), key, known)
        real = None
        if nominal is not None and known:
            real = self.execute(op, args, kwargs)
            inferred = mapped(self.geometry_of, real)
        elif nominal is not None:
            inferred, real = nominal()
        else:
            try:
                inferred = self.inference.recall(self, op, args, kwargs, tuple(key))
            except SparseError:
                if not known or self._data:
                    raise
                return self.execute(op, args, kwargs)  # fixed, and perhaps never used
            except (DynamicOutputShapeException, DataDependentOutputException):
                inferred, real = self.inference.by_example(self, op, args, kwargs, known)
            else:
                if known and self.stage != "backward" and self._is_small(inferred, op.empty):
                    real = self.execute(op, args, kwargs)
        result, outputs = self._made(op, args, inferred, real)
        if outputs is None:
            return result
        if real is None and self._weights_alone():
            self._suppose(op, args, kwargs, result)
        if op.hides_writes and not known:
            self._forget_statistics(op, args)
        self.append(op.name, tuple(told), told_kwargs, outputs, op.random)
        return result

    def _measure(self, op: Op, args: tuple, kwargs: dict) -> Any:
        """``record`` where every number is known: no node is told of, the results get the ids they have in a trace."""
        operands = [self._operand(arg) for arg in args]
        named = {name: self._operand(arg) for name, arg in kwargs.items()} if kwargs else kwargs
        real = self._call(op, operands, named)
        if isinstance(real, torch.Tensor) and real.layout != torch.strided:
            return real
        return self._made(op, args, mapped(self.geometry_of, real), real)[0]

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
                if memory.data:
                    self._data = True
                if arg.shadow is None or not memory.known:
                    self._all_known = False
                    if (memory.supposed if memory.version else arg.supposed) is None:
                        self._of_others = True
                    else:
                        self._of_weights = True
                if memory.drawn is not None:
                    self._drawn = memory.drawn if self._drawn is None else ANY
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
        elif isinstance(arg, _NAMED):
            told.append(str(arg))
            key.append(arg)
        elif isinstance(arg, (complex, str)):
            told.append(arg)
            key.append((type(arg), arg))
        elif isinstance(arg, torch.SymInt):
            raise TraceError(f"{self.here()} passes a symbolic size to an op; build the model with plain integers")
        else:
            told.append(str(type(arg).__name__))
            key.append(("object", id(arg), self._own))

    def _encode_kwargs(self, kwargs: dict, key: list[Any]) -> tuple:
        told: list[Any] = []
        self._encode(kwargs.values(), told, key)
        key.extend(kwargs)
        return tuple(zip(kwargs, told, strict=True))

    # -- results -----------------------------------------------------------------------------------

    def _result(self, geometry: Geometry, real: Optional[torch.Tensor], source: Optional[Phantom]) -> Phantom:
        """A fresh result, a view of ``source`` if that is given."""
        if real is not None and real._is_zerotensor():  # of forward-mode derivatives: zeros without memory
            real = torch.zeros(geometry.size, dtype=real.dtype)
        ref = self.new_value(geometry, real) if self.stage != "build" else None
        if source is not None:
            phantom = make_alias(geometry, source, ref, real)
        else:
            memory = Memory(real is not None)
            memory.drawn, memory.data = self._drawn, self._data
            memory.base, memory.base_geometry = ref, geometry
            phantom = make_phantom(geometry, memory, ref, real)
        if geometry.differentiable and self.stage == "forward":
            self.results.append(phantom)
        return phantom

    def _made(self, op: Op, args: tuple, inferred: Any, real: Any) -> tuple[Any, Optional[tuple]]:
        """What an op returns and the ids of its tensors; these are None if it returns no tensor at all."""
        source = self.phantom(args[op.aliases[0]]) if op.views else None
        if type(inferred) is Geometry:
            result = self._result(inferred, real, source)
            return result, ((result.ref.id,) if result.ref is not None else ())
        if not isinstance(inferred, (tuple, list)):
            return inferred, None
        if op.cuts and self.stage == "build":  # a weight's chunks, initialised one by one
            source = self.phantom(args[0])
        results, ids = [], []
        for position, part in enumerate(inferred):
            number = None if real is None else real[position]
            if type(part) is Geometry:
                result = self._result(part, number, source)
                ids.append(result.ref.id if result.ref is not None else None)
            elif isinstance(part, (tuple, list)):
                result, inner = self._made(op, args, part, number)
                ids.extend(inner or ())
            else:
                result = part
                ids.append(None)
            results.append(result)
        return type(inferred)(results), tuple(ids)

    def _weights_alone(self) -> bool:
        """Whether the running call acts on functions of weights, and on nothing else but fixed numbers."""
        return self._of_weights and not (self._of_others or self._data or self.stage == "build" or self.measured)

    def _as_phantoms(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        def known(arg: Any) -> Any:
            return self.phantom(arg) if isinstance(arg, torch.Tensor) else arg

        return tuple(mapped(known, arg) for arg in args), {name: mapped(known, arg) for name, arg in kwargs.items()}

    def _suppose(self, op: Op, args: tuple, kwargs: dict, results: Any) -> None:
        """Suppose numbers of what an op has made of weights."""
        several = isinstance(results, (list, tuple))
        for index, result in enumerate(results if several else [results]):
            if type(result) is Phantom and result.ref is not None:
                operands = self._as_phantoms(args, kwargs)
                result.supposed = result_of(op.func, *operands, op.views or op.cuts, index if several else None)
                self.tell(result)

    def _is_small(self, inferred: Any, empty: bool = False) -> bool:
        """Whether results of these geometries are worth computing for real."""
        if type(inferred) is Geometry:
            building = MOST_EMPTY if empty else MOST_BUILT
            most = building if self.stage == "build" else MOST_FLOATS
            return inferred.numel <= (most if inferred.differentiable else MOST_INTEGERS)
        return isinstance(inferred, (tuple, list)) and all(self._is_small(part) for part in inferred)

    def _forget_statistics(self, op: Op, args: tuple) -> None:
        """Batch norm writes its running statistics although its schema doesn't say so."""
        for statistic in op.hidden_writes(args):
            if statistic is not None:
                self.phantom(statistic).memory.known = self.measured

    # -- writes ------------------------------------------------------------------------------------

    def _record_write(self, op: Op, args: tuple, kwargs: dict, told: Told, key: list, known: bool) -> Any:
        """An op that writes to its arguments: each gets a new value, and other views of its memory go stale."""
        targets = {slot: kwargs.get(slot) if isinstance(slot, str) else args[slot] for slot in op.writes}
        written = [tensor for target in targets.values() for tensor in tensors_in(target)]
        fresh = op.reshapes or None in op.returned
        inferred = self.inference.recall(self, op, args, kwargs, tuple(key)) if fresh and not self.measured else None
        real = supposed = None
        if self.measured or (known and self.stage != "backward"):
            real = self.execute(op, args, kwargs)
        else:
            if op.returns_self and self._weights_alone():
                supposed = write_of(op.func, *self._as_phantoms(args, kwargs))
            for tensor in written:
                self.phantom(tensor).memory.known = False
        for tensor in written:
            memory = self.phantom(tensor).memory
            memory.drawn, memory.data = self._drawn or memory.drawn, self._data or memory.data
            memory.supposed = supposed
        if op.reshapes:
            return self._reshape(op, args, kwargs, told, inferred)
        ids: list[Optional[int]] = []
        results: list[Any] = []
        parts = inferred if isinstance(inferred, (tuple, list)) else (inferred,)
        numbers = real if isinstance(real, (tuple, list)) else (real,)
        for position, slot in enumerate(op.returned):
            if slot is not None:
                results.append(targets[slot])
                continue
            number = numbers[position] if real is not None else None
            geometry = self.geometry_of(number) if self.measured else parts[position]
            result = self._result(geometry, number, None)
            results.append(result)
            ids.append(result.ref.id if result.ref is not None else None)
        if self.stage != "build":
            ids.extend(self._write(tensor) for tensor in written)
            if supposed is not None:
                self.tell(self.phantom(args[0]))
            self.append(op.name, *told, tuple(ids), op.random)
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

    def _reshape(self, op: Op, args: tuple, kwargs: dict, told: Told, inferred: Any) -> Any:
        """``t.transpose_(0, 1)``: changes what the tensor looks like, not the memory."""
        phantom = self.phantom(args[0])
        with no_dispatch():
            op.func(phantom, *args[1:], **kwargs)
        phantom.geometry = self.geometry_of(phantom.shadow) if self.measured else inferred
        if self.stage != "build":
            phantom.ref = self.new_value(phantom.geometry, phantom.content)
            self.append(op.name, *told, (phantom.ref.id,))
        return args[0]

    # -- numbers -----------------------------------------------------------------------------------

    def execute(self, op: Op, args: tuple, kwargs: dict) -> Any:
        """Run the op on real numbers.  While tracing, each random draw is seeded by its place in the trace."""
        numbers = [mapped(self._to_real, arg) for arg in args]
        return self._call(op, numbers, {name: mapped(self._to_real, arg) for name, arg in kwargs.items()})

    def _to_real(self, arg: Any) -> Any:
        return self.phantom(arg).content if isinstance(arg, torch.Tensor) else arg

    def _call(self, op: Op, args: Sequence[Any], kwargs: dict) -> Any:
        if op.name in _LAZY:  # the bit that such a view sets is not honoured below a dispatch mode
            return _LAZY[op.name](*args)
        if self.measured:
            return op.func(*args, **kwargs)
        if op.random:
            torch.default_generator.manual_seed(self.draws)
        result = op.func(*args, **kwargs)
        if op.random:
            return typical(op, tuple(args), result)
        return result.zero_() if op.empty else result


def _on_cpu(kwargs: dict) -> dict:
    """A trace has one device, and no pinned memory."""
    if kwargs.get("device") is not None and kwargs["device"] != CPU:
        kwargs = {**kwargs, "device": CPU}
    return {**kwargs, "pin_memory": False} if kwargs.get("pin_memory") else kwargs
