"""From ATen calls to atoms: each op's structure, flattened, with hand-written normalisers recognised.

A normaliser written as ``x * rsqrt(mean(x^2) + eps)`` is seen by homogeneity: every value remembers the last value
it is homogeneous in, and to which degree.  A product of degree zero no longer depends on the scale of that base:
it becomes :class:`~tpcalc.rules.structures.Normalise`, whatever ops wrote it.  A value less its own mean becomes
:class:`~tpcalc.rules.structures.Centre`.
"""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Optional

from tpcalc.algebra.order import MINUS_INFINITY, ONE, ZERO, Order
from tpcalc.algebra.size import Size
from tpcalc.lower.blocks import (
    PICKS,
    SPLITS,
    UNIT,
    Segments,
    action,
    base_name,
    ends_of,
    part_value,
    picked,
    plan,
    put_back,
    size_sum,
)
from tpcalc.lower.lowered import Leaf, Lowered
from tpcalc.program.ir import Node, Program, Ref, Value, Weight
from tpcalc.rules import REGISTRY, Registry
from tpcalc.rules.structures import (
    Atom,
    Centre,
    Contract,
    Gather,
    Guard,
    Known,
    Normalise,
    Power,
    Product,
    Reduce,
    Scale,
    Structure,
    Sum,
    View,
    operands,
)

#: Ops that give a mean of their first operand, and at which place.
MEANS = {"mean": 0, "var_mean": 1, "std_mean": 1, "native_layer_norm": 1, "native_group_norm": 1}
#: Ops that give the entries of their operand again, all of them and no others.
ARRANGE = frozenset(
    "view _unsafe_view expand unsqueeze squeeze permute transpose t _to_copy clone alias detach".split()
)


@dataclass(frozen=True, slots=True)
class Homogeneity:
    """``value = n^shift * base^degree`` in order, exactly homogeneous in ``base``."""

    base: int
    degree: Fraction
    shift: Order


