"""The dispatch mode behind the recorder.

It stands below autograd, so it sees the forward ops and those of autograd's backward alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tpcalc.errors import TraceError
from tpcalc.trace.record.calls import Calls
from tpcalc.trace.record.handlers import Handler, handler
from tpcalc.trace.record.ops import Op, op_of
from tpcalc.trace.record.phantom import Phantom

__all__ = ["Recording"]


class Recording(Calls, TorchDispatchMode):
    """Records the calls made inside it.

    While the factory runs (stage ``build``) nothing is recorded and ops that initialise weights cost next to nothing.
    With ``measured=True`` every tensor has its real numbers and each op is also executed.
    """

    supports_higher_order_operators = True  # so that ours is the error

    def __init__(
        self,
        *,
        sources: bool = True,
        measured: bool = False,
        callback: Optional[Callable[[int, torch.Tensor], None]] = None,
    ) -> None:
        Calls.__init__(self, sources=sources, measured=measured, callback=callback)
        TorchDispatchMode.__init__(self)
        self._ops: dict[Any, tuple[Op, Optional[Handler]]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # the guard against Dynamo costs as much as the dispatch itself

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Optional[dict] = None) -> Any:
        op, special = self._ops.get(func) or self._facts(func)
        if op.random:
            self.draws += 1
        if op.one_dtype and self.stage == "forward":
            self._check_dtypes(op, args)
        if special is not None:
            return special(self, op, args, kwargs or {})
        if op.returns_self and self.stage == "build" and not self.measured:
            target = args[0]
            if type(target) is Phantom and (target.shadow is None or not target.memory.known):
                return target  # initialising a weight: there is nothing to write
        return self.record(op, args, kwargs or {})

    def _check_dtypes(self, op: Op, args: tuple) -> None:
        """Raises TraceError where torch would refuse a product of numbers of different types."""
        dtypes = list(dict.fromkeys(arg.dtype for arg in args if isinstance(arg, torch.Tensor)))
        if len(dtypes) > 1:
            first, second = (str(dtype).removeprefix("torch.") for dtype in dtypes[:2])
            raise TraceError(
                f"{self.here()} brings {first} and {second} together in {op.name.split('.')[1]}, which torch refuses; "
                f"convert one, as with x.to(weight.dtype), or give inputs of the model's own type"
            )

    def _facts(self, func: Any) -> tuple[Op, Optional[Handler]]:
        if not isinstance(func, torch._ops.OpOverload):
            raise TraceError(
                f"{self.here()} calls the higher-order operator {func}, which can't be traced; "
                "call what is inside it directly"
            )
        op = op_of(func)
        facts = self._ops[func] = op, handler(op.name)
        return facts
