"""Example inputs for a model that comes without them, where its first layer leaves no doubt."""

from __future__ import annotations

import inspect
from typing import Any, Optional

import torch
from torch import nn

__all__ = ["example_inputs"]

#: Batch and sequence length, and the extent of an image, of inputs made here: small, and none a likely width.
BATCH, SEQUENCE, EXTENT = 2, 8, 32


def example_inputs(model: nn.Module) -> Optional[tuple[Any, str]]:
    """Inputs for ``model`` and the sentence that says which, or None where they can't be known.

    Taken from the model itself (``example_inputs``, Lightning's ``example_input_array``, transformers'
    ``dummy_inputs``), or made for its first layer when ``forward`` takes one argument.
    """
    for attribute in ("example_inputs", "example_input_array", "dummy_inputs"):
        given = getattr(model, attribute, None)
        if given is not None and not callable(given):
            return given, f"{type(model).__name__} came without example inputs; its {attribute} were used"
    if _required_arguments(model) != 1:
        return None
    owners = (pair for pair in model.named_modules() if next(pair[1].parameters(recurse=False), None) is not None)
    name, layer = next(owners, ("", model))
    made = _for_layer(layer)
    if made is None:
        return None
    where = f"{name} ({type(layer).__name__})" if name else type(layer).__name__
    said = (
        f"{type(model).__name__} came without example inputs; {_described(made)} for its first layer {where} was used"
    )
    return (made,), said


def _required_arguments(model: nn.Module) -> int:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(model.forward).parameters.values()
    return sum(1 for p in parameters if p.kind in kinds and p.default is inspect.Parameter.empty)


def _for_layer(layer: nn.Module) -> Optional[torch.Tensor]:
    if isinstance(layer, nn.Embedding):
        return torch.arange(BATCH * SEQUENCE).reshape(BATCH, SEQUENCE) % layer.num_embeddings
    if isinstance(layer, nn.Linear):
        return torch.randn(BATCH, layer.in_features)
    for kind, axes in ((nn.Conv1d, 1), (nn.Conv2d, 2), (nn.Conv3d, 3)):
        if isinstance(layer, kind):
            return torch.randn(BATCH, layer.in_channels, *(EXTENT,) * axes)
    return None


def _described(made: torch.Tensor) -> str:
    what = "numbers" if made.is_floating_point() else "indices"
    return f"a tensor of {what} of shape [{', '.join(map(str, made.shape))}]"
