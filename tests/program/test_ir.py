"""The tensor program: what it tells of its nodes, values and ends."""

from __future__ import annotations

import pytest

from tpcalc.algebra.order import HALF, ONE, Order
from tpcalc.algebra.size import Size
from tpcalc.program.ir import Node, Program, Ref, Value, Weight

N, ROOT = Size.linear(), Size(((HALF, 1),))
VALUES = {
    0: Value(0, (N, N), "float32", "weight", "W"),
    1: Value(1, (Size.constant(3), N), "float32", "input"),
    2: Value(2, (N, ROOT), "float32"),
    3: Value(3, (), "float32"),
    4: Value(4, (N, N), "float32"),
}
NODES = (
    Node(0, "aten.mm.default", (Ref(1), Ref(0)), (), (2,), "head", "gpt.py:41"),
    Node(1, "aten.sum.dim_IntList", ([],), (("keep", (Ref(2), Ref(2))),), (3, None)),
    Node(2, "mine.grad", (Ref(2), (Ref(0), None, (Ref(1),))), (), (4,), phase="backward"),
)
W = Weight("W", 0, (N, N), grad=4, aliases=("V",))


def program(**more) -> Program:
    return Program((64, 128, 256), NODES, VALUES, (W,), (1,), **more)


def test_values():
    assert VALUES[2].growths == (ONE, HALF) and VALUES[2].growth is Order("3/2") and VALUES[3].growth == 0
    assert [VALUES[vid].type_text for vid in (0, 1, 2, 3)] == ["M[n, n]", "V[n]", "M[n, n^(1/2)]", "S"]


def test_nodes():
    assert [tuple(node.refs) for node in NODES] == [(1, 0), (2, 2), (2, 0, 1)]
    assert [node.short_op for node in NODES] == ["mm", "sum", "mine"]
    assert [node.where for node in NODES] == ["head, gpt.py:41", "", ""]


def test_uses():
    own = program()
    assert own.weight_of_value == {0: W} and W.names == ("W", "V")
    assert own.producers == {2: NODES[0], 3: NODES[1], 4: NODES[2]}
    assert own.consumers == {0: (NODES[0], NODES[2]), 1: (NODES[0], NODES[2]), 2: (NODES[1], NODES[2])}
    assert own.uses(W) == (NODES[0],), "those of the backward pass are none"
    assert [own.value_name(vid) for vid in VALUES] == ["W", "x1", "h2", "h3", "g4"]


def test_graph():
    graph = program().graph()
    assert set(graph.edges) == {
        (("value", 1), 0),
        (("value", 0), 0),
        (0, 1),
        (0, 2),
        (("value", 0), 2),
        (("value", 1), 2),
    }
    assert graph.edges[0, 1]["value"] == 2 and graph.nodes[2]["node"] is NODES[2]


@pytest.mark.parametrize(
    "outputs, loss, ends, results",
    [
        ((), None, (), ()),
        ((("a", 2), ("b", 3)), None, (2, 3), (2, 3)),
        ((), 3, (3,), (3,)),
        ((("logits", 2),), 3, (3,), (2,)),
    ],
)
def test_where_a_program_ends(outputs, loss, ends, results):
    """A loss beside outputs: training starts at the loss, and the outputs are what is computed."""
    own = program(outputs=outputs, loss=loss)
    assert (own.ends, own.results) == (ends, results)