class _Lowerer:
    """One pass over the nodes.  Mutable while it runs, discarded afterwards."""

    def __init__(self, program: Program, registry: Registry) -> None:
        self.program = program
        self.registry = registry
        self.atoms: list[Atom] = []
        self.fresh = max(program.values, default=0) + 1
        self.homogeneity: dict[int, Homogeneity] = {}
        self.data: set[int] = set(program.inputs)
        self.parts: dict[int, Value] = {}
        self.values = ChainMap(self.parts, program.values)
        self.segments: dict[int, Segments] = {}
        self.cut_lengths: set[tuple[Size, ...]] = set()
        self.growths = {vid: value.growth for vid, value in program.values.items()}
        self.means: dict[int, int] = {}
        self.arranged: dict[int, int] = {}
        self.units = {
            vid: (None, value.magnitude.order)
            for vid, value in program.values.items()
            if value.kind == "buffer" and value.magnitude is not None
        }

    def run(self) -> Lowered:
        blocks = self.cut_weights()
        forward = None
        for node in self.program.nodes:
            if node.phase == "backward" and forward is None:
                forward = len(self.atoms)
            self.lower_node(node)
        leaves = tuple(
            leaf for weight in self.program.weights for leaf in self.leaves(weight, blocks.get(weight.value))
        )
        finite = frozenset(vid for vid, growth in self.growths.items() if growth == 0)
        forward = len(self.atoms) if forward is None else forward
        return Lowered(self.program, tuple(self.atoms), forward, leaves, finite, self.means)

    def cut_weights(self) -> dict[int, Segments]:
        """Make the blocks of packed weights; the whole weight is their join."""
        blocks = {}
        for vid, (dim, lengths) in plan(self.program).items():
            segments = Segments(
                dim, lengths, tuple(self.part(self.program.values[vid], dim, length) for length in lengths)
            )
            blocks[vid] = self.segments[vid] = segments
            self.cut_lengths.add(lengths)
            if len(set(lengths)) == 1:
                self.cut_lengths.add((UNIT,) * len(lengths))
            self.emit(Sum(segments.parts), self.program.consumers[vid][0].index, vid)
        return blocks

    def part(self, value: Value, dim: Optional[int], length: Size) -> int:
        """A new value: the block of ``value`` with ``length`` along axis ``dim`` (from the right; None: all of it)."""
        vid = self.fresh
        self.fresh += 1
        self.parts[vid] = replace(value, id=vid, name="") if dim is None else part_value(value, dim, length, vid)
        self.growths[vid] = self.parts[vid].growth
        return vid

    def leaves(self, weight: Weight, blocks: Optional[Segments]) -> list[Leaf]:
        if blocks is None:
            return [Leaf(weight.name, weight, weight.value, weight.shape, weight.grad)]
        grads = self.segments.get(weight.grad) if weight.grad is not None else None
        cut_alike = grads is not None and (grads.dim, grads.lengths) == (blocks.dim, blocks.lengths)
        dim = len(weight.shape) - blocks.dim
        result = []
        start: Size = Size(())
        for index, (vid, length) in enumerate(zip(blocks.parts, blocks.lengths)):
            grad = grads.parts[index] if cut_alike else weight.grad
            end = size_sum((start, length))
            name = f"{weight.name}[{start}:{end}]" if dim == 0 else f"{weight.name}[:, {start}:{end}]"
            result.append(Leaf(name, weight, vid, self.parts[vid].shape, grad, dim, start, length))
            start = end
        return result

    def lower_node(self, node: Node) -> None:
        if self.segments or self.cut_lengths:
            if self.split_blocks(node) or self.see_slice_backward(node) or self.act_on_blocks(node):
                return
            self.see_cat(node)
        self.see_mean(node)
        structures = self.centred(node) or self.registry.structure(node, self.program.values)
        for out, structure in zip(node.outputs, structures):
            if out is None:
                continue
            magnitude = self.program.values[out].magnitude
            if magnitude is not None:  # a constant that was computed for real
                uniform = not self.program.values[out].shape or (isinstance(structure, Known) and structure.uniform)
                structure = Known(magnitude.order, any(ref in self.data for ref in node.refs), uniform)
                if structure.data:
                    self.data.add(out)
            self.emit(Known(ZERO) if structure is None else structure, node.index, out)

    def split_blocks(self, node: Node) -> bool:
        """A split of a packed value along its blocks gives blocks, or groups of them."""
        name = base_name(node)
        if name not in SPLITS | PICKS or not isinstance(node.args[0], Ref):
            return False
        held = self.segments.get(node.args[0].id)
        if held is None:
            return False
        if name in PICKS:
            pick = picked(node, self.program.values)
            return pick is not None and pick[0] == held.dim and self.pick_blocks(node, held, pick)
        if name == "unbind":
            return self.unstack_blocks(node, held)
        groups = []
        first = 0
        for out in node.outputs:
            if out is None:
                return False
            shape = self.program.values[out].shape
            last = first + 1
            while last <= len(held.parts) and size_sum(held.lengths[first:last]) != shape[-held.dim]:
                last += 1
            if last > len(held.parts):
                return False
            groups.append((out, first, last))
            first = last
        for out, first, last in groups:
            parts = held.parts[first:last]
            if len(parts) == 1:
                self.emit(View(parts[0]), node.index, out)
            else:
                self.segments[out] = Segments(held.dim, held.lengths[first:last], parts)
                self.emit(Sum(parts), node.index, out)
        return True

    def pick_blocks(self, node: Node, held: Segments, pick: tuple[int, Size, Size]) -> bool:
        """A slice whose ends are ends of blocks."""
        ends = ends_of(held.lengths)
        if ends is None or pick[1] not in ends or pick[2] not in ends:
            return False
        first, last = ends.index(pick[1]), ends.index(pick[2])
        parts, out = held.parts[first:last], node.outputs[0]
        if len(parts) > 1:
            self.segments[out] = Segments(held.dim, held.lengths[first:last], parts)
        self.emit(View(parts[0]) if len(parts) == 1 else Sum(parts), node.index, out)
        return True

    def unstack_blocks(self, node: Node, held: Segments) -> bool:
        """``unbind`` along an axis with one index a block."""
        shape = self.program.values[node.args[0].id].shape
        axis = node.args[1] if len(node.args) > 1 else 0
        if len(shape) - axis % len(shape) != held.dim or held.lengths != (UNIT,) * len(held.lengths):
            return False
        for out, part in zip(node.outputs, held.parts):
            if out is not None:
                self.emit(View(part), node.index, out)
        return True

    def see_slice_backward(self, node: Node) -> bool:
        """The gradient of a slice (or select) is zero outside it."""
        place = put_back(node, self.program.values)
        if place is None:
            return False
        out = node.outputs[0]
        value, (right, start, end) = self.program.values[out], place
        for lengths in sorted(self.cut_lengths, key=len, reverse=True):
            ends = ends_of(lengths)
            if ends is None or ends[-1] != value.shape[-right] or start not in ends or end not in ends:
                continue
            inside = range(ends.index(start), ends.index(end))
            inner = self.segments.get(node.args[0].id)
            pieces = inner.parts if inner is not None and inner.lengths == lengths[inside.start : inside.stop] else ()
            parts = tuple(self.part(value, right, length) for length in lengths)
            for i, part in enumerate(parts):
                source = pieces[i - inside.start] if pieces and i in inside else node.args[0].id
                self.emit(View(source) if i in inside else Known(MINUS_INFINITY), node.index, part)
            self.segments[out] = Segments(right, lengths, parts)
            self.emit(Sum(parts), node.index, out)
            return True
        return False

    def see_cat(self, node: Node) -> None:
        """A concatenation of blocks as long as a packed weight's is packed again (the gradient of a split)."""
        if base_name(node) == "stack" and node.outputs[0] is not None:
            shape = self.program.values[node.outputs[0]].shape
            axis = (node.args[1] if len(node.args) > 1 else 0) % len(shape)
            parts = tuple(ref.id for ref in node.args[0])
            if self.is_cut((UNIT,) * len(parts)):
                self.segments[node.outputs[0]] = Segments(len(shape) - axis, (UNIT,) * len(parts), parts)
        if base_name(node) != "cat" or node.outputs[0] is None:
            return
        shape = self.program.values[node.outputs[0]].shape
        dim = node.args[1] if len(node.args) > 1 else 0
        right = len(shape) - dim if dim >= 0 else -dim
        lengths: list[Size] = []
        parts: list[int] = []
        for ref in node.args[0]:
            inner = self.segments.get(ref.id)
            if inner is not None and inner.dim == right:
                lengths.extend(inner.lengths)
                parts.extend(inner.parts)
            elif len(self.program.values[ref.id].shape) >= right:
                lengths.append(self.program.values[ref.id].shape[-right])
                parts.append(ref.id)
        if self.is_cut(tuple(lengths)):
            self.segments[node.outputs[0]] = Segments(right, tuple(lengths), tuple(parts))

    def is_cut(self, lengths: tuple[Size, ...]) -> bool:
        """Whether some packed weight has these blocks next to each other."""
        count = len(lengths)
        return count > 1 and any(
            cut[i : i + count] == lengths for cut in self.cut_lengths for i in range(len(cut) - count + 1)
        )

    def act_on_blocks(self, node: Node) -> bool:
        """Apply an op to each block of its packed operands; the whole result is their join."""
        act = action(node, self.program.values, self.segments)
        if act is None:
            return False
        if len(act.lengths) > 1:
            self.cut_lengths.add(act.lengths)
        blocks: list[list[int]] = [[] for _ in node.outputs]
        for index, length in enumerate(act.lengths):
            table = {ref: self.segments[ref].parts[index] for ref in act.refs}
            outputs = tuple(
                None if out is None else self.part(self.program.values[out], dim, length)
                for out, dim in zip(node.outputs, act.outs)
            )
            structures = self.registry.structure(act.block(node, index, table, outputs), self.values)
            for found, out, structure in zip(blocks, outputs, structures):
                if out is not None and structure is not None:
                    self.emit(structure, node.index, out)
                    found.append(out)
        for out, dim, parts in zip(node.outputs, act.outs, blocks):
            if out is not None:
                if dim is not None:
                    self.segments[out] = Segments(dim, act.lengths, tuple(parts))
                self.emit(Sum(tuple(parts)), node.index, out)
        return True

    def see_mean(self, node: Node) -> None:
        """Note what is a mean of what, and what has the entries of what."""
        name = base_name(node)
        if not node.args or not isinstance(node.args[0], Ref) or (name not in MEANS and name not in ARRANGE):
            return
        x, out = node.args[0].id, node.outputs[MEANS.get(name, 0)]
        if out is None:
            return
        if name in MEANS:
            self.means[out] = self.arranged.get(x, x)
        else:
            self.arranged[out] = self.arranged.get(x, x)
            if x in self.means:
                self.means[out] = self.means[x]

    def centred(self, node: Node) -> "tuple[Structure] | None":
        """``x`` less a mean of ``x``, which takes what all entries share whatever its axes are.  A sum with the same
        operands does not, nor does a multiple: only what is surely centred is."""
        if base_name(node) not in ("sub", "rsub") or len(node.args) != 2 or node.kwargs:
            return None
        if not all(isinstance(arg, Ref) for arg in node.args):
            return None
        x, y = (arg.id for arg in node.args)
        for value, mean in ((x, y), (y, x)):
            if self.means.get(mean) == self.arranged.get(value, value):
                return (Centre(value),)
        return None

    def operand(self, x: Any, node: int) -> int:
        return x if isinstance(x, int) else self.emit(x, node, None)

    def emit(self, structure: Structure, node: int, out: "int | None") -> int:
        flat = self.power_iteration(self.flatten(structure, node), node)
        if out is not None:
            flat = self.repeat(flat, self.growths[out], node)
        flat, homogeneity = self.recognise(flat)
        if out is None:
            out = self.fresh
            self.fresh += 1
            self.growths[out] = self.growth_of(flat)
        if isinstance(flat, Normalise):
            self.units[out] = (self.of(flat.x).base, flat.shift)
        elif isinstance(flat, (View, Sum)) and len(xs := operands(flat)) == 1 and xs[0] in self.units:
            self.units[out] = self.units[xs[0]]
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

    def growth_of(self, s: Structure) -> Fraction:
        """Growth of the axes of an intermediate, whose shape no op has told."""
        growths = [self.growths[x] for x in operands(s)]
        if isinstance(s, Contract):
            x, y = growths
            return max(x - s.K + s.rest_y, y - s.K + s.rest_x, ZERO)
        if isinstance(s, Reduce):
            return max(growths[0] - s.K, ZERO)
        return max(growths, default=ZERO)

    def repeat(self, s: Structure, growth: Fraction, node: int) -> Structure:
        """Make it seen where entries are repeated along growing axes, which a result of ``growth`` has and an operand not."""
        if isinstance(s, (View, Gather)):
            return replace(s, repeated=True) if self.growths[s.x] < growth else s
        if not isinstance(s, (Sum, Product)):
            return s
        # a number has no sign that could be repeated
        xs = tuple(
            self.emit(View(x, repeated=True), node, None) if 0 < self.growths[x] < growth else x for x in operands(s)
        )
        return replace(s, xs=xs) if isinstance(s, Sum) else replace(s, x=xs[0], y=xs[1])

    def power_iteration(self, s: Structure, node: int) -> Structure:
        """``W v`` and ``u (W v)`` with a vector kept for it (a buffer, or ``W u`` normalised): the spectral norm of W, by law 2.

        The vector is aligned with W, so each is of a size proportional to that of W.
        """
        if not isinstance(s, Contract) or base_name(self.program.nodes[node]) not in ("mv", "dot", "vdot"):
            return s
        for w, v, rest in ((s.x, s.y, s.rest_x), (s.y, s.x, s.rest_y)):
            h = self.of(w)
            base, order = self.units.get(v, (None, None))
            if (
                h.base not in self.program.weight_of_value
                or h.degree != 1
                or order is None
                or base not in (None, h.base)
            ):
                continue
            spread = max(s.K / 2, s.K - rest / 2) if h.shift == 0 else s.K
            return Scale(self.emit(Power(w, ONE, "even"), node, None), spread + order)
        return s

    def of(self, vid: int) -> Homogeneity:
        return self.homogeneity.get(vid) or Homogeneity(vid, ONE, ZERO)

    def recognise(self, s: Structure) -> tuple[Structure, "Homogeneity | None"]:
        """The structure (a normaliser where a product has degree zero) and its homogeneity."""
        if isinstance(s, (View, Centre, Guard)):
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
