"""A lowered program as the search for its stacks sees it: which atom is which one a period earlier."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Optional

from tpcalc.algebra.order import ONE
from tpcalc.lower.depth.numbers import factor
from tpcalc.lower.lowered import Lowered
from tpcalc.program.repeat import Loop
from tpcalc.rules.registry import Registry
from tpcalc.rules.structures import (
    Atom,
    Centre,
    Guard,
    Known,
    Normalise,
    Power,
    Product,
    Scale,
    Structure,
    Sum,
    View,
    operands,
)


class Graph:
    """Atoms of ``lowered`` by the nodes that made them, and what a walk back from a value passes."""

    def __init__(self, lowered: Lowered, registry: Optional[Registry]) -> None:
        self.lowered, self.registry = lowered, registry
        self.maker = lowered.maker
        self.data = lowered.from_inputs

    @cached_property
    def of_node(self) -> dict[int, list[Atom]]:
        table: dict[int, list[Atom]] = {}
        for atom in self.lowered.atoms[: self.lowered.forward]:
            table.setdefault(atom.node, []).append(atom)
        return table

    @cached_property
    def rank(self) -> dict[int, int]:
        """Value id -> which of the atoms of its node makes it."""
        return {atom.out: place for atoms in self.of_node.values() for place, atom in enumerate(atoms)}

    def forward(self, vid: int) -> Optional[Atom]:
        atom = self.maker.get(vid)
        return atom if atom is not None and vid in self.rank else None

    def moved(self, atom: Atom, by: int) -> Optional[Atom]:
        """The atom at the same place of the node ``by`` nodes on; None where that makes something else."""
        atoms = self.of_node.get(atom.node + by, ())
        place = self.rank[atom.out]
        found = atoms[place] if place < len(atoms) else None
        return found if found is not None and type(found.structure) is type(atom.structure) else None

    def is_known(self, vid: int) -> bool:
        """Whether it is made of numbers alone: a constant, a mask, though it may be drawn in the shape of a value."""
        atom = self.maker.get(vid)
        if atom is None:
            return vid not in self.weights and vid not in self.data
        s = atom.structure
        return not s.data if isinstance(s, Known) else all(self.is_known(x) for x in operands(s))

    @cached_property
    def weights(self) -> frozenset[int]:
        return frozenset(leaf.value for leaf in self.lowered.leaves)

    def carried(self, s: Structure, through: int) -> tuple[int, ...]:
        """The operands of which a structure passes the value on.

        ``through`` 0: views, sums and masks do; 1: norms, their gains and biases as well; 2: relu too, which leaves
        alone what it has made.
        """
        norms = through > 0
        kinds: tuple[type[Structure], ...] = (View, Scale, Sum, *((Normalise, Centre, Guard) if norms else ()))
        if isinstance(s, kinds) or (through > 1 and isinstance(s, Power) and s.k == ONE):
            return tuple(x for x in operands(s) if x in self.data)
        if isinstance(s, Product):
            x, y = operands(s)
            for value, other in ((x, y), (y, x)):
                if value in self.data and (self.is_known(other) or (norms and other not in self.data)):
                    return (value,)
        return ()

    def signature(self, vid: int, depth: int) -> Any:
        """The expression that makes a value, ``depth`` levels deep."""
        atom = self.maker.get(vid)
        if atom is None:
            return "weight" if vid in self.weights else "leaf"
        if depth == 0:
            return type(atom.structure)
        op = self.lowered.node(atom).op
        return type(atom.structure), op, *(self.signature(x, depth - 1) for x in operands(atom.structure))

    def factor(self, vid: int, carried: int) -> Optional[str]:
        """The number other than 1 by which the op that makes a value multiplies the operand ``carried``."""
        node = self.lowered.node(self.maker[vid])
        if self.registry is None or vid not in node.outputs or carried not in node.refs:
            return None
        return factor(node, vid, carried, self.lowered.program, self.registry)

    def sums(self, loop: Loop) -> Iterator[Atom]:
        """The sums of a loop that add what depends on the inputs, in order."""
        for atom in self.lowered.atoms[: self.lowered.forward]:
            if loop.covers(atom.node) and isinstance(atom.structure, Sum) and atom.out in self.data:
                yield atom


__all__ = ["Graph"]
