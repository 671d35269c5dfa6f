"""From ATen calls to atoms: each op's structure, flattened, with hand-written normalisers recognised.

A normaliser written as ``x * rsqrt(mean(x^2) + eps)`` is seen by homogeneity: every value remembers the last value
it is homogeneous in, and to which degree.  A product of degree zero no longer depends on the scale of that base:
it becomes :class:`~tpcalc.rules.structures.Normalise`, whatever ops wrote it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

from tpcalc.order import MINUS_INFINITY, ONE, ZERO, Order
from tpcalc.program import Node, Program
from tpcalc.rules import REGISTRY, Registry
from tpcalc.rules.structures import (
    Atom, Guard, Known, Normalise, Power, Product, Reduce, Scale, Structure, Sum, View, operands,
)


@dataclass(frozen=True, slots=True)
class Homogeneity:
    """``value = n^shift * base^degree`` in order, exactly homogeneous in ``base``."""

    base: int
    degree: Fraction
    shift: Order


@dataclass(frozen=True)
class Lowered:
    """A program as atoms in execution order; ``forward`` of them belong to the forward pass.

    ``leaves`` maps weights, inputs, buffers, constants and seeds to their value ids' kinds.
    """

    program: Program
    atoms: tuple[Atom, ...]
    forward: int

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

    def node(self, atom: Atom) -> Node:
        return self.program.nodes[atom.node]

    def where(self, atom: Atom) -> str:
        return self.node(atom).where

    def name(self, vid: int) -> str:
        """Name of a value; an intermediate of one op is named after the op's own result."""
        if vid in self.program.values:
            return self.program.value_name(vid)
        node = self.node(self.maker[vid])
        first = next((out for out in node.outputs if out is not None), None)
        inner = f" inside {self.program.value_name(first)}" if first is not None else ""
        return f"a part of {node.op.removeprefix('aten.').rsplit('.', 1)[0]}{inner}"


class _Lowerer:
    """One pass over the nodes.  Mutable while it runs, discarded afterwards."""

    def __init__(self, program: Program, registry: Registry) -> None:
        self.program = program
        self.registry = registry
        self.atoms: list[Atom] = []
        self.fresh = max(program.values, default=0) + 1
        self.homogeneity: dict[int, Homogeneity] = {}

    def run(self) -> Lowered:
        forward = None
        for node in self.program.nodes:
            if node.phase == "backward" and forward is None:
                forward = len(self.atoms)
            structures = self.registry.structure(node, self.program.values)
            for out, structure in zip(node.outputs, structures):
                if out is not None and structure is not None:
                    self.emit(structure, node.index, out)
                elif out is not None:
                    self.emit(Known(ZERO), node.index, out)
        return Lowered(self.program, tuple(self.atoms), len(self.atoms) if forward is None else forward)

    def operand(self, x: Any, node: int) -> int:
        return x if isinstance(x, int) else self.emit(x, node, None)

    def emit(self, structure: Structure, node: int, out: "int | None") -> int:
        flat = self.flatten(structure, node)
        flat, homogeneity = self.recognise(flat)
        if out is None:
            out = self.fresh
            self.fresh += 1
        if homogeneity is not None:
            self.homogeneity[out] = homogeneity
        self.atoms.append(Atom(out, flat, node))
        return out

    def flatten(self, structure: Structure, node: int) -> Structure:
        xs = operands(structure)
        if all(type(x) is int for x in xs):
            return structure
        flat = tuple(self.operand(x, node) for x in xs)
        if hasattr(structure, "xs"):
            return replace(structure, xs=flat)
        if len(flat) == 2:
            return replace(structure, x=flat[0], y=flat[1])
        return replace(structure, x=flat[0])

    def of(self, vid: int) -> Homogeneity:
        return self.homogeneity.get(vid) or Homogeneity(vid, ONE, ZERO)

    def recognise(self, s: Structure) -> tuple[Structure, "Homogeneity | None"]:
        """The structure (a normaliser where a product has degree zero) and its homogeneity."""
        if isinstance(s, (View, Guard)):
            return s, self.of(s.x)
        if isinstance(s, Scale):
            h = self.of(s.x)
            return (s, None) if s.order is MINUS_INFINITY else (s, replace(h, shift=h.shift + s.order))
        if isinstance(s, Power):
            h = self.of(s.x)
            return s, Homogeneity(h.base, h.degree * s.k, h.shift * s.k)
        if isinstance(s, Reduce):
            h = self.of(s.x)
            return s, replace(h, shift=h.shift + s.K)
        if isinstance(s, Sum) and len(s.xs) > 1:
            hs = [self.of(x) for x in s.xs]
            if all(h.base == hs[0].base and h.degree == hs[0].degree for h in hs[1:]):
                return s, replace(hs[0], shift=max(h.shift for h in hs))
        if isinstance(s, Sum) and len(s.xs) == 2:
            # sqrt(mean(x^2)) + eps with eps as a tensor of known order is a guard only when eps is small: left as a sum
            return s, None
        if isinstance(s, Product):
            x, y = self.of(s.x), self.of(s.y)
            if x.base == y.base:
                degree, shift = x.degree + y.degree, x.shift + y.shift
                if degree == 0:
                    return Normalise(s.x if x.degree > 0 else s.y, shift), None
                return s, Homogeneity(x.base, degree, shift)
        return s, None


def lower(program: Program, registry: Registry = REGISTRY) -> Lowered:
    """Flatten every op of ``program`` into atoms.

    Raises UnsupportedOpError for an op without a rule.
    """
    return _Lowerer(program, registry).run()



