"""FlexAttention as the product that it computes: its kernel is opaque, and has no backward pass on a CPU."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["flex_decomposed"]


@contextmanager
def flex_decomposed() -> Iterator[None]:
    """Where FlexAttention was imported, or is while this is held, it is computed by plain ops."""
    try:
        module = importlib.import_module("torch.nn.attention.flex_attention")
    except ImportError:  # older than torch 2.5
        yield
        return
    replaced: dict[str, Any] = {"flex_attention_hop": _attention, "_validate_device": lambda *tensors: None}
    replaced["_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG"] = True
    before = {name: getattr(module, name) for name in replaced if hasattr(module, name)}
    for name in before:
        setattr(module, name, replaced[name])
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    score_mod: Callable,
    block_mask: tuple,
    scale: float,
    *options: Any,
    **named: Any,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Softmax of the modified scores, applied to the values; the log-sum-exp and the largest score."""
    groups = query.shape[-3] // key.shape[-3]
    if groups > 1:
        key, value = (x.repeat_interleave(groups, dim=-3) for x in (key, value))
    scores = (query @ key.transpose(-1, -2)) * scale
    batch, heads, rows, columns = scores.shape
    b, h = torch.arange(batch).view(-1, 1, 1, 1), torch.arange(heads).view(-1, 1, 1)
    i, j = torch.arange(rows).view(-1, 1), torch.arange(columns)
    scores = score_mod(scores, b, h, i, j)
    if callable(block_mask[-1]):
        scores = scores.masked_fill(~block_mask[-1](b, h, i, j), -torch.inf)
    return torch.softmax(scores, -1) @ value, torch.logsumexp(scores, -1), scores.amax(-1)
