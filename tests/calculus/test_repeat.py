"""Sums over the depth, by hand: laws D1 to D6, and what is asked of their terms."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tpcalc.algebra.order import HALF, MINUS_INFINITY, ONE, ZERO, max_order
from tpcalc.calculus.alignment import FULL, NONE
from tpcalc.calculus.demand import Demand
from tpcalc.calculus.demands import DEMANDS, Walk
from tpcalc.calculus.facts import Fact, WeightOrders, flips, weight_fact
from tpcalc.calculus.freedom import Freedom
from tpcalc.calculus.laws import LAWS
from tpcalc.lower.lowered import Lowered
from tpcalc.rules.structures import Atom, Contract, LinearLike, Product, Reduce, Repeat, Scale, Structure, Sum

OO, K = MINUS_INFINITY, ONE / 4
OWN, OTHER, LOOP = 1, 2, 8


def law(structure: Structure, *facts: Fact, alignment=FULL) -> Fact:
    return LAWS[type(structure)](structure, dict(enumerate(facts)), alignment)


def term(init=ZERO, change=ZERO, odd=OWN, fresh=None, **of) -> Fact:
    depends = OWN | OTHER
    return Fact(init, max_order(init, change), change, depends, odd, depends & ~odd, data=True, fresh=fresh, **of)


def repeat(**of) -> Repeat:
    return Repeat(0, K, own=OWN, loop=LOOP, **of)


@pytest.mark.parametrize(
    "odd, cover, grows",
    [(OWN, 0, K / 2), (OTHER, 0, K), (0, OWN, K / 2), (0, OWN | OTHER, K), (OWN | OTHER, 0, K / 2), (0, 0, K)],
)
def test_signs_of_a_period_of_its_own(odd, cover, grows):
    """D1 and D2: what flips with a weight of its own period adds up like random numbers."""
    x = term(-ONE, -ONE, odd=odd, cover=cover)
    found = law(repeat(), x)
    assert found.init == -ONE + grows and flips(repeat(), x) == (grows == K / 2)
    assert law(repeat(signed=True), x).init == -ONE + K / 2


def test_changes_add_up_but_for_what_came_with_the_stream():
    """D3 and D4."""
    assert law(repeat(), term(ZERO, ZERO)).change == K
    assert law(repeat(), term(ZERO, ZERO, fresh=OO)).change == K / 2
    assert law(repeat(), term(ZERO, ZERO, fresh=-K / 4)).change == K * 3 / 4
    assert law(repeat(), term(ZERO, ZERO, fresh=-K)).change == K / 2
    assert law(repeat(), term(ZERO, ZERO, odd=0, fresh=OO)).change == K  # the same weights in each period
    assert law(repeat(), term(ZERO, ZERO), alignment=NONE).change == K / 2
    assert law(repeat(), term(ZERO, OO)).change is OO
    found = law(repeat(), term(-ONE, ZERO))
    assert (found.trained, found.fresh) == (K, OO)


def test_a_transient_does_not_remain():
    """Gradients behind a norm of what starts small: large at init, and as a change, and less after training."""
    x = term()._replace(init=ZERO, change=ZERO, trained=-ONE)
    found = law(repeat(back=True), x)
    assert found.change >= found.init > found.trained == -ONE + K
    assert law(repeat(), x).trained == found.change


def test_a_gain_starts_at_1_in_every_period():
    """D5: the product of 1 + d over the depth."""
    gain = weight_fact(0, WeightOrders(ZERO, ONE, random=False))
    found = law(repeat(factor=True), gain)
    assert (found.init, found.change, found.trained) == (ZERO, -ONE + K, ZERO)
    assert law(repeat(factor=True), gain._replace(fresh=OO)).change == -ONE + K


def test_weights_of_a_period_leave_and_one_bit_stands_for_all():
    """D6: signs still cancel over neurons; that the sum is made of one period's weight is forgotten."""
    found = law(repeat(), term(odd=OWN))
    assert (found.depends, found.odd, found.mixed, found.cover) == (OTHER | LOOP, 0, OTHER | LOOP, LOOP)
    assert found.cancels and not law(repeat(), term(odd=OTHER)).cover
    assert law(repeat(), term(odd=OTHER)).odd == OTHER
    far = term()._replace(depends=OTHER, odd=OTHER, mixed=0)
    assert law(repeat(), far).depends == OTHER  # nothing of its own: as it is


def test_all_else_that_is_known_of_the_terms_is_known_of_the_sum():
    x = term(-ONE, ZERO)._replace(weight=OTHER, gathered=True)
    found = law(repeat(), x)
    assert (found.init, found.weight, found.gathered, found.data) == (-ONE + K / 2, OTHER, True, True)
    # signs do not cancel in a product: of the change of the stream, too, all periods make one
    assert law(repeat(factor=True), term(fresh=OO)).change == K


