"""Which values are computed twice, of a few calls written by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tpcalc.algebra.size import Size
from tpcalc.lower.copies import without_copies
from tpcalc.program.ir import Node, Program, Ref, Value
from tpcalc.rules.axes import SAME
from tpcalc.rules.structures import Exp, View

N, B = Size.linear(), Size.constant(3)
X, Y = 0, 1


def call(op: str, *args: Any, outs: tuple = (), **known: Any) -> Any:
    """A call; ``outs``: its results (one, numbered from 10, where none are given)."""
    return op, args, outs, known


def read(*calls: Any, shapes: dict | None = None, dtypes: dict | None = None, loop: tuple = ()) -> list[tuple]:
    """What each call reads once copies are gone: its arguments and keywords.  ``loop``: calls of a turn each."""
    values = {vid: Value(vid, (B, N), "float32", "input") for vid in (X, Y)}
    nodes = []
    for i, (op, args, outs, known) in enumerate(calls):
        outs = outs or (10 + i,)
        nodes.append(Node(i, op, args, outputs=outs, **{"kwargs": (), **known}))
        for out in outs:
            if out is not None:
                values[out] = Value(out, (shapes or {}).get(out, (B, N)), (dtypes or {}).get(out, "float32"))
    registry: Any = SimpleNamespace(
        axes=lambda op: SAME if "same" in op else None,
        structure=lambda node, values: tuple(
            View(X) if "view" in node.op or (i and "both" in node.op) else Exp(X) for i, _ in enumerate(node.outputs)
        ),
    )
    repeats: Any = SimpleNamespace(loops=(SimpleNamespace(covers=lambda i: i in loop, turn=lambda i: i),))
    program = Program((64, 128, 256), tuple(nodes), values, (), inputs=(X, Y), repeats=repeats)
    found = without_copies(program, registry)
    assert (found is program) is (found.nodes == program.nodes)
    return [(node.args, node.kwargs) for node in found.nodes]


EXP, LAST = "aten.exp.default", "aten.last.default"
#: A call, the same again or another, and whether what reads the second reads the first.
TWICE: dict[str, tuple[Any, Any, bool]] = {
    "the same": (call(EXP, Ref(X)), call(EXP, Ref(X)), True),
    "of another value": (call(EXP, Ref(X)), call(EXP, Ref(Y)), False),
    "another op": (call(EXP, Ref(X)), call("aten.sin.default", Ref(X)), False),
    "with another number": (call(EXP, Ref(X), 1), call(EXP, Ref(X), 2), False),
    "with another keyword": (call(EXP, Ref(X), kwargs=(("k", 1),)), call(EXP, Ref(X), kwargs=(("k", 2),)), False),
    "with the same keyword": (call(EXP, Ref(X), kwargs=(("k", 1),)), call(EXP, Ref(X), kwargs=(("k", 1),)), True),
    "random": (call(EXP, Ref(X), random=True), call(EXP, Ref(X), random=True), False),
    "of nothing": (call("aten.zeros.default", 3), call("aten.zeros.default", 3), False),
    "of others": (call("mylib.exp.default", Ref(X)), call("mylib.exp.default", Ref(X)), False),
    "a derivative": (call(EXP, Ref(X)), call(EXP, Ref(X), derivative=True), False),
    "views, which are the same": (call("aten.view.default", Ref(X)), call("aten.view.default", Ref(X)), False),
    "the same as it": (call("aten.same.default", Ref(X)), call("aten.same.default", Ref(X)), False),
    "the same of two": (call("aten.same.default", Ref(X), Ref(Y)), call("aten.same.default", Ref(X), Ref(Y)), True),
}


@pytest.mark.parametrize("name", TWICE)
def test_a_call_made_again(name):
    first, second, again = TWICE[name]
    assert read(first, second, call(LAST, Ref(11), 5))[2][0] == (Ref(10 if again else 11), 5)


def test_arguments_in_lists_and_keywords():
    found = read(
        call(EXP, Ref(X)), call(EXP, Ref(X)), call(LAST, (Ref(X), (Ref(11), 1)), (Ref(Y),), kwargs=(("of", Ref(11)),))
    )
    assert found[2] == (((Ref(X), (Ref(10), 1)), (Ref(Y),)), (("of", Ref(10)),))


def test_calls_on_copies_are_copies():
    found = read(*(call(EXP, Ref(x)) for x in (X, X, 10, 11)), call(LAST, Ref(13)))
    assert found[3:] == [((Ref(10),), ()), ((Ref(12),), ())]


def test_what_shows_all_of_a_value_is_that_value():
    """A cast to what it is, a view as it was: what is computed of either is computed twice."""
    same = call("aten.same.default", Ref(X))
    assert read(same, call(EXP, Ref(X)), call(EXP, Ref(10)), call(LAST, Ref(12)))[3][0] == (Ref(11),)
    chain = (same, call("aten.same.default", Ref(10)), call(EXP, Ref(X)), call(EXP, Ref(11)), call(LAST, Ref(13)))
    assert read(*chain)[4][0] == (Ref(12),)
    for known in ({"shapes": {10: (N, B)}}, {"dtypes": {10: "float64"}}):
        assert read(same, call(EXP, Ref(X)), call(EXP, Ref(10)), call(LAST, Ref(12)), **known)[3][0] == (Ref(12),)
    views = (call("aten.view.default", Ref(X)), call("aten.view.default", Ref(X)))
    assert read(*views, call(EXP, Ref(10)), call(EXP, Ref(11)), call(LAST, Ref(13)))[4][0] == (Ref(12),)
    other = call("aten.other.default", Ref(X))
    assert read(other, call(EXP, Ref(X)), call(EXP, Ref(10)), call(LAST, Ref(12)))[3][0] == (Ref(12),)
    for refs in ((Ref(X),), (Ref(X), Ref(Y))):
        two = call("aten.same.default", *refs, outs=(20, 21))
        assert read(two, call(EXP, Ref(X)), call(EXP, Ref(20)), call(LAST, Ref(12)))[3][0] == (Ref(12),)


def test_of_several_results():
    for op in ("aten.two.default", "aten.both.default"):
        calls = (call(op, Ref(X), outs=(20, 21)), call(op, Ref(X), outs=(22, 23)), call(LAST, Ref(22), Ref(23)))
        assert read(*calls)[2][0] == (Ref(20), Ref(21))
    parts = (call("aten.two.default", Ref(X), outs=(20, None)), call("aten.two.default", Ref(X), outs=(22, 23)))
    assert read(*parts, call(LAST, Ref(22), Ref(23)))[2][0] == (Ref(20), Ref(23))
    parts = (call("aten.two.default", Ref(X), outs=(20, 21)), call("aten.two.default", Ref(X), outs=(22, None)))
    assert read(*parts, call(LAST, Ref(22)))[2][0] == (Ref(20),)
    lost = (call("aten.two.default", Ref(X), outs=(None, 21)), call("aten.two.default", Ref(X), outs=(None, 23)))
    assert read(*lost, call(LAST, Ref(23)))[2][0] == (Ref(23),)


def test_each_period_of_a_stack_stands_for_itself():
    calls = (call(EXP, Ref(X)), call(EXP, Ref(X)), call(LAST, Ref(11)))
    assert [read(*calls, loop=loop)[2][0] for loop in ((), (0, 1), (2,))] == [(Ref(10),), (Ref(11),), (Ref(10),)]


def test_ops_that_are_left():
    """Those that made a copy stay, with nothing that reads them."""
    assert len(read(call(EXP, Ref(X)), call(EXP, Ref(X)), call(LAST, Ref(11)))) == 3
