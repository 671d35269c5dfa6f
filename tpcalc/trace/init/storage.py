"""What stands in a storage: a law, and patches written later through views of part of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Optional

import torch

from tpcalc.trace.init.law import Law, blend, mixture, unknown

__all__ = ["Block", "Region", "Storage", "grid", "storage_key"]

#: Blocks of one tensor that are followed; what is in more of them counts as mixed.
MOST_BLOCKS = 256
#: A block of a tensor: the axis, where it starts, its length.
Block = tuple[int, int, int]


@dataclass(frozen=True)
class Region:
    """The entries of a storage that a view reaches: an interval, or a strided set ``(size, stride)...``."""

    start: int
    dims: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, tensor: torch.Tensor, *blocks: "Block") -> "Region":
        """That of a tensor, or of a block of it along one axis or several."""
        shape, strides, offset = list(tensor.shape), tensor.stride(), int(tensor.storage_offset())
        for axis, start, length in blocks:
            shape[axis] = length
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

    def box(self, tensor: torch.Tensor) -> Optional[tuple[Block, ...]]:
        """The block of ``tensor`` that these entries are; None if they are none."""
        first, last = self.start - int(tensor.storage_offset()), self.stop - 1 - int(tensor.storage_offset())
        found: list[Block] = []
        strides = tensor.stride()
        for axis in sorted(range(tensor.dim()), key=lambda axis: -strides[axis]):
            size, stride = tensor.shape[axis], strides[axis]
            if size > 1 and stride > 0:
                (start, first), (end, last) = divmod(first, stride), divmod(last, stride)
                if not 0 <= start <= end < size:
                    return None
                found.append((axis, start, end - start + 1))
        return tuple(found) if math.prod(length for _, _, length in found) == self.count else None

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

    def cuts(self, tensor: torch.Tensor) -> Optional[dict[int, set[int]]]:
        """Axis -> where laws change along it, so that each block in between has one law; None if that is not known."""
        if self.scattered:
            return None
        whole, found = Region.of(tensor), dict[int, set[int]]()
        for patch in self.patches:
            if whole.within(patch) or whole.apart(patch):
                continue
            box = patch.box(tensor)
            if box is None:
                return None
            for axis, start, length in box:
                found.setdefault(axis, set()).update({start, start + length} - {0, tensor.shape[axis]})
        return {axis: places for axis, places in found.items() if places}

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


def grid(cuts: Mapping[int, Collection[int]], shape: Sequence[int]) -> list[tuple[Block, ...]]:
    """The blocks between the cuts of each axis; none if they are more than :data:`MOST_BLOCKS`."""
    if math.prod(len(places) + 1 for places in cuts.values()) > MOST_BLOCKS:
        return []
    along = []
    for axis, places in sorted(cuts.items()):
        ends = (0, *sorted(places), shape[axis])
        along.append([(axis, start, stop - start) for start, stop in zip(ends, ends[1:])])
    return list(product(*along))


def memory_of(tensor: torch.Tensor) -> Any:
    """What the views of one tensor share: its storage, or the recorder's stand-in for one."""
    memory = getattr(tensor, "memory", None)
    return tensor.untyped_storage() if memory is None else memory


def storage_key(tensor: torch.Tensor) -> int:
    memory = memory_of(tensor)
    return memory._cdata if isinstance(memory, torch.UntypedStorage) else id(memory)
