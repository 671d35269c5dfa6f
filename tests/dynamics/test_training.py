"""Training followed step by step, on two layers small enough to work out by hand.

``h = W1 x``, ``y = W2 h``.  The gradient of W2 is as large as h; that of W1 as large as W2, which is the larger of its
init and its update (TP4, Yang & Hu 2021, Section 3).
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from tpcalc.algebra.order import MINUS_INFINITY, ZERO
from tpcalc.algebra.size import Size
from tpcalc.calculus.alignment import FULL, NONE
from tpcalc.calculus.facts import constant
from tpcalc.dynamics.training import Analysis, Given, Step, analyse
from tpcalc.errors import DeriveError
from tpcalc.lower.lowered import Leaf, Lowered
from tpcalc.optimizers import ADAM, SGD, update_law
from tpcalc.program.ir import InitLaw, Node, Program, Value, Weight
from tpcalc.rules.structures import Atom, Contract, Product

OO = MINUS_INFINITY
H, ONE = Fraction(1, 2), Fraction(1)
N, FEW = Size.linear(), Size.constant(8)
X, W1, W2, SEED, HIDDEN, Y, GRAD2, BACK, GRAD1 = range(9)


def two_layers(trainable: bool = True, init: tuple = ()) -> Lowered:
    """n features made from a few inputs, a few outputs made from n features."""
    kinds = {X: "input", W1: "param", W2: "param", SEED: "seed"}
    shapes = {X: (FEW,), W1: (N, FEW), W2: (FEW, N), SEED: (FEW,)}
    values = {vid: Value(vid, shapes[vid], "float32", kind) for vid, kind in kinds.items()}
    made = tuple(range(HIDDEN, GRAD1 + 1))
    values |= {vid: Value(vid, (N,), "float32") for vid in made}
    first = Weight("first", W1, (N, FEW), trainable, GRAD1, init=init)
    last = Weight("last", W2, (FEW, N), grad=GRAD2, aliases=("tied",))
    atoms = (
        Atom(HIDDEN, Contract(W1, X, ZERO, ONE, ZERO), 0),
        Atom(Y, Contract(W2, HIDDEN, ONE, ZERO, ZERO), 0),
        Atom(GRAD2, Product(SEED, HIDDEN), 0),
        Atom(BACK, Contract(W2, SEED, ZERO, ONE, ZERO), 0),
        Atom(GRAD1, Product(BACK, X), 0),
    )
    leaves = tuple(Leaf(w.name, w, w.value, w.shape, w.grad) for w in (first, last))
    nodes = (Node(0, "test", (), (), made),)
    return Lowered(Program((64, 128, 256), nodes, values, (first, last), (X,)), atoms, 2, leaves)


def follow(first: Given, last: Given, law, lowered: "Lowered | None" = None, **options) -> Analysis:
    return analyse(lowered or two_layers(), {"first": first, "last": last}, law, **options)


def given(a, b, c, eps=None, random=None) -> Given:
    return Given(
        Fraction(a),
        None if b is None else Fraction(b),
        None if c is None else Fraction(c),
        None if eps is None else Fraction(eps),
        random,
    )


IDLE = given(0, 0, None)

#: Law, exponents of the last layer, C of its update.  Its gradient is of order 0 at a = 0 (features of order 0).
LAST = [
    # SGD: dW = n^-a n^-c n^(g - a), C = 2a + c - g
    ("sgd", given(0, 1, 1), ONE),
    ("sgd", given("1/2", "1/2", 1), Fraction(2)),
    ("sgd", given("-1/2", "1/2", 0), -ONE),
    # Adam: dW = n^-a n^-c, C = a + c
    ("adam", given(0, 1, 1), ONE),
    ("adam", given("1/2", "1/2", 1), Fraction(3, 2)),
    # an epsilon above the gradient of w, here n^-a, holds the update back by as much; one below does not
    ("adam", given("1/2", "1/2", 1, eps=0), Fraction(2)),
    ("adam", given("1/2", "1/2", 1, eps="-1/4"), Fraction(7, 4)),
    ("adam", given("1/2", "1/2", 1, eps="-1/2"), Fraction(3, 2)),
    ("adam", given("1/2", "1/2", 1, eps=-1), Fraction(3, 2)),
    ("adam", given("-1/2", 1, 1, eps=1), ONE),
    ("sgd", given("1/2", "1/2", 1, eps=1), Fraction(2)),  # SGD has none
    # LAMB: dw = n^-c n^-b, C = a + c + b, whatever the form; a zero weight counts as order 0
    ("lamb", given(0, 1, 1), Fraction(2)),
    ("lamb", given("1/2", "1/2", 1), Fraction(2)),
    ("lamb", given(0, None, 1), ONE),
    # no learning rate
    ("sgd", given(0, 1, None), None),
    ("lamb", given(0, 1, None), None),
]


@pytest.mark.parametrize("law, last, C", LAST)
def test_the_first_update(law, last, C):
    found = follow(IDLE, last, update_law(law), steps=1)
    assert found.trail[0].C == {"first": None, "last": None} and found.trail[-1].C["last"] == C
    assert found.trail[0].facts[Y].change is OO
    assert found.A["last"] == (None if last.b is None else last.a + last.b)


def test_a_zero_readout_wakes_the_layer_below_one_step_later():
    """TP4: what flows back is W2 + dW2.  Step 1: only W2 moves, by n^-1; step 2: the gradient of W1 is n^-1."""
    found = follow(given(0, 0, -1), given(0, None, 1), SGD)
    assert [step.C for step in found.trail] == [
        {"first": None, "last": None},
        {"first": None, "last": ONE},
        {"first": ZERO, "last": ONE},
    ]
    assert found.settled and found.C == {"first": ZERO, "last": ONE} and found.A == {"first": ZERO, "last": None}
    assert found.gradients == {"first": -ONE, "last": ZERO}
    assert found.facts is found.trail[2].facts and found.fact(Y) == found.facts[Y]
    assert found.facts[Y][:3] == (OO, ZERO, ZERO) and found.facts[HIDDEN][:3] == (ZERO, ZERO, ZERO)


def test_what_is_not_settled_says_so():
    """Both layers at lr 1 under SGD with a large readout: each step the other's gradient is larger."""
    wild = dict(first=given(0, 0, -1), last=given(0, 0, -1), law=SGD)
    for steps in (1, 2, 5):
        found = follow(**wild, steps=steps)
        assert not found.settled and len(found.trail) == 1 + steps
    sizes = [step.facts[Y].trained for step in found.trail]
    assert sizes == sorted(sizes) and len(set(sizes)) == len(sizes)


