"""Inputs of real models: as somebody gave them, and what the model does with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from tpcalc.errors import TpcalcError
from tpcalc.trace.quoted import error_text
from tpcalc.trace.record import described, flex_decomposed

__all__ = ["apply", "as_inputs", "same_shapes"]


def apply(model: torch.nn.Module, inputs: Any) -> Any:
    """What the model gives for inputs.  Raises TpcalcError where its code fails."""
    try:
        with flex_decomposed():
            return model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    except (Exception, SystemExit) as error:
        raise TpcalcError(
            f"{type(model).__name__} raised {error_text(error)} where it is trained for real; check that it runs on "
            f"the inputs given, those of batch= (--batch) if there are any"
        ) from error


def as_inputs(batch: Any) -> Any:
    """Inputs as a tuple of arguments or a dict of keyword arguments.  Raises TpcalcError where they are neither."""
    if isinstance(batch, torch.Tensor):
        return (batch,)
    if hasattr(batch, "keys"):
        return dict(batch)
    if isinstance(batch, (str, bytes)) or not isinstance(batch, Iterable):
        raise TpcalcError(
            f"batch= (--batch) gives {described(batch)}; let it give a tensor, a tuple of arguments or a dict of "
            f"keyword arguments"
        )
    return tuple(batch)


def same_shapes(a: Any, b: Any) -> bool:
    """Whether two inputs are tensors alike, one by one."""
    xs, ys = (list(x.values()) if isinstance(x, dict) else list(x) for x in (a, b))
    return len(xs) == len(ys) and all(
        isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor) and x.shape == y.shape and x.dtype == y.dtype
        for x, y in zip(xs, ys, strict=True)
    )
