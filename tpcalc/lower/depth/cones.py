"""What a branch is made of: the weights inside it, those that all periods share, and values from before the stack."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from tpcalc.lower.depth.graph import Graph
from tpcalc.lower.depth.stream import Junction, Place, Stream
from tpcalc.program.queries import reach
from tpcalc.rules.structures import operands


@dataclass(frozen=True)
class Cones:
    """``inside``: values of the forward pass that a single period makes for its branches, its weights among them.

    ``tied``: weights that the branches of several periods read; ``invariant``: values from before the stack that they
    do.  ``turns``: value inside -> its period.
    """

    inside: frozenset[int]
    tied: frozenset[int]
    invariant: frozenset[int]
    turns: dict[int, int]


def cone(graph: Graph, start: Iterable[int], streams: Collection[int]) -> frozenset[int]:
    """All that values are made of, as far back as a stream."""

    def onward(vid: int) -> tuple[int, ...]:
        atom = graph.forward(vid)
        return () if atom is None or vid in streams else operands(atom.structure)

    return frozenset(reach(start, onward)) - frozenset(streams)


def cones(graph: Graph, stream: Stream, streams: Collection[int]) -> Cones:
    """The cones of all branches of a stream.  ``streams``: the values of every stream, at which they end."""
    periods: dict[int, set[int]] = defaultdict(set)
    order: dict[Place, int] = defaultdict(int)
    for junction in stream.junctions:
        turn = order[junction.place]
        order[junction.place] += 1
        for vid in cone(graph, junction.joining, streams):
            periods[vid].add(turn)
    shared = {vid for vid, turns in periods.items() if len(turns) > 1}
    inside = frozenset(periods.keys() - shared)
    frontier: set[int] = set()
    for vid in inside:
        atom = graph.forward(vid)
        if atom is not None:
            frontier.update(x for x in operands(atom.structure) if x in shared)
    for junction in stream.junctions:
        frontier.update(x for x in junction.joining if x in shared)
    tied = frozenset(frontier & graph.weights)
    # what another stack has made of its stream, and every period of this one reads, is made before this one
    read: dict[int, set[int]] = defaultdict(set)
    for vid in inside:
        atom = graph.forward(vid)
        for x in operands(atom.structure) if atom is not None else ():
            if x in streams and x not in stream.values:
                read[x] |= periods[vid]
    frontier.update(x for x, turns in read.items() if len(turns) > 1)
    invariant = frozenset(vid for vid in frontier - graph.weights if not graph.is_known(vid))
    return Cones(inside, tied, invariant, {vid: min(periods[vid]) for vid in inside})


def twins(graph: Graph, stream: Stream, streams: Collection[int]) -> tuple[tuple[str, ...], ...]:
    """Names of the leaves at the same place of each period, one tuple a place, in the order of the periods.

    Found by walking what joins the stream at one place of two periods side by side.
    """
    names = {leaf.value: leaf.name for leaf in graph.lowered.leaves}
    rows: dict[Place, list[Junction]] = defaultdict(list)
    for junction in stream.junctions:
        rows[junction.place].append(junction)
    following: dict[int, int] = {}
    for row in rows.values():
        for here, there in zip(row, row[1:]):
            stack = list(zip(here.joining, there.joining))
            seen: set[tuple[int, int]] = set()
            while stack:
                pair = x, y = stack.pop()
                if pair in seen or x == y or x in streams or y in streams:
                    continue
                seen.add(pair)
                if x in names and y in names:
                    following.setdefault(x, y)
                one, other = graph.forward(x), graph.forward(y)
                if one is not None and other is not None and type(one.structure) is type(other.structure):
                    stack += zip(operands(one.structure), operands(other.structure))
    found = []
    for vid in following.keys() - set(following.values()):
        line = [vid]
        while line[-1] in following:
            line.append(following[line[-1]])
        found.append(tuple(line))
    return tuple(tuple(names[vid] for vid in line) for line in sorted(found))


__all__ = ["Cones", "cone", "cones", "twins"]
