"""How scales may grow beside one another, by what a model does: a top-k takes no more entries than there are.

Along a direction in which ``k`` outgrows the entries that it is taken of there is no model, and what is derived there
has no meaning.
"""

from __future__ import annotations

from collections.abc import Sequence

from tpcalc.algebra.fan import Walls
from tpcalc.algebra.form import coordinates, vector
from tpcalc.algebra.size import Size
from tpcalc.errors import DeriveError
from tpcalc.program.ir import Program
from tpcalc.rules import REGISTRY, Registry
from tpcalc.rules.structures import Power


def domain(program: Program, registry: Registry = REGISTRY) -> Walls:
    """Inequalities ``v.log x > 0`` between scales that hold wherever the model can be built.

    Raises DeriveError where what is taken grows and what it is taken of does not: that model ends at some size.
    """
    found = []
    for node in program.nodes:
        if node.phase != "forward" or not node.outputs or node.outputs[0] is None:
            continue
        s = registry.structure(node, program.values)[0]
        if not (isinstance(s, Power) and s.largest and isinstance(s.x, int)):
            continue
        whole, taken = program.values[s.x], program.values[node.outputs[0]]
        if any(len(size.terms) > 1 for size in (*whole.shape, *taken.shape)):
            continue
        more = coordinates(whole.growth - taken.growth, len(program.scales))
        if max(more) <= 0 and any(more):
            raise DeriveError(
                f"{node.short_op} ({node.where}) takes {_what(taken.shape, whole.shape)} entries, which do not grow "
                f"with it: let what it takes from grow too (a scale of its own), or keep what it takes fixed"
            )
        if min(more) < 0 and not any(x and scale.depth for x, scale in zip(more, program.scales)):
            found.append(vector(more))
    return tuple(dict.fromkeys(found))


def _what(taken: Sequence[Size], whole: Sequence[Size]) -> str:
    return next((f"{x} of {y}" for x, y in zip(taken, whole) if x != y), "its")


__all__ = ["domain"]
