"""The axes of an op whose rule declares none: they follow from its structure and the shapes.

What acts entry by entry and has the shape that its operands broadcast to keeps its axes; a view into another shape
with as many entries carries, merges and splits them; a contraction pairs axes as a matrix product or as a linear layer
does, or over the leading axes, as the gradient of a weight does.  Where two readings fit (square matrices), only what
both say is taken.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Optional

from tpcalc.algebra.order import ZERO
from tpcalc.algebra.size import UNIT, Size, size_product
from tpcalc.rules.axes import viewed
from tpcalc.rules.call import Call
from tpcalc.rules.layout import Labels, Layout, Shape, linear_labels, long, matmul_labels, powers
from tpcalc.rules.structures import (
    Bounded,
    Contract,
    Discrete,
    Exp,
    Guard,
    Known,
    LinearLike,
    Log,
    Operand,
    Power,
    Product,
    Scale,
    Sizes,
    Slope,
    Structure,
    Sum,
    View,
    operands,
)

ENTRYWISE = (View, Sum, Scale, Product, Power, Guard, LinearLike, Bounded, Slope, Exp, Log, Discrete, Known)

#: Axis ``(tensor, place from the left)`` of an operand (its id) or of a result (its place as text).
Axis = tuple[Hashable, int]
Pair = tuple[Axis, Axis]


def inferred(call: Call, structures: Sequence[Optional[Structure]]) -> Layout:
    """The layout of a call whose results have these structures."""
    ids = call.node.refs
    shapes = {vid: call.values[vid].shape for vid in ids}
    only = structures[0] if len(structures) == 1 else None
    if isinstance(only, View) and ids and only.x == ids[0] == call[0]:
        before, after = shapes[ids[0]], call.out_shape()
        if before != after and size_product(before) == size_product(after) is not None:
            return viewed(call)
    pairs: list[Pair] = []
    summed: list[Pair] = []
    sizes: list[Optional[Sizes]] = []
    for index, structure in enumerate(structures):
        found = _Reading(shapes, f"result {index}", call.out_shape(index))
        if structure is not None and found.read(structure):
            pairs += found.pairs
            summed += found.summed
            sizes += found.sizes
    names = _classes([*pairs, *summed])

    def labels(tensor: Hashable, shape: Shape) -> Labels:
        return tuple(names.get((tensor, axis)) for axis in range(len(shape)))

    results = tuple(labels(f"result {index}", call.out_shape(index)) for index in range(len(call.node.outputs)))
    return Layout(
        tuple(labels(vid, shapes[vid]) for vid in ids),
        results,
        summed=frozenset(names[axis] for axis, _ in summed),
        sizes=sizes[0] if len(sizes) == 1 else None,
    )


class _Reading:
    """One result: which axes are equal, and which are summed over.  Mutable while it reads a nested structure."""

    def __init__(self, shapes: dict[int, Shape], name: str, shape: Shape) -> None:
        self.shapes, self.name, self.shape = shapes, name, shape
        self.pairs: list[Pair] = []
        self.summed: list[Pair] = []
        self.sizes: list[Optional[Sizes]] = []

    def read(self, x: Operand) -> bool:
        """Whether all of a structure is understood."""
        if isinstance(x, int):
            return self.broadcasts(x)
        if isinstance(x, Contract):
            return self.contracts(x)
        return isinstance(x, ENTRYWISE) and all([self.read(y) for y in operands(x)])

    def broadcasts(self, vid: int) -> bool:
        shape, out = self.shapes.get(vid), self.shape
        if shape is None or len(shape) > len(out):
            return False
        for axis in range(1, len(shape) + 1):
            if shape[-axis] == out[-axis]:
                self.pairs.append(((vid, len(shape) - axis), (self.name, len(out) - axis)))
            elif shape[-axis] != UNIT:
                return False
        return True

    def contracts(self, s: Contract) -> bool:
        if not isinstance(s.x, int) or not isinstance(s.y, int) or s.x == s.y:
            return False
        x, y = self.shapes.get(s.x), self.shapes.get(s.y)
        if x is None or y is None:
            return False
        fitting = [labels for labels in _layouts(len(x), len(y), len(self.shape)) if _fits(s, labels, x, y, self.shape)]
        if not fitting:
            return False
        out = self.shape
        found = [
            _pairs((long(one, x, out, z), long(two, y, out, z), z), s.x, s.y, self.name) for one, two, z in fitting
        ]
        self.pairs += sorted(set.intersection(*(set(pairs) for pairs, _ in found)), key=str)
        self.summed += sorted(set.intersection(*(set(summed) for _, summed in found)), key=str)
        known = {_sizes(labels, x, y) for labels in fitting}
        self.sizes.append(known.pop() if len(known) == 1 else None)
        return True


def _layouts(x: int, y: int, out: int) -> list[tuple[Labels, Labels, Labels]]:
    """The ways to contract tensors with these ranks."""
    found = [matmul_labels(x, y, out)] if x and y else []
    if y == 2 and x:
        found.append(linear_labels(x, y))
    if x == y > 1 and out == 2:
        lead = tuple(f"k{axis}" for axis in range(x - 1))
        found += [((*lead, "m"), (*lead, "p"), ("m", "p")), ((*lead, "m"), (*lead, "p"), ("p", "m"))]
    return found


def _fits(s: Contract, labels: tuple[Labels, Labels, Labels], x: Shape, y: Shape, out: Shape) -> bool:
    """Whether shapes and growths agree with the labels: axes with one label are as long (a batch may have length 1)."""
    of: dict[Hashable, Size] = {}
    if any(len(names) != len(shape) for names, shape in zip(labels, (x, y, out))):
        return False
    for names, shape in zip(labels, (x, y, out)):
        for name, size in zip(names, shape):
            if name is None or (isinstance(name, int) and size == UNIT):
                continue
            if of.setdefault(name, size) != size:
                return False
    K = sum((size.growth for name, size in zip(labels[0], x) if name not in labels[2]), ZERO)
    return s.K == K


def _pairs(labels: tuple[Labels, Labels, Labels], x: int, y: int, result: str) -> tuple[list[Pair], list[Pair]]:
    pairs: list[Pair] = []
    summed: list[Pair] = []
    for vid, names in ((x, labels[0]), (y, labels[1])):
        pairs += [
            ((vid, i), (result, labels[2].index(name)))
            for i, name in enumerate(names)
            if name is not None and name in labels[2]
        ]
    for i, name in enumerate(labels[0]):
        if name is not None and name in labels[1] and name not in labels[2]:
            summed.append(((x, i), (y, labels[1].index(name))))
    return pairs, summed


def _sizes(labels: tuple[Labels, Labels, Labels], x: Shape, y: Shape) -> Sizes:
    left, right, _ = labels
    summed = [size for name, size in zip(left, x) if name in right and name not in labels[2]]
    rest_x = [size for name, size in zip(left, x) if name not in right][-1:]
    return Sizes(powers(summed), powers(rest_x), powers([size for name, size in zip(right, y) if name not in left]))


def _classes(pairs: Sequence[Pair]) -> dict[Axis, int]:
    """Axis -> the class of equal axes that it is in."""
    names: dict[Axis, int] = {}
    members: dict[int, list[Axis]] = {}
    for one, other in pairs:
        for axis in (one, other):
            if axis not in names:
                names[axis] = len(members)
                members[names[axis]] = [axis]
        keep, gone = names[one], names[other]
        if keep != gone:
            for axis in members[gone]:
                names[axis] = keep
            members[keep] += members[gone]
            members[gone] = []
    return names