def test_what_enters_is_marked_and_no_more():
    x = term(-HALF, -ONE)
    found = law(Repeat(0, ZERO), x)
    assert found == x._replace(fresh=OO)
    assert law(repeat(), x._replace(deviation=-ONE, mean=-ONE, own=-ONE)).deviation == -ONE + K / 2
    shifted = law(repeat(), x._replace(mean=-ONE, own=-ONE))
    assert (shifted.mean, shifted.own) == (-ONE + K / 2, -ONE + K)


def test_fresh_parts_of_results():
    """Of what is made of a part that the stream brought, and of this period's weights."""
    stream = Fact(ZERO, ZERO, ZERO, data=True, fresh=OO)
    made = Fact(-HALF, ZERO, ZERO, data=True, fresh=-ONE)
    weight = weight_fact(0, WeightOrders(HALF, Fraction(5, 4)))
    assert law(Sum((0, 1)), stream, made).fresh == -ONE
    assert law(Sum((0, 1)), stream, weight).fresh == -Fraction(5, 4)
    assert law(Scale(0, -ONE), made).fresh == -TWO
    assert law(Reduce(0, HALF), made).fresh == -HALF
    assert law(LinearLike(0), made).fresh == -ONE
    assert law(Product(0, 1), stream, made).fresh == -ONE
    grown, own = Fact(HALF, ONE, ONE, data=True, fresh=OO), Fact(-HALF, ZERO, ZERO, data=True, fresh=-ONE)
    assert law(Product(0, 1), own, grown).fresh == law(Product(0, 1), grown, own).fresh == -ONE + ONE
    found = law(Contract(0, 1, ONE, ONE, ZERO), weight, stream)
    assert (found.change, found.fresh) == (HALF * 0, -Fraction(1, 4))
    assert law(Contract(0, 1, ONE, ONE, ZERO), weight, made).fresh == max_order(-Fraction(1, 4), -ONE)
    assert law(Sum((0, 1)), weight, weight).fresh is None


@pytest.mark.parametrize("swap", [False, True])
def test_fresh_parts_of_a_contraction(swap):
    """The stream's fresh part meets the init of the weight; the update of the weight is all fresh."""
    structure = Contract(0, 1, ONE, ZERO, ONE) if swap else Contract(0, 1, ONE, ONE, ZERO)
    weight = weight_fact(0, WeightOrders(-K, ONE + K))
    stream = Fact(ZERO, ZERO, ZERO, data=True, fresh=-K)

    def made(w: Fact, x: Fact) -> Fact:
        return law(structure, *((x, w) if swap else (w, x)))

    assert (made(weight, stream).change, made(weight, stream).fresh) == (K + HALF, HALF)
    assert made(weight, stream._replace(fresh=OO)).fresh == -K
    # of an update of which a part is carried by the init: that adds up by law 2
    assert made(weight._replace(own=-ONE * 3), stream._replace(fresh=OO)).fresh == -ONE - K + HALF
    # no more than all of the change
    apart = stream._replace(fresh=ZERO, own=-ONE * 3)
    assert (made(weight, apart).change, made(weight, apart).fresh) == (-K, -K)


TWO = ONE * 2


def asked(structure: Repeat, x: Fact, demand: Demand) -> Demand:
    known = {0: x, 9: law(structure, x)}
    walk = Walk(Lowered(None, (), 0, ()), known, Freedom({0: 5}, {}, known), FULL, {}, {})
    DEMANDS.pass_on(Atom(9, structure, 0), demand, walk)
    ((found,),) = walk.demands.values()
    return found


@pytest.mark.parametrize("alpha", [ONE, HALF, HALF * 3 / 2])
def test_budgets_of_branches(alpha):
    """L^-alpha where signs are mixed, L^-1 where terms have a mean; a gain only changes less.  No norm mends it."""
    loose = Demand(ZERO, ZERO, False, "enters a norm")
    found = asked(repeat(alpha=alpha), term(), loose)
    assert (found.init, found.change, found.depth) == (-alpha * K, -alpha * K, alpha * K)
    assert found.tight and found.law == "is summed over the depth"
    found = asked(repeat(alpha=alpha), term(odd=0), loose)
    assert (found.init, found.change) == (-K, -K)
    found = asked(repeat(alpha=alpha, factor=True), term(), Demand(ZERO, ZERO, True, "", carried=ZERO))
    assert (found.init, found.change, found.carried, found.depth) == (ZERO, -K, -K, ZERO)
    assert asked(Repeat(0, ZERO), term(), loose) == loose
    found = asked(repeat(alpha=alpha), term(), Demand(-ONE, -HALF, True, ""))
    assert (found.init, found.change) == (-ONE - alpha * K, -HALF - alpha * K)
