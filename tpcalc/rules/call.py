"""What a rule sees of an op."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order
from tpcalc.algebra.size import Scalar, Size
from tpcalc.program.ir import Node, Ref, Value
from tpcalc.rules.structures import Known, Operand


@dataclass(frozen=True, slots=True)
class Call:
    """What a rule sees of a node: its arguments with the fitted shapes of its tensors."""

    node: Node
    values: Mapping[int, Value]

    def arg(self, index: int, name: str = "", default: Any = None) -> Any:
        """Positional argument ``index``, or keyword ``name``, or ``default``."""
        if index < len(self.node.args):
            return self.node.args[index]
        for key, value in self.node.kwargs:
            if key == name:
                return value
        return default

    def __getitem__(self, index: int) -> Operand:
        """Argument ``index`` as an operand: a tensor, or a number as a known constant."""
        return self.operand(self.arg(index))

    def operand(self, arg: Any) -> Operand:
        if isinstance(arg, Ref):
            return arg.id
        return Known(number_order(arg), uniform=True)

    def optional(self, index: int, name: str = "") -> Optional[Operand]:
        arg = self.arg(index, name)
        return None if arg is None else self.operand(arg)

    def tensors(self, arg: Any = None) -> tuple[Operand, ...]:
        """All tensors in ``arg`` (default: in the whole call)."""
        if arg is None:
            return self.node.refs
        return tuple(item.id for item in arg if isinstance(item, Ref))

    def is_tensor(self, index: int) -> bool:
        return isinstance(self.arg(index), Ref)

    def shape(self, index: int) -> tuple[Size, ...]:
        arg = self.arg(index)
        return self.values[arg.id].shape if isinstance(arg, Ref) else ()

    def out_shape(self, index: int = 0) -> tuple[Size, ...]:
        out = self.node.outputs[index]
        return self.values[out].shape if out is not None else ()

    def growth(self, index: int, *dims: int) -> Order:
        """Total growth of the axes ``dims`` of tensor argument ``index``."""
        shape = self.shape(index)
        return sum((shape[dim].growth for dim in dims), ZERO)

    def positions(self, index: int) -> Order:
        """Growth of batch and space of tensor argument ``index``, [batch, channels, *space]."""
        return self.growth(index, 0) + sum((size.growth for size in self.shape(index)[2:]), ZERO)

    def reduced(self, index: int, dims: Any) -> Order:
        """Total growth of the axes that a reduction over ``dims`` (None or (): all) removes."""
        shape = self.shape(index)
        if not shape:
            return ZERO
        if dims is None or dims == ():
            return sum((size.growth for size in shape), ZERO)
        if isinstance(dims, int):
            dims = (dims,)
        return sum((shape[dim].growth for dim in dims), ZERO)


def number_order(arg: Any) -> Order:
    """Order of a Python number, a fitted Size or a fitted Scalar; of None or text: 0."""
    if isinstance(arg, Size):
        return arg.growth
    if isinstance(arg, Scalar):
        return arg.order
    if isinstance(arg, (int, float, complex)) and not isinstance(arg, bool):
        return ZERO if arg else MINUS_INFINITY
    return ZERO
