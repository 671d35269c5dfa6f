"""The last weights of experts, found through one op at a time whose axes are given."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tests.support.wired import Op, wired
from tpcalc.algebra.order import ONE, ZERO
from tpcalc.algebra.size import Size
from tpcalc.lower.experts import Expert, experts
from tpcalc.lower.gates import Gates
from tpcalc.rules.structures import (
    Contract,
    Exp,
    Gather,
    Power,
    Product,
    Reduce,
    Scale,
    Softmax,
    Sum,
    View,
)

TWO = Fraction(2)
E, N, B, K = Size.linear(), Size.linear(2), Size.constant(3), Size.constant(2)
#: Scores, a matrix of each expert, two of all, values [B, n], [B, e, n], [B, e]; fixed places, another value [B, n].
SCORES, EACH, W, V, H, U, SIGMOIDS, FIXED, G = range(9)
LEAVES = {
    SCORES: (B, E),
    EACH: (E, N, N),
    W: (N, N),
    V: (N, N),
    H: (B, N),
    U: (B, E, N),
    SIGMOIDS: (B, E),
    FIXED: (B, K),
    G: (B, N),
}
#: Gates of all, two of the scores and their places; what all experts give, what one matrix does.
GATES, TOP, PLACES, GIVEN, ALONE, OUT = range(16, 22)
START = (
    Op((SCORES,), (Softmax(SCORES, ONE),), "be->be", ((B, E),), (1,)),
    Op((SCORES,), (Power(SCORES, ONE, largest=True), Scale(SCORES, ZERO)), "b.->b.,b.", ((B, K), (B, K)), (1,)),
    Op((U, EACH), (Contract(U, EACH, ONE, ZERO, ONE),), "ben,enm->bem", ((B, E, N),)),
    Op((H, W), (Contract(H, W, ONE, ZERO, ONE),), "bn,nm->bm", ((B, N),)),
)


def found(*ops: Op) -> list[tuple]:
    """Weights with K, R and how many are added up; results of ``ops`` are numbered from 21."""
    gates = Gates(wired((*START, *ops), LEAVES, (EACH, W, V), (SCORES, H, U, SIGMOIDS, G), GATES))
    return [(expert.weight, expert.K, expert.R, expert.count) for expert in experts(gates)]


def weighs(gate: int, value: int) -> Op:
    return Op((gate, value), (Product(gate, value),), "be,bem->bem", ((B, E, N),))


def alone(gate: int, value: int = ALONE) -> Op:
    """A gate weighs a vector."""
    return Op((gate, value), (Product(gate, value),), "b.,bm->bm", ((B, N),))


def given(s, refs=(GIVEN,), axes: str = "bem->bem", **known) -> Op:
    return Op(refs, (s,), axes, ((B, E, N),), **known)


EACHS = [(f"w{EACH}", ONE, ONE, ONE)]
ONES = [(f"w{W}", ONE, ONE, ONE)]
TWOS = [(f"w{W}", ONE, ONE, ZERO)]
TAKEN = Op((GATES,), (View(GATES),), "be->b.", ((B, K),), takes=1)
ROWS: dict[str, tuple[tuple[Op, ...], list]] = {
    "weighed": ((weighs(GATES, GIVEN),), EACHS),
    "weighed, other way round": ((given(Product(GIVEN, GATES), (GIVEN, GATES), "bem,be->bem"),), EACHS),
    "weighed and scaled": ((given(Scale(Product(GATES, GIVEN), ONE), (GATES, GIVEN), "be,bem->bem"),), EACHS),
    "weighed, a function of it": ((given(Product(GATES, Exp(GIVEN)), (GATES, GIVEN), "be,bem->bem"),), []),
    "weighed by a function": ((given(Product(Exp(GATES), GIVEN), (GATES, GIVEN), "be,bem->bem"),), []),
    "added up": ((Op((GATES, GIVEN), (Contract(GATES, GIVEN, ONE, ZERO, ONE),), "be,bem->bm", ((B, N),)),), EACHS),
    "backwards": ((weighs(GATES, GIVEN)._replace(phase="backward"),), []),
    "not by gates": ((weighs(SIGMOIDS, GIVEN),), []),
    "gates by gates": ((Op((GATES, TOP), (Product(GATES, TOP),), "be,b.->be", ((B, E),)),), []),
    "a weight itself": ((Op((GATES, EACH), (Product(GATES, EACH),), "be,enm->ben", ((B, E, N),)),), []),
    "none of no order": ((Op((GATES, GIVEN), (None,), "be,bem->bem", ((B, E, N),)),), []),
    "what nothing reads": (
        (Op((GATES, GIVEN), (Product(GATES, GIVEN), Exp(GIVEN)), "be,bem->bem,bem", (None, (B, E, N))),),
        EACHS,
    ),
    # what stands between
    "seen": ((given(View(GIVEN)), weighs(GATES, OUT)), EACHS),
    "scaled": ((given(Scale(GIVEN, ONE)), weighs(GATES, OUT)), EACHS),
    "with a bias": ((given(Sum((GIVEN, EACH)), (GIVEN, EACH), "bem,enm->bem"), weighs(GATES, OUT)), EACHS),
    "a bias first": ((given(Sum((EACH, GIVEN)), (EACH, GIVEN), "enm,bem->bem"), weighs(GATES, OUT)), EACHS),
    "in other places": ((given(Gather(GIVEN)), weighs(GATES, OUT)), EACHS),
    "a function": ((given(Exp(GIVEN)), weighs(GATES, OUT)), []),
    "a sum over it": ((given(Reduce(GIVEN, ZERO)), weighs(GATES, OUT)), []),
    "added to another": ((given(Sum((U, GIVEN)), (U, GIVEN), "ben,ben->ben"), weighs(GATES, OUT)), []),
    "added first": ((given(Sum((GIVEN, U)), (GIVEN, U), "ben,ben->ben"), weighs(GATES, OUT)), EACHS),
    "written into another": ((given(Sum((U, GIVEN), "put"), (U, GIVEN), "ben,ben->ben"), weighs(GATES, OUT)), EACHS),
    "chosen or another": ((given(Sum((U, GIVEN), "choice"), (U, GIVEN), "ben,ben->ben"), weighs(GATES, OUT)), EACHS),
    "written into, and scaled": (
        (given(Scale(Sum((U, View(GIVEN)), "put"), ONE), (U, GIVEN), "ben,ben->ben"), weighs(GATES, OUT)),
        EACHS,
    ),
    "of nothing that is given": ((given(View(EACH), (EACH,), "enm->enm"), weighs(GATES, OUT)), []),
    "an input": ((weighs(GATES, U),), []),
    "a product with a weight": ((given(Product(U, EACH), (U, EACH), "ben,enm->ben"), weighs(GATES, OUT)), []),
    "of no weight": ((given(Contract(U, H, ZERO, ZERO, ONE), (U, H), "ben,bm->bem"), weighs(GATES, OUT)), []),
    "of a function of a weight": (
        (given(Contract(U, Exp(EACH), ONE, ZERO, ONE), (U, EACH), "ben,enm->bem"), weighs(GATES, OUT)),
        [],
    ),
    "something of no order": ((given(None), weighs(GATES, OUT)), []),
    # which gates
    "one gate": ((TAKEN, alone(OUT)), ONES),
    "one gate, scaled": ((TAKEN, Op((OUT,), (Scale(OUT, ONE),), "b.->b.", ((B, K),)), alone(OUT + 1)), ONES),
    "all gates of a vector": ((alone(GATES),), []),
    "one gate in a contraction": (
        (TAKEN, Op((OUT, ALONE), (Contract(OUT, ALONE, ZERO, ONE, ONE),), "b.,bm->.m", ((K, N),))),
        [],
    ),
    "a gate looked up": ((Op((GATES, PLACES), (Gather(GATES),), "b.,b.->b.", ((B, K),)), alone(OUT)), ONES),
    "the largest": ((weighs(TOP, GIVEN),), [(f"w{EACH}", ONE, ONE, ZERO)]),
    "scores looked up": (
        (Op((SIGMOIDS, PLACES), (Gather(SIGMOIDS),), "b.,b.->b.", ((B, K),)), weighs(OUT, GIVEN)),
        [(f"w{EACH}", ONE, ONE, ZERO)],
    ),
    "scores looked up elsewhere": (
        (Op((SIGMOIDS, PLACES), (Gather(SIGMOIDS),), "b.,b.->b.", ((B, E),)), weighs(OUT, GIVEN)),
        [],
    ),
    "scores looked up by no gate": (
        (Op((SIGMOIDS, G), (Gather(SIGMOIDS),), "b.,b.->b.", ((B, K),)), weighs(OUT, GIVEN)),
        [],
    ),
    "a scaled score": (
        (Op((SIGMOIDS, GATES), (Product(SIGMOIDS, GATES),), "be,be->be", ((B, E),)), weighs(OUT, GIVEN)),
        [],
    ),
    "scores where the places say": (
        (Op((SIGMOIDS, PLACES), (Scale(SIGMOIDS, ONE),), "b.,b.->b.", ((B, K),)), weighs(OUT, GIVEN)),
        [],
    ),
    "fixed rows of a weight": ((Op((W, FIXED), (Gather(W),), ".n,..->..n", ((B, K, N),)), weighs(GATES, GIVEN)), EACHS),
    "gates of gates": ((Op((GATES,), (Exp(GATES),), "be->be", ((B, E),)), weighs(OUT, GIVEN)), EACHS),
    "a weight's rows where gates say": (
        (Op((GATES, PLACES), (Scale(GATES, ONE),), "be,b.->be", ((B, E),)), weighs(OUT, GIVEN)),
        EACHS,
    ),
    "gates of two kinds": ((Op((GATES, TOP), (Sum((TOP, GATES)),), "b.,be->be", ((B, E),)), weighs(OUT, GIVEN)), EACHS),
    "gates where another says": (
        (Op((GATES, G), (Scale(GATES, ONE),), "be,bn->be", ((B, E),)), weighs(OUT, GIVEN)),
        EACHS,
    ),
    "all gates scaled, of a vector": ((Op((GATES,), (Scale(GATES, ONE),), "be->be", ((B, E),)), alone(OUT)), []),
    "places alone": (
        (
            Op((SCORES,), (Power(SCORES, ONE, largest=True), Scale(SCORES, ZERO)), "b.->b.,b.", (None, (B, K)), (1,)),
            weighs(GATES, GIVEN),
        ),
        EACHS,
    ),
    "other scores": (
        (
            Op((H, V), (Contract(H, V, ONE, ZERO, ONE),), "bn,ne->be", ((B, N),)),
            Op((OUT, PLACES), (Gather(OUT),), "b.,b.->b.", ((B, K),)),
            TAKEN,
            alone(OUT + 2, OUT + 1),
        ),
        [],
    ),
    "a matrix made of two": (
        (Op((W, V), (Contract(W, V, ONE, ONE, ONE),), "bn,nm->bm", ((N, N),)), TAKEN, alone(OUT + 1, OUT)),
        [],
    ),
    "constants written over it": (
        (given(Sum((GIVEN, FIXED), "choice"), (GIVEN, FIXED), "bem,b.->bem"), weighs(GATES, OUT)),
        EACHS,
    ),
    # one after the other
    "twice": ((weighs(GATES, GIVEN), weighs(TOP, GIVEN)), EACHS),
    "twice, few first": ((weighs(TOP, GIVEN), weighs(GATES, GIVEN)), EACHS),
    "two": ((weighs(GATES, GIVEN), TAKEN, alone(OUT + 1)), [*EACHS, *ONES]),
}


@pytest.mark.parametrize("name", ROWS)
def test_last_weights_of_experts(name):
    ops, expected = ROWS[name]
    assert found(*ops) == expected


MAKERS: dict[str, tuple[tuple[Op, ...], list]] = {
    "weight first": ((given(Contract(EACH, U, ONE, ONE, ZERO), (EACH, U), "enm,ben->bem"),), EACHS),
    "side by side": ((given(Contract(H, EACH, ONE, ZERO, TWO), (H, EACH), "bn,enm->bem"),), []),
    "side by side, one axis": ((given(Contract(H, EACH, ONE, ZERO, TWO), (H, EACH), "bn,.nm->bem"),), EACHS),
    "side by side, weight first": ((given(Contract(EACH, H, ONE, TWO, ZERO), (EACH, H), ".nm,bn->bem"),), EACHS),
    "side by side, weight first, labelled": ((given(Contract(EACH, H, ONE, TWO, ZERO), (EACH, H), "enm,bn->bem"),), []),
    "one for all": ((given(Contract(U, W, ONE, ZERO, ONE), (U, W), "ben,nm->bem"),), []),
}


@pytest.mark.parametrize("name", MAKERS)
def test_what_makes_what_gates_weigh(name):
    (maker,), expected = MAKERS[name]
    assert found(maker, weighs(GATES, OUT)) == expected


def test_weights_that_an_index_has_picked():
    picked = Op((EACH, PLACES), (Gather(EACH),), ".nm,..->..nm", ((B, K, N, N),))
    maker = Op((H, OUT), (Contract(H, OUT, ONE, ZERO, ONE),), "bn,fenm->bem", ((B, K, N),))
    assert found(picked, maker, weighs(TOP, OUT + 1)) == [(f"w{EACH}", ONE, ONE, ZERO)]
    share = Op((SCORES,), (Power(SCORES, ONE, largest=True),), "b.->b.", ((B, E),), (1,))
    picked = Op((EACH, OUT), (Gather(EACH),), ".nm,..->..nm", ((B, E, N, N),))
    maker = Op((H, OUT + 1), (Contract(H, OUT + 1, ONE, ZERO, TWO),), "bn,fenm->bfem", ((B, E, N),))
    assert found(share, picked, maker, weighs(OUT, OUT + 2)) == EACHS
    seen = Op((EACH,), (View(EACH),), "enm->enm", ((E, N, N),))
    maker = given(Contract(U, OUT, ONE, ZERO, ONE), (U, OUT), "ben,enm->bem")
    assert found(seen, maker, weighs(GATES, OUT + 1)) == EACHS


def test_gates_in_one_sum_with_neurons():
    scaled = weighs(GATES, U)
    for s, refs, axes in (
        (Contract(OUT, EACH, TWO, ZERO, ONE), (OUT, EACH), "ben,enm->bm"),
        (Contract(EACH, OUT, TWO, ONE, ZERO), (EACH, OUT), "enm,ben->bm"),
    ):
        assert found(scaled, Op(refs, (s,), axes, ((B, N),))) == EACHS
    both = Op((OUT, EACH, G), (Product(Contract(OUT, EACH, TWO, ZERO, ONE), G),), "ben,enm,bm->bm", ((B, N),))
    assert found(scaled, both) == EACHS
    meets = Op((OUT, EACH), (Sum((Contract(OUT, EACH, TWO, ZERO, ONE), Product(OUT, EACH))),), "ben,enm->bm", ((B, N),))
    assert found(scaled, meets) == EACHS


def test_what_each_expert_gives_side_by_side():
    """A list of modules."""
    other = Op((G, V), (Contract(G, V, ONE, ZERO, ONE),), "bn,nm->bm", ((B, N),))
    for axis, expected in ((2, [*ONES, (f"w{V}", ONE, ONE, ONE)]), (1, [])):
        joined = Op((ALONE, OUT), (Sum((ALONE, OUT), "choice"),), "bm,bm->bem", ((B, E, N),), puts=axis)
        assert found(other, joined, weighs(GATES, OUT + 1)) == expected
    apart = Op((ALONE, OUT), (Sum((ALONE, OUT), "choice"),), "bm,bm->bem", ((B, E, N),), puts=2)
    unlike = Op((GATES, OUT + 1), (Product(GATES, OUT + 1),), "bf,bem->bem", ((B, E, N),))
    assert found(other, apart, unlike) == []


def test_the_table_is_one_of_experts():
    assert Expert("w", ONE, ZERO, ONE) == Expert(weight="w", K=ONE, R=ZERO, count=ONE)
