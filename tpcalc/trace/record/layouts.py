"""Results whose geometry needs no run: layer norm.

To fake and meta tensors it is a long Python decomposition, slow and, in the backward pass of a permuted input, of
another memory layout than what the kernel returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

from tpcalc.trace.record.tape import Tape

__all__ = ["LAYOUTS"]


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


LAYOUTS: dict[str, Callable[[Tape, tuple], Optional[tuple]]] = {
    "aten.native_layer_norm.default": _layer_norm,
    "aten.native_layer_norm_backward.default": _layer_norm_backward,
}
"""What tells the geometry of the results of an op from its arguments, or None for unusual ones."""
