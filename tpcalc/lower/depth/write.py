"""A lowered program with its stacks written into it: each branch of the traced periods stands for all."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from tpcalc.algebra.order import HALF, ONE, ZERO, Order
from tpcalc.errors import DeriveError
from tpcalc.lower.depth.back import Back
from tpcalc.lower.depth.cones import Cones, cone, cones, twins
from tpcalc.lower.depth.graph import Graph
from tpcalc.lower.depth.stream import Stream, stream
from tpcalc.lower.lowered import Leaf, Lowered
from tpcalc.program.ir import Program
from tpcalc.rules.registry import Registry
from tpcalc.rules.structures import Atom, Product, Repeat, Scale, Sum, View, operands, renamed, with_operands


@dataclass(frozen=True)
class Depth:
    """How deep stacks grow: ``growths`` of the number of periods along each scale, and what branches are asked for at
    init, L^-``alpha``: 1 (CompleteP, Dey et al. 2025) or less, down to 1/2 (Depth-muP, Yang et al. 2023)."""

    growths: Mapping[str, Order]
    alpha: Order = ONE

    def __post_init__(self) -> None:
        if not HALF <= self.alpha <= ONE:
            raise DeriveError(
                f"alpha is {self.alpha}: with less than 1/2 the sum of all blocks grows with the depth at init, with "
                f"more than 1 it does not learn; give a rational between 1/2 and 1"
            )

    def check(self, program: Program) -> None:
        """Raise DeriveError where the loops of ``program`` are not those of these scales."""
        scales = dict.fromkeys(loop.scale for loop in program.repeats.loops)
        missing = [scale for scale in self.growths if scale not in scales]
        if missing:
            raise DeriveError(
                f"the program has no blocks along {', '.join(missing)}; trace it with its depth as an argument of the "
                f"factory (tpcalc.trace.depth)"
            )
        unsaid = [scale for scale in scales if scale not in self.growths]
        if unsaid:
            raise DeriveError(f"how {', '.join(unsaid)} grows is not said; give each depth an order")


@dataclass(frozen=True)
class Stack:
    """A loop with its stream, and what its branches are made of.

    ``twins``: weights of one period and the same ones of the next, by name (blocks of packed weights each by itself).
    ``K``, ``alpha``: of its :class:`Repeat` s.
    """

    stream: Stream
    cones: Cones
    twins: tuple[tuple[str, ...], ...] = ()
    K: Order = ZERO
    alpha: Order = ONE

    @property
    def scale(self) -> str:
        return self.stream.loop.scale


def stacks(lowered: Lowered, registry: Registry) -> tuple[Stack, ...]:
    """The stacks of all loops of a program.  Raises DeriveError for blocks without a stream."""
    graph = Graph(lowered, registry)
    streams: list[Stream] = []
    taken: set[int] = set()
    for loop in lowered.program.repeats.loops:
        streams.append(stream(graph, loop, taken))
        taken |= streams[-1].values - set(streams[-1].enters)
    values = frozenset().union(*(each.values for each in streams))
    found = []
    for each in streams:
        found.append(Stack(each, cones(graph, each, values), twins(graph, each, values)))
    return tuple(found)


def repeated(lowered: Lowered, depth: Depth, registry: Registry) -> Lowered:
    """``lowered`` with a :class:`Repeat` at everything that a period adds to what all of them share."""
    found = tuple(
        replace(stack, K=depth.growths[stack.scale], alpha=depth.alpha) for stack in stacks(lowered, registry)
    )
    return _Writer(lowered, depth, found, registry).written()


class _Writer:
    def __init__(self, lowered: Lowered, depth: Depth, found: tuple[Stack, ...], registry: Registry) -> None:
        self.lowered, self.depth, self.found = lowered, depth, found
        self.graph = Graph(lowered, registry)
        self.fresh = max(*lowered.program.values, *(atom.out for atom in lowered.atoms)) + 1
        self.before: dict[int, list[Atom]] = {}  # atoms to be written in front of the atom that makes a value
        self.swaps: dict[int, dict[int, int]] = {}  # of the atom that makes a value: operands replaced
        self.marked: dict[int, int] = {}  # value -> itself as it enters a stack
        self.gains: dict[int, int] = {}  # gain on a stream -> what stands for it in every period
        self.grads: dict[int, int] = {}  # last value of a branch -> its own gradient
        self.matrices: set[int] = set()  # those that each period of the stack at hand has for itself
        self.summed: set[int] = set()
        self.tied = frozenset().union(*(stack.cones.tied for stack in found))
        self.zeros = {leaf.value for leaf in lowered.leaves if _starts_at_zero(leaf)}
        self.bits = {leaf.value: 1 << index for index, leaf in enumerate(lowered.leaves)}
        self.streams = frozenset().union(*(stack.stream.values for stack in found))

    def written(self) -> Lowered:
        top = max(self.lowered.fixed, 1 << len(self.lowered.leaves)).bit_length()
        for place, stack in enumerate(self.found):
            own = sum(self.bits[vid] for vid in stack.cones.inside if vid in self.bits)
            self.matrices = {
                leaf.value for leaf in self.lowered.leaves if leaf.value in stack.cones.inside and len(leaf.shape) > 1
            }
            self.stack(stack, Repeat(0, stack.K, own, 1 << (top + place), alpha=stack.alpha))
        atoms: list[Atom] = []
        forward = 0
        names: dict[int, int] = {}
        for index, atom in enumerate(self.lowered.atoms):
            for extra in self.before.get(atom.out, ()):
                atoms.append(replace(extra, structure=renamed(extra.structure, names)))
            gains = self.gains if forward else {}
            table = {**names, **gains, **self.swaps.get(atom.out, {})}
            s = renamed(atom.structure, table) if operands(atom.structure) else atom.structure
            atoms.append(replace(atom, structure=s))
            if atom.out in self.marked:
                atoms.append(self.mark(atom.out, atom.node))
                names[atom.out] = atoms[-1].out
            if index + 1 == self.lowered.forward:
                forward = len(atoms)
        return replace(
            self.lowered,
            atoms=tuple(atoms),
            forward=forward,
            stacks=self.found,
            grads=self.grads,
            summed=frozenset(self.summed),
            leaves=self.leaves(),
        )

    def leaves(self) -> tuple[Leaf, ...]:
        """Those of a period stand for the same ones of all."""
        copies = {}
        for stack in self.found:
            on_stream = {x for junction in stack.stream.junctions for x in junction.joining}
            copies.update(dict.fromkeys((on_stream | stack.cones.inside) - stack.cones.tied, stack.K))
        return tuple(replace(leaf, copies=copies.get(leaf.value, ZERO)) for leaf in self.lowered.leaves)

    def mark(self, vid: int, node: int) -> Atom:
        return Atom(self.marked[vid], Repeat(vid, ZERO), node)

    def new(self) -> int:
        self.fresh += 1
        return self.fresh - 1

    def stack(self, stack: Stack, like: Repeat) -> None:
        """Note what is to be written for one stack."""
        for junction in stack.stream.junctions:
            for x in junction.joining:
                if x in self.streams:  # a stream itself, which no weight of a branch makes smaller
                    continue
                each = replace(like, factor=junction.factor)
                out = self.repeat(x, each, junction.atom)
                self.swap(junction.atom, x, out)
                self.summed.add(out)
                if junction.factor:  # gradients of the stream are multiplied by it as well
                    self.gains[x] = out
        entering = set(stack.stream.enters) | stack.cones.invariant
        back = Back(self.lowered, stack.stream.values, stack.cones.inside)
        grads = self.lowered.program.grads
        for vid in sorted(stack.stream.values):
            if vid not in grads:
                continue
            gradient = grads[vid]
            for total, term in dict.fromkeys(back.branch_terms(gradient)):
                self.swap_term(back, total, term, like)
        shared = [grads[vid] for vid in stack.cones.invariant if vid in grads]
        shared += [
            leaf.grad for leaf in self.lowered.leaves if leaf.grad is not None and leaf.value in stack.cones.tied
        ]
        for gradient in dict.fromkeys(shared):
            for total, term in dict.fromkeys(back.terms(gradient)):
                self.swap_term(back, total, term, like)
        self.part_gradients(stack, back)
        for vid in sorted(entering | set(back.from_behind())):
            if vid in self.lowered.maker:
                self.marked[vid] = self.new()

    def part_gradients(self, stack: Stack, back: Back) -> None:
        """Give what each branch adds a gradient of its own.

        All terms of a sum share one, and a multiplier behind one of them is none of the others.
        """
        grads = self.lowered.program.grads
        owners: dict[int, int] = {}
        inner: dict[int, frozenset[int]] = {}
        for place, junction in enumerate(stack.stream.junctions):
            inner[place] = cone(self.graph, junction.joining, self.streams) & stack.cones.inside
            for vid in inner[place]:
                own = [grads.get(vid)] if vid not in self.bits else []
                own += [leaf.grad for leaf in self.lowered.leaves if leaf.value == vid]
                owners.update({g: place for g in own if g is not None and g not in back.stream})
        own_gradients: dict[tuple[int, int], int] = {}
        for reader, gradient, place in back.entries(owners):
            if (gradient, place) not in own_gradients:
                own_gradients[gradient, place] = out = self.new()
                node = back.made[reader].node
                self.before.setdefault(reader, []).append(Atom(out, View(gradient), node))
                for vid in inner[place]:
                    if grads.get(vid) == gradient:
                        self.grads[vid] = out
            self.swap(back.made[reader], gradient, own_gradients[gradient, place])

    def swap(self, atom: Atom, x: int, by: int) -> None:
        self.swaps.setdefault(atom.out, {})[x] = by

    def swap_term(self, back: Back, total: int, term: int, like: Repeat) -> None:
        if term in self.swaps.get(total, {}):
            return
        out = self.new()
        made = replace(like, x=term, signed=back.signed(term, self.matrices, self.graph), back=True)
        self.before.setdefault(total, []).append(Atom(out, made, back.made[total].node))
        self.swap(back.made[total], term, out)

    def repeat(self, x: int, like: Repeat, at: Atom) -> int:
        """A value that stands for ``x`` of all periods, written in front of ``at``.

        A sum over the depth is one of each term: so views, masks and sums stay outside of it.
        """
        atom = self.graph.forward(x)
        s = atom.structure if atom is not None and x not in self.streams else None
        split: tuple[int, ...] = ()
        if isinstance(s, (View, Sum, Scale)) and not like.factor and not self.graph.is_known(x):
            split = operands(s)
        elif isinstance(s, Product) and not like.factor:
            split = tuple(y for y in operands(s) if not self.graph.is_known(y))
            split = split if len(split) == 1 else ()
        node = at.node if atom is None else atom.node
        out = self.new()
        if split and s is not None:
            parts = {y: self.repeat(y, like, at) for y in split if not self.graph.is_known(y)}
            made = Atom(out, with_operands(s, tuple(parts.get(y, y) for y in operands(s))), node)
        else:
            made = Atom(out, replace(like, x=x, signed=x in self.zeros and x not in self.tied), node)
        self.before.setdefault(at.out, []).append(made)
        return out


def _starts_at_zero(leaf: Leaf) -> bool:
    laws = [law for _, law in leaf.weight.init]
    return bool(laws) and all(law.kind == "constant" and law.mean == 0 for law in laws)


def branches(lowered: Lowered) -> Iterator[tuple[Atom, frozenset[int]]]:
    """Every sum over the depth in the forward pass, with what it is made of as far back as the stream."""
    graph = Graph(lowered, None)
    streams = frozenset().union(*(stack.stream.values for stack in lowered.stacks))
    marked: Collection[int] = {
        atom.out for atom in lowered.atoms if isinstance(atom.structure, Repeat) and atom.structure.K == 0
    }
    for atom in lowered.atoms[: lowered.forward]:
        s = atom.structure
        if isinstance(s, Repeat) and s.K > 0:
            yield atom, cone(graph, operands(s), streams | frozenset(marked))


__all__ = ["Depth", "Stack", "branches", "repeated", "stacks"]
