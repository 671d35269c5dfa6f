"""Floating point operations of a trace, by the formulas of torch's own counter (``torch.utils.flop_counter``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from math import prod
from typing import Any

import torch

from tpcalc.program.raw import RawTrace, RawValue, Ref

__all__ = ["flops_of"]

Shape = tuple[int, ...]


def flops_of(trace: RawTrace) -> int:
    """Those of all products of matrices and convolutions in it; a multiplication and an addition are two.

    Nothing else is counted, nor what kernels save or compute again: causal attention has all its products, and
    checkpointed activations are computed once.
    """
    counted = _formulas()
    total = 0
    for node in trace.nodes:
        formula = counted.get(node.op.rpartition(".")[0])
        if formula is not None:
            shapes = tuple(None if value is None else trace.values[value].shape for value in node.outputs)
            total += formula(*_shaped(node.args, trace.values), out_val=shapes[0] if len(shapes) == 1 else shapes)
    return total


def _shaped(argument: Any, values: Mapping[int, RawValue]) -> Any:
    """Shapes for values, the rest as it is."""
    if isinstance(argument, Ref):
        return values[argument.id].shape
    return tuple(_shaped(item, values) for item in argument) if isinstance(argument, tuple) else argument


@lru_cache(maxsize=1)
def _formulas() -> dict[str, Callable[..., int]]:
    """Op -> function of its arguments, shapes for tensors.  Late, as the counter imports half of torch."""
    from torch.utils.flop_counter import conv_flop_count, flop_registry

    def convolution_backward(dy: Shape, x: Shape, w: Shape, *more: Any, out_val: Any) -> int:
        """Each of the gradients takes what the forward pass took.  Torch forgets that groups meet no others."""
        transposed, wanted = more[4], more[7]
        return sum(wanted[:2]) * conv_flop_count(list(x), list(w), list(dy), transposed)

    return {
        **{str(op): formula for op, formula in flop_registry.items() if isinstance(op, torch._ops.OpOverloadPacket)},
        "aten.convolution_backward": convolution_backward,
        "aten.mv": lambda x, y, out_val: 2 * prod(x),
        "aten.addmv": lambda bias, x, y, out_val: 2 * prod(x),
        "aten.dot": lambda x, y, out_val: 2 * prod(x),
        "aten._grouped_mm": _grouped,
    }


def _grouped(x: Shape, y: Shape, *more: Any, out_val: Any) -> int:
    """Groups of rows, each with its own matrix; or of columns."""
    return 2 * prod(x) * y[-1] // (x[0] if (len(x), len(y)) == (3, 2) else 1)
