"""The residual stream of a loop: what every period adds to, found by where it comes from a period earlier."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Optional

from tpcalc.errors import DeriveError
from tpcalc.lower.depth.graph import Graph
from tpcalc.program.repeat import Loop
from tpcalc.rules.structures import Atom, Product, Sum, operands

#: How deep two expressions are compared to be the same one of two periods.
LEVELS = 3


#: An atom of a period: its node in it, and which atom of the node it is.
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Junction:
    """A place where a period adds something to the stream (or multiplies it: ``factor``).

    ``joining``: what it adds.  ``place``: which atom of a period it is, the same in each.
    """

    atom: Atom
    joining: tuple[int, ...]
    factor: bool
    place: Place


@dataclass(frozen=True)
class Stream:
    """All junctions of one loop, in order; ``values``: the stream itself, ``enters``: what it starts from."""

    loop: Loop
    junctions: tuple[Junction, ...]
    values: frozenset[int]
    enters: tuple[int, ...]


def stream(graph: Graph, loop: Loop, taken: Collection[int]) -> Stream:
    """The stream of a loop; values that are ``taken`` belong to that of another.

    Raises DeriveError where nothing is carried from one period to the next, or not by the identity.
    """
    carried: dict[int, set[int]] = {}
    for through in range(3):
        carried = _carried(graph, loop, through, taken)
        if carried:
            break
    else:
        raise DeriveError(_no_stream(graph, loop))
    # what is one period earlier in the first period is the stream as well
    for vid in sorted(carried, key=lambda vid: graph.maker[vid].node, reverse=True):
        atom = graph.maker[vid]
        while loop.covers(atom.node - loop.period):
            twin = graph.moved(atom, -loop.period)
            if twin is None or twin.out in carried or twin.out in taken:
                break
            on = _same(graph, twin, atom, carried)
            if on is None:  # what precedes the loop may end as a period does
                break
            carried[twin.out] = on
            atom = twin
    places = {
        vid: (loop.place(graph.maker[vid].node), graph.rank[vid])
        for vid in carried
        if loop.covers(graph.maker[vid].node)
    }
    _first_period(graph, places, carried, through, taken)
    junctions = []
    for vid, on in carried.items():
        atom = graph.maker[vid]
        s = atom.structure
        others = tuple(x for x in operands(s) if x not in on and not graph.is_known(x))
        if others and isinstance(s, (Sum, Product)):
            factor = isinstance(s, Product)
            place = places.get(vid, (loop.place(atom.node), graph.rank[vid]))
            junctions.append(Junction(atom, others, factor, place))
    _only_carried(graph, loop, carried)
    enters = sorted({x for on in carried.values() for x in on if x not in carried})
    junctions.sort(key=lambda j: (j.atom.node, graph.rank[j.atom.out]))
    return Stream(loop, tuple(junctions), frozenset(carried) | frozenset(enters), tuple(enters))


def _carried(graph: Graph, loop: Loop, through: int, taken: Collection[int]) -> dict[int, set[int]]:
    """Values on the way from a sum of the loop back to the same sum a period earlier -> the operands on that way."""
    found: dict[int, set[int]] = {}
    for atom in graph.sums(loop):
        target = graph.moved(atom, -loop.period) if loop.covers(atom.node - loop.period) else None
        if target is None:
            continue
        way = {} if atom.out in taken else _way(graph, atom, target, through, taken)
        for vid, on in way.items():
            found.setdefault(vid, set()).update(on)
    return found


def _way(graph: Graph, start: Atom, target: Atom, through: int, taken: Collection[int]) -> dict[int, set[int]]:
    leads: dict[int, bool] = {target.out: target.out not in taken}
    way: dict[int, set[int]] = {}

    def reaches(vid: int) -> bool:
        if vid in leads:
            return leads[vid]
        leads[vid] = False
        atom = graph.forward(vid)
        if atom is None or atom.node < target.node or vid in taken:
            return False
        on = {x for x in graph.carried(atom.structure, through) if reaches(x)}
        if on:
            way[vid] = on
        leads[vid] = bool(on)
        return leads[vid]

    reaches(start.out)
    return way if start.out in way else {}


def _first_period(
    graph: Graph, places: dict[int, Place], carried: dict[int, set[int]], through: int, taken: Collection[int]
) -> None:
    """Follow the stream on, in front of the loop: a first block may differ a little from the others, and its last ops
    not."""
    sums = sorted(
        (graph.maker[vid] for vid in carried if isinstance(graph.maker[vid].structure, Sum)), key=lambda a: a.node
    )
    while sums:
        first = sums[0]
        # of one period later, the sum that comes before it
        again = next((i for i, atom in enumerate(sums[1:], 1) if places[atom.out] == places[first.out]), None)
        if again is None:
            return
        previous = sums[again - 1]
        found = _earlier(graph, first, carried, through)
        if found is None or found[0].out in taken:
            return
        atom, way = found
        on = _same(graph, atom, previous, carried)
        if on is None:
            return
        carried.update(way)
        carried[atom.out] = on
        places[atom.out] = places[previous.out]
        sums.insert(0, atom)


def _earlier(
    graph: Graph, first: Atom, carried: Mapping[int, set[int]], through: int
) -> Optional[tuple[Atom, dict[int, set[int]]]]:
    """The sum from which the stream comes to ``first``, and the values between."""
    way: dict[int, set[int]] = {}
    (vid,) = carried[first.out] if len(carried[first.out]) == 1 else (None,)
    while vid is not None:
        atom = graph.forward(vid)
        if atom is None or vid in carried:
            return None
        if isinstance(atom.structure, Sum) and len([x for x in operands(atom.structure) if x in graph.data]) > 1:
            return atom, way
        on = graph.carried(atom.structure, through)
        if len(on) != 1:
            return None
        way[vid] = set(on)
        vid = on[0]
    return None


def _same(graph: Graph, atom: Atom, later: Atom, carried: Mapping[int, set[int]]) -> Optional[set[int]]:
    """The operands of ``atom`` that carry the stream, where what joins it is the same expression as in ``later``."""
    here, there = operands(atom.structure), operands(later.structure)
    on = carried[later.out]
    if len(here) != len(there) or type(atom.structure) is not type(later.structure):
        return None
    joining = [(x, y) for x, y in zip(here, there) if y not in on]
    if any(graph.signature(x, LEVELS) != graph.signature(y, LEVELS) for x, y in joining):
        return None
    return {x for x, y in zip(here, there) if y in on}


def _only_carried(graph: Graph, loop: Loop, carried: Mapping[int, set[int]]) -> None:
    """Refuse a stream that is multiplied by a number other than 1 in every period."""
    for vid, on in carried.items():
        node = graph.lowered.node(graph.maker[vid])
        for x in on:
            number = graph.factor(vid, x)
            if number is None:
                continue
            raise DeriveError(
                f"what the blocks share is multiplied by a number ({number}) in each of them "
                f"({node.where or node.op}): it decays or grows exponentially with {loop.scale}, and no power of it "
                f"scales; carry it by the identity (x + f(x)), up to norms"
            )


def _no_stream(graph: Graph, loop: Loop) -> str:
    first = graph.lowered.program.nodes[loop.start]
    return (
        f"the blocks along {loop.scale} (from {first.where or first.op} on) have no residual stream: what goes through "
        f"them is not carried by the identity, so sizes depend on {loop.scale} exponentially, and no power of it "
        f"scales; write a block as x + f(x), or keep {loop.scale} fixed"
    )


__all__ = ["Junction", "Stream", "stream"]
