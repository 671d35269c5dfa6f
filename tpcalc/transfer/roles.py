"""The role of a weight: read off the structures that it meets, not off its name.

Each is decided on values: what is the weight still (views, constants, a gain on it), what it meets first, and what
becomes of the result.  :mod:`tpcalc.transfer.modules` says in words what the roles are.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Optional

import networkx as nx

from tpcalc.algebra.order import MINUS_INFINITY
from tpcalc.algebra.size import UNIT, Size
from tpcalc.lower.flatten import lower
from tpcalc.lower.lowered import Leaf
from tpcalc.lower.wiring import Wiring
from tpcalc.program.ir import Program, Weight
from tpcalc.program.queries import first_met, trail, upstream
from tpcalc.rules import REGISTRY
from tpcalc.rules.structures import (
    Atom,
    Bounded,
    Centre,
    Contract,
    Gather,
    Known,
    Normalise,
    Power,
    Product,
    Reduce,
    Scale,
    Softmax,
    Structure,
    Sum,
    View,
    operands,
)

#: They keep a sum of branches one.
_LINEAR = (View, Gather, Sum, Product, Contract, Reduce, Scale, Normalise, Centre)


class Roles:
    """The roles of a program's weights.  Discarded afterwards.

    ``live``: the forward atoms that something comes of.  ``of_weights``, ``of_matrices``: values made of them.
    """

    def __init__(self, program: Program) -> None:
        self.program, self.lowered, self.wiring = program, lower(program), Wiring(program, REGISTRY)
        self.flow, self.maker, self.inputs = self.lowered.flow, self.lowered.maker, self.lowered.from_inputs
        used = set(upstream(self.flow, (*program.results, *program.ends), lambda _: True))
        self.live = [atom for atom in self.lowered.atoms[: self.lowered.forward] if atom.out in used]
        self.place = {atom.out: index for index, atom in enumerate(self.live)}
        self.leaves = {leaf.value: leaf for leaf in self.lowered.leaves}
        self.experts = {expert.weight for expert in self.lowered.experts}
        self.of_weights = self.behind(self.leaves)
        self.of_matrices = self.behind(vid for vid, leaf in self.leaves.items() if len(leaf.shape) > 1)
        self.streams = self.inputs | self.of_matrices
        self.known: dict[int, set[int]] = {}

    def behind(self, values: Iterable[int]) -> set[int]:
        """``values`` and all that is made of them, also by an index."""
        found = set(values)
        for atom in self.lowered.atoms[: self.lowered.forward]:
            refs = () if isinstance(atom.structure, Known) else (*operands(atom.structure), *self.picking(atom))
            if not found.isdisjoint(refs):
                found.add(atom.out)
        return found

    def picking(self, atom: Atom) -> tuple[int, ...]:
        """What else an op of one operand reads: the index of a look-up."""
        xs, refs = operands(atom.structure), self.lowered.node(atom).refs
        picks = isinstance(atom.structure, (View, Gather)) and xs[0] in refs
        return tuple(ref for ref in refs if ref not in xs) if picks else ()

    def of(self, weight: Weight) -> frozenset[str]:
        """The roles of a weight; none of a frozen or unused one."""
        if not weight.trainable or weight.grad is None:
            return frozenset()
        uses = [(leaf, x, out) for leaf in self.lowered.leaves_of[weight.name] for x, out in self.met(leaf)]
        # a state that starts at zero, a table that a matrix of its own maps: they say what else is unsaid
        strong = [(leaf, x, out) for leaf, x, out in uses if not self.is_weak(x, out)]
        outs = {out for _, _, out in uses}
        return frozenset().union(*(self.roles(leaf, x, out, outs) for leaf, x, out in strong or uses))

    def met(self, leaf: Leaf) -> Iterator[tuple[int, int]]:
        """What a weight is by then and the result, for each op that it meets first."""
        for x, out in first_met(self.flow, leaf.value, lambda vid: self.carries(leaf, vid)):
            if out in self.place:
                yield x, out

    def is_weak(self, x: int, out: int) -> bool:
        """Whether it is a contraction with what is known from the start, or with other weights alone."""
        others = [y for y in operands(self.maker[out].structure) if y != x]
        if not isinstance(self.maker[out].structure, Contract) or not others:
            return False
        s = self.structure(self.seen(others[0]))
        return others[0] not in self.inputs or (isinstance(s, Known) and not (s.data and s.order > MINUS_INFINITY))

    def carries(self, leaf: Leaf, vid: int) -> bool:
        """Whether a value is the weight still: a function of it, itself with gains, experts that a router picked."""
        atom = self.maker[vid]
        xs, index = operands(atom.structure), [x for x in self.picking(atom) if x in self.inputs]
        if len(xs) == 1:
            return not index or any(x in self.of_weights for x in index)
        if isinstance(atom.structure, Contract) or vid in self.inputs:
            return False
        others = (self.leaves[x] for x in upstream(self.flow, xs, lambda _: True) if x in self.leaves)
        return all(_rank(other) <= _rank(leaf) for other in others)

    def roles(self, leaf: Leaf, x: int, out: int, uses: Collection[int]) -> set[str]:
        s, constant = self.maker[out].structure, any(law.kind == "constant" for _, law in leaf.weight.init)
        others = [y for y in operands(s) if y != x]
        if isinstance(s, Contract):
            return self.matrix(leaf, x, out, uses)
        if isinstance(s, Sum):
            if s.how in ("choice", "put") or (_rank(leaf) > 1 and not self.beside(leaf, others)):
                return {"positions"}
            return {"norm" if any(self.is_norm(y) for y in others) else "bias"}
        if isinstance(s, Product):
            return {"norm" if constant or any(self.normalised(y) for y in others) else "bias"}
        return {"embedding" if len(leaf.weight.shape) > 1 else "bias"}

    def matrix(self, leaf: Leaf, x: int, out: int, uses: Collection[int]) -> set[str]:
        s: Any = self.maker[out].structure
        other = s.y if s.x == x else s.x
        repeated = x in self.program.values and len(_axes(self.program.values[x].shape)) > _rank(leaf)
        if other not in self.inputs and (other not in self.of_weights or repeated):
            return {"positions"}
        found, stream = set(), self.stream(out, leaf.weight.name in self.experts, uses)
        if other in self.inputs and other not in self.of_matrices:
            found.add("embedding")
        if self.reads_out(out) and (stream is None or stream not in self.of_weights):
            found.add("readout")
        if not found and self.few(s, other, out) and self.routes(leaf, out):
            found.add("router")
        return found or ({"hidden"} if stream is None else {"hidden", "projection"})

    def normalised(self, vid: int) -> bool:
        return isinstance(self.structure(self.seen(vid)), Normalise)

    def is_norm(self, vid: int) -> bool:
        """Whether it is what a norm gives: normalised, or times a gain."""
        s = self.structure(self.seen(vid))
        return isinstance(s, Normalise) or (isinstance(s, Product) and self.has_own(s))

    def has_own(self, s: Structure) -> bool:
        """Whether it has a weight among its operands, or a function of weights alone."""
        return any(x in self.of_weights and x not in self.inputs for x in operands(s))

    def structure(self, vid: int) -> Optional[Structure]:
        return self.maker[vid].structure if vid in self.maker else None

    def seen(self, vid: int) -> int:
        """What a value is a view or a part of."""
        *_, last = trail(self.flow, vid, lambda v: isinstance(self.structure(v), (View, Gather, Scale)))
        return last

    def beside(self, leaf: Leaf, others: list[int]) -> bool:
        """Whether a weight is added right behind a matrix that has all its axes: biases of experts, of heads."""
        for s in (self.structure(self.seen(y)) for y in others):
            for x in operands(s) if isinstance(s, Contract) else ():
                matrix = self.leaves.get(self.seen(x))
                if matrix is not None and not Counter(_axes(leaf.shape)) - Counter(matrix.shape):
                    return True
        return False

    def foreign(self, atom: Atom, reached: Collection[int]) -> list[int]:
        """What other weights made of the inputs, among its operands."""
        return [x for x in operands(atom.structure) if x not in reached and x in self.inputs and x in self.of_weights]

    def onward(self, start: int, reached: Collection[int]) -> Iterator[tuple[Atom, list[int]]]:
        """The atoms behind ``start`` that read what was ``reached`` by then, in order, with what they read of it."""
        heap, seen = list[int](), set[int]()
        frontier = [start]
        while frontier or heap:
            for vid in frontier:
                for at in {self.place[out] for out in self.flow.successors(vid) if out in self.place} - seen:
                    seen.add(at)
                    heapq.heappush(heap, at)
            if not heap:
                return
            atom = self.live[heapq.heappop(heap)]
            yield atom, [x for x in operands(atom.structure) if x in reached]
            frontier = [atom.out] if atom.out in reached else []

    def meets(self, s: Optional[Structure]) -> bool:
        """Whether it is a contraction with a matrix."""
        return isinstance(s, Contract) and self.has_own(s)

    def reads_out(self, start: int) -> bool:
        reached = {start}
        for atom, _ in self.onward(start, reached):
            met = isinstance(atom.structure, (Product, Contract)) and self.foreign(atom, reached)
            if met or self.meets(atom.structure):
                return False
            reached.add(atom.out)
        return not reached.isdisjoint(self.program.results)

    def few(self, s: Contract, other: int, out: int) -> bool:
        """Whether a matrix has few outputs: of another growth than what it reads, where that grows; else fewer along
        the last axis, at the base."""
        if s.K > 0:
            return (s.rest_y if s.x == other else s.rest_x) != s.K
        outs = (out, *self.lowered.node(self.maker[out]).outputs)  # part of an op has the shape of its result
        read, made = (
            next((self.program.values[x].shape[-1:] for x in xs if x in self.program.values), ())
            for xs in ((other,), outs)
        )
        base = self.program.widths[0]
        return any(a.at(base) > b.at(base) for a, b in zip(read, made))

    def routes(self, leaf: Leaf, start: int) -> bool:
        """Whether it weighs what other weights made: behind a sigmoid, or a softmax or top-k along an axis of the
        weight (along others, it says where to look and not which expert)."""
        reached = {start: False}
        for atom, read in self.onward(start, reached):
            s, gate, foreign = atom.structure, any(reached[x] for x in read), self.foreign(atom, reached)
            if gate and foreign and isinstance(s, (Product, Contract)):
                return True
            if not foreign and not self.meets(s):
                picks = (isinstance(s, Softmax) and not s.log) or (isinstance(s, Power) and s.largest)
                along = picks and not self.picked(atom).isdisjoint(_axes(leaf.shape))
                reached[atom.out] = gate or along or (isinstance(s, Bounded) and not s.zero)
        return False

    def picked(self, atom: Atom) -> set[Size]:
        """The lengths of the axes along which a softmax or a top-k goes."""
        node = self.lowered.node(atom)
        shape = self.program.values[node.refs[0]].shape
        return {shape[-axis] for axis in self.wiring.picked(node)}

    def stream(self, start: int, expert: bool, uses: Collection[int]) -> Optional[int]:
        """The value that a residual branch starts from, where ``start`` is what its last matrix gives.

        What the branch is multiplied by may be of other weights while it is linear in ``start`` (a sigmoid of it is a
        gate and no branch), for experts all the way.
        """
        reached = {start: True}
        for atom, read in self.onward(start, reached):
            s, linear = atom.structure, all(reached[x] for x in read)
            if isinstance(s, Sum):
                for x in operands(s) if s.how == "sum" else ():
                    if x not in reached and x in self.streams:
                        found = self.shared(x, start, uses)
                        if found is not None:
                            return found
            elif self.meets(s):
                continue
            elif self.foreign(atom, reached) and not expert and not (linear and isinstance(s, Product)):
                continue
            reached[atom.out] = linear and isinstance(s, _LINEAR)
        return None

    def before(self, start: int) -> set[int]:
        """What ``start`` is made of."""
        if start not in self.known:
            self.known[start] = nx.ancestors(self.flow, start)
        return self.known[start]

    def shared(self, vid: int, start: int, uses: Collection[int]) -> Optional[int]:
        """What of a term of a sum ``start`` is made of, too: the term or a part of it, or what a matrix in a shortcut
        reads, past which the branch has a matrix and a nonlinearity of its own.

        A matrix that recurs is asked for the term itself: its step adds what the same step is made of.
        """
        before = self.before(start)
        recurs, stack = not before.isdisjoint(uses), [(vid, False, False)]
        while stack:
            x, gain, projected = stack.pop()
            s = self.structure(x)
            if x in before and (projected or not gain):
                if not projected or (x in self.of_matrices and self.is_deep(nx.descendants(self.flow, x) & before)):
                    return x
            elif isinstance(s, Sum) and s.how in ("sum", "difference"):
                stack += [(y, gain, projected) for y in operands(s) if y in self.streams]
            elif isinstance(s, _LINEAR) and not recurs and not (projected and self.meets(s)):
                fed = [y for y in operands(s) if y in self.inputs]
                multiplied, matrix = isinstance(s, (Product, Contract)), self.meets(s)
                stack += [(y, gain or multiplied, projected or matrix) for y in fed if len(fed) == 1]
        return None

    def is_deep(self, values: Collection[int]) -> bool:
        found = [self.structure(x) for x in values]
        return any(map(self.meets, found)) and not all(isinstance(s, _LINEAR) for s in found)


def _axes(shape: Iterable[Size]) -> list[Size]:
    """The axes of more than one entry."""
    return [size for size in shape if size != UNIT]


def _rank(leaf: Leaf) -> int:
    return len(_axes(leaf.shape))


__all__ = ["Roles"]
