"""Axes that count experts, through one op at a time whose axes are given."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tests.support.wired import Op, wired
from tpcalc.algebra.order import ONE, ZERO
from tpcalc.algebra.size import Size
from tpcalc.lower.gates import Gates, Mean, pairs
from tpcalc.rules.layout import Layout
from tpcalc.rules.structures import (
    Contract,
    Exp,
    Gather,
    Operand,
    Power,
    Product,
    Scale,
    Softmax,
    Sum,
    View,
)

TWO = Fraction(2)
E, N, B, K = Size.linear(), Size.linear(2), Size.constant(3), Size.constant(2)
EN, EE = N * E, E * E
#: Scores, gates of them, a weight of each expert, one of all, a value [B, n], [B, e, n], one with no axis; places.
SCORES, EACH, W, H, U, PLACES, ZEROS = range(7)
GATES, WIDE, OUT = 18, 19, 20
LEAVES = {SCORES: (B, E), EACH: (E, N, N), W: (N, N), H: (B, N), U: (B, E, N), PLACES: (B, K), ZEROS: (B, E)}
START = (
    Op((SCORES,), (Softmax(SCORES, ONE),), "be->be", ((B, E),), (1,)),
    Op((GATES, H), (Product(GATES, H),), "be,bn->ben", ((B, E, N),)),
)


def gates(*ops: Op) -> Gates:
    """``GATES`` is a softmax of the scores, ``WIDE`` has experts; results of ``ops`` are numbered from 20."""
    return Gates(wired((*START, *ops), LEAVES, (EACH, W), (SCORES, H), GATES))


#: An op on what has experts, and the axes of its result that count them.
FORTH = {
    "the same": (Op((GATES,), (View(GATES),), "be->be", ((B, E),)), {1: ONE}),
    "turned": (Op((GATES,), (View(GATES),), "be->eb", ((E, B),)), {2: ONE}),
    "a new axis": (Op((GATES,), (View(GATES),), "be->be.", ((B, E, K),)), {2: ONE}),
    "summed": (Op((GATES,), (Scale(GATES, ONE),), "be->b", ((B,),)), {}),
    "mixed": (Op((GATES,), (View(GATES),), "b.->b.", ((B, E),)), {}),
    "split": (Op((GATES,), (View(GATES),), "b.->b..", ((B, E, K),), (), True), {2: ONE}),
    "split otherwise": (Op((GATES,), (View(GATES),), "b.->b..", ((B, K, E),), (), True), {1: ONE}),
    "joined": (Op((WIDE,), (View(WIDE),), "b..->b.", ((B, EN),), (), True), {1: ONE}),
    "joined to what is fixed": (Op((WIDE,), (View(WIDE),), "b..->b.", ((B, K),), (), True), {}),
    "joined, in as many axes": (Op((WIDE,), (View(WIDE),), "b..->b..", ((B, EN, K),), (), True), {2: ONE}),
    "regrouped, in as many axes": (Op((WIDE,), (View(WIDE),), "b..->b..", ((B, E, N),), (), True), {}),
    "regrouped, one as long": (Op((WIDE,), (View(WIDE),), "b..->b..", ((B, EN, E),), (), True), {1: ONE}),
    "split in two that grow more": (Op((WIDE,), (View(WIDE),), "b..->b...", ((B, EE, EN, K),), (), True), {}),
    "regrouped, kept": (Op((WIDE,), (View(WIDE),), "be.->be..", ((B, E, N, K),), (), True), {3: ONE}),
    "of an operand behind another": (Op((H, GATES), (Product(H, GATES),), "bn,be->ben", ((B, E, N),)), {2: ONE}),
    "looked up": (Op((EACH, GATES), (Gather(EACH),), ".nm,..->..nm", ((B, E, N, N),)), {3: ONE, 4: ZERO}),
    "looked up, other sizes": (Op((EACH, GATES), (Gather(EACH),), ".nm,..->..nm", ((B, EN, N, N),)), {4: ZERO}),
    "looked up by what has none": (Op((EACH, PLACES), (Gather(EACH),), ".nm,..->..nm", ((B, K, N, N),)), {}),
    "taken of": (Op((GATES, PLACES), (Gather(GATES),), "b.,..->b.", ((B, K),)), {}),
    "taken in another order": (Op((GATES, ZEROS), (Gather(GATES),), "b.,..->b.", ((B, E),)), {}),
    "regrouped beside": (Op((WIDE,), (View(WIDE),), "be.->be.", ((B, E, N),), (), True), {2: ONE}),
    "put": (Op((ZEROS, GATES), (Sum((ZEROS, GATES), "put"),), "b.,b.->b.", ((B, E),)), {1: ONE}),
    "put in order": (Op((ZEROS, GATES), (Sum((ZEROS, GATES), "put"),), "be,be->be", ((B, E),)), {1: ONE}),
    "put, and no axis lost": (Op((ZEROS, GATES), (Sum((ZEROS, GATES), "put"),), "b.,be->b.", ((B, E),)), {}),
    "put, of other rank": (Op((U, GATES), (Sum((U, GATES), "put"),), "b.n,b.->b.n", ((B, E, N),)), {}),
    "chosen": (Op((ZEROS, GATES), (Sum((ZEROS, GATES), "choice"),), "b.,b.->b.", ((B, E),)), {1: ONE}),
    "added": (Op((ZEROS, GATES), (Sum((ZEROS, GATES)),), "b.,b.->b.", ((B, E),)), {}),
    "multiplied": (Op((ZEROS, GATES), (Product(ZEROS, GATES),), "b.,b.->b.", ((B, E),)), {}),
    "a softmax over": (Op((GATES,), (Softmax(GATES, ZERO),), "be->be", ((B, E),), (2,)), {2: ZERO}),
    "a logarithm of one": (Op((SCORES,), (Softmax(SCORES, ONE, log=True),), "be->be", ((B, E),), (1,)), {}),
    "the largest": (Op((SCORES,), (Power(SCORES, ONE, largest=True),), "b.->b.", ((B, K),), (1,)), {1: ZERO}),
    "the largest share": (Op((SCORES,), (Power(SCORES, ONE, largest=True),), "b.->b.", ((B, N),), (1,)), {1: ONE}),
    "the smallest": (Op((SCORES,), (Power(SCORES, ONE),), "b.->b.", ((B, K),), (1,)), {}),
    "nothing": (Op((H,), (View(H),), "bn->bn", ((B, N),)), {}),
    "of no order": (Op((GATES,), (None,), "be->be", ((B, E),)), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", FORTH)
def test_axes_that_count_experts(name):
    op, expected = FORTH[name]
    assert gates(op).of.get(OUT, {}) == expected


def test_of_several_results_each_has_its_own():
    split = Op((GATES,), (View(GATES), View(GATES)), "be->eb,be", ((E, B), (B, E)))
    assert {vid: gates(split).of.get(vid) for vid in (20, 21)} == {20: {2: ONE}, 21: {1: ONE}}
    top = Op((SCORES,), (Power(SCORES, ONE, largest=True), Scale(SCORES, ZERO)), "b.->b.,b.", ((B, K), (B, K)), (1,))
    assert gates(top).of[21] == {1: ZERO}  # the places as well


def test_views_of_weights_are_weights():
    ops = [
        Op((EACH,), (View(EACH),), "enm->enm", ((E, N, N),)),
        Op((EACH,), (Gather(EACH),), "enm->enm", ((E, N, N),)),
        Op((EACH,), (Scale(EACH, ONE),), "enm->enm", ((E, N, N),)),
        Op((H,), (View(H),), "bn->bn", ((B, N),)),
        Op((EACH, H), (View(EACH),), "enm,bn->enm", ((E, N, N),)),
        Op((H, EACH), (View(H),), "bn,enm->bn", ((B, N),)),
    ]
    assert gates(*ops).weights == {EACH, W, 20, 21, 24}


CONTRACT = Contract(GATES, EACH, TWO, ZERO, ONE)
#: An op that multiplies by gates; by what, and along which axes; the sum and the gates in it.
MET: dict[str, tuple[Op, dict, list]] = {
    "a value": (Op((GATES, U), (Product(GATES, U),), "be,ben->ben", ((B, E, N),)), {GATES: {1: ONE}, U: {2: ONE}}, []),
    "a value first": (
        Op((U, GATES), (Product(U, GATES),), "ben,be->ben", ((B, E, N),)),
        {GATES: {1: ONE}, U: {2: ONE}},
        [],
    ),
    "inside": (
        Op((GATES, U), (Scale(Product(GATES, U), ONE),), "be,ben->ben", ((B, E, N),)),
        {GATES: {1: ONE}, U: {2: ONE}},
        [],
    ),
    "of a function": (Op((GATES, U), (Product(GATES, Exp(U)),), "be,ben->ben", ((B, E, N),)), {}, []),
    "of a function of gates": (Op((GATES, U), (Product(Exp(GATES), U),), "be,ben->ben", ((B, E, N),)), {}, []),
    "themselves": (Op((GATES, GATES), (Product(GATES, GATES),), "be,be->be", ((B, E),)), {}, []),
    "a value without experts": (Op((GATES, H), (Product(GATES, H),), "be,bn->ben", ((B, E, N),)), {}, []),
    "without a label": (Op((GATES, U), (Product(GATES, U),), "b.,b.n->b.n", ((B, E, N),)), {}, []),
    "backwards": (Op((GATES, U), (Product(GATES, U),), "be,ben->ben", ((B, E, N),), phase="backward"), {}, []),
    "others": (Op((H, W), (Contract(H, W, ONE, ZERO, ONE),), "bn,nm->bm", ((B, N),)), {}, []),
    "other gates": (
        Op((GATES, WIDE), (Product(GATES, WIDE),), "be,ben->ben", ((B, E, N),)),
        {GATES: {1: ONE}, WIDE: {2: ONE}},
        [],
    ),
    "other gates along another axis": (
        Op((GATES, WIDE), (Product(GATES, WIDE),), "be,bne->bne", ((B, E, N),)),
        {GATES: {1: ONE}, WIDE: {1: ONE}},
        [],
    ),
    "codes": (
        Op((GATES, EACH), (Contract(GATES, EACH, ONE, ZERO, TWO),), "be,enm->bnm", ((B, N, N),)),
        {GATES: {1: ONE}},
        [],
    ),
    "a mean": (
        Op((WIDE, EACH), (Contract(WIDE, EACH, TWO, ZERO, ONE),), "ben,enm->bm", ((B, N),)),
        {WIDE: {2: ONE}},
        [Mean(TWO, ONE)],
    ),
    "a mean, other way round": (
        Op((EACH, WIDE), (Contract(EACH, WIDE, TWO, ONE, ZERO),), "enm,ben->bm", ((B, N),)),
        {WIDE: {2: ONE}},
        [Mean(TWO, ONE)],
    ),
    "a mean of a value": (
        Op((WIDE, U), (Contract(WIDE, U, TWO, ZERO, ZERO),), "ben,ben->b", ((B,),)),
        {WIDE: {2: ONE}, U: {2: ONE}},
        [],
    ),
    "each by itself": (
        Op((WIDE, EACH), (Contract(WIDE, EACH, ONE, ZERO, ONE),), "ben,enm->bem", ((B, E, N),)),
        {WIDE: {2: ONE}},
        [],
    ),
    "a product with a weight": (
        Op((WIDE, EACH), (Product(WIDE, EACH),), "ben,enm->bm", ((B, N),)),
        {WIDE: {2: ONE}},
        [],
    ),
}


@pytest.mark.parametrize("name", MET)
def test_what_gates_meet(name):
    op, met, means = MET[name]
    found = gates(op)
    assert found.met == met
    assert list(found.means.values()) == means


def test_of_two_axes_of_gates_each_is_met():
    both = Op((GATES, GATES), (Product(GATES, GATES),), "be,bf->bef", ((B, E, E),))
    meets = Op((20, W), (Contract(20, W, ONE, ONE, ONE),), "bef,en->bfn", ((B, E, N),))
    found = gates(both, meets)
    assert found.of[20] == {1: ONE, 2: ONE} and found.met == {20: {2: ONE}}
    whole = Op((20, EACH), (Contract(20, EACH, Fraction(3), ZERO, ZERO),), "bef,fem->b", ((B,),))
    assert gates(both, whole).means == {3: Mean(Fraction(3), TWO)}
    deep = Op((20, H), (Product(20, H),), "bef,bn->befn", ((B, E, E, N),))
    some = Op((21, EACH), (Contract(21, EACH, TWO, ZERO, ZERO),), "befn,fen->bf", ((B, E),))
    assert gates(both, deep, some).means == {4: Mean(TWO, ONE)}
    beside = Op((20, EACH), (Contract(20, EACH, TWO, ONE, ONE),), "bef,enm->bef", ((B, E, E),))
    assert not gates(both, beside).means


def test_each_of_two_that_are_gates_has_its_own_growth():
    joined = Op((WIDE,), (View(WIDE),), "b..->b.", ((B, EN),), (), True)
    soft = Op((20,), (Softmax(20, TWO),), "bf->bf", ((B, EN),), (1,))
    times = [Op((x, y), (Product(x, y),), "bf,bf->bf", ((B, EN),)) for x, y in ((20, 21), (21, 20))]
    for op in times:
        assert gates(joined, soft, op).met == {20: {1: ONE}, 21: {1: TWO}}


def test_a_result_that_nothing_reads():
    top = Op((SCORES,), (Power(SCORES, ONE, largest=True), Scale(SCORES, ZERO)), "b.->b.,b.", (None, (B, K)), (1,))
    assert gates(top).of[20] == {1: ZERO}


SUMMED = {
    "summed": (Op((GATES, EACH), (CONTRACT,), "be,enm->bnm", ((B, N, N),)), ONE, True),
    "kept": (Op((GATES, U), (Product(GATES, U),), "be,ben->ben", ((B, E, N),)), ONE, False),
    "kept alone": (Op((GATES,), (View(GATES),), "be->be", ((B, E),)), ONE, False),
    "gone": (Op((GATES,), (Scale(GATES, ONE),), "be->b", ((B,),)), ONE, True),
    "gone, beside what is fixed": (Op((GATES,), (Scale(GATES, ONE),), "be->b.", ((B, K),)), ONE, True),
    "gone, or among others": (Op((GATES,), (Scale(GATES, ONE),), "be->b.", ((B, N),)), ONE, None),
    "gone, or among others before": (Op((GATES,), (Scale(GATES, ONE),), "be->.b", ((N, B),)), ONE, None),
    "gone, or among others between": (Op((GATES,), (Scale(GATES, ONE),), "be->b.k", ((B, N, K),)), ONE, None),
    "summed beside others": (Op((GATES, EACH), (CONTRACT,), "be,enm->b.m", ((B, N, N),)), ONE, True),
    "gone beside one that is kept": (Op((GATES,), (Scale(GATES, ONE),), "be->nb", ((N, B),)), ONE, True),
    "without a label": (Op((GATES,), (Scale(GATES, ONE),), "b.->b", ((B,),)), ONE, None),
    "more than there are": (Op((GATES,), (Scale(GATES, ONE),), "be->b", ((B,),)), TWO, None),
    "as many as one": (Op((GATES,), (Scale(GATES, ONE),), "be->b", ((B,),)), ZERO, True),
    "of another": (Op((H,), (Scale(H, ONE),), "bn->b", ((B,),)), ONE, None),
}


@pytest.mark.parametrize("name", SUMMED)
def test_whether_a_node_sums_over_experts(name):
    op, least, expected = SUMMED[name]
    assert gates(op).summed(GATES, 2, least) is expected


def test_of_two_axes_nobody_knows_which_is_summed():
    both = Op((GATES, GATES), (Product(GATES, GATES),), "be,bf->bef", ((B, E, E),))
    total = Op((20,), (Scale(20, ONE),), "bef->be", ((B, E),))
    assert gates(both, total).summed(20, 3, ONE) is None
    one = Op((GATES,), (Softmax(GATES, ZERO),), "be->be", ((B, E),), (1, 2))
    assert gates(one, Op((20,), (Scale(20, ONE),), "be->b", ((B,),))).summed(20, 3, ONE) is True
    lost = Op((GATES,), (Scale(GATES, ONE),), "be->b", (None,))
    found = gates(lost)
    assert found.summed(GATES, 2, ONE) is None


def test_gates_of_the_backward_pass_are_looked_for_when_they_are_asked_for():
    back = Op((GATES,), (View(GATES),), "be->eb", ((E, B),), phase="backward")
    found = gates(back)
    assert OUT not in found.of and found.marks(GATES) == {1: ONE} and found.marks(SCORES) == {}
    assert "back" not in vars(found)  # a leaf and a value of the forward pass need none
    assert found.marks(OUT) == {2: ONE} and found.marks(GATES) == {1: ONE}
    assert gates(back, Op((20, U), (Product(20, U),), "eb,ben->ben", ((B, E, N),), phase="backward")).marks(21) == {
        2: ONE
    }


def test_what_the_backward_pass_multiplies_is_not_met():
    back = Op((GATES,), (View(GATES),), "be->be", ((B, E),), phase="backward")
    found = gates(back, Op((20, U), (Product(20, U),), "be,ben->ben", ((B, E, N),), phase="backward"))
    assert found.marks(21) == {2: ONE} and not found.met


def test_rows_that_a_weight_alone_has():
    picked = Op((EACH, GATES), (Gather(EACH),), ".nm,..->..nm", ((B, E, N, N),))
    found = gates(picked, Op((W, GATES), (Product(W, GATES),), "bn,be->ben", ((B, E, N),)))
    meets = Layout((("b", "e", "n", "m"), ("b", "n")), (("b", "e", "m"),))
    assert found.own(20, meets, 0, {"b", "n"}) == ONE
    assert found.own(20, meets, 0, {"b", "e"}) == ZERO == found.own(W, meets, 1, ()) == found.own(GATES, meets, 1, ())


def test_the_products_in_an_op():
    inner, outer = Product(1, 2), Contract(Scale(Product(1, 2), ONE), 3, ONE, ZERO, ZERO)
    whole: Operand = Sum((outer, Exp(4)))
    assert list(pairs(whole)) == [outer, inner] and not list(pairs(4)) and list(pairs(inner)) == [inner]