def test_the_largest_update_so_far_counts():
    """A step whose gradient is smaller than that of an earlier one moves nothing back."""
    steps = (Step({"first": ONE, "last": H}, {}), Step({"first": ONE, "last": ZERO}, {Y: constant(ZERO)}))
    found = Analysis(two_layers(), {}, FULL, (Step({}, {}), *steps), True)
    assert found.facts is steps[1].facts and found.C == {"first": ONE, "last": ZERO}


def test_of_blocks_the_largest_update_is_that_of_the_weight():
    whole = Weight("W", 0, (N, N))
    leaves = tuple(Leaf(f"W[{i}]", whole, i, (N, N), None) for i in range(3))
    program = Program((64, 128, 256), (), {0: Value(0, (N, N), "float32", "param")}, (whole,))
    lowered = Lowered(program, (), 0, leaves)
    found = Analysis(lowered, {}, FULL, (Step({"W[0]": None, "W[1]": H, "W[2]": ONE}, {}),), True)
    assert found.C == {"W": H}
    found = Analysis(lowered, {}, FULL, (Step(dict.fromkeys(("W[0]", "W[1]", "W[2]")), {}),), True)
    assert found.C == {"W": None}


def test_every_weight_may_have_a_law_of_its_own():
    row = given("1/2", 0, 1)
    found = follow(row, row, {"first": SGD, "tied": ADAM}, steps=1)
    # W2 = n^-1/2 flows back: 2 * 1/2 + 1 + 1/2 for SGD; 1/2 + 1 for Adam
    assert found.trail[1].C == {"first": Fraction(5, 2), "last": Fraction(3, 2)}
    with pytest.raises(DeriveError, match="first has no update law"):
        follow(row, row, {"last": ADAM})
    with pytest.raises(DeriveError, match="last has no exponents"):
        analyse(two_layers(), {"first": row}, SGD)


def test_blocks_may_have_exponents_of_their_own():
    lowered = two_layers()
    blocks = (replace(lowered.leaves[0], name="first[0]"), lowered.leaves[1])
    lowered = replace(lowered, leaves=blocks)
    table = {"first": given(0, 0, 5), "last": given(0, 1, 1)}
    assert analyse(lowered, table, ADAM).trail[1].C["first[0]"] == 5
    assert analyse(lowered, {**table, "first[0]": given(0, 0, 3)}, ADAM).trail[1].C["first[0]"] == 3


def test_alignment_is_passed_on():
    row = given(0, 1, 1)
    assert follow(given(0, 0, None), row, ADAM).facts[Y].trained == ZERO
    assert follow(given(0, 0, None), row, ADAM, alignment=NONE).facts[Y].trained == -H


def test_what_the_program_freezes_does_not_train():
    found = follow(given(0, 0, 0), given(0, 1, 1), ADAM, two_layers(trainable=False))
    assert found.C == {"first": None, "last": ONE}


@pytest.mark.parametrize("random, odd", [(None, 1), (True, 1), (False, 0)])
def test_whether_entries_are_random_is_given_or_as_the_code_says(random, odd):
    first = given(0, 0, 0, random=random)
    assert follow(first, IDLE, ADAM).facts[HIDDEN].odd == odd
    ones = two_layers(init=((64, InitLaw("constant", mean=1.0)),))
    assert follow(first, IDLE, ADAM, ones).facts[HIDDEN].odd == (1 if random else 0)
