"""Questions about a graph of values: what follows from what, through which of them, and what is met first.

The graphs are networkx DiGraphs with an edge from each operand to its result.
``through`` decides, by a value, whether a walk goes on behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

import networkx as nx

N = TypeVar("N", bound=Hashable)


def reach(starts: Iterable[N], onward: Callable[[N], Iterable[N]]) -> Iterator[N]:
    """Every node that ``onward`` leads to from ``starts``, those included, each once."""
    stack = list(starts)
    seen = set()
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            yield node
            stack.extend(onward(node))


def upstream(graph: "nx.DiGraph[N]", starts: Iterable[N], through: Callable[[N], bool]) -> Iterator[N]:
    """``starts`` and what they follow from, as far as ``through`` holds."""
    return reach(starts, lambda node: graph.predecessors(node) if node in graph and through(node) else ())


def downstream(graph: "nx.DiGraph[N]", starts: Iterable[N], through: Callable[[N], bool]) -> Iterator[N]:
    """``starts`` and all that follows from them by values that ``through`` holds for."""

    def onward(node: N) -> Iterator[N]:
        return (out for out in graph.successors(node) if through(out)) if node in graph else iter(())

    return reach(starts, onward)


def first_met(graph: "nx.DiGraph[N]", start: N, through: Callable[[N], bool]) -> Iterator[tuple[N, N]]:
    """What ``start`` enters first, behind all that it passes ``through``: the value that enters, the result."""
    for node in downstream(graph, (start,), through):
        if node in graph:
            yield from ((node, out) for out in graph.successors(node) if not through(out))


def trail(graph: "nx.DiGraph[N]", node: N, through: Callable[[N], bool]) -> Iterator[N]:
    """``node`` and, one behind the other, what it follows from; ``through`` holds for values of one operand."""
    yield node
    while node in graph and through(node):
        (node,) = graph.predecessors(node)
        yield node


__all__ = ["downstream", "first_met", "reach", "trail", "upstream"]
