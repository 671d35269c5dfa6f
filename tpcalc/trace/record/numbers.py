"""Size of the entries of a known tensor, and how they add up."""

from __future__ import annotations

import math
from typing import Any, Optional

import torch

from tpcalc.program.raw import Sums

__all__ = ["Seen", "filled", "magnitude_and_rms", "measured", "sums"]

MASKING = 1e30
"""Entries beyond this are "minus infinity" of an attention mask, not data."""

ITERATIONS = 12
"""Of a power iteration: norms are compared between widths, so a constant factor does not matter."""


def magnitude_and_rms(real: Optional[torch.Tensor]) -> tuple[Optional[float], Optional[float]]:
    """Largest absolute entry and root mean square, ignoring infinities and masking values."""
    if real is None:
        return None, None
    size = real.abs() if real.dtype != torch.bool else real
    size = size.to(torch.float64).flatten()
    if size.numel() == 0:
        return 0.0, 0.0
    top = size.max().item()
    if not top <= MASKING:
        size = size[size <= MASKING]
        if size.numel() == 0:
            return 0.0, 0.0
        top = size.max().item()
    return top, float(size.square().mean().sqrt()) if top > 0 else 0.0


def sums(real: torch.Tensor, rms: float) -> Optional[Sums]:
    """How the entries add up; None for whole numbers, masks, and what is zero or not finite."""
    if not (real.is_floating_point() or real.is_complex()) or real.numel() < 2 or rms == 0:
        return None
    entries = real.detach().to(torch.complex128 if real.is_complex() else torch.float64) / rms
    total = float(entries.sum().abs()) / math.sqrt(entries.numel())
    if not math.isfinite(total) or total > MASKING:
        return None
    along, norms = [], []
    for axis, length in enumerate(entries.shape):
        added = entries.sum(axis).abs()
        along.append(float(added.square().mean().sqrt()) / math.sqrt(length))
        plain = length in (1, entries.numel())  # a single row or column
        norms.append(0.0 if plain else _norm(entries.movedim(axis, 0).reshape(length, -1)))
    return Sums(tuple(along), tuple(norms), total)


def _norm(matrix: torch.Tensor) -> float:
    """The operator norm over that of a random matrix of entries of size 1."""
    rows, columns = matrix.shape
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(columns, generator=generator, dtype=torch.float64).to(matrix.dtype) + 1
    found = 0.0
    for _ in range(ITERATIONS):
        vector = vector / torch.linalg.vector_norm(vector)
        image = matrix @ vector
        found = float(torch.linalg.vector_norm(image))
        if found == 0:
            break
        vector = matrix.mH @ image
    return found / (math.sqrt(rows) + math.sqrt(columns))


def measured(real: Optional[torch.Tensor]) -> tuple[Optional[float], Optional[float], Optional[Sums]]:
    """Largest entry, root mean square, and sums; None where nothing is known."""
    top, rms = magnitude_and_rms(real)
    return top, rms, None if real is None or not rms else sums(real, rms)


def filled(real: Optional[torch.Tensor]) -> Optional[tuple[tuple[float, float], ...]]:
    """For each axis, the median and the largest number of entries along it that are not zero, over the lines that have
    any; None where no entry is zero, or all are."""
    if real is None or real.numel() < 2 or real.is_quantized:
        return None
    there = real != 0
    total = int(there.sum())
    if total in (0, real.numel()):
        return None
    counts = [there.sum(axis).flatten() for axis in range(there.dim())]
    return tuple((float(count[count > 0].median()), float(count.max())) for count in counts)


class Seen:
    """What is known of numbers, measured once where the same ones are looked at again (a mask, in each layer)."""

    #: Tensors that are kept, and entries of the largest.
    MOST, LARGEST = 64, 1 << 16

    def __init__(self) -> None:
        self._kept: dict[Any, tuple[torch.Tensor, tuple[Any, ...]]] = {}

    def of(self, real: torch.Tensor) -> tuple[Any, ...]:
        """As :func:`measured`, and :func:`filled`."""
        key = (real.data_ptr(), real.shape, real.stride(), real.dtype)
        kept = self._kept.pop(key, None)
        if kept is None or not torch.equal(kept[0], real):  # its memory may be another's by now, or written
            kept = real.clone(), (*measured(real), filled(real))
        if real.numel() <= self.LARGEST:
            self._kept[key] = kept
        if len(self._kept) > self.MOST:
            del self._kept[next(iter(self._kept))]
        return kept[1]
