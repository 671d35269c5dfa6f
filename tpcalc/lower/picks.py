"""Picked outputs: where law 2 asks for the largest of a contraction's results and not for their rms.

Cross-entropy reads the row of the target, a top-k or an argmax the largest entries, a softmax weighs by them, a gather
takes those that an index names, and what reads an output is not known.  The row that is read then is the row that its
gradient wrote into the features: it counts with all of ``K``, however many other rows there are
(Yang, Simon & Bernstein 2023 bound the rms over all; measured in ``docs/theory.md``).  So axes along which one of these
runs do not count in ``R``, on the way from the contraction through views, biases, scales and what acts entry by entry.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any, Optional

from tpcalc.algebra.order import ZERO, Order
from tpcalc.lower.gates import Gates, Marks, pairs
from tpcalc.lower.wiring import Wiring
from tpcalc.program.ir import Node, Program
from tpcalc.rules.inference import ENTRYWISE
from tpcalc.rules.layout import Labels, Layout, Shape
from tpcalc.rules.structures import (
    Contract,
    Discrete,
    Exp,
    Gather,
    Guard,
    Normalise,
    Operand,
    Power,
    Reduce,
    Softmax,
    Structure,
    Sum,
    View,
    leaves,
    operands,
)


class Picks:
    """Which axes of the results of contractions are picked from.  Mutable while it walks.

    ``marks``: of values, axis from the right -> growth of those entries along it that do not count.  ``gated``: those
    of them that gates weigh, each by itself on the way through a contraction as well.
    ``found``: node of a contraction -> growth of the picked axes that are its first operand's alone, its second's.
    """

    def __init__(self, wiring: Wiring) -> None:
        self.wiring, self.program = wiring, wiring.program
        self.forward = _live(self.program)
        self.gates = Gates(wiring)
        self.marks: dict[int, Marks] = {}
        self.gated: dict[int, Marks] = {}
        self.found: dict[int, tuple[Order, Order]] = {}
        for vid, marks in self.gates.met.items():
            self.gate(vid, marks)
        self.walk(ends=False)
        # what leaves and goes on as well is a value of the model: what it goes on into says how it counts
        for vid in self.program.results:
            if vid not in self.readers:
                for axis, size in enumerate(reversed(self.shape(vid)), start=1):
                    self.mark(vid, axis, size.growth)
        self.walk(ends=True)

    def apart(self, s: Structure, node: int) -> Structure:
        """A contraction over experts and their neurons, the sum over the experts by itself."""
        mean = self.gates.means.get(node)
        if mean is None or mean.gates == 0 or not isinstance(s, Contract) or s.K != mean.whole:
            return s
        return Reduce(replace(s, K=s.K - mean.gates, sizes=None), mean.gates)

    def gate(self, vid: int, marks: Marks) -> None:
        for axis, growth in marks.items():
            self.mark(vid, axis, growth)
            self.gated.setdefault(vid, {})[axis] = growth

    def counted(self, s: Structure, node: int) -> Structure:
        """A contraction of a node, its weight's rows that are picked from no longer counted."""
        if not isinstance(s, Contract) or node not in self.found:
            return s
        x, y = (min(by, rest) for by, rest in zip(self.found[node], (s.rest_x, s.rest_y)))
        sizes = s.sizes
        if sizes is not None:
            sizes = replace(sizes, rest_x=() if x > 0 else sizes.rest_x, rest_y=() if y > 0 else sizes.rest_y)
        whole = x in (ZERO, s.rest_x) and y in (ZERO, s.rest_y)
        return replace(s, rest_x=s.rest_x - x, rest_y=s.rest_y - y, sizes=sizes if whole else None)

    def shape(self, vid: int) -> Shape:
        return self.program.values[vid].shape

    def mark(self, vid: int, axis: int, growth: Order) -> None:
        if growth > 0:
            marks = self.marks.setdefault(vid, {})
            marks[axis] = max(growth, marks.get(axis, ZERO))

    @cached_property
    def readers(self) -> dict[int, list[Node]]:
        """Value -> the nodes that read it."""
        found: dict[int, list[Node]] = {}
        for node in self.forward:
            for ref in set(node.refs):
                found.setdefault(ref, []).append(node)
        return found

    @cached_property
    def staying(self) -> set[int]:
        """Values that do not only leave: on some way from them something is contracted, or a norm is taken.

        A norm has no size of its own to keep small: beside its init an update counts by its share.  What exponentials
        are divided by is the total of a softmax, no norm.
        """
        found: set[int] = set()
        dividing: set[int] = set()
        for node in reversed(self.forward):
            structures = self.wiring.structures(node)
            parts = [part for s in structures for part in _parts(s)]
            divides = not dividing.isdisjoint(node.outputs)
            totals = divides and any(isinstance(part, Reduce) and part.K > 0 for part in parts)
            norms = any(isinstance(part, Normalise) for part in parts)
            if norms or any(map(_contractions, structures)) or not found.isdisjoint(node.outputs):
                found.update(node.refs)
            elif totals:
                found.update(ref for ref in node.refs if not self.exponential(ref))
            dividing.update(ref for ref in node.refs if divides or any(_divided_by(p, ref) for p in parts))
        return found

    def exponential(self, vid: int) -> bool:
        maker = self.program.producers.get(vid)
        return maker is not None and any(isinstance(s, Exp) for s in self.wiring.structures(maker))

    def walk(self, ends: bool) -> None:
        """From what is picked back to contractions; ``ends``: from what leaves, through values that only leave."""
        for node in reversed(self.forward):
            refs = node.refs
            for axis in () if ends else self.picked(node, refs):
                self.mark(refs[0], axis, self.shape(refs[0])[-axis].growth)
            outputs: tuple[Any, ...] = node.outputs
            for index, out in enumerate(outputs):
                marks, structure = self.marks.get(out, {}), None
                if marks or not self.gates.of.keys().isdisjoint(refs):
                    structure = self.wiring.structures(node)[index]
                if structure is not None:
                    self.step(node, refs, structure, index, marks, ends)
                    if out in self.gated and (
                        _passes(structure) or isinstance(structure, Softmax) or any(pairs(structure))
                    ):
                        for slot, ref in enumerate(refs):
                            self.gate(ref, self.through(node, structure, index, slot, self.gated[out]))

    def picked(self, node: Node, refs: tuple[int, ...]) -> Collection[int]:
        """The axes of its first operand along which a node takes few entries, or weighs them.

        A share of all entries is like all; rows that a constant names have their own blocks or are held as few
        (:mod:`tpcalc.lower.cuts`); what others are divided by or compared with only measures them.
        """
        axes = self.wiring.picked(node)
        if not axes or self.wiring.layout(node).shared:
            return axes
        outs = [out for out in node.outputs if out is not None]
        few = self.program.values[outs[0]].growth < self.program.values[refs[0]].growth
        named = len(refs) == 1 or not self.program.from_inputs.isdisjoint(refs[1:])
        return axes if few and named and not all(map(self.measures, outs)) else ()

    def measures(self, vid: int) -> bool:
        """Whether others are only divided by a value or compared with it."""
        if vid in self.program.results:
            return False
        for node in self.readers.get(vid, ()):
            s, *more = self.wiring.structures(node)
            out: Any = node.outputs[0]
            through = isinstance(s, (View, Guard)) and self.measures(out)
            divided = any(_divided_by(part, vid) for part in _parts(s))
            if more or not (through or divided or isinstance(s, Discrete)):
                return False
        return True

    def step(self, node: Node, refs: tuple[int, ...], s: Structure, result: int, marks: Marks, ends: bool) -> None:
        layout, sums = self.wiring.layout(node), _contractions(s)
        if _passes(s):
            for slot, ref in enumerate(refs):
                if ref in leaves(s) and not (ends and ref in self.staying):
                    for axis, growth in self.back(layout, result, slot, marks).items():
                        self.mark(ref, axis, growth)
        elif len(sums) == 1:
            x, y = (tuple(refs.index(vid) for vid in leaves(operand)) for operand in (sums[0].x, sums[0].y))
            by = self.own(layout, result, x, y, refs, marks), self.own(layout, result, y, x, refs, marks)
            if any(by):
                self.found[node.index] = by

    def own(
        self,
        layout: Layout,
        result: int,
        slots: tuple[int, ...],
        others: tuple[int, ...],
        refs: tuple[int, ...],
        marks: Marks,
    ) -> Order:
        """Growth of the marked axes that only one operand of a contraction has, where it is made of no inputs."""
        if len(slots) > 1:
            return ZERO
        (slot,), shared = slots, {label for other in others for label in layout.operands[other]}
        picked = self.gates.own(refs[slot], layout, slot, shared)
        if picked > 0 or refs[slot] in self.program.from_inputs:
            return picked
        found = self.back(layout, result, slot, marks).items()
        return sum((growth for axis, growth in found if layout.label(slot, axis) not in shared), ZERO)

    def through(self, node: Node, s: Structure, result: int, slot: int, marks: Marks) -> Marks:
        """The gates of an operand: each counts by itself, though they be a share of what they were picked from; those
        written among zeros come from what is written."""
        layout, ref = self.wiring.layout(node), node.refs[slot]
        found = self.back(layout, result, slot, marks)
        names, labels = layout.results[result], layout.operands[slot]
        if isinstance(s, Sum) and s.how == "put" and slot and len(names) == len(labels):
            mixed = (axis for axis in marks if names[-axis] is None and labels[-axis] is None)
            found |= {axis: self.shape(ref)[-axis].growth for axis in mixed}
        elif not slot and (isinstance(s, Gather) or (isinstance(s, Power) and s.largest)) and len(names) == len(labels):
            found |= {axis: self.shape(ref)[-axis].growth for axis in self.wiring.picked(node) if axis in marks}
        return found

    def back(self, layout: Layout, result: int, slot: int, marks: Marks) -> Marks:
        """The marks of an operand, from those of a result."""
        labels, names, found = layout.operands[slot], layout.results[result], Marks()
        pieces = layout.takes or layout.puts
        for axis, growth in marks.items():
            if names[-axis] is not None and names[-axis] in labels:
                found[len(labels) - labels.index(names[-axis])] = growth
            elif pieces is not None and pieces.axis == axis and len(labels) == len(names):
                found[axis] = growth
        if layout.regrouped is not None and slot == 0:
            before, after = (_regrouped(shape, side) for shape, side in zip(layout.regrouped, (labels, names)))
            lost = sum((marks.get(axis, ZERO) for axis in after), ZERO)
            if lost > 0 and (len(before) == 1 or lost == sum(after.values(), ZERO)):
                found |= before if lost == sum(after.values(), ZERO) else dict.fromkeys(before, lost)
        return found


