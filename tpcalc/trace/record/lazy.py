"""Lazy modules and packed sequences while tracing: what torch does to memory, done to traced tensors instead."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch.nn import parameter
from torch.utils._python_dispatch import _disable_current_modes

__all__ = ["materialised", "pad_packed_sequence"]


@contextmanager
def materialised() -> Iterator[None]:
    """While it is held, a lazy parameter is replaced in its module when its shape is told."""
    mixin: Any = vars(parameter)["UninitializedTensorMixin"]
    makers: list[Any] = [parameter.UninitializedParameter, parameter.UninitializedBuffer]
    before, news = mixin.materialize, [maker.__new__ for maker in makers]
    mixin.materialize = _materialise
    for maker, new in zip(makers, news):
        maker.__new__ = staticmethod(_outside(new))
    try:
        yield
    finally:
        mixin.materialize = before
        for maker, new in zip(makers, news):
            maker.__new__ = staticmethod(new)


def _outside(new: Any) -> Any:
    def made(*args: Any, **kwargs: Any) -> Any:
        with _disable_current_modes():
            return new(*args, **kwargs)

    return made


def _materialise(self: Any, shape: Any, device: Any = None, dtype: Optional[torch.dtype] = None) -> None:
    module = sys._getframe(1).f_locals["self"]
    for table in (module._parameters, module._buffers):
        for name, tensor in list(table.items()):
            if tensor is self:
                made = torch.empty(shape, dtype=dtype or self.dtype)
                weight = isinstance(self, torch.nn.Parameter)
                table[name] = torch.nn.Parameter(made, self.requires_grad) if weight else made


def pad_packed_sequence(
    data: torch.Tensor, batch_sizes: torch.Tensor, batch_first: bool, padding: float, total_length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A packed sequence as a padded one, and the lengths, by plain ops."""
    sizes = batch_sizes.tolist()
    rows, rest = sizes[0], [0, 0] * (data.dim() - 1)
    steps = [F.pad(step, [*rest, 0, rows - step.shape[0]], value=padding) for step in data.split(sizes)]
    padded = torch.stack(steps, dim=1 if batch_first else 0)
    if total_length > len(sizes):
        after = [*rest, 0, total_length - len(sizes)] if batch_first else [*rest, 0, 0, 0, total_length - len(sizes)]
        padded = F.pad(padded, after, value=padding)
    return padded, torch.tensor([sum(size > row for size in sizes) for row in range(rows)])
