"""From ATen calls to atoms: each op's structure, flattened, packed values in blocks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Optional

from tpcalc.algebra.order import ZERO
from tpcalc.lower.atoms import Writer
from tpcalc.lower.blocks import Blocks
from tpcalc.lower.copies import without_copies
from tpcalc.lower.depth import Depth, repeated, with_powers
from tpcalc.lower.experts import experts
from tpcalc.lower.lowered import Lowered
from tpcalc.lower.picks import Picks
from tpcalc.lower.sizes import sized
from tpcalc.lower.spectra import Spectra
from tpcalc.lower.thin import Thin
from tpcalc.lower.wiring import Wiring
from tpcalc.program.ir import Node, Program
from tpcalc.rules import REGISTRY, Registry
from tpcalc.rules.structures import Bounded, Contract, Known, Slope, Structure, View, with_nested


class Fixed:
    """Which fixed numbers act as weights, by bits above those of the ``count`` leaves.

    What is drawn has a bit of its own.  All else shares one: it is not known to be independent.
    """

    def __init__(self, program: Program, count: int) -> None:
        self.shared = 1 << count
        own = (vid for vid, value in program.values.items() if value.kind != "op" and value.signs == "drawn")
        self.leaves = {vid: self.shared << place for place, vid in enumerate(own, start=1)}
        for vid, value in program.values.items():
            if value.kind != "op" and value.signs in ("odd", "mixed"):
                self.leaves[vid] = self.shared
        self.all = (self.shared << (len(self.leaves) + 1)) - self.shared
        self.of = dict(self.leaves)

    def see(self, node: Node) -> int:
        """The bits of what a node makes of fixed numbers."""
        bits = 0
        for ref in node.refs:
            bits |= self.of.get(ref, 0)
        self.of.update({out: bits for out in node.outputs if out is not None and bits})
        return bits


def lower(program: Program, registry: Registry = REGISTRY, depth: Optional[Depth] = None) -> Lowered:
    """Flatten every op of ``program`` into atoms; with a ``depth`` its loops stand for any number of periods.

    Raises UnsupportedOpError for an op without a rule, DeriveError for blocks that no power of the depth scales.
    """
    if depth is not None:
        depth.check(program)
        program = with_powers(program, depth.growths)
    program = without_copies(program, registry)
    lowered, picked = _lower(program, registry, ())
    lowered = _lower(program, registry, picked)[0] if picked else lowered
    return lowered if depth is None else repeated(lowered, depth, registry)


def _lower(program: Program, registry: Registry, picked: Collection[int]) -> tuple[Lowered, Collection[int]]:
    """The program, and of which of its values masks leave few entries; those known already are ``picked``."""
    wiring = Wiring(program, registry)
    writer = Writer(program, Picks(wiring))
    blocks = Blocks(writer, wiring)
    blocks.cut_weights(picked)
    fixed = Fixed(program, sum(len(blocks.leaves(weight)) for weight in program.weights))
    data, thin, spectra = set(program.inputs), Thin(writer, wiring), Spectra()
    forward, masked = None, frozenset[int]()
    for node in program.nodes:
        if node.phase == "backward" and forward is None:
            forward = len(writer.atoms)
            masked = frozenset(writer.few.picked & program.values.keys())
        if not blocks.lower(node):
            _lower_whole(node, writer, wiring, data, fixed, thin, spectra, blocks.mixed)
        blocks.see(node, node.outputs)
    few = writer.few
    leaves = tuple(few.counted_in(leaf) for weight in program.weights for leaf in blocks.leaves(weight))
    finite = frozenset(vid for vid, growth in writer.growths.items() if growth is ZERO)
    if forward is None:
        forward, masked = len(writer.atoms), frozenset(writer.few.picked & program.values.keys())
    means = writer.recogniser.means
    parts = (tuple(writer.atoms), forward, leaves, finite, means, fixed.leaves, fixed.all)
    lowered = Lowered(program, *parts, experts=experts(writer.picks.gates), uneven=frozenset(few.uneven))
    return lowered, masked


def _lower_whole(
    node: Node,
    writer: Writer,
    wiring: Wiring,
    data: set[int],
    fixed: Fixed,
    thin: Thin,
    spectra: Spectra,
    mixed: Mapping[int, int],
) -> None:
    values = wiring.program.values
    structures = wiring.structures(node)
    if node.phase == "forward":
        structures = sized(node, structures, values, wiring.layout)
    if not mixed.keys().isdisjoint(node.outputs):
        structures = tuple(s if s is None else _as_few(s) for s in structures)
    for index, (out, structure) in enumerate(zip(node.outputs, structures)):
        if out is None:
            continue
        value = values[out]
        if value.magnitude is not None:  # a constant that was computed for real
            bits = fixed.see(node)
            if not (isinstance(structure, View) and bits and structure.x in fixed.of):
                uniform = not value.shape or (isinstance(structure, Known) and structure.uniform)
                from_data = any(ref in data for ref in node.refs)
                weight = bits or fixed.shared if value.signs and not from_data else 0
                centred = isinstance(structure, Known) and structure.centred
                odd = value.signs != "mixed"
                structure = Known(value.magnitude.order, from_data, uniform, centred, weight, odd)
            if isinstance(structure, Known) and structure.data:
                data.add(out)
        structure = spectra.seen(Known(ZERO) if structure is None else structure)
        if node.derivative:
            structure = _asking(structure)
        spectra.note(out, structure)
        thin.emit(structure, node, index, out)


def _asking(s: Structure) -> Structure:
    """The derivative of a function in the forward pass, where the function itself may be used by nothing else."""
    s = with_nested(s, _asking)
    return Bounded(s.x, zero=False) if isinstance(s, Slope) else s


def _as_few(s: Structure) -> Structure:
    """A contraction of whose results a few are taken apart, nobody knows which: each is held to what one row may do."""
    if isinstance(s, Contract):
        return replace(s, rest_x=ZERO, rest_y=ZERO, sizes=None)
    return with_nested(s, _as_few)
