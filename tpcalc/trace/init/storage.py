"""What stands in a storage: a law, and patches written later through views of part of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Optional

import torch

from tpcalc.trace.init.law import Law, blend, mixture, unknown

__all__ = ["Region", "Storage", "storage_key"]


@dataclass(frozen=True)
class Region:
    """The entries of a storage that a view reaches: an interval, or a strided set ``(size, stride)...``."""

    start: int
    dims: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, tensor: torch.Tensor, block: Optional[tuple[int, int, int]] = None) -> "Region":
        """That of a tensor, or of a block of it: the axis, where it starts, its length."""
        shape, strides, offset = list(tensor.shape), tensor.stride(), int(tensor.storage_offset())
        if block is not None:
            axis, start, shape[axis] = block
            offset += start * strides[axis]
        merged: list[tuple[int, int]] = []
        for size, stride in sorted(zip(shape, strides), key=lambda dim: -dim[1]):
            if size == 1 or stride == 0:
                continue
            if merged and merged[-1][1] == size * stride:
                merged[-1] = (merged[-1][0] * size, stride)
            else:
                merged.append((size, stride))
        return cls(offset, tuple(merged))

    @property
    def count(self) -> int:
        return math.prod(size for size, _ in self.dims)

    @property
    def stop(self) -> int:
        return self.start + 1 + sum((size - 1) * stride for size, stride in self.dims)

    @property
    def is_interval(self) -> bool:
        return self.stop - self.start == self.count

    def within(self, other: "Region") -> bool:
        return self == other or (other.is_interval and other.start <= self.start and self.stop <= other.stop)

    def apart(self, other: "Region") -> bool:
        """Surely no common entry."""
        if self.stop <= other.start or other.stop <= self.start:
            return True
        # Slices of one matrix along its inner axis: the same stride, columns that do not meet.
        if self.dims and other.dims and not self.is_interval and not other.is_interval:
            stride = self.dims[0][1]
            if stride == other.dims[0][1]:
                a, b = self.start % stride, other.start % stride
                a_stop = a + self.stop - self.start - (self.dims[0][0] - 1) * stride
                b_stop = b + other.stop - other.start - (other.dims[0][0] - 1) * stride
                return a_stop <= stride and b_stop <= stride and (a_stop <= b or b_stop <= a)
        return False


class Storage:
    """Laws of one storage: ``base``, and patches written later through views of part of it."""

    def __init__(self, tensor: torch.Tensor, base: Law) -> None:
        self.keep = memory_of(tensor)  # so that its address is not given to another
        self.total = Region.of(tensor).count
        if isinstance(self.keep, torch.UntypedStorage):
            self.total = self.keep.nbytes() // tensor.element_size()
        self.base = base
        self.patches: dict[Any, tuple[int, Law]] = {}
        self.scattered: list[tuple[int, Law]] = []
        """Numbers of entries written at unknown places."""

    def write(self, region: Region, law: Law) -> None:
        if region.count >= self.total:
            self.base, self.patches, self.scattered = law, {}, []
            return
        if self.base is law and not self.patches:
            return
        for other in list(self.patches):
            if other.within(region):
                del self.patches[other]
            elif not region.apart(other):
                if not (region.is_interval and other.is_interval):
                    law = unknown("overlapping writes through different views")
                else:
                    self._cut(other, region)
        self.patches[region] = (region.count, law)

    def _cut(self, old: Region, new: Region) -> None:
        _, law = self.patches.pop(old)
        for start, stop in ((old.start, min(old.stop, new.start)), (max(old.start, new.stop), old.stop)):
            if stop > start:
                self.patches[Region(start, ((stop - start, 1),))] = (stop - start, law)

    def read(self, region: Region) -> Law:
        if not self.patches and not self.scattered:
            return self.base
        if not self.scattered:
            for other, (_, law) in self.patches.items():
                if region.within(other):
                    return law
            if all(region.apart(other) for other in self.patches):
                return self.base
        parts = [part for other, part in self.patches.items() if not region.apart(other)]
        rest = region.count - sum(count for count, _ in parts)
        slabs = mixture([(rest, self.base), *parts])
        if not self.scattered or not slabs.known:
            return slabs
        if not all(law.known for _, law in self.scattered):
            return unknown("entries written at unknown places")
        share = min(sum(count for count, _ in self.scattered), region.count)
        return blend([(region.count - share, slabs), (share, mixture(self.scattered))])


def memory_of(tensor: torch.Tensor) -> Any:
    """What the views of one tensor share: its storage, or the recorder's stand-in for one."""
    memory = getattr(tensor, "memory", None)
    return tensor.untyped_storage() if memory is None else memory


def storage_key(tensor: torch.Tensor) -> int:
    memory = memory_of(tensor)
    return memory._cdata if isinstance(memory, torch.UntypedStorage) else id(memory)
