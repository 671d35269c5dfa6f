"""Which rows of a contraction are picked, behind one op at a time whose axes are given."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from tests.support.wired import Op, labels, wired
from tpcalc.algebra.order import HALF, ONE, ZERO
from tpcalc.algebra.size import Size
from tpcalc.lower.gates import Mean
from tpcalc.lower.picks import Picks
from tpcalc.rules.layout import Layout, Pieces
from tpcalc.rules.structures import (
    Contract,
    Discrete,
    Exp,
    Gather,
    Guard,
    Normalise,
    Power,
    Product,
    Reduce,
    Scale,
    Sizes,
    Softmax,
    Sum,
    View,
)

TWO = Fraction(2)
N, P, B, K = Size.linear(), Size.linear(2), Size.constant(3), Size.constant(2)
#: A value [B, n], a weight [n, p], places given by the inputs and by the code, a value, another weight
#: [e, p, n], a value [B, n p, n].
H, V, PLACES, FIXED, G, EACH, CUBE = range(7)
LEAVES = {CUBE: (B, N * P, N), H: (B, N), V: (N, P), PLACES: (B, K), FIXED: (B, K), G: (B, N), EACH: (N, P, N)}
Y = 20
MM = Op((H, V), (Contract(H, V, ONE, ZERO, ONE),), "bn,np->bp", ((B, P),))


def picks(*ops: Op, out: tuple[int, ...] = ()) -> Picks:
    """``Y = H V``, and ``ops`` numbered behind it; what leaves is the last result, or ``out``."""
    made = Y + sum(shape is not None for op in ops for shape in op.shapes)
    outputs = tuple((str(vid), vid) for vid in out or (made,))
    return Picks(wired((MM, *ops), LEAVES, (V, EACH), (H, PLACES, G), Y, outputs=outputs))


def same(vid: int, s=Scale) -> Op:
    made = s(vid, ZERO) if s is Scale else s(vid)
    return Op((vid,), (made,), "bp->bp", ((B, P),))


def total(vid: int, axes: str = "bp->b") -> Op:
    """A sum over all but the samples: what leaves has no rows."""
    return Op((vid,), (Normalise(vid, ZERO),), axes, ((B,),))


def softmax(vid: int, axes: str = "bp->bp", shapes=((B, P),), picked=(1,), shared="p") -> Op:
    return Op((vid,), (Softmax(vid, ONE),), axes, shapes, picked, shared=shared)


LARGEST = Op((Y,), (Power(Y, ONE, largest=True),), "b.->b.", ((B, K),), (1,))


def measured(*by: Op) -> tuple[Op, ...]:
    """The largest of each sample (21), and ops that read it."""
    return (Op((Y,), (Power(Y, ONE, largest=True),), "bp->b.", ((B, K),), (1,)), *by)


def beside(s, vid: int) -> Op:
    """``Y`` and a number for each sample."""
    return Op((Y, vid), (s,), "bp,b.->bp", ((B, P),))


def of_largest(s) -> Op:
    return Op((21,), (s,), "b.->b.", ((B, K),))


DIVIDED = beside(Product(Y, Power(21, -ONE)), 21)
GIVEN = Op((Y, V), (Contract(Y, V, ONE, ZERO, ZERO),), "bp,np->b", ((B,),))
#: Ops behind ``Y``, what leaves besides the last, and whether rows of ``V`` are picked.
ROWS: dict[str, tuple[tuple[Op, ...], tuple[int, ...], bool]] = {
    "leaves": ((), (), True),
    "all in a norm": ((total(Y),), (), False),
    "leaves scaled": ((same(Y),), (), True),
    "leaves, a function of it": ((same(Y, Exp),), (), True),
    "leaves normed": ((Op((Y,), (Normalise(Y, ZERO),), "bp->bp", ((B, P),)),), (), False),
    "leaves and is read": ((total(Y),), (Y, 21), False),
    "leaves twice": ((same(Y), same(Y)), (21, 22), True),
    "leaves and is contracted": ((same(Y), GIVEN), (21, 22), False),
    "leaves and is normed": ((same(Y), total(Y)), (21, 22), False),
    "leaves and is read in turn": ((same(Y), same(Y), total(22)), (21, 23), False),
    "leaves in a chain": ((same(Y), same(21)), (21, 22), True),
    "is not used": ((same(H), total(Y)), (22,), False),
    "leaves among others": ((Op((Y, H), (Sum((Y, H), "choice"),), "bp,bn->b.", ((B, P),)),), (), False),
    "leaves beside another": ((Op((H, Y), (Sum((H, Y)),), "bp,bp->bp", ((B, P),)),), (), True),
    "of an index": ((Op((PLACES, Y), (Gather(PLACES),), "bp,bp->bp", ((B, P),)),), (), False),
    "turned": ((Op((Y,), (View(Y),), "bp->pb", ((P, B),)),), (), True),
    "summed over samples": ((Op((Y,), (Reduce(Y, ZERO),), "bp->p", ((P,),)),), (), True),
    "summed over rows": ((Op((Y,), (Reduce(Y, ONE),), "bp->b", ((B,),)),), (), False),
    "in pieces": ((Op((Y,), (View(Y),), "b.->b..", ((B, P, K),), (), True),), (), True),
    "merged": ((Op((Y,), (View(Y),), "..->.", ((P * B,),), (), True),), (), True),
    "mixed": ((Op((Y,), (View(Y),), "b.->b.", ((B, P),)),), (), False),
    "taken": ((Op((Y,), (View(Y),), "b.->b.", ((B, N),), takes=1),), (), True),
    "taken along another": ((Op((Y,), (View(Y),), "b.->b.", ((B, N),), takes=2),), (), False),
    "taken, an axis less": ((Op((Y,), (View(Y),), "b.->.", ((P,),), takes=1),), (), False),
    "joined": ((Op((Y, H), (Sum((Y, H), "choice"),), "b.,b.->b.", ((B, P),), puts=1),), (), True),
    "two structures": ((Op((Y, H), (Product(Exp(Y), H),), "bp,bp->bp", ((B, P),)),), (), True),
    "a norm inside": ((Op((Y, H), (Product(Normalise(Y, ZERO), H),), "bp,bp->bp", ((B, P),)),), (), False),
    "a softmax": ((softmax(Y), total(21)), (), True),
    "a softmax of a copy": ((same(Y), softmax(21), total(22), total(Y)), (23, 24), True),
    "looked up, kept apart": ((Op((Y, FIXED), (Gather(Y),), "bp,bq->bp", ((B, P),)),), (), True),
    "multiplied by a root of the largest": (
        (*measured(beside(Product(Y, Power(21, HALF)), 21)), total(22)),
        (),
        True,
    ),
    "a softmax over samples": ((softmax(Y, picked=(2,), shared="b"), total(21)), (), False),
    "a softmax over both": ((softmax(Y, picked=(1, 2)), total(21)), (), True),
    "the largest": ((LARGEST,), (), True),
    "the largest of what is read": ((same(Y), LARGEST, total(21)), (22, 23), True),
    "a share": ((LARGEST._replace(shapes=((B, P),)), total(21)), (), False),
    "nothing is picked": ((LARGEST._replace(picked=()),), (), False),
    "what nothing reads": ((LARGEST._replace(shapes=(None,)), total(Y)), (21,), False),
    "its places alone": (
        (Op((Y,), (Power(Y, ONE, largest=True), Scale(Y, ZERO)), "b.->b.,b.", (None, (B, K)), (1,)),),
        (),
        True,
    ),
    "looked up": ((Op((Y, PLACES), (Gather(Y),), "b.,b.->b.", ((B, K),), (1,)),), (), True),
    "named by the code": ((Op((Y, FIXED), (Gather(Y),), "b.,b.->b.", ((B, K),), (1,)),), (), False),
    "divided by the largest": ((*measured(DIVIDED), total(22)), (), False),
    "divided by the largest, which leaves": ((*measured(DIVIDED), total(22)), (21, 23), True),
    "divided inside": (
        (*measured(beside(Scale(Product(Y, Power(21, -ONE)), ZERO), 21)), total(22)),
        (),
        False,
    ),
    "multiplied by the largest": ((*measured(beside(Product(Y, Power(21, ONE)), 21)), total(22)), (), True),
    "divided by another": (
        (*measured(Op((21, H), (Product(21, Power(H, -ONE)),), "b.,bn->b.", ((B, K),))), total(22)),
        (),
        True,
    ),
    "seen, then divided by": (
        (*measured(of_largest(View(21)), beside(Product(Y, Power(22, -ONE)), 22)), total(23)),
        (),
        False,
    ),
    "guarded, then divided by": (
        (*measured(of_largest(Guard(21)), beside(Product(Y, Power(22, -ONE)), 22)), total(23)),
        (),
        False,
    ),
    "scaled, then divided by": (
        (*measured(of_largest(Scale(21, ONE)), beside(Product(Y, Power(22, -ONE)), 22)), total(23)),
        (),
        True,
    ),
    "seen, and used": (
        (*measured(of_largest(View(21)), beside(Product(Y, 22), 22)), total(23)),
        (),
        True,
    ),
    "compared with": ((*measured(beside(Discrete((Y, 21)), 21)), total(22)), (), False),
    "divided by and used": ((*measured(DIVIDED, beside(Product(Y, 21), 21), total(22)), total(23)), (24, 25), True),
    "divided by, two results": (
        (
            *measured(Op((Y, 21), (Product(Y, Power(21, -ONE)), Scale(Y, ZERO)), "bp,b.->bp,bp", ((B, P), None))),
            total(22),
        ),
        (),
        True,
    ),
    "divided by, of no order": ((*measured(beside(None, 21)), total(22)), (), True),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_are_picked(name):
    ops, out, picked = ROWS[name]
    assert picks(*ops, out=out).found == ({0: (ZERO, ONE)} if picked else {})


def staying(*ops: Op) -> set[int]:
    return picks(*ops).staying - {H, V}


def test_what_does_not_only_leave():
    """It is contracted, or a norm is taken of it; the total of a softmax is none."""
    summed = Op((21,), (Reduce(21, ONE),), "bp->b", ((B,),))
    divided = Op((Y, 22), (Product(Y, Power(22, -ONE)),), "bp,b->bp", ((B, P),))
    assert staying(same(Y)) == set() and staying(total(Y)) == {Y} and staying(same(Y), total(21)) == {Y, 21}
    # divided by a sum of what it is made of
    assert staying(same(Y), summed, divided) == {Y, 21}
    assert staying(
        same(Y), summed, same(22), divided._replace(refs=(Y, 23), structures=(Product(Y, Power(23, -ONE)),))
    ) == {
        Y,
        21,
    }
    assert staying(same(Y), summed, divided._replace(structures=(Product(Y, Power(22, ONE)),))) == set()
    assert staying(same(Y), summed._replace(structures=(Reduce(21, ZERO),)), divided) == set()
    assert staying(same(Y), summed._replace(structures=(Scale(21, ONE),)), divided) == set()
    # of exponentials, of what no op has made
    assert staying(same(Y, Exp), summed, divided) == set()
    leaf = summed._replace(refs=(G,), structures=(Reduce(G, ONE),))
    assert picks(leaf, divided._replace(refs=(Y, 21), structures=(Product(Y, Power(21, -ONE)),))).staying == {H, V, G}


def contraction(s, axes: str, refs: tuple[int, ...], shape=(B, P)) -> dict:
    return Picks(
        wired((Op(refs, (s,), axes, (shape,)),), LEAVES, (V, EACH), (H, PLACES, G), Y, outputs=(("y", Y),))
    ).found


def test_whose_rows_are_picked():
    """Of weights, and of what is made of no inputs; along axes that one operand alone has."""
    assert contraction(Contract(V, H, ONE, ONE, ZERO), "np,bn->bp", (V, H)) == {0: (ONE, ZERO)}
    assert contraction(Contract(G, H, ONE, ONE, ZERO), "pn,bn->bp", (G, H)) == {}
    assert contraction(Contract(H, V, ZERO, ZERO, ONE), "bn,np->bp", (H, V)) == {}
    assert contraction(Scale(Contract(H, V, ONE, ZERO, ONE), ONE), "bn,np->bp", (H, V)) == {0: (ZERO, ONE)}
    assert contraction(Contract(Product(H, G), V, ONE, ZERO, ONE), "bn,bn,np->bp", (H, G, V)) == {0: (ZERO, ONE)}
    assert contraction(Contract(H, Product(V, EACH), ONE, ZERO, ONE), "bn,np,enp->bp", (H, V, EACH)) == {}
    twice = Sum((Contract(H, V, ONE, ZERO, ONE), Contract(G, V, ONE, ZERO, ONE)))
    assert contraction(twice, "bn,np,bn->bp", (H, V, G)) == {}
    both = contraction(Contract(H, EACH, ONE, ZERO, TWO), "bn,epn->bep", (H, EACH), (B, N, P))
    assert both == {0: (ZERO, TWO)}
    batch = contraction(Contract(H, EACH, ONE, ZERO, ONE), "ben,epn->bep", (H, EACH), (B, N, P))
    assert batch == {0: (ZERO, ONE)}
    assert contraction(Contract(V, EACH, ONE, ONE, ONE), "np,enq->pq", (V, EACH), (P, N)) == {0: (ONE, ONE)}


def test_a_contraction_without_the_rows_that_are_picked():
    found = picks()
    sizes = Sizes(((N, 1),), ((B, 1),), ((P, 1),))
    whole = Contract(H, V, ONE, HALF, ONE, sizes)
    assert found.counted(whole, 0) == Contract(H, V, ONE, HALF, ZERO, replace(sizes, rest_y=()))
    assert found.counted(whole, 1) is whole and found.counted(Reduce(H, ONE), 0) == Reduce(H, ONE)
    found.found[0] = HALF, ZERO
    assert found.counted(whole, 0) == Contract(H, V, ONE, ZERO, ONE, replace(sizes, rest_x=()))
    found.found[0] = TWO, HALF  # no more than there are; of a part of them no sizes are known
    assert found.counted(whole, 0) == Contract(H, V, ONE, ZERO, HALF)
    found.found[0] = Fraction(1, 4), ONE
    assert found.counted(whole, 0) == Contract(H, V, ONE, Fraction(1, 4), ZERO)
    assert found.counted(replace(whole, sizes=None), 0) == Contract(H, V, ONE, Fraction(1, 4), ZERO)


def test_a_sum_over_gates_is_taken_apart():
    found = picks()
    s = Contract(H, V, TWO, ZERO, ONE, Sizes(()))
    assert found.apart(s, 0) is s
    found.gates.means[0] = Mean(TWO, HALF)
    assert found.apart(s, 0) == Reduce(Contract(H, V, TWO - HALF, ZERO, ONE), HALF)
    assert found.apart(Contract(H, V, ONE, ZERO, ONE), 0).K == ONE and found.apart(Reduce(H, TWO), 0) == Reduce(H, TWO)
    found.gates.means[0] = Mean(TWO, ZERO)
    assert found.apart(s, 0) is s


# -- gates weigh axes, whatever leaves -------------------------------------------------------------

GATES, WIDE = 21, 22
SOFT = Op((Y,), (Softmax(Y, ONE),), "bp->bp", ((B, P),), (1,), shared="p")


def weighed(op: Op, *more: Op) -> dict:
    """Gates (21) weigh the result of ``op`` (22, behind ``more``), the sum over both leaves."""
    last = WIDE + len(more)
    mean = Op((GATES, last), (Product(GATES, last),), "bp,bpn->bpn", ((B, P, N),))
    found = picks(SOFT, op, *more, mean, total(last + 1, "bpn->b"))
    return {index: by for index, by in found.found.items() if index}


FROM_EACH = Op((G, EACH), (Contract(G, EACH, ONE, ZERO, TWO),), "bn,npm->bpm", ((B, P, N),))


def test_an_experts_rows_are_its_own():
    """The axis of the experts does not count, whatever stands between."""
    assert weighed(FROM_EACH) == {2: (ZERO, ONE)}
    scaled = Op((WIDE,), (Scale(WIDE, ONE),), "bpn->bpn", ((B, P, N),))
    assert weighed(FROM_EACH, scaled) == {2: (ZERO, ONE)}
    normed = Op((WIDE,), (Normalise(WIDE, ZERO),), "bpn->bpn", ((B, P, N),))
    assert weighed(FROM_EACH, normed) == {}
    soft = Op((WIDE,), (Softmax(WIDE, ONE),), "bpn->bpn", ((B, P, N),))
    assert weighed(FROM_EACH, soft) == {2: (ZERO, ONE)}
    mixed = Op((WIDE,), (View(WIDE),), "b.n->b.n", ((B, P, N),))
    assert weighed(FROM_EACH, mixed) == {}
    split = Op((WIDE,), (View(WIDE),), "b..->b..", ((B, P, N),), (), True)
    assert weighed(FROM_EACH, split) == {}
    each = Op((WIDE, EACH), (Contract(WIDE, EACH, ONE, ZERO, ONE),), "bpn,pnm->bpm", ((B, P, N),))
    behind = Op((WIDE + 1,), (Scale(WIDE + 1, ONE),), "bpn->bpn", ((B, P, N),))
    assert weighed(FROM_EACH, each, behind) == {2: (ZERO, ONE)}


def test_rows_of_a_weight_that_an_index_has_picked():
    """Whatever becomes of the result, and whatever the places are made of."""
    for source in (Y, V):
        top = Op((source,), (Power(source, ONE, largest=True),), "b.->b.", ((B, N),), (1,))
        found = Op((EACH, 21), (Gather(EACH),), ".np,..->..np", ((B, N, P, N),))
        meets = Op((G, 22), (Contract(G, 22, ONE, ZERO, TWO),), "bn,bkpn->bkp", ((B, N, P),))
        assert picks(top, found, meets, total(23, "bkp->b")).found[3] == (ZERO, ONE)


def test_what_is_marked():
    found = picks()
    assert found.marks == {Y: {1: ONE}}
    found.mark(V, 1, TWO), found.mark(V, 1, ONE), found.mark(V, 2, ZERO)
    assert found.marks == {Y: {1: ONE}, V: {1: TWO}}


def test_forward_ops_that_something_comes_of():
    found = picks(same(Y), same(Y), same(21)._replace(phase="backward"), out=(22, 23))
    assert [node.index for node in found.forward] == [0, 2]


def back(axes: str, marks: dict, shapes=None, slot: int = 0, **known) -> dict:
    operands, results = axes.split("->")
    found = Layout(labels(operands), labels(results), regrouped=shapes, **known)
    return picks().back(found, 0, slot, marks)


def test_from_a_result_back_to_an_operand():
    assert back("be->eb", {1: ONE, 2: TWO}) == {1: TWO, 2: ONE}
    assert back("be->b.", {1: ONE}) == {} == back("bx,be->bf", {1: ONE}, slot=1)
    whole, merged = (B, N, P), (B, N * P)
    assert back("b..->b.", {1: TWO}, (whole, merged)) == {1: ONE, 2: ONE}
    assert back("bx,b..->b.", {1: TWO}, (whole, merged), 1) == {}
    assert back("b..->b.", {1: ONE}, (whole, merged)) == {}  # nobody knows of which
    assert back("b.->b..", {1: ONE}, (merged, whole)) == {1: ONE} == back("b.->b..", {2: ONE}, (merged, whole))
    assert back("b.->b..", {1: ONE, 2: ONE}, (merged, whole)) == {1: TWO}
    assert back("b.->b..", {2: ONE, 3: TWO}, (merged, whole)) == {1: ONE, 2: TWO}
    assert back("b..->b..", {1: ONE}, ((B, K, N), (B, N, K))) == {}
    assert back("b..->b..", {2: ONE}, ((B, K, N), (B, N, K))) == {1: ONE}
    assert back("b..->b..", {3: ONE}, ((B, N, P), (B, P, N))) == {3: ONE}
    assert back("b..->b..", {1: ONE, 2: ONE}, ((B, N, P), (B, P, N))) == {1: ONE, 2: ONE}
    assert back(".n->n.", {1: TWO, 2: ONE}, ((N * N, N), (N, N * N))) == {1: ONE, 2: TWO}
    assert back(".n->..n", {2: ONE, 3: ONE}, ((N * P, N), (N, P, N))) == {2: TWO}
    pieces = Pieces(1, (), ())
    assert (
        back("b.->b.", {1: ONE, 2: TWO}, takes=pieces)
        == {1: ONE, 2: TWO}
        == back("b.->b.", {1: ONE, 2: TWO}, puts=pieces)
    )


def through(s, axes: str, refs: tuple[int, ...], slot: int, marks: dict, shape=(B, P), picked=(1,)) -> dict:
    found = Picks(wired((MM, Op(refs, (s,), axes, (shape,), picked)), LEAVES, (V, EACH), (H, PLACES, G), Y))
    return found.through(found.program.nodes[1], s, 0, slot, marks)


def test_gates_back_to_what_they_were_picked_from():
    """Each counts by itself, though they be a share; those written among zeros come from what is written."""
    put, into = Sum((Y, H), "put"), (Y, H)
    assert through(put, "b.,b.->b.", into, 1, {1: ONE, 2: ZERO}) == {1: ONE, 2: ZERO}
    assert through(put, "b.,b.->b.", into, 0, {1: ONE}) == {} == through(put, "b.,.->b.", into, 1, {1: ONE})
    assert through(put, "b.,bp->b.", into, 1, {1: ONE}) == {} == through(put, "bp,b.->bp", into, 1, {1: ONE})
    assert through(Sum((Y, H), "choice"), "b.,b.->b.", into, 1, {1: ONE}) == {}
    assert through(Sum((Y, CUBE), "put"), "b.n,b.n->b.n", (Y, CUBE), 1, {2: ONE}) == {2: TWO}
    assert through(Sum((Y, CUBE), "put"), "b.n,bpn->b.n", (Y, CUBE), 1, {2: ONE}) == {}
    taken, largest = Gather(Y), Power(Y, ONE, largest=True)
    for s, refs, axes in ((taken, (Y, PLACES), "b.,b.->b."), (largest, (Y,), "b.->b.")):
        assert through(s, axes, refs, 0, {1: ZERO}, (B, K)) == {1: ONE}
        assert through(s, axes, refs, 0, {2: ZERO}, (B, K)) == {2: ZERO}
        assert through(s, axes, refs, 0, {1: ZERO, 2: ZERO}, (B, K), (2,)) == {2: ZERO}
    assert through(taken, "b.,b.->b.", (Y, PLACES), 1, {1: ZERO}, (B, K)) == {}
    assert through(taken, "b.,b.->b..", (Y, PLACES), 0, {1: ZERO}, (B, K, K)) == {}
    assert (
        through(Power(Y, ONE), "b.->b.", (Y,), 0, {1: ZERO}, (B, K))
        == {}
        == through(View(Y), "b.->b.", (Y,), 0, {1: ZERO})
    )
