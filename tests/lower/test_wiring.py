"""What a program's nodes are is asked of the rules once each."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

from tests.support.wired import Op, wired
from tpcalc.algebra.size import Size
from tpcalc.lower.wiring import Wiring
from tpcalc.rules.structures import Exp

N = Size.linear()


def test_rules_are_asked_once():
    program = wired(
        [Op((0,), (Exp(0),), "n->n", ((N,),)), Op((1,), (Exp(1),), "n->n", ((N,),))], {0: (N,)}, (), (0,), 1
    ).program
    asked: Counter = Counter()

    def answer(what: str, *given: Any) -> str:
        asked[what] += 1
        return f"{what} {given[0] if isinstance(given[0], str) else given[0].index} {given[2:]}"

    registry: Any = SimpleNamespace(
        structure=lambda *given: answer("structure", *given),
        layout=lambda *given: answer("layout", *given),
        axes=lambda op: answer("axes", op),
    )
    wiring, (first, second) = Wiring(program, registry), program.nodes
    assert wiring.layout(first) == "layout 0 (None,)"
    assert [wiring.structures(node) for node in (first, second, first)] == ["structure 0 ()", "structure 1 ()"] * 1 + [
        "structure 0 ()"
    ]
    assert [wiring.layout(node) for node in (first, second, second)] == ["layout 0 (None,)"] + [
        "layout 1 ('structure 1 ()',)"
    ] * 2
    assert wiring.axes(first) == wiring.axes(second) == "axes op ()"
    assert asked == {"structure": 2, "layout": 2, "axes": 1}


def test_ops_that_declare_no_axes():
    program = wired([Op((0,), (Exp(0),), "n->n", ((N,),))], {0: (N,)}, (), (0,), 1).program
    (node,) = program.nodes
    for axes, picked, pieces in (
        (None, (), False),
        (SimpleNamespace(picked=lambda call: (len(call.shape(0)),), pieces=True), (1,), True),
        (SimpleNamespace(picked=lambda call: (), pieces=False), (), False),
    ):
        registry: Any = SimpleNamespace(axes=lambda op, axes=axes: axes)
        wiring = Wiring(program, registry)
        assert wiring.picked(node) == picked and wiring.has_pieces(node) is pieces
