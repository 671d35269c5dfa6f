"""Sizes of the values of one run: rms at init, and rms of the change that training makes.

Many values are another one in a new arrangement (the heads of attention are split, moved and put together again).  They
have its sizes, so each set of entries is measured once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from tpcalc.program.ir import Node
from tpcalc.rules import REGISTRY

#: Entries this large are masks, not values.
MASKING = 1e9
#: A change this much smaller than the value itself is rounding.
ROUNDING = 3e-6
#: Entries summed in their own precision before the sums are added up in float64.
ROW = 256
#: A float32 loses squares of entries below 1e-19, which is nothing beside an rms of this size.
TINY = 1e-12


def rms(tensor: torch.Tensor) -> float:
    """Root mean square over the entries that are finite and no masks; 0 without any."""
    return _measure(tensor)[0]


def _measure(tensor: torch.Tensor) -> tuple[float, bool]:
    """``rms``, and whether it is over all entries."""
    x = tensor.detach()
    if x.is_complex():
        x = torch.view_as_real(x)
    if x.numel() == 0:
        return 0.0, True
    total = _norm(x)
    if math.isfinite(total) and total < MASKING:
        return total / math.sqrt(x.numel()), True
    kept = x[torch.isfinite(x) & (x.abs() < MASKING)].double()
    size = float(torch.linalg.vector_norm(kept)) / math.sqrt(kept.numel()) if kept.numel() else 0.0
    return size, kept.numel() == x.numel()


def _norm(x: torch.Tensor) -> float:
    """Euclidean norm, accurate to 1e-7 or better.

    Summing squares in float64 is exact whatever their size, and slow; of many float32 numbers, short rows are summed in
    float32, unless squares would over- or underflow.
    """
    if x.dtype == torch.float32 and x.numel() >= 64 * ROW and x.is_contiguous():
        flat = x.view(-1)
        whole = flat.numel() // ROW * ROW
        rows = torch.linalg.vector_norm(flat[:whole].view(-1, ROW), dim=1)
        total = math.hypot(
            float(torch.linalg.vector_norm(rows, dtype=torch.float64)),
            float(torch.linalg.vector_norm(flat[whole:], dtype=torch.float64)),
        )
        if TINY * math.sqrt(flat.numel()) < total < math.inf:
            return total
    return float(torch.linalg.vector_norm(x, dtype=torch.float64))


def arrangements(nodes: Iterable[Node], dtypes: Mapping[int, Any], values: Collection[int]) -> dict[int, int]:
    """For each of ``values`` that is another of them in a new arrangement: that other one, as it was made.

    ``dtypes``: what has a ``dtype``, by the ids of values.
    """
    found: dict[int, int] = {}
    for node in nodes:
        made = node.refs[0] if node.refs else None
        if made is None or made not in values or node.outputs[0] is None:
            continue
        axes = REGISTRY.axes(node.op)
        alike = dtypes[made].dtype == dtypes[node.outputs[0]].dtype  # a cast rounds
        if axes is not None and axes.same and alike:
            found[node.outputs[0]] = found.get(made, made)
    return {out: made for out, made in found.items() if out in values}


@dataclass
class Sizes:
    """Sees each value twice, at init and after training, in the order of the program.

    ``copied``: values must be copied to be kept, as something is written in place.  ``centred``: values of which
    ``deviation`` tells how far from their mean they start.
    """

    arranged: Mapping[int, int]
    copied: bool
    centred: frozenset[int] = frozenset()
    init: dict[int, float] = field(default_factory=dict)
    deviation: dict[int, float] = field(default_factory=dict)
    change: dict[int, float] = field(default_factory=dict)
    _start: dict[int, torch.Tensor] = field(default_factory=dict)
    _counts: dict[int, int] = field(default_factory=dict)
    _partial: set[int] = field(default_factory=set)
    """Values with entries that are not counted."""

    def first(self, vid: int, tensor: torch.Tensor) -> None:
        """A value at init."""
        self._counts[vid] = tensor.numel()
        if vid in self.centred:
            self.deviation[vid] = float(tensor.std(correction=0))
        made = self.arranged.get(vid)
        if made is not None and self._counts.get(made) == tensor.numel():  # an expand may have more entries
            self.init[vid] = self.init[made]
            return
        self._start[vid] = tensor.clone() if self.copied else tensor
        self.init[vid], whole = _measure(tensor)
        if not whole:
            self._partial.add(vid)

    def last(self, vid: int, tensor: torch.Tensor) -> None:
        """The same value after training."""
        if vid not in self._counts:
            return
        start = self._start.pop(vid, None)
        if self._counts[vid] != tensor.numel():
            self.change[vid] = math.nan
        elif start is None:
            self.change[vid] = self.change[self.arranged[vid]]
        else:
            self.change[vid] = self._change(vid, start, tensor) if start.shape == tensor.shape else math.nan

    def _change(self, vid: int, start: torch.Tensor, tensor: torch.Tensor) -> float:
        change, whole = _measure(tensor - start)
        before = self.init[vid]
        if whole and vid not in self._partial and change > ROUNDING * (before + change):
            return change  # the value is now no larger than before + change
        return change if change > ROUNDING * max(before, rms(tensor)) else 0.0
