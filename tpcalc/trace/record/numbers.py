"""Size of the entries of a known tensor."""

from __future__ import annotations

from typing import Optional

import torch

__all__ = ["magnitude_and_rms"]

MASKING = 1e30
"""Entries beyond this are "minus infinity" of an attention mask, not data."""


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
