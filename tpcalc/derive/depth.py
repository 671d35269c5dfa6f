"""Stacks of growing depth in a solution: slower weights inside branches, and periods that have to agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Optional

from tpcalc.algebra.order import ONE, Order
from tpcalc.calculus.facts import Fact, WeightOrders, flips
from tpcalc.calculus.weights import gradient_order, trained
from tpcalc.errors import DeriveError
from tpcalc.lower.depth import Graph, branches, cone
from tpcalc.lower.lowered import Lowered
from tpcalc.rules.structures import Atom, Sum, operands


def slowed(lowered: Lowered, facts: Mapping[int, Fact]) -> dict[int, Order]:
    """Leaf value -> by how much its updates are smaller than its branch alone asks for: L^-(1 - alpha).

    A branch of size L^-alpha may change by L^-1, for all periods push along one gradient.
    """
    found: dict[int, Order] = {}
    leaves = {leaf.value for leaf in lowered.leaves}
    for atom, inside in branches(lowered):
        s: Any = atom.structure
        if s.alpha == ONE or s.factor or not flips(s, facts[s.x]):
            continue  # a gain, or a branch with a mean, is asked for L^-1 as it is
        for vid in leaves & inside:
            found[vid] = (ONE - s.alpha) * s.K
    return found


def depth_power(lowered: Lowered, order: Order) -> Optional[str]:
    """``"depth^-1"`` for an order that a sum over the depth asks for; None for any other."""
    for stack in lowered.stacks:
        for power in dict.fromkeys((stack.alpha, ONE)):
            if order == power * stack.K:
                return f"{stack.scale}^-{power}" if power.denominator == 1 else f"{stack.scale}^(-{power})"
    return None


def check_periods(lowered: Lowered, orders: Mapping[str, WeightOrders], facts: Mapping[int, Fact]) -> None:
    """Every traced period stands for all: raise DeriveError where two of them do not agree."""
    leaves = {leaf.name: leaf for leaf in lowered.leaves}
    for stack in lowered.stacks:
        for names in stack.twins:
            found = [
                (orders[name].A, orders[name].C, gradient_order(leaves[name].grad, facts, trained)) for name in names
            ]
            for name, each in zip(names[1:], found[1:]):
                if each != found[0]:
                    raise DeriveError(
                        f"{names[0]} and {name} stand at the same place of two blocks along {stack.scale} and need "
                        f"different orders (init, update, gradient {_text(found[0])} and {_text(each)}): the blocks "
                        f"are not periods of one stack"
                    )


def check_rates(lowered: Lowered, rates: Mapping[str, Any]) -> None:
    """Raise DeriveError where two periods have other ``rates``: learning rates by weight, which some laws read off
    gradients at init.  Bounds of these may grow from block to block where a norm makes them larger."""
    weights = {leaf.name: leaf.weight.name for leaf in lowered.leaves}
    for stack in lowered.stacks:
        for names in stack.twins:
            first, *others = (weights[name] for name in names)
            for other in others:
                if rates[first] != rates[other]:
                    raise DeriveError(
                        f"{first} and {other} stand at the same place of two blocks along {stack.scale}, and gradients "
                        f"at init, which this optimizer's rates follow, have different bounds; take one whose updates "
                        f"do not follow them (Adam, Muon), or derive without {stack.scale}"
                    )


def depth_notes(lowered: Lowered, facts: Mapping[int, Fact]) -> Iterator[str]:
    """What the powers of a depth leave out: skips between streams, blocks that stand alone, branches with a mean."""
    if not lowered.stacks:
        return
    graph = Graph(lowered, None)
    streams = frozenset().union(*(stack.stream.values for stack in lowered.stacks))
    with_mean = [(atom, inside) for atom, inside in branches(lowered) if not _is_signed(atom, facts)]
    shared = frozenset().union(*(inside for _, inside in with_mean))
    matrices = {leaf.value: leaf.weight.name for leaf in lowered.leaves if len(leaf.shape) > 1}
    for stack in lowered.stacks:
        skips, single = [], []
        for junction in stack.stream.junctions:
            where = lowered.where(junction.atom)
            if not junction.factor and not streams.isdisjoint(junction.joining):
                skips.append(where)
            made = cone(graph, junction.joining, streams)
            own = {matrices[vid] for vid in made if vid in matrices}
            if not junction.factor and len(own) == 1 and stack.alpha == ONE and not made & shared & matrices.keys():
                single.append(where)
        if skips:
            yield (
                f"{_some(skips)}: what is added to the stream along {stack.scale} is a stream itself, so that the sum "
                f"grows with {stack.scale} and no weight makes it less: multiply what is added by 1/{stack.scale}"
            )
        if single:
            yield (
                f"{_some(single)}: branches of one matrix along {stack.scale}, which learn as much with alpha = 1/2; "
                f"branches of two or more need alpha = 1"
            )
    alike = [lowered.where(atom) for atom, _ in with_mean if atom.structure.alpha != ONE]  # type: ignore[attr-defined]
    if alike:
        yield (
            f"{_some(alike)}: what is added has a mean that all periods share (weights that are tied, or no weight "
            f"behind the last nonlinearity), so that alpha is 1 there"
        )
    alone = list(_alone(lowered, graph))
    if alone:
        scales = " and ".join(dict.fromkeys(stack.scale for stack in lowered.stacks))
        yield f"{_some(alone)}: blocks that do not repeat with {scales}; their weights have no power of it"


def _is_signed(atom: Atom, facts: Mapping[int, Fact]) -> bool:
    s: Any = atom.structure
    return bool(s.factor or flips(s, facts[s.x]))


def _alone(lowered: Lowered, graph: Graph) -> Iterator[str]:
    """Where something is added to what it was made of, outside of all loops."""
    within = {junction.atom.node for stack in lowered.stacks for junction in stack.stream.junctions}
    inside = frozenset().union(*(stack.cones.inside for stack in lowered.stacks))
    for atom in lowered.atoms[: lowered.forward]:
        if not isinstance(atom.structure, Sum) or atom.node in within or atom.out in inside:
            continue
        added = [x for x in operands(atom.structure) if x in graph.data]
        if any(x != y and _makes(graph, x, y) for x in added for y in added):
            yield lowered.where(atom)


def _makes(graph: Graph, x: int, y: int) -> bool:
    """Whether ``y`` is made of ``x`` by weights of its own."""
    return x in cone(graph, [y], ()) and not graph.weights.isdisjoint(cone(graph, [y], (x,)))


def _some(places: list[str]) -> str:
    places = list(dict.fromkeys(places))
    return ", ".join(places[:2]) + (f" and {len(places) - 2} more" if len(places) > 2 else "")


def _text(orders: tuple[Optional[Order], ...]) -> str:
    return ", ".join("none" if order is None else str(order) for order in orders)


__all__ = ["check_periods", "check_rates", "depth_notes", "depth_power", "slowed"]
