"""What must hold of every program."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tpcalc.algebra.size import Size
from tpcalc.errors import ProgramError
from tpcalc.program.ir import Node, Program, Ref, Value, Weight

N = Size.linear()


def node(index: int, *args: object, outputs: tuple, **more) -> Node:
    return Node(index, "aten.mm.default", args, (), outputs, "head", "gpt.py:41", **more)


def program(**changes) -> Program:
    """A weight that meets an input, the result squared."""
    values = {
        0: Value(0, (N, N), "float32", "weight", "W"),
        1: Value(1, (N,), "float32", "input", "x"),
        2: Value(2, (N,), "float32"),
        3: Value(3, (N,), "float32"),
    }
    nodes = (node(0, Ref(1), Ref(0), outputs=(2,)), node(1, (Ref(2), Ref(2)), outputs=(3, None)))
    parts = {"nodes": nodes, "values": values, "weights": (Weight("W", 0, (N, N)),), "outputs": (("y", 3),)}
    return Program((64, 128, 256), **{**parts, **changes})


GOOD = program()
FIRST, SECOND = GOOD.nodes
PLACE = r"node 1 \(aten.mm.default, head, gpt.py:41\)"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"nodes": (FIRST, node(1, Ref(9), outputs=(3,)))}, f"{PLACE} uses the unknown value 9"),
        ({"nodes": (FIRST, node(1, (Ref(1), (Ref(3),)), outputs=(3,)))}, f"{PLACE} uses value 3 before it is made"),
        ({"nodes": (SECOND, FIRST)}, f"{PLACE} uses value 2 before it is made"),
        ({"nodes": (FIRST, replace(SECOND, outputs=(2,)))}, f"{PLACE} redefines value 2"),
        ({"nodes": (FIRST, replace(SECOND, outputs=(3, 3)))}, f"{PLACE} redefines value 3"),
        ({"nodes": (FIRST, replace(SECOND, outputs=(1,)))}, f"{PLACE} redefines value 1"),
        ({"nodes": (FIRST, SECOND, node(2, outputs=(9,)))}, "node 2 .* makes the unknown value 9"),
        ({"weights": (Weight("W", 0, ()), Weight("V", 0, (), aliases=("W",)))}, "weight name W appears twice"),
        ({"weights": (Weight("W", 0, (), aliases=("W",)),)}, "weight name W appears twice"),
        ({"weights": (Weight("W", 9, ()),)}, "weight W refers to the undefined value 9"),
        ({"weights": (Weight("W", 0, (), grad=9),)}, "weight W refers to the undefined value 9"),
        ({"nodes": (FIRST,)}, "output value 3 is never made"),
    ],
)
def test_a_broken_program_is_refused(changes, message):
    with pytest.raises(ProgramError, match=message):
        program(**changes)
    with pytest.raises(ProgramError, match=message):
        replace(GOOD, **changes)


def test_an_argument_by_name_counts_too():
    late = Node(0, "aten.add.Tensor", (Ref(1),), (("alpha", (1, Ref(2))),), (3,))
    with pytest.raises(ProgramError, match="uses value 2 before it is made"):
        program(nodes=(late,))
