"""Picks that stay: what a top-k finds is what it found when the model first ran.

Training moves entries by more than the gap between the largest ones, and then another row is picked: a jump as large as
the entry, however little it moved.  Which share of the picks changes places follows the gap, and that shrinks with the
width until all do (docs/theory.md, known limits).  With picks held, what is left is what orders are about.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

#: Places of each model, in the order in which it picks.  Not kept by the model: what it notes while it is looked at is
#: taken back.
_held: WeakKeyDictionary[nn.Module, list[Tensor]] = WeakKeyDictionary()
#: Those of the model that runs, and how many of them its present pass has come to.
_places: list[Tensor] = []
_at = 0


def starts(model: nn.Module) -> None:
    """``model`` begins a forward pass."""
    global _places, _at
    _places, _at = _held.setdefault(model, []), 0


def _topk(x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Tensor, Tensor]:
    global _at
    if _at == len(_places):
        _places.append(x.sort(dim, descending=largest)[1].narrow(dim, 0, k))
    places, _at = _places[_at].clone(), _at + 1
    return x.gather(dim, places), places


@contextmanager
def held() -> Iterator[None]:
    """Inside, each ``topk`` of a model that tells :func:`starts` picks the places of its first forward pass.

    The kernel is replaced and not the call, so that programs are the same, op by op, as without it.
    """
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a kernel is overridden
        library.impl("topk", _topk, "CPU")
    try:
        yield
    finally:
        library._destroy()
