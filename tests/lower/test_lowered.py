"""What is asked of a lowered program, of a few atoms written by hand."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from tpcalc.algebra.order import ONE, ZERO
from tpcalc.algebra.size import Size
from tpcalc.lower.lowered import Leaf, Lowered
from tpcalc.program.ir import Node, Program, Ref, Value, Weight
from tpcalc.rules.structures import (
    Atom,
    Centre,
    Contract,
    Exp,
    Gather,
    Guard,
    Power,
    Product,
    Scale,
    Structure,
    Sum,
    View,
)

TWO = Fraction(2)
N, B, M, ROUGH = Size.linear(), Size.constant(3), Size.linear(3), Size(((ONE / 2, 1),), rounded=True)
#: An input [B, n], another, a weight [n, n], one [n, 3n], a buffer [B, n].
X, Z, W, V, C = range(5)
FIRST = 10
SHAPES = {X: (B, N), Z: (B, N), W: (N, N), V: (N, M), C: (B, N)}
KINDS = {X: "input", Z: "input", W: "param", V: "param", C: "buffer"}


def lowered(
    *structures: Structure, shapes: dict | None = None, inner=(), derivative=(), backward=(), loss=None, **known: Any
):
    """Atoms of an op each, which give 10, 11, ...; ``shapes``: of those that the program has (all but ``inner``)."""
    outs = range(FIRST, FIRST + len(structures))
    own = [out for out in outs if out not in inner]
    values = {vid: Value(vid, shape, "float32", KINDS[vid], f"v{vid}") for vid, shape in SHAPES.items()}
    values |= {out: Value(out, (shapes or {}).get(out, (B, N)), "float32") for out in own}
    nodes = [
        Node(i, "op", (Ref(X),), (), (out if out in own else None,), derivative=out in derivative)
        for i, out in enumerate(outs)
    ]
    weights = (Weight("W", W, (N, N)), Weight("V", V, (N, M)))
    leaves = tuple(Leaf(w.name, w, w.value, w.shape, None) for w in weights)
    outputs = (("y", own[-1]),)
    program = Program((64, 128, 256), tuple(nodes), values, weights, inputs=(X, Z), outputs=outputs)
    atoms = tuple(Atom(out, s, i) for i, (out, s) in enumerate(zip(outs, structures)))
    return Lowered(program, atoms, len(atoms) - len(backward), leaves, **known)


def test_fixed_numbers():
    known = lowered(Exp(X), fixed=0b1100)
    assert [known.is_given(bits) for bits in (0b0100, 0b1100, 0b0110, 0b0001, 0)] == [True, True, False, False, False]


def test_what_follows_from_what():
    found = lowered(Product(X, W), Exp(10), Scale(11, ONE), backward=(12,))
    assert set(found.flow.edges) == {(X, 10), (W, 10), (10, 11)} and found.turn == {10: 0, 11: 1, 12: 2}
    assert found.maker[11].structure == Exp(10) and found.leaf_of_value[V].name == "V"
    constant = lowered(Sum(()), Exp(X))
    assert set(constant.flow.nodes) == {10, 11, X}


def test_what_depends_on_the_inputs():
    """Of an intermediate of an op as well."""
    found = lowered(
        Exp(C), Product(10, X), Exp(C), Scale(11, ONE), Exp(12), Scale(X, ONE), Exp(10), inner=range(11, 15)
    )
    found.program.__dict__["from_inputs"] = frozenset((X, Z))
    assert found.from_inputs == {X, Z, 11, 13}
    back = lowered(Exp(C), Exp(X), inner=(11,), backward=(11,))
    back.program.__dict__["from_inputs"] = frozenset((X,))
    assert back.from_inputs == {X}


MM = Contract(X, W, ONE, ZERO, ONE)
MEETS: dict[str, tuple[list[Structure], tuple]] = {
    "nothing": ([Exp(X)], (ZERO, None)),
    "a value": ([MM], (ONE, X)),
    "a value, weight first": ([Contract(W, Z, TWO, ONE, ZERO)], (TWO, Z)),
    "seen": ([View(W), Contract(X, 10, ONE, ZERO, ONE)], (ONE, X)),
    "scaled": ([Scale(W, ONE), Contract(X, 10, ONE, ZERO, ONE)], (ONE, X)),
    "guarded": ([Guard(W), Contract(X, 10, ONE, ZERO, ONE)], (ONE, X)),
    "centred": ([Centre(W), Contract(X, 10, ONE, ZERO, ONE)], (ONE, X)),
    "a function of as many entries": ([Exp(W), Contract(X, 10, ONE, ZERO, ONE)], (ONE, X)),
    "of fewer": ([Power(W, ONE), Contract(X, 10, ONE, ZERO, ONE)], (ZERO, None)),
    "times a value": ([Product(W, X), Contract(X, 10, ONE, ZERO, ONE)], (ZERO, None)),
    "of no order": ([Contract(X, W, ZERO, ONE, ONE)], (ZERO, X)),
    "two, the larger first": ([Contract(X, W, TWO, ZERO, ONE), Contract(Z, W, ONE, ZERO, ONE)], (TWO, X)),
    "two, the larger last": ([Contract(X, W, ONE, ZERO, ONE), Contract(Z, W, TWO, ZERO, ONE)], (TWO, Z)),
    "two alike": ([Contract(X, W, ONE, ZERO, ONE), Contract(Z, W, ONE, ZERO, ONE)], (ONE, X)),
    "none beside one of no order": ([Contract(X, W, ZERO, ZERO, ONE), Contract(Z, W, ZERO, ZERO, ONE)], (ZERO, X)),
    "behind a contraction": ([Contract(C, W, ONE, ZERO, ONE), Contract(X, 10, TWO, ZERO, ONE)], (ONE, C)),
}


@pytest.mark.parametrize("name", MEETS)
def test_what_a_weight_meets(name):
    structures, expected = MEETS[name]
    shapes = {10: (N,) if name == "of fewer" else (N, N)}
    found = lowered(*structures, shapes=shapes)
    picked = name in ("seen", "scaled", "guarded", "centred", "times a value")  # rows that the inputs name
    found.program.__dict__["from_inputs"] = frozenset({X, Z, *([10] if picked else [])})
    assert found.meets(found.leaves[0]) == expected


def test_a_part_of_an_op_is_the_weight_still():
    found = lowered(Exp(W), Contract(X, 10, ONE, ZERO, ONE), inner=(10,))
    found.program.__dict__["from_inputs"] = frozenset((X, Z))
    assert found.meets(found.leaves[0]) == (ONE, X)
    assert found.meets(found.leaves[1]) == (ZERO, None)


def test_what_a_norm_centres_inside():
    found = lowered(Centre(X), Centre(Z), Exp(10), Centre(C), Exp(X), Exp(X), inner=(10, 13, 14), backward=(13, 14, 15))
    assert [found.before_centring(vid) for vid in (10, 11, 12, 13, 14, X)] == [X, 11, 12, C, 14, X]
    assert found.centred_inside == {X}


def test_values_with_all_entries():
    shapes = {10: (B * N,), 11: (N,), 12: (B, N), 13: (B, N)}
    found = lowered(View(X), View(10), Exp(X), Scale(12, ONE), shapes=shapes)
    assert found.all_of(X) == {X} and found.all_of(10) == {10, X}
    assert found.all_of(11) == {11}  # a slice
    assert found.all_of(13) == {13, 12}
    inner = lowered(View(X), Guard(10), View(11), View(12), shapes={12: (B, N), 13: (N,)}, inner=(10, 11))
    assert inner.all_of(12) == {12, 11, 10, X} and inner.all_of(13) == {13} and inner.all_of(10) == {10, X}
    rough = lowered(View(X), View(10), View(11), shapes={10: (N,), 11: (ROUGH, B), 12: (ROUGH, B)})
    assert rough.all_of(12) == {12, 11}
    turned = lowered(View(X), View(10), shapes={10: (ROUGH, B), 11: (B, ROUGH)})
    assert turned.all_of(11) == {11}  # nobody knows
    some = lowered(View(X), View(10), shapes={10: (N,), 11: (N,)})
    assert some.all_of(11) == {11, 10}


def test_the_value_that_stands_for_one():
    found = lowered(Exp(X), Exp(10), inner=(10,))
    assert found.shown(X) == X and found.shown(11) == 11 and found.shown(10) is None
    block = Leaf("W[0]", found.leaves[0].weight, 50, (N, N), None)
    table = Lowered(found.program, (*found.atoms, Atom(60, Exp(11), 1)), 3, (block,))
    assert table.shown(50) == W and table.shown(60) == 11
    split = Node(2, "op", (Ref(X),), (), (None, 11))
    found.program.__dict__["nodes"] = (*found.program.nodes, split)
    assert Lowered(found.program, (Atom(70, Exp(X), 2),), 1, ()).shown(70) == 11
    assert table.leaves_of == {"W": (block,)}


def test_values_that_are_used_by_their_derivative_alone():
    """An energy of which only the forces are an output: what its weights give has no size that counts."""
    energy: list[Structure] = [MM, Exp(10), Product(11, X), Product(10, 12)]
    assert lowered(*energy).differentiated == ()
    assert lowered(MM, View(W), Contract(Z, 11, ONE, ZERO, ONE), derivative=(12,)).differentiated == (10,)
    assert lowered(MM, View(W), Contract(Z, 11, ONE, ZERO, ONE), Sum((10, 12)), derivative=(12,)).differentiated == ()
    # seen first; twice; another weight that is in no output
    seen = lowered(View(W), Contract(X, 10, ONE, ZERO, ONE), Contract(Z, 10, ONE, ZERO, ONE), derivative=(12,))
    assert seen.differentiated == (11,)
    both = lowered(MM, Contract(X, V, ONE, ZERO, ONE), Contract(Z, W, ONE, ZERO, ONE), derivative=(12,))
    assert both.differentiated == (10,)
    shared = lowered(
        Contract(V, W, ONE, ZERO, ONE),
        Contract(Z, W, ONE, ZERO, ONE),
        Contract(11, V, ONE, ZERO, ONE),
        derivative=(11, 12),
    )
    assert shared.differentiated == (10,)
    lost = lowered(MM, Contract(Z, W, ONE, ZERO, ONE), Exp(Z), derivative=(11,))
    assert lost.differentiated == ()


def test_what_a_gradient_in_the_forward_pass_is_made_of():
    """And nothing else: what others read as well, what leaves and what nobody reads is not."""
    found = lowered(Exp(X), Exp(Z), Product(10, 11), Exp(11), Exp(X), derivative=(12,))
    assert found.derivatives == {10, 12}
    found = lowered(Exp(X), Exp(Z), Product(10, 11), Exp(X), derivative=(12,))
    assert found.derivatives == {10, 11, 12}
    found = lowered(Exp(X), Exp(Z), Product(10, 11), Exp(X), derivative=(12,))
    found.program.__dict__["outputs"] = (("y", 10),)
    assert found.derivatives == {11, 12}


def test_gradients_that_leave_as_they_are():
    leaves = (Exp(X), Exp(10), View(11), Scale(12, ONE), Sum((13, Z)), Gather(14), Exp(Z))
    assert lowered(*leaves, derivative=(11,)).slopes == {10, 11}
    assert lowered(*leaves, Exp(15), derivative=(11,)).slopes == frozenset()
    assert lowered(*leaves, Product(11, Z), derivative=(11,)).slopes == frozenset()
