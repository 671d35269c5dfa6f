"""From ATen calls to atoms: each op's structure, flattened, packed values in blocks."""

from __future__ import annotations

from tpcalc.algebra.order import ZERO
from tpcalc.lower.atoms import Writer
from tpcalc.lower.blocks import Blocks
from tpcalc.lower.lowered import Lowered
from tpcalc.lower.sizes import sized
from tpcalc.lower.wiring import Wiring
from tpcalc.program.ir import Node, Program
from tpcalc.rules import REGISTRY, Registry
from tpcalc.rules.structures import Known


def lower(program: Program, registry: Registry = REGISTRY) -> Lowered:
    """Flatten every op of ``program`` into atoms.

    Raises UnsupportedOpError for an op without a rule.
    """
    writer, wiring = Writer(program), Wiring(program, registry)
    blocks = Blocks(writer, wiring)
    blocks.cut_weights()
    data = set(program.inputs)
    forward = None
    for node in program.nodes:
        if node.phase == "backward" and forward is None:
            forward = len(writer.atoms)
        if not blocks.lower(node):
            _lower_whole(node, writer, wiring, data)
        blocks.see(node, node.outputs)
    leaves = tuple(leaf for weight in program.weights for leaf in blocks.leaves(weight))
    finite = frozenset(vid for vid, growth in writer.growths.items() if growth is ZERO)
    forward = len(writer.atoms) if forward is None else forward
    return Lowered(program, tuple(writer.atoms), forward, leaves, finite, writer.recogniser.means, writer.few.many)


def _lower_whole(node: Node, writer: Writer, wiring: Wiring, data: set[int]) -> None:
    values = wiring.program.values
    structures = wiring.registry.structure(node, values)
    if node.phase == "forward":
        structures = sized(node, structures, values, wiring.layout)
    for out, structure in zip(node.outputs, structures):
        if out is None:
            continue
        value = values[out]
        if value.magnitude is not None:  # a constant that was computed for real
            uniform = not value.shape or (isinstance(structure, Known) and structure.uniform)
            structure = Known(value.magnitude.order, any(ref in data for ref in node.refs), uniform)
            if structure.data:
                data.add(out)
        writer.emit(Known(ZERO) if structure is None else structure, node.index, out)
