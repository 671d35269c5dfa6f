"""Gates: axes along which a softmax weighs, or a top-k has picked, so that each entry belongs to an expert.

Experts that are stacked in one tensor are as many matrices, however a model applies them: all at once, gathered by an
index, one after the other.  Two things follow (measured in ``docs/theory.md``).  *An expert's rows are its own*: in law
2 the axis of the experts does not count in ``R``, for of what they make a gate decides how much counts, and it may be
one.  *A sum over gates is a mean*: where one contraction runs over experts and over their neurons,
``sum_e p_e sum_f W_ef u_ef``, the gates add up to 1 and may gather on one expert, so that laws 1 and 2 hold within each
expert, and their sum over the experts is one of values (law 4), as where it is written by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator
from functools import cached_property
from typing import NamedTuple, Optional

from tpcalc.algebra.order import ZERO, Order
from tpcalc.lower.wiring import Wiring
from tpcalc.program.ir import Node
from tpcalc.rules.layout import Layout
from tpcalc.rules.structures import Contract, Gather, Operand, Power, Product, Softmax, Structure, Sum, View, operands

#: Axis of a value, from the right -> growth of that of it which counts experts.
Marks = dict[int, Order]


class Mean(NamedTuple):
    """Of a contraction over ``whole`` that runs over gates, the growth of these."""

    whole: Order
    gates: Order


class Gates:
    """Which axes of values count experts.  Built once for a program.

    ``of``: value of the forward pass -> those axes.  ``means``: node of a contraction with a weight that runs over such
    an axis and others.  ``met``: gates and what they are multiplied by, with the axes along which they are.
    """

    def __init__(self, wiring: Wiring) -> None:
        self.wiring, self.program = wiring, wiring.program
        self.of: dict[int, Marks] = {}
        self.means: dict[int, Mean] = {}
        self.met: dict[int, Marks] = {}
        self.weights = {weight.value for weight in self.program.weights}
        self.walk("forward")

    def walk(self, phase: str) -> None:
        for node in self.program.nodes:
            if node.phase == phase:
                structures = self.wiring.structures(node)
                for index, (out, s) in enumerate(zip(node.outputs, structures)):
                    if out is not None and s is not None:
                        self.see(node, out, s, index, structures[0])

    def marks(self, vid: int) -> Marks:
        """The axes of a value of either pass."""
        made = self.program.producers.get(vid)
        return (self.of if made is None or made.phase == "forward" else self.back).get(vid, {})

    @cached_property
    def back(self) -> dict[int, Marks]:
        """``of`` with the values of the backward pass, after which few programs ask."""
        self.walk("backward")
        return self.of

    def own(self, vid: int, layout: Layout, slot: int, shared: Collection[Optional[Hashable]]) -> Order:
        """Growth of those axes of a weight's operand that it alone has, where an index picked the weight; ``shared``:
        labels of what it meets."""
        marks = self.of.get(vid, {}) if vid in self.weights else {}
        return sum((growth for axis, growth in marks.items() if layout.label(slot, axis) not in shared), ZERO)

    def summed(self, vid: int, node: int, least: Order) -> Optional[bool]:
        """Whether a node sums over the one axis of an operand that counts experts, as many as ``least``; None where
        that can't be told."""
        axes = [axis for axis, growth in self.marks(vid).items() if growth >= least]
        refs = self.program.nodes[node].refs
        if len(axes) != 1 or vid not in refs:
            return None
        layout, out = self.wiring.layout(self.program.nodes[node]), self.program.nodes[node].outputs[0]
        label = layout.label(refs.index(vid), axes[0])
        if label is None or out is None:
            return None
        names = layout.results[0]
        if label in layout.summed or label in names:
            return label not in names
        lost = any(name is None and self.growth(out, len(names) - place) > 0 for place, name in enumerate(names))
        return None if lost else True

    def see(self, node: Node, out: int, s: Structure, index: int, first: Optional[Structure]) -> None:
        refs = node.refs
        if self.starts(s, first):
            marks = {axis: self.growth(out, axis) for axis in self.wiring.picked(node)}
        elif self.of.keys().isdisjoint(refs):
            marks = {}
        else:
            layout = self.wiring.layout(node)
            marks = {
                k: v
                for slot, ref in enumerate(refs)
                if ref in self.of
                for k, v in self.forth(ref, out, s, layout, slot, index)
            }
            if node.phase == "forward":
                self.meet(node, s, layout, refs)
        if isinstance(s, (View, Gather)) and not self.weights.isdisjoint(refs[:1]):
            self.weights.add(out)
        if marks:
            self.of[out] = marks

    def forth(
        self, ref: int, out: int, s: Structure, layout: Layout, slot: int, result: int
    ) -> Iterator[tuple[int, Order]]:
        """The axes of a result that count experts as those of an operand do."""
        marks = self.of[ref]
        labels, names = layout.operands[slot], layout.results[result]
        free = [axis for axis in range(1, len(names) + 1) if names[-axis] is None]
        lost: list[Order] = []
        for axis, growth in marks.items():
            place = layout.place(result, labels[-axis])
            if place is not None:
                yield place, growth
            elif labels[-axis] is None:
                lost.append(growth)
        if slot and _picks(s):  # an index, or what stands where an index says
            sizes = self.program.values[ref].shape
            put = isinstance(s, Sum)
            for axis in free:
                size = self.program.values[out].shape[-axis]
                if (len(sizes) == len(names) and lost) if put else size in sizes:
                    yield axis, size.growth
        elif layout.regrouped is not None and lost:
            total = sum(lost, ZERO)
            free = [axis for axis in free if self.growth(out, axis) > 0]
            if len(free) > 1 or len(labels) < len(names):  # split: that of the axes which is as long
                free = [axis for axis in free if self.growth(out, axis) == total]
            if len(free) == 1:
                yield free[0], total

    def meet(self, node: Node, s: Structure, layout: Layout, refs: tuple[int, ...]) -> None:
        """What is multiplied by gates, and contractions that run over them."""
        for pair in pairs(s):
            if not isinstance(pair.x, int) or not isinstance(pair.y, int) or pair.x == pair.y:
                continue
            for vid, other in ((pair.x, pair.y), (pair.y, pair.x)):
                slot, at, summed, over = refs.index(vid), refs.index(other), ZERO, False
                for axis, growth in self.of.get(vid, {}).items():
                    label = layout.label(slot, axis)
                    if label is None or label not in layout.operands[at]:
                        continue
                    self.met.setdefault(vid, {})[axis] = growth
                    place = len(layout.operands[at]) - layout.operands[at].index(label)
                    if other not in self.weights and place not in self.of.get(other, {}):
                        self.met.setdefault(other, {})[place] = growth
                    over |= label in layout.summed
                    summed += growth if label in layout.summed else ZERO
                if isinstance(pair, Contract) and over and other in self.weights and pair.K > summed:
                    self.means[node.index] = Mean(pair.K, summed)

    def starts(self, s: Structure, first: Optional[Structure]) -> bool:
        """Whether a result weighs, or picks; ``first``: the first result of its op."""
        return (isinstance(s, Softmax) and not s.log) or (isinstance(first, Power) and first.largest)

    def growth(self, vid: int, axis: int) -> Order:
        return self.program.values[vid].shape[-axis].growth


def _picks(s: Structure) -> bool:
    return isinstance(s, Gather) or (isinstance(s, Sum) and s.how in ("put", "choice"))


def pairs(x: Operand) -> Iterator[Product | Contract]:
    """The products and contractions in what an op is."""
    if isinstance(x, int):
        return
    if isinstance(x, (Product, Contract)):
        yield x
    for y in operands(x):
        yield from pairs(y)


__all__ = ["Gates", "Marks", "Mean", "pairs"]
