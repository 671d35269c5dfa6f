"""True sizes of what a sum runs over: one structure at a time."""

from __future__ import annotations

import pytest

from tpcalc.algebra.order import HALF, ONE, ZERO
from tpcalc.algebra.size import Size
from tpcalc.lower.sizes import sized, sums
from tpcalc.program.ir import Node, Ref, Value
from tpcalc.rules.layout import Layout
from tpcalc.rules.structures import Contract, Exp, Known, Product, Reduce, Scale, Sizes, Sum, View

N, M, FEW = Size.linear(), Size.linear(3), Size.constant(5)
X, Y, Z = range(3)
VALUES = {X: Value(X, (FEW, N), "float32"), Y: Value(Y, (N, M), "float32"), Z: Value(Z, (N, FEW), "float32")}
NODE = Node(0, "some.op", (Ref(X), Ref(Y)), (), (Z, 4))
MADE = Sizes(((N, 1),), ((FEW, 1),), ((M, 1),))
LAYOUT = Layout((("b", "k"), ("k", "p")), (("b", "p"), ("k",)), sizes=MADE)
CONTRACT, SUM = Contract(X, Y, ONE, ZERO, ONE), Reduce(X, ONE)
FILLED = Contract(X, Y, ONE, ZERO, ONE, MADE)
OVER_K = Reduce(X, ONE, Sizes(((N, 1),)))

SIZED = [
    ((CONTRACT, None), (FILLED, None)),
    ((Scale(CONTRACT, HALF), None), (Scale(FILLED, HALF), None)),
    ((Sum((CONTRACT, Y)), None), (Sum((FILLED, Y)), None)),
    ((Contract(X, Z, ONE, ZERO, ZERO), None), None),
    ((Contract(Z, Y, ONE, ZERO, ZERO), None), None),
    ((Contract(View(X), Y, ONE, ZERO, ZERO), None), None),
    ((SUM, None), (OVER_K, None)),
    ((SUM, SUM), (OVER_K, Reduce(X, ONE, Sizes(((FEW, 1),))))),
    ((Known(ZERO), Reduce(Y, ONE)), (Known(ZERO), Reduce(Y, ONE, Sizes(((M, 1),))))),
    ((Exp(X), CONTRACT), (Exp(X), FILLED)),
    ((Reduce(Z, ONE), None), None),
    ((Reduce(Exp(X), ONE), None), None),
    ((Contract(Reduce(X, ONE), Y, ONE, ZERO, ZERO), None), (Contract(OVER_K, Y, ONE, ZERO, ZERO), None)),
    ((Product(X, Y), None), None),
]


@pytest.mark.parametrize("structures, expected", SIZED)
def test_what_sums_run_over(structures, expected):
    assert sized(NODE, structures, VALUES, lambda node: LAYOUT) == (structures if expected is None else expected)


def test_an_axis_without_a_label_has_an_unknown_fate():
    layout = Layout((("b", None), ("k", "p")), (("b", "p"),))
    assert sized(NODE, (SUM, None), VALUES, lambda node: layout) == (SUM, None)
    assert sized(NODE, (CONTRACT, None), VALUES, lambda node: layout) == (CONTRACT, None)


def test_a_node_that_sums_nothing_is_not_asked_for_its_axes():
    def asked(node: Node) -> Layout:
        raise AssertionError

    assert sized(NODE, (Exp(X), None), VALUES, asked) == (Exp(X), None)


@pytest.mark.parametrize(
    "structure, some, growing",
    [
        (SUM, True, True),
        (CONTRACT, True, True),
        (Reduce(X, ZERO), True, False),
        (Contract(X, Y, ZERO, ONE, ONE), True, False),
        (Scale(SUM, ONE), True, True),
        (Sum((Exp(X), Scale(SUM, ONE))), True, True),
        (Reduce(Reduce(X, ONE), ZERO), True, True),
        (Exp(X), False, False),
        (X, False, False),
        (None, False, False),
    ],
)
def test_whether_something_is_summed(structure, some, growing):
    assert (sums(structure), sums(structure, growing=True)) == (some, growing)
