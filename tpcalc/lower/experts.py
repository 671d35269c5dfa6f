"""The weights by which experts give what a gate weighs: found by what is done with it, whatever they are called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

from tpcalc.algebra.order import ZERO, Order
from tpcalc.lower.gates import Gates, pairs
from tpcalc.program.ir import Node
from tpcalc.rules.structures import (
    Contract,
    Gather,
    Operand,
    Product,
    Scale,
    Structure,
    Sum,
    View,
    leaves,
    operands,
)


@dataclass(frozen=True, slots=True)
class Expert:
    """A weight of one expert or of several stacked ones, the last before the gate.

    ``K``: growth of an expert's neurons, over which it sums; ``R``: of what it gives; ``count``: of the experts that
    are added up for a token.
    """

    weight: str
    K: Order
    R: Order
    count: Order


class _Search:
    """Gate values (softmax, top-k, and what is made of these alone) and what they weigh.  Discarded afterwards.

    ``counts``: gate value -> growth of the experts that it weighs.  ``chosen``: those of one expert alone.
    """

    def __init__(self, gates: Gates) -> None:
        self.gates, self.wiring, self.program = gates, gates.wiring, gates.program
        self.counts: dict[int, Order] = {}
        self.chosen: set[int] = set()
        self.found: dict[str, Expert] = {}
        self.names = {weight.value: weight.name for weight in self.program.weights}
        for node in self.program.nodes:
            if node.phase == "forward":
                structures = self.wiring.structures(node)
                for s, out in zip(structures, node.outputs):
                    if s is not None:
                        self.weighed(node, s)
                        if out is not None:
                            self.see(node, out, s, structures[0])

    def see(self, node: Node, out: int, s: Structure, first: Optional[Structure]) -> None:
        refs = [ref for ref in node.refs if ref in self.program.from_inputs]
        if self.gates.starts(s, first):
            axes = self.wiring.picked(node)
            self.counts[out] = sum((self.gates.growth(out, axis) for axis in axes), ZERO)
        elif refs and isinstance(s, Gather) and refs[0] not in self.counts:
            # scores looked up where a top-k says: as many as it has picked
            index = next((ref for ref in refs if ref in self.counts), None)
            if index is not None and self.program.values[index].shape == self.program.values[out].shape:
                self.counts[out] = self.counts[index]
        elif refs and isinstance(s, Gather):
            self.counts[out] = self.counts[refs[0]]
            self.chosen.add(out)
        elif (made_of := leaves(s) & {*refs}) and self.counts.keys() >= made_of:
            self.counts[out] = max(self.counts[ref] for ref in made_of)
            one = self.wiring.layout(node).takes is not None
            if one or not self.chosen.isdisjoint(refs):
                self.chosen.add(out)

    def weighed(self, node: Node, s: Structure) -> None:
        """Products of gates and values, and contractions with experts that run over gates."""
        for pair in pairs(s):
            x: Any = pair.x
            y: Any = pair.y
            if isinstance(pair, Contract) and node.index in self.gates.means:
                mean = self.gates.means[node.index]
                vid, rest = (x, pair.rest_x) if x in self.gates.weights else (y, pair.rest_y)
                self.add(vid, pair.K - mean.gates, rest, mean.gates)
                continue
            for gate, value in ((x, y), (y, x)):
                if gate in self.counts and value not in self.counts and value in self.program.from_inputs:
                    parts = self.joined(value)
                    alone = (isinstance(pair, Product) and gate in self.chosen) or bool(parts)
                    for maker, contract, weight in (made for part in parts or (value,) for made in self.makers(part)):
                        if alone or self.stacked(maker, contract, weight):
                            rest = contract.rest_x if weight == contract.x else contract.rest_y
                            layout, (slot, other) = self.wiring.layout(maker), self.slots(maker, contract, weight)
                            own = self.gates.own(weight, layout, slot, layout.operands[other])
                            # of all experts side by side, which none of its other axes counts, each has its rows
                            many = ZERO if parts else sum(self.gates.met.get(value, {}).values(), ZERO)
                            beside = self.program.values[weight].growth - contract.K - rest
                            self.add(weight, contract.K, rest - max(own, many - beside), self.counts[gate])

    def makers(self, vid: int) -> Iterator[tuple[Node, Contract, int]]:
        """The contraction with a weight that makes a value, through views, places and biases."""
        node = self.program.producers.get(vid)
        while node is not None:
            s = self.wiring.structures(node)[node.outputs.index(vid)]
            for pair in pairs(s) if s is not None else ():
                weight = next((x for x in (pair.x, pair.y) if x in self.gates.weights), None)
                if isinstance(pair, Contract) and isinstance(weight, int):
                    yield node, pair, weight
                return
            if not isinstance(s, (View, Gather, Scale, Sum)):
                return
            ref: Any = next((x for x in _sources(s) if x in self.program.from_inputs), None)
            vid, node = ref, self.program.producers.get(ref)

    def joined(self, vid: int) -> tuple[int, ...]:
        """What each expert gives, where it was put side by side along the axis that gates weigh."""
        node = self.program.producers.get(vid)
        if node is None:
            return ()
        puts = self.wiring.layout(node).puts
        return node.refs if puts is not None and puts.axis in self.gates.met.get(vid, {}) else ()

    def slots(self, node: Node, contract: Contract, weight: int) -> tuple[int, int]:
        refs = node.refs
        other: Any = contract.y if weight == contract.x else contract.x
        return refs.index(weight), refs.index(other)

    def stacked(self, node: Node, contract: Contract, weight: int) -> bool:
        """Whether a weight holds many matrices: an index has picked it, or it has an axis that all of it shares."""
        if weight in self.gates.of:
            return True
        layout = self.wiring.layout(node)
        at, other = self.slots(node, contract, weight)
        own, shared, result = layout.operands[at], layout.operands[other], layout.results[0]
        return any(
            label not in layout.summed and (label not in result or label in shared)
            for label, size in zip(own, self.program.values[weight].shape)
        )

    def add(self, vid: int, K: Order, R: Order, count: Order) -> None:
        while vid not in self.names:
            node = self.program.producers[vid]
            vid = node.refs[0]
        name = self.names[vid]
        known = self.found.get(name)
        self.found[name] = Expert(name, K, R, count if known is None else max(count, known.count))


def _sources(x: Operand) -> Iterator[int]:
    """The value ids in a nested structure, that of what is written before that of what it is written into."""
    if isinstance(x, int):
        yield x
        return
    xs = operands(x)
    for y in xs[::-1] if isinstance(x, Sum) and x.how in ("put", "choice") else xs:
        yield from _sources(y)


def experts(gates: Gates) -> tuple[Expert, ...]:
    """The last weights of all experts of a program."""
    return tuple(_Search(gates).found.values())


__all__ = ["Expert", "experts"]
