"""A program as atoms: one structure each, with the weights as the calculus sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Optional

import networkx as nx

from tpcalc.algebra.order import ZERO, Order
from tpcalc.algebra.size import Size, size_product
from tpcalc.lower.experts import Expert
from tpcalc.program.ir import Node, Program, Weight
from tpcalc.program.queries import first_met, reach
from tpcalc.rules.structures import Atom, Centre, Contract, Gather, Guard, Scale, Sum, View, operands


@dataclass(frozen=True, slots=True)
class Leaf:
    """A weight as the calculus sees it: whole, or one block of a packed one (``start``, ``length`` along axis ``dim``).

    ``value`` is its value id, ``grad`` that of its gradient (None without one), ``bulk`` that of the gradient of most
    entries, where a few, nobody knows which, have larger ones.  ``copies``: growth of the number of weights that it
    stands for, one in each period of a stack.  ``few``: of how much less growth the number of those entries is whose
    gradient is not zero; ``thin``: where these are few along each axis.
    """

    name: str
    weight: Weight
    value: int
    shape: tuple[Size, ...]
    grad: Optional[int]
    dim: Optional[int] = None
    start: Optional[Size] = None
    length: Optional[Size] = None
    bulk: Optional[int] = None
    copies: Order = ZERO
    few: Order = ZERO
    thin: bool = False


@dataclass(frozen=True)
class Lowered:
    """A program as atoms in execution order; the first ``forward`` of them belong to the forward pass.

    ``leaves`` are its weights, packed ones in blocks.  ``finite``: values without a growing axis.  ``means``: mean ->
    the value whose entries it averages.  ``given``: bits of buffers and constants that act as weights do, above those
    of the leaves; ``fixed``: all such bits.  ``stacks``: those of growing depth (:mod:`tpcalc.lower.depth`).
    ``grads``: of values that share their gradient with others, a gradient of their own.  ``summed``: what stands for a
    value of each period where all are added.  ``experts``: their last weights.  ``uneven``: nodes of the backward pass
    that add the gradient of a largest entry to those of all, where it is larger.
    """

    program: Program
    atoms: tuple[Atom, ...]
    forward: int
    leaves: tuple[Leaf, ...]
    finite: frozenset[int] = frozenset()
    means: Mapping[int, int] = field(default_factory=dict)
    given: Mapping[int, int] = field(default_factory=dict)
    fixed: int = 0
    stacks: tuple[Any, ...] = ()
    grads: Mapping[int, int] = field(default_factory=dict)
    summed: frozenset[int] = frozenset()
    experts: tuple[Expert, ...] = ()
    uneven: frozenset[int] = frozenset()

    def is_given(self, weight: int) -> bool:
        """Whether this bit set of weights is one of fixed numbers alone, which nothing can scale."""
        return weight != 0 and not weight & ~self.fixed

    @cached_property
    def leaves_of(self) -> dict[str, tuple[Leaf, ...]]:
        """Weight name -> its leaves."""
        table: dict[str, list[Leaf]] = {}
        for leaf in self.leaves:
            table.setdefault(leaf.weight.name, []).append(leaf)
        return {name: tuple(leaves) for name, leaves in table.items()}

    @cached_property
    def maker(self) -> dict[int, Atom]:
        """Value id -> the atom that makes it."""
        return {atom.out: atom for atom in self.atoms}

    @cached_property
    def forward_uses(self) -> dict[int, tuple[Atom, ...]]:
        """Value id -> forward atoms that read it."""
        table: dict[int, list[Atom]] = {}
        for atom in self.atoms[: self.forward]:
            for x in dict.fromkeys(operands(atom.structure)):
                table.setdefault(x, []).append(atom)
        return {vid: tuple(atoms) for vid, atoms in table.items()}

    @cached_property
    def flow(self) -> "nx.DiGraph[int]":
        """Which values of the forward pass follow from which: an edge from each operand to the result."""
        graph: "nx.DiGraph[int]" = nx.DiGraph()
        atoms = self.atoms[: self.forward]
        graph.add_nodes_from(atom.out for atom in atoms)
        graph.add_edges_from((x, atom.out) for atom in atoms for x in operands(atom.structure))
        return graph

    @cached_property
    def differentiated(self) -> tuple[int, ...]:
        """What weights give in the forward pass where outputs depend on no more than its derivative.

        An energy of which only the forces are an output: no value that is used has its size.
        """
        if not any(node.derivative for node in self.program.nodes):
            return ()
        live = set(reach(self.program.ends, self.operands_of))
        found = []
        for leaf in self.leaves:
            uses = [out for _, out in first_met(self.flow, leaf.value, self._is_view)]
            own = [out for out in uses if not self.node(self.maker[out]).derivative]
            if leaf.value in live and live.isdisjoint(own):
                found += own
        return tuple(dict.fromkeys(found))

    @cached_property
    def derivatives(self) -> frozenset[int]:
        """Values of the forward pass that a gradient which it takes is made of, and nothing else.

        That gradient's own, and what only it reads: where a norm is recognised (``x * (g / size)``), the features no
        longer pass through the product ``g / size`` that autograd kept.
        """
        found: set[int] = set()
        for atom in reversed(self.atoms[: self.forward]):
            read = [use.out for use in self.forward_uses.get(atom.out, ())]
            if self.node(atom).derivative or (read and found.issuperset(read) and atom.out not in self.program.ends):
                found.add(atom.out)
        return frozenset(found)

    @cached_property
    def slopes(self) -> frozenset[int]:
        """The :attr:`derivatives`, where they leave as they are; none where the forward pass computes with them.

        An inner step makes features of them, and these ask as features do.
        """
        reached = set(self.derivatives)
        for atom in self.atoms[: self.forward]:
            if atom.out not in reached and not reached.isdisjoint(operands(atom.structure)):
                if not isinstance(atom.structure, (View, Sum, Scale, Gather)):
                    return frozenset()
                reached.add(atom.out)
        return self.derivatives

    @cached_property
    def from_inputs(self) -> frozenset[int]:
        """Values of the forward pass that depend on the inputs, also by an index."""
        found = set(self.program.from_inputs)
        for atom in self.atoms[: self.forward]:
            if atom.out not in self.program.values and not found.isdisjoint(operands(atom.structure)):
                found.add(atom.out)
        return frozenset(found)

    def operands_of(self, vid: int) -> tuple[int, ...]:
        return operands(self.maker[vid].structure) if vid in self.maker else ()

    def _is_view(self, vid: int) -> bool:
        return isinstance(self.maker[vid].structure, View)

    def meets(self, leaf: Leaf) -> tuple[Order, Optional[int]]:
        """Growth that a weight contracts, and the value that it meets there; of several uses the largest growth.

        Views, constants and functions of it are followed from the weight to its first contraction; (0, None) without
        one.
        """
        best: tuple[Order, Optional[Any]] = (ZERO, None)
        growth = sum((size.growth for size in leaf.shape), ZERO)

        def passes(vid: int) -> bool:
            """Whether it is the weight still: as many entries, and none of them from the inputs."""
            s = self.maker[vid].structure
            if isinstance(s, (View, Centre, Scale, Guard)):
                return True
            value = self.program.values.get(vid)
            made = not isinstance(s, Contract) and vid not in self.from_inputs
            return made and (value is None or value.growth == growth)

        for x, out in first_met(self.flow, leaf.value, passes):
            s = self.maker[out].structure
            if isinstance(s, Contract) and (best[1] is None or s.K > best[0]):
                best = s.K, s.y if s.x == x else s.x
        return best

    @cached_property
    def centred_inside(self) -> frozenset[int]:
        """Values that a norm of the forward pass centres inside its own op."""
        befores = {atom.out: self.before_centring(atom.out) for atom in self.atoms[: self.forward]}
        return frozenset(x for out, x in befores.items() if x != out)

    def before_centring(self, vid: int) -> int:
        """The value that a norm centres inside its own op; of any other value that value."""
        atom = self.maker.get(vid)
        if atom is None or not isinstance(atom.structure, Centre) or vid in self.program.values:
            return vid
        before: Any = atom.structure.x
        return int(before)

    def all_of(self, vid: Any) -> set[int]:
        """The values of which it has all entries, but for constants, itself among them."""
        found, shape, atom = {vid}, None, self.maker.get(vid)
        while atom is not None and isinstance(atom.structure, (View, Guard, Scale)):
            value = self.program.values.get(vid)
            shape = shape if value is None else value.shape
            vid = atom.structure.x
            value = self.program.values.get(vid)
            if value is not None and shape is not None and shape != value.shape:
                count = size_product(shape)
                if count is None or count != size_product(value.shape):
                    break
            found.add(vid)
            atom = self.maker.get(vid)
        return found

    def node(self, atom: Atom) -> Node:
        return self.program.nodes[atom.node]

    def where(self, atom: Atom) -> str:
        return self.node(atom).where

    @cached_property
    def leaf_of_value(self) -> dict[int, Leaf]:
        return {leaf.value: leaf for leaf in self.leaves}

    @cached_property
    def turn(self) -> dict[int, int]:
        """Value id -> at which place of ``atoms`` it is made."""
        return {atom.out: index for index, atom in enumerate(self.atoms)}

    def shown(self, vid: int) -> Optional[int]:
        """The value of the program that stands for one: of a block its weight, of a part of an op the op's result."""
        if vid in self.program.values:
            return vid
        if vid in self.leaf_of_value:
            return self.leaf_of_value[vid].weight.value
        return next((out for out in self.node(self.maker[vid]).outputs if out is not None), None)

    def name(self, vid: int) -> str:
        """Name of a value; an intermediate of one op is named after the op's own result."""
        if vid in self.program.values:
            return self.program.value_name(vid)
        if vid in self.leaf_of_value:
            return self.leaf_of_value[vid].name
        node, first = self.node(self.maker[vid]), self.shown(vid)
        inner = f" inside {self.program.value_name(first)}" if first is not None else ""
        return f"a part of {node.short_op}{inner}"
