"""Representative entries of several laws together, and an op run on them."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch.utils._python_dispatch import _disable_current_modes

from tpcalc.trace.init.law import GRID, Law

__all__ = ["evaluate"]


def evaluate(func: Any, laws: list[Law], args: tuple, kwargs: dict, seed: int) -> Optional[torch.Tensor]:
    """``func`` on representative entries of its tensor operands; None if some operand has none."""
    if "out" in kwargs:
        return None
    with _disable_current_modes(), torch.no_grad():
        samples = [sample for sample in (law.sample() for law in laws) if sample is not None]
        if len(samples) < len(laws):
            return None
        feed = iter(_together(laws, samples, seed))
        real = [_as(next(feed), arg.dtype) if isinstance(arg, torch.Tensor) else arg for arg in args]
        try:
            return func(*real, **{key: value for key, value in kwargs.items() if key != "dtype"})
        except RuntimeError:
            return None


def _as(sample: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A copy of ``sample`` as a mask, whole numbers or (at full precision) floats, whichever ``dtype`` is."""
    if dtype.is_floating_point or dtype.is_complex:
        return sample.clone()
    return sample != 0 if dtype == torch.bool else sample.to(torch.int64)


def _together(laws: list[Law], samples: list[torch.Tensor], seed: int) -> list[torch.Tensor]:
    """Samples of one length, in step where the source is shared, shuffled against each other where not."""
    varying = [(law, sample) for law, sample in zip(laws, samples) if not law.is_constant]
    if len({id(law.source) for law, _ in varying}) <= 1 and len({sample.numel() for _, sample in varying}) <= 1:
        return samples
    order = {source: index for index, source in enumerate(dict.fromkeys(id(law.source) for law in laws))}
    joined = []
    for law, sample in zip(laws, samples):
        if not law.is_constant:
            sample = sample[(torch.arange(GRID) * sample.numel()) // GRID]
            place = order[id(law.source)]
            if place:
                generator = torch.Generator().manual_seed(1000 * seed + place)
                sample = sample[torch.randperm(GRID, generator=generator)]
        joined.append(sample)
    return joined
