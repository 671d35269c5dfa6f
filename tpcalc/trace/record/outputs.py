"""The outputs of a model: flattened with readable paths, and which of them a loss would read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Iterator, Optional

import torch

__all__ = ["find_loss", "flatten", "primary_outputs"]

_SIDE = frozenset("loss past_key_values router_logits cache_params encoder_last_hidden_state mems state".split())
_SIDE_ENDS = ("hidden_states", "attentions", "reference_points", "_past_key_values", "_router_logits")
"""Fields of a Hugging Face output that no loss reads: caches, and what flags ask for beside the result."""
_BODY = frozenset(("last_hidden_state", "pooler_output"))
"""What the body of a model gives: a loss of logits does not read it."""


def _items(structure: Any) -> Optional[Iterator[tuple[str, Any]]]:
    """Children of a container with their names; None for a leaf."""
    if isinstance(structure, Mapping):
        return ((str(key), value) for key, value in structure.items())
    if dataclasses.is_dataclass(structure) and not isinstance(structure, type):
        return ((field.name, getattr(structure, field.name)) for field in dataclasses.fields(structure))
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return zip(structure._fields, structure, strict=True)
    if isinstance(structure, (tuple, list)):
        return ((str(index), value) for index, value in enumerate(structure))
    return None


def flatten(structure: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor in nested tuples, lists, dicts and dataclasses, with its path: ``"heads.0"``."""
    if isinstance(structure, torch.Tensor):
        yield path, structure
        return
    for name, value in _items(structure) or ():
        yield from flatten(value, f"{path}.{name}" if path else name)


def _is_hugging_face(output: Any) -> bool:
    return any(cls.__name__ == "ModelOutput" for cls in type(output).__mro__)


def _field(output: Any, name: str) -> Any:
    if isinstance(output, Mapping):
        return output.get(name)
    return getattr(output, name, None) if dataclasses.is_dataclass(output) else None


def _differentiable(tensor: Any) -> bool:
    return isinstance(tensor, torch.Tensor) and tensor.requires_grad and tensor.dtype.is_floating_point


def find_loss(output: Any) -> Optional[torch.Tensor]:
    """The model's own scalar loss: its ``loss`` field, or the output itself if it is a scalar."""
    for candidate in (output, _field(output, "loss")):
        if _differentiable(candidate) and candidate.dim() == 0:
            return candidate
    return None


def primary_outputs(output: Any) -> list[tuple[str, torch.Tensor]]:
    """The differentiable outputs a loss would read.

    Of a Hugging Face output all but caches and by-products, among which is what the body gives where there are
    logits.  Of anything else every differentiable tensor.
    """
    if not _is_hugging_face(output):
        return [(path, tensor) for path, tensor in flatten(output) if _differentiable(tensor)]
    fields = {
        name: value
        for name, value in output.items()
        if name not in _SIDE and not name.endswith(_SIDE_ENDS) and not _is_hugging_face(value)
    }
    found = [(path, tensor) for path, tensor in flatten(fields) if _differentiable(tensor)]
    body = _BODY if any("logits" in path for path, _ in found) else ()
    return [(path, tensor) for path, tensor in found if path not in body]