def _live(program: Program) -> list[Node]:
    """The forward nodes that something in the forward pass comes of (not what is kept for the backward pass)."""
    live, found = {*program.results, *program.ends}, []
    for node in reversed(program.nodes):
        if node.phase == "forward" and not live.isdisjoint(node.outputs):
            live.update(node.refs)
            found.append(node)
    return found[::-1]


def _regrouped(shape: Shape, labels: Labels) -> Marks:
    """The growing axes that a reshape merges or splits."""
    axes = range(1, len(shape) + 1)
    return {axis: shape[-axis].growth for axis in axes if labels[-axis] is None and shape[-axis].growth > 0}


def _parts(x: Optional[Operand]) -> Iterator[Structure]:
    """A structure and those nested in it."""
    if isinstance(x, Structure):
        yield x
        for y in operands(x):
            yield from _parts(y)


def _contractions(s: Optional[Structure]) -> list[Contract]:
    return [part for part in _parts(s) if isinstance(part, Contract) and part.K > 0]


def _divided_by(x: Structure, vid: int) -> bool:
    return isinstance(x, Power) and x.k < 0 and vid in leaves(x)


def _passes(x: Operand) -> bool:
    """Whether a structure keeps entries apart along the axes that it keeps; a norm and a softmax do not."""
    return isinstance(x, int) or (isinstance(x, (*ENTRYWISE, Gather, Reduce)) and all(map(_passes, operands(x))))


__all__ = ["Picks"]
