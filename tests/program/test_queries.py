"""Walks over a small graph of values."""

from __future__ import annotations

import networkx as nx
import pytest

from tpcalc.program.queries import downstream, first_met, reach, trail, upstream

#: a -> b -> c -> e, b -> d -> e, x -> e
GRAPH = nx.DiGraph(["ab", "bc", "bd", "ce", "de", "xe"])


def anything(node: str) -> bool:
    return True


def test_everything_is_reached_once_also_in_circles():
    assert list(reach("a", {"a": "bc", "b": "d", "c": "d", "d": "a"}.get)) == ["a", "c", "d", "b"]
    assert list(reach("aa", lambda node: ())) == ["a"]


@pytest.mark.parametrize(
    "starts, through, found",
    [
        ("e", anything, "abcdex"),
        ("c", anything, "abc"),
        ("e", "e".__eq__, "cdex"),
        ("e", "x".__eq__, "e"),
        ("q", anything, "q"),
    ],
)
def test_upstream(starts, through, found):
    assert sorted(upstream(GRAPH, starts, through)) == list(found)


@pytest.mark.parametrize(
    "starts, through, found",
    [
        ("a", anything, "abcde"),
        ("a", "bc".__contains__, "abc"),
        ("a", "e".__eq__, "a"),
        ("cx", anything, "cex"),
        ("q", anything, "q"),
    ],
)
def test_downstream(starts, through, found):
    assert sorted(downstream(GRAPH, starts, through)) == list(found)


def test_what_is_met_first():
    assert sorted(first_met(GRAPH, "a", "bc".__contains__)) == [("b", "d"), ("c", "e")]
    assert list(first_met(GRAPH, "a", anything)) == list(first_met(GRAPH, "q", anything)) == []


def test_a_trail_ends_where_it_may_not_go_on():
    assert list(trail(GRAPH, "d", "bd".__contains__)) == ["d", "b", "a"]
    assert list(trail(GRAPH, "d", "b".__eq__)) == ["d"]
    assert list(trail(GRAPH, "q", anything)) == ["q"]
    with pytest.raises(ValueError):
        list(trail(GRAPH, "e", anything))
