"""Which entries of a function of weights are zero whatever the weights are.

What follows from parameters and fixed numbers alone (a masked weight, one put together from blocks, a diagonal) is
computed once more, for random numbers in place of the parameters.  Autograd does not see it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Optional

import torch

from tpcalc.trace.record.phantom import Geometry, Phantom

__all__ = ["MOST", "Supposed", "drawn", "result_of", "supposed_of", "write_of"]

MOST = 2**20
"""Weights and functions of weights up to this size are computed."""


@dataclass(eq=False)
class Supposed:
    """Numbers that a function of weights might have.

    ``plain``: a weight, or a view of one, none of whose entries need be zero; made when they are asked for.
    """

    make: Callable[[], torch.Tensor]
    plain: bool = False

    @cached_property
    def numbers(self) -> torch.Tensor:
        return self.make()


def drawn(geometry: Geometry, seed: int) -> Optional[Supposed]:
    """Random numbers for a parameter; None where they would be too many, or no real numbers."""
    if geometry.numel > MOST or not geometry.dtype.is_floating_point or geometry.offset:
        return None

    def draw() -> torch.Tensor:
        numbers = torch.randn(geometry.size, generator=torch.Generator().manual_seed(seed))
        return torch.empty_strided(geometry.size, geometry.stride, dtype=geometry.dtype).copy_(numbers)

    return Supposed(draw, plain=True)


def supposed_of(tensor: Phantom) -> Optional[Supposed]:
    """What is supposed of a tensor; None for what depends on more than weights."""
    if not tensor.memory.version:
        return tensor.supposed
    whole, geometry = tensor.memory.supposed, tensor.geometry
    return None if whole is None else Supposed(lambda: _view(whole.numbers, geometry))


def result_of(
    call: Callable[..., Any], args: tuple, kwargs: dict, view: bool, index: Optional[int] = None
) -> Optional[Supposed]:
    """Of what an op makes (of several results, of that at ``index``) of functions of weights and fixed numbers."""

    def make() -> torch.Tensor:
        result = call(*map(_numbers, args), **{name: _numbers(arg) for name, arg in kwargs.items()})
        return result if index is None else result[index]

    if view and all(x.plain for x in map(supposed_of, _tensors((*args, *kwargs.values()))) if x is not None):
        return Supposed(make, plain=True)
    return _made(make)


def write_of(call: Callable[..., Any], args: tuple, kwargs: dict) -> Optional[Supposed]:
    """Of the whole memory of the first of ``args`` once the op has written to it."""
    target = args[0]
    whole, geometry = target.memory.base_geometry, target.geometry
    if whole is None or whole.offset:
        return None

    def make() -> torch.Tensor:
        own = target.memory.supposed if target.memory.version else target.supposed
        numbers = own.numbers if target.content is None and own is not None else target.content
        before = torch.empty_strided(whole.size, whole.stride, dtype=geometry.dtype)
        before.copy_(_view(numbers, whole))
        call(_view(before, geometry), *map(_numbers, args[1:]), **{name: _numbers(arg) for name, arg in kwargs.items()})
        return before

    return _made(make)


def _made(make: Callable[[], torch.Tensor]) -> Optional[Supposed]:
    """Made at once, as fixed numbers may be written later."""
    found = Supposed(make)
    try:
        return found if found.numbers.numel() <= MOST else None
    except Exception:  # a matrix that can't be inverted, a check of the op's own: nothing is supposed then
        return None


def _view(numbers: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    return numbers.as_strided(geometry.size, geometry.stride, geometry.offset)


def _tensors(args: Any) -> Iterator[Phantom]:
    for arg in args:
        if isinstance(arg, Phantom):
            yield arg
        elif isinstance(arg, (list, tuple)):
            yield from _tensors(arg)


def _numbers(arg: Any) -> Any:
    if isinstance(arg, Phantom):
        supposed = supposed_of(arg)
        return arg.content if supposed is None else supposed.numbers
    return type(arg)(map(_numbers, arg)) if isinstance(arg, (list, tuple)) else arg
