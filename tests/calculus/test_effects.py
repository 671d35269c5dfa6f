"""How much an update of one operand moves a result, by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tpcalc.algebra.order import HALF, ONE, ZERO
from tpcalc.calculus.alignment import FULL, NONE
from tpcalc.calculus.effects import EFFECTS
from tpcalc.calculus.facts import Fact
from tpcalc.rules.structures import Contract, Normalise, Product, Repeat, Scale, Structure, View

QUARTER = Fraction(1, 4)
X, Y = 0, 1
#: No two orders are alike; the first has grown in training, the second is smaller than it was.
FACTS = {X: Fact(-ONE, -HALF, -HALF), Y: Fact(QUARTER, -QUARTER, QUARTER)}


@pytest.mark.parametrize(
    "structure, moved, expected",
    [
        (View(X), X, -ONE),
        (Scale(X, QUARTER), X, -ONE + QUARTER),
        (Repeat(X, HALF), X, -HALF),
        # by what the other one is after training
        (Product(X, Y), X, -ONE - QUARTER),
        (Product(X, Y), Y, -ONE - HALF),
        # law 3
        (Contract(X, Y, ONE, ZERO, ZERO), X, -QUARTER),
        (Contract(X, Y, ONE, ZERO, ZERO), Y, -HALF),
        # relative to the size, at its largest
        (Normalise(X, -QUARTER), X, -QUARTER - ONE + HALF),
        (Normalise(Y, -QUARTER), Y, -QUARTER - ONE - QUARTER),
    ],
)
def test_an_update_of_order_minus_1(structure: Structure, moved: int, expected: Fraction):
    assert EFFECTS[type(structure)](structure, moved, -ONE, FACTS, FULL) == expected


def test_without_alignment_sums_grow_by_half():
    for structure in (Repeat(X, HALF), Contract(X, Y, HALF, ZERO, ZERO)):
        aligned, apart = (EFFECTS[type(structure)](structure, X, ZERO, FACTS, a) for a in (FULL, NONE))
        assert aligned - apart == QUARTER
