"""Every law of budgets on single atoms: what a demand on a result asks of the operands, worked out by hand.

A demand allows a value an order at init and one for its change.  The tables hold the laws of ``test_laws.py`` read
backwards: what ``y = f(x)`` may be, less what ``f`` adds, is what ``x`` may be.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from tpcalc.algebra.order import HALF, MINUS_INFINITY, ONE, ZERO
from tpcalc.algebra.size import Size
from tpcalc.calculus.alignment import FULL, NONE, Alignment
from tpcalc.calculus.demands import DEMANDS, Conflict, Demand, Walk, budgets, of_factor
from tpcalc.calculus.facts import Fact, WeightOrders, constant, fixed, weight_fact
from tpcalc.calculus.freedom import ABSORBING, FREEDOM, PINNED, Freedom, absorbers, freedom
from tpcalc.calculus.laws import propagate
from tpcalc.calculus.limits import DERIVATIVE
from tpcalc.lower.lowered import Leaf, Lowered
from tpcalc.program.ir import Node, Program, Value, Weight
from tpcalc.rules.structures import (
    Atom,
    Bounded,
    Centre,
    Contract,
    Discrete,
    Exp,
    Gather,
    Guard,
    Known,
    LinearLike,
    Log,
    Normalise,
    Power,
    Product,
    Reduce,
    Scale,
    Slope,
    Softmax,
    Structure,
    Sum,
    View,
)

OO = MINUS_INFINITY
TWO, THREE, QUARTER = Fraction(2), Fraction(3), Fraction(1, 4)
#: Operands and result of the atom in question, and an atom elsewhere.
X, Y, OUT = 0, 1, 2
ELSEWHERE = Atom(99, View(98), 0)

#: A demand of which every part is set, and no two orders are alike.
GIVEN = Demand(-QUARTER, -HALF, True, "", ELSEWHERE, None, None, QUARTER, ELSEWHERE, True)
PLAIN = Demand(ZERO, ZERO, True, "")


def weight(bit: int = 0, A=HALF, C=ONE) -> Fact:
    return weight_fact(bit, WeightOrders(A, C))


def value(init=ZERO, trained=ZERO, change=ZERO, depends: int = 0) -> Fact:
    return Fact(init, trained, change, depends, data=True)


ORDINARY = value()


def walk(
    x: Fact = ORDINARY,
    y: Fact = ORDINARY,
    out: Fact = ORDINARY,
    hops: tuple = (None, None),
    shift: "dict | None" = None,
    caps: "dict | None" = None,
    alignment: Alignment = FULL,
) -> Walk:
    facts = {X: x, Y: y, OUT: out}
    free = Freedom(dict(enumerate(hops)), shift or {}, facts)
    return Walk(Lowered(None, (), 0, ()), facts, free, alignment, caps or {}, {})


def plain(demand: Demand) -> Demand:
    """Without its words."""
    return demand._replace(law="")


def asked(walk: Walk, structure: Structure, demand: "Demand | None") -> dict[int, list[Demand]]:
    DEMANDS.pass_on(Atom(OUT, structure, 0), demand, walk)
    return {vid: [plain(d) for d in demands] for vid, demands in walk.demands.items()}


def at(structure: Structure) -> Atom:
    return Atom(OUT, structure, 0)


# -- one value in ----------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", [Known(ZERO), Discrete((X,)), Slope(X)])
@pytest.mark.parametrize("demand", [None, GIVEN])
def test_nothing_is_asked_of_what_has_no_say(structure, demand):
    """Constants, comparisons, and derivatives of activations, which stay bounded."""
    assert asked(walk(), structure, demand) == {}


@pytest.mark.parametrize(
    "structure",
    [LinearLike(X), LinearLike(X, True), Bounded(X, True), Exp(X), Log(X), Softmax(X, ONE), Softmax(X, ONE, log=True)],
)
@pytest.mark.parametrize("demand", [None, GIVEN])
def test_what_enters_a_nonlinearity_has_budget_0(structure, demand):
    """Whatever becomes of the result: above order 0 it saturates, below it is linear."""
    assert asked(walk(), structure, demand) == {X: [Demand(ZERO, ZERO, True, "", at(structure))]}


#: Structure, budget of x for a result that may be n^-1/4 at init and change by n^-1/2.
THROUGH = [
    (View(X), GIVEN),
    (Centre(X), GIVEN),
    (Guard(X), GIVEN),
    (Gather(X), GIVEN),
    (Scale(X, ONE), GIVEN._replace(init=-QUARTER - 1, change=-HALF - 1)),
    (Scale(X, -ONE), GIVEN._replace(init=ONE - QUARTER, change=HALF)),
    (Sum((X, Y)), GIVEN),
    # a sum over growth 1 of what may be aligned; more than 0 is not given to what is summed
    (Reduce(X, ONE), GIVEN._replace(init=-QUARTER - 1, change=-HALF - 1)),
    (Reduce(X, -ONE), GIVEN._replace(init=ZERO, change=ZERO)),
    (Power(X, TWO), GIVEN._replace(init=-QUARTER / 2, change=-QUARTER)),
    (Power(X, HALF), GIVEN._replace(init=-HALF, change=-ONE)),
]


@pytest.mark.parametrize("structure, expected", THROUGH)
def test_what_a_value_passes_on(structure, expected):
    found = asked(walk(hops=(1, 1)), structure, GIVEN)
    assert found.pop(X) == [expected]
    assert found in ({}, {Y: [expected]})  # all terms of a sum alike
    assert asked(walk(), structure, None) == {}


def test_budgets_above_0_end_at_powers_and_sums_over_axes():
    roomy = PLAIN._replace(init=ONE, change=TWO)
    for structure in (Power(X, ONE), Reduce(X, ZERO)):
        assert asked(walk(), structure, roomy) == {X: [PLAIN]}
    assert asked(walk(), View(X), roomy) == {X: [roomy]}


@pytest.mark.parametrize("structure", [Scale(X, OO)])
def test_nothing_is_asked_where_less_would_not_help(structure):
    """Zero times anything."""
    assert asked(walk(), structure, GIVEN) == {}


@pytest.mark.parametrize("k", [-ONE, ZERO])
def test_what_something_is_divided_by_keeps_order_0(k):
    """An inverse is larger for less, so whatever is asked of it, its operand stays where it is."""
    assert asked(walk(), Power(X, k), GIVEN) == {
        X: [plain(Demand(ZERO, ZERO, False, "is divided by", at(Power(X, k))))]
    }


@pytest.mark.parametrize("structure", [Gather(X), Sum((X, Y))])
def test_a_weight_remembers_where_it_meets_a_demand(structure):
    """A look-up and a sum are uses; a view is none; and the first use that was met on the way back stays."""
    found = asked(walk(x=weight()), structure, GIVEN)
    assert found[X] == [GIVEN._replace(use=at(structure))]
    used = GIVEN._replace(use=ELSEWHERE)
    assert asked(walk(x=weight()), structure, used)[X] == [used]
    assert asked(walk(x=weight()._replace(data=True)), structure, GIVEN)[X] == [GIVEN]  # rows of it: a value
    assert asked(walk(x=weight()), View(X), GIVEN)[X] == [GIVEN]


# -- normalisers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("demand", [None, GIVEN, PLAIN])
def test_what_enters_a_norm_has_budget_0_and_nothing_starves(demand):
    structure = Normalise(X, ZERO)
    assert asked(walk(), structure, demand) == {X: [Demand(ZERO, ZERO, False, "", at(structure))]}


@pytest.mark.parametrize("structure", [Normalise(X, ZERO), Discrete((X,), "odd")], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(
    "size, init, change, tight, relative",
    [
        (ZERO, -HALF, -ONE, False, -HALF),  # before a norm or a gain its own size does not matter
        (-HALF, -HALF, -ONE, False, -HALF),
        (-ONE, -HALF, -ONE, False, -HALF),
        (ZERO, -HALF, -ONE, True, -HALF),  # too large: a constant makes up for it
        (-HALF, -HALF, -ONE, True, -HALF),
        (-ONE, -HALF, -ONE, True, ZERO),  # smaller than it may be: it may change as much as it is large
        (-ONE, -HALF, -Fraction(5, 4), True, -QUARTER),
        (ZERO, -ONE, -ONE, False, ZERO),
    ],
)
def test_a_weight_of_pinned_size_counts_updates_relative_to_it(structure, size, init, change, tight, relative):
    """W / |W|, sign(W) of size n^size, which may be n^init and change by n^change."""
    demand = Demand(init, change, tight, "", use=ELSEWHERE)
    (found,) = asked(walk(x=weight(), out=weight(A=-size)), structure, demand)[X]
    assert (found.init, found.change, found.use) == (ZERO, -HALF + relative, ELSEWHERE)  # W is n^-1/2


def test_a_norm_of_what_no_use_is_known_of_asks_for_order_0():
    structure = Normalise(X, ZERO)
    assert asked(walk(x=weight(), out=weight()), structure, None)[X] == [Demand(ZERO, ZERO, False, "", at(structure))]


# -- sums beside what can't grow -------------------------------------------------------------------


@pytest.mark.parametrize(
    "pinned, hops, demand, expected",
    [
        # before a norm: the residual branch is not made larger than the stream that it joins
        (value(trained=-HALF), (None, 1), (ZERO, ZERO, False), (-HALF, -HALF)),
        (value(trained=-HALF), (None, 1), (-ONE, ZERO, False), (-ONE, -HALF)),
        (value(init=-ONE, trained=-HALF), (None, 1), (ZERO, ZERO, False), (-HALF, -HALF)),
        # equal, larger: nothing to do
        (value(), (None, 1), (ZERO, ZERO, False), (ZERO, ZERO)),
        (value(trained=-HALF), (None, 1), (ZERO, -HALF, False), (ZERO, -HALF)),
        (value(trained=HALF), (None, 1), (ZERO, ZERO, False), (ZERO, ZERO)),
        # less than a nonlinearity's budget would be a loss
        (value(trained=-HALF), (None, 1), (ZERO, ZERO, True), (ZERO, ZERO)),
        # free values and constants hold nothing down, nor does zero
        (value(trained=-HALF), (1, 1), (ZERO, ZERO, False), (ZERO, ZERO)),
        (constant(-HALF), (None, 1), (ZERO, ZERO, False), (ZERO, ZERO)),
        (constant(OO)._replace(data=True), (None, 1), (ZERO, ZERO, False), (ZERO, ZERO)),
    ],
)
def test_what_joins_a_value_that_cannot_grow(pinned, hops, demand, expected):
    init, change, tight = demand
    given = GIVEN._replace(init=init, change=change, tight=tight)
    found = asked(walk(x=pinned, hops=hops), Sum((X, Y)), given)
    assert found == {vid: [given._replace(init=expected[0], change=expected[1])] for vid in (X, Y)}


# -- weights ---------------------------------------------------------------------------------------

#: What meets the weight, K, R, and what that adds: law 1 or 2 at init, law 3 for the update.
MEETINGS = [
    # data: law 1, and nothing that could change
    (value(change=OO), ONE, ONE, HALF, ONE),
    (value(change=OO), ONE, ZERO, HALF, ONE),
    (value(change=OO), ZERO, ONE, ZERO, ZERO),
    # features that learn: law 2
    (value(), ONE, ONE, HALF, ONE),
    (value(), ONE, ZERO, ONE, ONE),
    (value(), ONE, HALF, HALF + QUARTER, ONE),
    (value(), TWO, ONE, ONE + HALF, TWO),
    # made by the weight itself: law 2 at init
    (value(change=OO, depends=0b1), ONE, ZERO, ONE, ONE),
    (value(change=OO, depends=0b10), ONE, ZERO, HALF, ONE),
    # large and small ones
    (value(init=HALF, trained=HALF, change=-ONE), ONE, ZERO, ONE, ONE + HALF),
    (value(init=-HALF, trained=ZERO, change=ZERO), ONE, ZERO, ONE, ONE),
    (value(init=-HALF, trained=ZERO, change=ZERO), ONE, ONE, HALF, ONE),
    (value(init=-ONE, trained=-ONE, change=-TWO), ONE, ZERO, -HALF, ZERO),
    (value(init=OO, trained=ZERO, change=ZERO), ONE, ZERO, ONE, ONE),
]


@pytest.mark.parametrize("met, K, R, init, change", MEETINGS)
@pytest.mark.parametrize("swap", [False, True])
def test_a_weight_may_be_what_its_result_may_less_what_the_contraction_adds(met, K, R, init, change, swap):
    # what the value has alone (here 5) is not the weight's R
    five = Fraction(5)
    structure = Contract(X, Y, K, five, R) if swap else Contract(X, Y, K, R, five)
    w, v = (Y, X) if swap else (X, Y)
    found = asked(walk(**{"xy"[w]: weight(), "xy"[v]: met}), structure, GIVEN)
    carried = -HALF - max(K / 2, K - R / 2) - met.trained  # what a gain of its rows may do: law 2
    assert found == {
        w: [GIVEN._replace(init=-QUARTER - init, change=-HALF - change, use=at(structure), partner=v, carried=carried)],
        v: [Demand(ZERO, ZERO, False, "", at(structure), meets_weight=True)],
    }


def test_alignment_decides_what_is_added():
    structure = Contract(X, Y, ONE, ZERO, ONE)
    (demand,) = asked(walk(x=weight(), alignment=NONE), structure, PLAIN)[X]
    assert (demand.init, demand.change) == (-HALF, -HALF)
    (demand,) = asked(walk(x=weight(), alignment=FULL), structure, PLAIN)[X]
    assert (demand.init, demand.change) == (-ONE, -ONE)
    # law 1 is of the initial value: n^-1/2 by n^(1/2), where its change (n^0) is assumed to meet nothing of W
    apart = Alignment("orthogonal changes", initial=ZERO)
    waking = value(init=-HALF)
    (demand,) = asked(walk(x=weight(), y=waking, alignment=apart), structure, PLAIN)[X]
    assert (demand.init, demand.change) == (ZERO, -ONE)


def test_what_meets_a_weight_has_budget_0_even_if_the_result_is_not_held_to_anything():
    structure = Contract(X, Y, ONE, ONE, ONE)
    entering = Demand(ZERO, ZERO, False, "", at(structure), meets_weight=True)
    assert asked(walk(x=weight()), structure, None) == {Y: [entering]}
    assert asked(walk(y=weight()), structure, None) == {X: [entering]}
    # nothing can be told of a weight that meets zeros
    assert asked(walk(x=weight(), y=constant(OO)), structure, GIVEN) == {Y: [entering]}


def test_a_cap_lowers_what_meets_a_weight():
    structure = Contract(X, Y, ONE, ONE, ONE)
    found = asked(walk(x=weight(), caps={OUT: HALF}), structure, None)
    assert found == {
        Y: [Demand(-HALF, -HALF, False, "", at(structure), excess=HALF, excess_at=at(structure), meets_weight=True)]
    }
    assert asked(walk(x=weight(), caps={X: HALF}), structure, None)[Y][0].init == ZERO


def test_two_weights_that_meet_share_the_demand_and_ask_nothing_of_values():
    """B A: each alone keeps the product within its budget; neither is a value that enters the other."""
    structure = Contract(X, Y, ONE, ONE, ONE)
    found = asked(walk(x=weight(0), y=weight(1, A=ONE)), structure, GIVEN)
    # A is n^-1 and changes by n^-1: B may be larger by law 2 with K/2; its update by law 3
    b = GIVEN._replace(init=-QUARTER + 1 - HALF, change=-HALF + 1 - 1, use=at(structure), partner=Y, carried=ZERO)
    # B is n^-1/2 and changes by n^-1: n^(-1/2 + 1/2) at init
    a = GIVEN._replace(init=-QUARTER, change=-HALF + HALF - 1, use=at(structure), partner=X, carried=-HALF)
    assert found == {X: [b], Y: [a]}


# -- functions of weights ---------------------------------------------------------------------------

#: A weight that trains to more than it starts at, and a function of it likewise.
INSIDE, MADE = weight(A=ONE, C=HALF), weight(A=HALF, C=QUARTER)
#: A demand on it, which it is smaller than at init.
FEWER = Demand(-QUARTER, -ONE, True, "", ELSEWHERE, ELSEWHERE, Y)


@pytest.mark.parametrize(
    "structure, demand, change",
    [
        # log w: relative to the size of w, by what the change may be of the size of the result
        (Log(X), FEWER, -ONE - HALF),
        (Log(X), FEWER._replace(tight=False), -ONE - HALF - QUARTER),
        (Log(X), FEWER._replace(change=ZERO), -ONE),
        # f(0) + f'(0) w: as the result, which is f(0) whatever is asked of that
        (Exp(X), FEWER, -ONE),
        (Exp(X), FEWER._replace(tight=False), -ONE - QUARTER),
        (Exp(X), FEWER._replace(init=-ONE), -HALF),
        (Exp(X), FEWER._replace(change=ONE), ZERO),
        (Bounded(X, False), FEWER, -ONE),
        (LinearLike(X, True), FEWER, -ONE),
        # each of the entries of a softmax over growth 1/4 is n^-1/4 of that
        (Softmax(X, QUARTER), FEWER, -ONE + QUARTER),
        (Softmax(X, QUARTER, log=True), FEWER, -ONE),
    ],
)
def test_of_a_function_with_a_size_of_its_own_only_the_update_counts(structure, demand, change):
    found = asked(walk(x=INSIDE, out=MADE), structure, demand)
    assert found == {X: [demand._replace(init=ZERO, change=change)]}


@pytest.mark.parametrize("structure", [LinearLike(X), Bounded(X, True)])
def test_a_function_that_vanishes_with_the_weight_asks_for_its_size(structure):
    assert asked(walk(x=INSIDE, out=MADE), structure, FEWER) == {X: [FEWER]}
    roomy = FEWER._replace(init=ONE, change=HALF)
    assert asked(walk(x=INSIDE, out=MADE), structure, roomy) == {X: [roomy._replace(init=ZERO, change=ZERO)]}


@pytest.mark.parametrize("structure", [Log(X), Exp(X), LinearLike(X), Discrete((X,))])
def test_a_function_of_a_weight_that_nothing_is_asked_of_asks_nothing(structure):
    assert asked(walk(x=INSIDE, out=MADE), structure, None) == {}


@pytest.mark.parametrize("inside", [INSIDE, weight(A=HALF)._replace(trained=-ONE)])  # as large as it ever is
@pytest.mark.parametrize("change, relative", [(-ONE, -HALF), (ONE, ZERO)])
def test_a_discrete_function_counts_the_update_of_a_weight_relative_to_its_size(inside, change, relative):
    structure = Discrete((X, Y), "odd")
    demand = FEWER._replace(change=change)
    found = asked(walk(x=inside, out=MADE), structure, demand)
    assert found == {X: [demand._replace(init=ZERO, change=-HALF + relative)]}
    assert asked(walk(x=inside), structure, demand) == {}  # the result is none


def test_a_norm_of_a_weight_is_no_loss_and_one_of_a_value_is_free():
    structure = Normalise(X, ZERO)
    (found,) = asked(walk(x=INSIDE, out=MADE), structure, FEWER)[X]
    assert found == Demand(ZERO, -HALF - HALF, False, "", at(structure), ELSEWHERE, Y)
    large = value(HALF, HALF)
    assert asked(walk(x=large), structure, FEWER)[X] == [Demand(ZERO, ZERO, False, "", at(structure))]


def test_a_mean_of_the_entries_of_a_weight_is_no_use_of_it():
    (found,) = asked(walk(x=INSIDE, out=MADE), Reduce(X, ONE), FEWER)[X]
    assert found == FEWER._replace(init=-QUARTER - ONE, change=-TWO, statistic=True)


@pytest.mark.parametrize(
    "k, init, change", [(TWO, -QUARTER / 2, -ONE + QUARTER / 2), (THREE, -QUARTER / 3, -HALF * 5 / 3)]
)
def test_a_power_of_a_weight_moves_with_its_init(k, init, change):
    """k w^(k-1) dw."""
    assert asked(walk(x=INSIDE, out=MADE), Power(X, k), FEWER)[X] == [FEWER._replace(init=init, change=change)]


@pytest.mark.parametrize(
    "inside, own", [(INSIDE, -ONE), (weight(A=-HALF, C=-ONE), ZERO), (weight(A=None, C=HALF), ZERO)]
)
def test_an_inverse_of_a_weight_leaves_it_the_size_that_it_has(inside, own):
    structure = Power(X, -ONE)
    found = asked(walk(x=inside, out=MADE), structure, FEWER)[X]
    assert found == [Demand(ZERO, own, False, "", at(structure), statistic=True)]


def test_a_demand_before_a_constant_is_less_by_it():
    carried = GIVEN._replace(carried=ONE)
    assert carried.shifted(QUARTER) == GIVEN._replace(init=-HALF, change=-HALF - QUARTER, carried=ONE - QUARTER)


# -- two values ------------------------------------------------------------------------------------

DOT = Contract(X, Y, ONE, ONE, ONE)
ENTRYWISE = Product(X, Y)


@pytest.mark.parametrize(
    "structure, hops, absorber",
    [
        # the only free one
        (DOT, (1, None), X),
        (DOT, (None, 1), Y),
        (ENTRYWISE, (9, None), X),
        (ENTRYWISE, (None, 9), Y),
        # entrywise the nearer one, of two as near the first
        (ENTRYWISE, (1, 1), X),
        (ENTRYWISE, (2, 1), Y),
        (ENTRYWISE, (1, 2), X),
        # q k: the first, unless the second is a weight (behind at most two views) and the first is not
        (DOT, (5, 3), X),
        (DOT, (3, 3), X),
        (DOT, (3, 2), Y),
        (DOT, (2, 2), X),
        (DOT, (2, 0), X),
        (DOT, (4, 3), X),
        (DOT, (1, 5), X),
    ],
)
def test_who_absorbs(structure, hops, absorber):
    assert ABSORBING[type(structure)](structure, dict(enumerate(hops))) == (absorber,)


def other(order: Fraction, tight: bool, atom: Structure) -> Demand:
    return Demand(order, order, tight, "", at(atom))


def test_two_pinned_values_pass_on_what_the_other_leaves():
    """Neither follows a weight as a whole, but a part may: the gain of 1 + w."""
    for structure, K in ((ENTRYWISE, ZERO), (DOT, ONE)):
        found = asked(walk(x=value(init=ONE, trained=HALF), y=value(init=ONE, trained=-QUARTER)), structure, GIVEN)
        assert found == {
            X: [GIVEN._replace(init=-K, change=-QUARTER - K, tight=False)],
            Y: [GIVEN._replace(init=-QUARTER - HALF - K, change=-ONE - K, tight=False)],
        }
    zeros = constant(OO)
    assert set(asked(walk(x=zeros), ENTRYWISE, GIVEN)) == {X}
    assert set(asked(walk(y=zeros), ENTRYWISE, GIVEN)) == {Y}
    assert asked(walk(x=zeros, y=zeros), ENTRYWISE, GIVEN) == {}
    (seen,) = asked(walk(x=weight()), ENTRYWISE, GIVEN)[X]
    assert seen.use == at(ENTRYWISE)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("met", [-ONE, ZERO, HALF])
def test_a_free_value_takes_what_a_pinned_one_leaves(swap, met):
    """The pinned one keeps what it can't help being, and budget 0 if it is less."""
    pinned = value(init=TWO, trained=met)
    for structure, K in ((ENTRYWISE, ZERO), (DOT, ONE)):
        if swap:
            found = asked(walk(x=pinned, hops=(None, 1)), structure, GIVEN)
            free, held = found[Y], found[X]
        else:
            found = asked(walk(y=pinned, hops=(1, None)), structure, GIVEN)
            free, held = found[X], found[Y]
        assert held == [other(max(met, ZERO), False, structure)]
        left = -HALF - K - met
        passed = GIVEN._replace(init=-QUARTER - K - met, change=left)
        if K and left < 0 and left < -HALF:  # the product exceeds what it may be: by how much is told
            passed = passed._replace(excess=-left, excess_at=at(structure))
        assert free == [passed]


@pytest.mark.parametrize(
    "K, met, allowed, excess",
    [
        (ONE, ZERO, ZERO, ONE),  # q k over growth 1
        (ONE, -HALF, ZERO, HALF),
        (ONE, -ONE, ZERO, ZERO),  # probabilities: an average
        (ONE, -HALF, ONE, ZERO),  # room enough
        (HALF, -ONE, -ONE, ZERO),  # lower than before, but not by this product
        (ZERO, HALF, ZERO, ZERO),  # nothing is summed
        (ONE, -ONE, -HALF, ZERO),  # as much as before
        (ONE, -HALF, HALF, ZERO),  # just room enough
    ],
)
def test_the_excess_of_a_sum_over_a_growing_axis_is_told(K, met, allowed, excess):
    structure = Contract(X, Y, K, ONE, ONE)
    demand = PLAIN._replace(init=allowed + 2, change=allowed)
    (passed,) = asked(walk(y=value(trained=met), hops=(1, None)), structure, demand)[X]
    assert passed.change == allowed - K - met
    assert (passed.excess, passed.excess_at) == ((excess, at(structure)) if excess else (ZERO, None))


def test_nothing_is_asked_of_what_zeros_meet():
    zeros = constant(OO)
    assert asked(walk(y=zeros, hops=(1, None)), DOT, GIVEN) == {} == asked(walk(x=zeros, hops=(None, 1)), DOT, GIVEN)


@pytest.mark.parametrize(
    "trained, shift, keeps",
    [
        (ZERO, ZERO, ZERO),
        (HALF, ZERO, ZERO),  # too large as yet: it will be 0
        (-HALF, ZERO, -HALF),  # smaller than it might be
        (-ONE, -HALF, -ONE),
        (ZERO, -HALF, -HALF),  # its own constants make it small
        (ZERO, HALF, ZERO),
    ],
)
def test_of_two_free_values_the_other_keeps_its_own_order(trained, shift, keeps):
    structure = DOT
    found = asked(walk(y=value(init=TWO, trained=trained), hops=(3, 3), shift={Y: shift}), structure, PLAIN)
    assert found[Y] == [other(shift, True, structure)]
    (passed,) = found[X]
    left = -ONE - keeps
    assert (passed.init, passed.change) == (left, left)
    assert passed.excess == (-left if left < 0 else 0)


def test_a_gain_and_a_normalised_direction():
    """W = g v/|v|: the direction can't be smaller, its change is one of the product; the gain takes the budget."""
    gain, direction = weight_fact(0, WeightOrders(ONE, HALF, random=False)), weight(1, A=ZERO)
    found = asked(walk(x=direction, y=gain, out=weight(), hops=(None, 1)), ENTRYWISE, GIVEN)
    # the gain has grown to n^-1/2; the direction has order 0
    assert found[X] == [GIVEN._replace(init=QUARTER, change=ZERO, tight=False)]
    assert found[Y] == [GIVEN._replace(use=at(ENTRYWISE), partner=X)]
    rows = direction._replace(data=True)
    found = asked(walk(x=rows, y=value(trained=-HALF), hops=(None, 1)), ENTRYWISE, GIVEN)
    assert found[X] == [other(ZERO, False, ENTRYWISE)]


def test_a_product_of_two_weights_is_updated_through_both():
    """U * V that may change by n^-1/2: with U at n^-1/4, V may change by n^-1/4, and stays at order 0."""
    u, v = weight(0, A=ONE, C=QUARTER), weight(1, A=ZERO)
    found = asked(walk(x=u, y=v, out=weight(), hops=(1, 1)), ENTRYWISE, GIVEN)
    assert found[Y] == [Demand(ZERO, -QUARTER, True, "", at(ENTRYWISE), use=at(ENTRYWISE))]
    assert found[X] == [GIVEN._replace(use=at(ENTRYWISE), partner=Y)]
    roomy = GIVEN._replace(change=ONE)
    assert asked(walk(x=u, y=v, out=weight(), hops=(1, 1)), ENTRYWISE, roomy)[Y][0].change == ZERO
    # as values they need not care
    found = asked(walk(x=value(trained=-QUARTER), y=value(), hops=(1, 1)), ENTRYWISE, GIVEN)
    assert found == {X: [GIVEN], Y: [other(ZERO, True, ENTRYWISE)]}


USED = GIVEN._replace(use=ELSEWHERE, partner=7)


def test_the_weight_that_a_product_still_is_is_used_where_the_product_is():
    """And the other factor where it meets that; so does a gain of its rows, which is a part of it."""
    u, v = weight(0, A=ONE, C=QUARTER), weight(1, A=ZERO)
    for x, y, out, kept in (
        (u, v, weight(1), Y),
        (u, v, weight(0), X),
        (u, v._replace(coarse=True), weight(1), None),
        (u._replace(coarse=True), v, weight(0), None),
    ):
        found = asked(walk(x=x, y=y, out=out, hops=(1, 1)), ENTRYWISE, USED)
        uses = {vid: (d.use, d.partner) for vid, (d,) in found.items()}
        elsewhere = {X: (at(ENTRYWISE), Y), Y: (at(ENTRYWISE), None)}
        assert uses == {vid: (ELSEWHERE, 7) if vid == kept else elsewhere[vid] for vid in (X, Y)}
        unused = asked(walk(x=x, y=y, out=out, hops=(1, 1)), ENTRYWISE, GIVEN)
        assert {vid: (d.use, d.partner) for vid, (d,) in unused.items()} == elsewhere


@pytest.mark.parametrize("trained, shift, met", [(ZERO, -HALF, -HALF), (ZERO, HALF, ZERO), (HALF, ZERO, ZERO)])
def test_what_a_pinned_value_will_be_is_what_its_constants_give(trained, shift, met):
    """If it is larger as yet, some weight before it is."""
    found = asked(walk(y=value(trained=trained), hops=(1, None), shift={Y: shift}), ENTRYWISE, GIVEN)
    assert found[X] == [GIVEN._replace(init=-QUARTER - met, change=-HALF - met)]
    assert found[Y] == [other(ZERO, False, ENTRYWISE)]


ROWS, ENTRIES = weight(0)._replace(coarse=True), weight(1)
CARRYING = GIVEN._replace(carried=ONE)


@pytest.mark.parametrize(
    "factor, met, out, demand, change",
    [
        (ROWS, ENTRIES, weight(1), CARRYING, ONE),  # law 2 for the init that it carries along
        (ROWS, ENTRIES, weight(1), GIVEN, -HALF),
        (ROWS, ENTRIES, ORDINARY, CARRYING, -HALF),
        (ENTRIES, ROWS, weight(1), CARRYING, -HALF),
        (ROWS, ROWS, weight(1), CARRYING, -HALF),
        (ENTRIES, ENTRIES, weight(1), CARRYING, -HALF),
    ],
)
def test_a_gain_of_rows_carries_the_init_of_entries(factor, met, out, demand, change):
    for swap in (False, True):
        x, y, vid = (met, factor, Y) if swap else (factor, met, X)
        found = of_factor(vid, demand, ENTRYWISE, walk(x=x, y=y, out=out), at(ENTRYWISE))
        assert (found.init, found.change, found.carried) == (demand.init, change, demand.carried)


@pytest.mark.parametrize(
    "factor, met, statistic",
    [
        (ROWS, ENTRIES._replace(depends=0b11), True),  # W over its norm
        (ROWS, ENTRIES, False),
        (ROWS._replace(data=True), ENTRIES._replace(depends=0b11), False),
        (weight(0), ENTRIES._replace(depends=0b11), False),
        (ROWS, constant(ZERO), False),
    ],
)
def test_a_number_of_a_weight_that_meets_the_weight_is_a_statistic(factor, met, statistic):
    for swap in (False, True):
        x, y, vid = (met, factor, Y) if swap else (factor, met, X)
        assert of_factor(vid, GIVEN, ENTRYWISE, walk(x=x, y=y), at(ENTRYWISE)).statistic == statistic


# -- matrices that are mixed, or given -------------------------------------------------------------


def halves(K: Fraction, init: Fraction, change: Fraction, by: Fraction, structure: Structure, own: Fraction) -> list:
    """What is asked of a value of which the other one is n^by times smaller, where both are to give this."""
    half = PLAIN._replace(tight=False, init=min((init - K + by) / 2, ZERO), change=min((change - K + by) / 2, ZERO))
    if not K or half.change >= min(change, ZERO):
        return [half]
    told = half._replace(excess=-half.change, excess_at=at(structure), squared=True)
    return [Demand(own, own, True, "", at(structure)), told]


@pytest.mark.parametrize("init", [-ONE, TWO])
@pytest.mark.parametrize("change", [-ONE, -HALF, ZERO, HALF, ONE, TWO])
@pytest.mark.parametrize("K", [ZERO, HALF, ONE])
def test_a_value_that_meets_itself_takes_half_of_what_is_left(K, change, init):
    """Its square; of itself times a constant, each moves by as much as keeps them apart by that."""
    demand = PLAIN._replace(init=init, change=change, tight=False)
    structure = Contract(X, X, K, ONE, ONE) if K else Product(X, X)
    made = walk(hops=(1, 1), shift={X: -QUARTER})
    assert asked(made, structure, demand) == {X: halves(K, init, change, ZERO, structure, -QUARTER)}
    structure = Contract(X, Y, K, ONE, ONE) if K else Product(X, Y)
    made = walk(x=value(init=TWO, trained=HALF), y=value(init=THREE, trained=-ONE), hops=(1, 1), shift={Y: -HALF})
    made.lowered = Lowered(Program((64, 128, 256), (), {}, (), (), ()), (Atom(Y, Scale(X, -HALF - ONE), 0),), 1, ())
    apart = HALF + ONE
    assert asked(made, structure, demand) == {
        X: halves(K, init, change, apart, structure, ZERO),
        Y: halves(K, init, change, -apart, structure, -HALF),
    }


def test_what_meets_itself_only_by_its_place_shares_nothing():
    square = Product(X, X)
    # pinned values, weights and zeros have laws of their own
    (first, second) = asked(walk(), square, PLAIN)[X]
    assert first == second == PLAIN._replace(tight=False)
    assert asked(walk(x=value(trained=OO), hops=(1, 1)), square, PLAIN) == {}
    of_weights = asked(walk(x=weight(), hops=(1, 1)), square, PLAIN)[X]
    assert all(d.use == at(square) for d in of_weights) and len(of_weights) == 2
    # two values
    assert asked(walk(hops=(1, 1)), Product(X, Y), GIVEN) != {
        vid: halves(ZERO, -QUARTER, -HALF, ZERO, Product(X, Y), ZERO) for vid in (X, Y)
    }


def test_what_a_gain_may_do_is_less_by_what_the_contraction_adds():
    structure = Contract(X, Y, ONE, HALF, ONE)
    (found, *_) = asked(walk(x=weight(), y=value(trained=QUARTER)), structure, CARRYING)[X]
    assert found.carried == ONE - (HALF + QUARTER) - QUARTER


@pytest.mark.parametrize("swap", [False, True])
def test_matrices_that_are_mixed_are_used_where_their_mixture_is(swap):
    """sum_b c_b V_b; one that is mixed where nothing follows is used there."""
    structure = Contract(X, Y, ZERO, ZERO, TWO) if swap else Contract(X, Y, ZERO, TWO, ZERO)
    w, v = (Y, X) if swap else (X, Y)
    (found,) = asked(walk(**{"xy"[w]: weight()}), structure, USED)[w]
    assert (found.use, found.partner) == (ELSEWHERE, 7)
    (found,) = asked(walk(**{"xy"[w]: weight()}), structure, GIVEN)[w]
    assert (found.use, found.partner) == (at(structure), v)
    plain_use = Contract(X, Y, ONE, ONE, ONE)
    (found,) = asked(walk(**{"xy"[w]: weight()}), plain_use, USED)[w]
    assert (found.use, found.partner) == (at(plain_use), v)


@pytest.mark.parametrize("swap", [False, True])
def test_given_numbers_are_a_constant_to_the_value_that_they_meet(swap):
    """Of law 2, by what they are at init; where they are zero nothing is asked."""
    structure = Contract(X, Y, ONE, ONE, HALF) if swap else Contract(X, Y, ONE, HALF, ONE)
    g, v = (Y, X) if swap else (X, Y)
    numbers = fixed(QUARTER, 0b100, True)._replace(trained=ONE)

    def meeting(fact: Fact) -> Walk:
        made = walk(**{"xy"[g]: fact})
        made.lowered = Lowered(None, (), 0, (), fixed=0b100)
        return made

    assert asked(meeting(numbers), structure, GIVEN) == {v: [GIVEN.shifted(QUARTER + HALF + QUARTER)]}
    assert asked(meeting(numbers), structure, None) == {}
    assert asked(meeting(numbers._replace(init=OO)), structure, GIVEN) == {}


# -- constants before a weight ---------------------------------------------------------------------


def test_a_weight_makes_up_for_the_constants_before_it():
    """x / n into a weight: x keeps budget 0, not n."""
    roomy = Demand(ONE, TWO, False, "", meets_weight=True)
    given = GIVEN._replace(meets_weight=True)
    made = walk()
    for structure in (View(X), Centre(X), Guard(X), Gather(X), Scale(X, -ONE), Reduce(X, ONE)):
        assert made.before_constants(at(structure), roomy) == roomy  # still on the way
    for structure in (Sum((X, Y)), ENTRYWISE, Power(X, ONE), LinearLike(X), Normalise(X, ZERO)):
        assert made.before_constants(at(structure), roomy) == Demand(ZERO, ZERO, False, "")
        assert made.before_constants(at(structure), given) == given._replace(meets_weight=False)
        assert made.before_constants(at(structure), roomy._replace(meets_weight=False)) == roomy._replace(
            meets_weight=False
        )
    for w in (walk(x=weight()), walk(y=weight())):
        assert w.before_constants(at(DOT), roomy) == Demand(ZERO, ZERO, False, "")


@pytest.mark.parametrize("alignment, added", [(FULL, ONE), (NONE, HALF)])
def test_a_constant_may_be_there_for_a_sum(alignment, added):
    """q k / n into a weight: the dot product may have the order that the sum adds."""
    made = walk(alignment=alignment)
    found = made.before_constants(at(DOT), Demand(TWO, TWO, False, "", meets_weight=True))
    assert found == Demand(added, added, False, "")
    small = Demand(-HALF, -ONE, False, "", meets_weight=True)
    assert made.before_constants(at(DOT), small) == small._replace(meets_weight=False)


# -- several consumers -----------------------------------------------------------------------------


def demand(change, tight: bool = True, excess=ZERO) -> Demand:
    return Demand(-change, change, tight, "", excess=excess)


@pytest.mark.parametrize(
    "demands, binding, dropped",
    [
        ([demand(ZERO), demand(-HALF, False)], 1, []),
        ([demand(-HALF), demand(ZERO, False)], 0, []),
        # a dot product asks for less than a nonlinearity can bear: a conflict
        ([demand(ZERO), demand(-HALF, False, HALF)], 0, [1]),
        ([demand(-HALF, False, HALF), demand(ZERO)], 1, [0]),
        ([demand(-HALF, True, HALF), demand(ZERO)], 1, [0]),
        # norms can bear it
        ([demand(ZERO, False), demand(-HALF, False, HALF)], 1, []),
        # so can a nonlinearity that has that little anyway, or more than 0
        ([demand(-HALF), demand(-HALF, False, HALF)], 0, []),
        ([demand(ONE), demand(ZERO, False, ONE)], 1, []),
        ([demand(-HALF), demand(-ONE, False, HALF)], 0, [1]),
        # of several tight ones the roomiest decides what would starve
        ([demand(-HALF), demand(ZERO), demand(-QUARTER, False, HALF)], 0, []),
        ([demand(-HALF), demand(ZERO), demand(-ONE, False, HALF)], 0, [2]),
        ([demand(-QUARTER, False), demand(ZERO), demand(-ONE, False, HALF)], 0, [2]),
        ([demand(ZERO), demand(-ONE, False, HALF), demand(-HALF, False, HALF)], 0, [1, 2]),
        ([demand(ZERO), demand(-ONE, False, HALF), demand(ZERO, False, HALF)], 0, [1]),
        # another consumer needs that little anyway: less excess would not help
        ([demand(ZERO), demand(-ONE, False), demand(-HALF, False, HALF)], 1, []),
    ],
)
def test_the_binding_demand(demands, binding, dropped):
    made = walk()
    assert made.settle(X, demands) is demands[binding]
    floor = min(max((d.change for d in demands if d.tight), default=ZERO), ZERO)
    assert made.result.conflicts == [Conflict(X, demands[i], demands[i].change, floor) for i in dropped]


# -- whole walks -----------------------------------------------------------------------------------

N, FEW = Size.linear(), Size.constant(8)


def lowered(*structures: Structure, weights: tuple = (), outputs: "tuple | None" = None, loss=None, backward: int = 0):
    """Value 0 is the input, then the weights, then what the atoms make, one by one; the last one is the output."""
    first = 1 + len(weights)
    made = tuple(range(first, first + len(structures)))
    values = {0: Value(0, (FEW, FEW), "float32", "input")}
    values |= {vid: Value(vid, shape, "float32", "param") for vid, shape in enumerate(weights, 1)}
    values |= {vid: Value(vid, (FEW, N), "float32") for vid in made}
    names = tuple(Weight(f"W{vid}", vid, shape) for vid, shape in enumerate(weights, 1))
    leaves = tuple(Leaf(w.name, w, w.value, w.shape, None) for w in names)
    nodes = (Node(0, "test", (), (), made),) if made else ()
    ends = tuple(("", vid) for vid in (made[-1:] if outputs is None else outputs))
    program = Program((64, 128, 256), nodes, values, names, (0,), ends, loss=loss)
    atoms = tuple(Atom(vid, structure, 0) for vid, structure in zip(made, structures))
    return Lowered(program, atoms, len(atoms) - backward, leaves)


def walked(program: Lowered, orders: "dict | None" = None, caps: "dict | None" = None, waived: frozenset = frozenset()):
    orders = orders or {leaf.name: WeightOrders(ZERO, ZERO) for leaf in program.leaves}
    free = freedom(program, orders, FULL)
    return budgets(program, free.facts, free, FULL, caps or {}, waived=waived)


FIRST, SECOND, READOUT = (
    Contract(1, 0, ZERO, ONE, ZERO),
    Contract(2, 5, ONE, ONE, ZERO),
    Contract(3, 7, ONE, ZERO, ZERO),
)
MLP = lowered(FIRST, LinearLike(4), SECOND, Bounded(6, True), READOUT, weights=((N, FEW), (N, N), (FEW, N)))


def test_a_multilayer_perceptron():
    """muP: 0, 1/2 and 1 for the inits, 0, 1 and 1 for the updates (Yang et al. 2022, Table 3)."""
    found = walked(MLP)
    needs = {vid: [(d.init, d.change) for d in demands] for vid, demands in found.weights.items()}
    assert needs == {1: [(ZERO, ZERO)], 2: [(-HALF, -ONE)], 3: [(-ONE, -ONE)]}
    assert {vid: (d.init, d.change) for vid, d in found.of.items()} == dict.fromkeys(range(4, 9), (ZERO, ZERO))
    assert not found.conflicts and found.of[8].tight


def test_a_loss_takes_the_place_of_the_outputs():
    program = lowered(FIRST, Scale(2, ONE), Scale(2, -ONE), weights=((N, FEW),), outputs=(3,), loss=4)
    assert walked(program).of[2].change == ONE
    without = lowered(FIRST, Scale(2, ONE), Scale(2, -ONE), weights=((N, FEW),), outputs=(3,))
    assert walked(without).of[2].change == -ONE
    both = lowered(FIRST, Scale(2, ONE), Scale(2, -ONE), weights=((N, FEW),), outputs=(3, 4))
    assert walked(both).of[2].change == -ONE and set(walked(both).of) == {2, 3, 4}


def test_what_no_output_needs_asks_for_nothing():
    program = lowered(FIRST, LinearLike(3), LinearLike(2), weights=((N, FEW), (N, N)), outputs=(3,))
    found = walked(program)
    assert set(found.of) == {3} and found.weights[2] == [] and len(found.weights[1]) == 1
    # the backward pass has no budgets
    program = lowered(FIRST, View(2), weights=((N, FEW),), outputs=(2,), backward=1)
    assert set(walked(program).of) == {2}


def test_what_has_no_budget_of_its_own_still_passes_on_those_of_its_operands():
    """1 / tanh(W x): an inverse asks for 0 of tanh's result, and so does tanh."""
    program = lowered(FIRST, Bounded(2, True), Power(3, -ONE), weights=((N, FEW),))
    found = walked(program)
    assert set(found.of) == {2, 3, 4} and (found.of[2].init, found.of[2].change) == (ZERO, ZERO)


def test_each_use_of_a_weight_is_a_demand_of_its_own():
    """The transpose of a tied embedding: looked up (0), and read out over growth 1."""
    program = lowered(
        View(1),
        Gather(2),
        Bounded(3, True),
        Contract(2, 4, ONE, ZERO, ZERO),
        weights=((FEW, N),),
    )
    found = walked(program)
    needs = sorted((d.init, d.change, d.use.out) for d in found.weights[1])
    assert needs == [(-ONE, -ONE, 5), (ZERO, ZERO, 3)]
    assert found.of[2].change == -ONE  # of a view of a weight: that of the use met first on the way back


def test_constants_are_handled_on_the_way():
    """W2 (x W1 / n): what the constant multiplies keeps budget 0, and W2 makes up for it."""
    program = lowered(FIRST, Sum((3,)), Scale(4, -ONE), Contract(2, 5, ONE, ZERO, ZERO), weights=((N, FEW), (FEW, N)))
    found = walked(program)
    assert (found.of[4].init, found.of[4].change) == (ZERO, ZERO)
    assert found.of[5].change == ZERO


def test_conflicts_are_reported():
    """tanh(W x) needs order 0, its dot product with itself over growth 1 needs less of the same value, half of it."""
    program = lowered(FIRST, Contract(2, 2, ONE, ZERO, ZERO), Bounded(2, True), weights=((N, FEW),), outputs=(3, 4))
    found = walked(program)
    assert [(c.value, c.needed, c.allowed) for c in found.conflicts] == [(2, -HALF, ZERO)]
    assert found.conflicts[0].demand.squared
    assert found.of[2].change == ZERO


def test_what_no_output_depends_on_asks_nothing():
    """A nonlinearity beside the way to the output."""
    small = Scale(2, -ONE)
    (apart,) = walked(lowered(FIRST, LinearLike(2), small, weights=((N, FEW),))).weights[1]
    (joined,) = walked(lowered(FIRST, LinearLike(2), small, Sum((3, 4)), weights=((N, FEW),))).weights[1]
    assert (apart.law, joined.law) == ("leaves as an output", "enters a nonlinearity")


def test_what_is_multiplied_by_zero_still_holds_its_own_operands():
    program = lowered(FIRST, LinearLike(2), Scale(3, OO), weights=((N, FEW),))
    (use,) = walked(program).weights[1]
    assert use.law == "enters a nonlinearity" and 3 not in walked(program).of


def test_what_is_differentiated_is_held_to_order_0():
    """Where no value that leaves has its size."""
    program = lowered(FIRST, View(2), weights=((N, FEW),), outputs=())
    vars(program)["differentiated"] = (3,)
    (use,) = walked(program).weights[1]
    assert (use.init, use.change, use.tight, use.law) == (ZERO, ZERO, True, DERIVATIVE)


@pytest.mark.parametrize(
    ("waived", "asked_of"),
    [
        ((), (2, 3, 4)),
        ((3,), (3, 4)),  # it asks nothing of the value behind it
        ((2, 3), (2, 3, 4)),  # of another one that is waived it does
        ((2,), (2, 3, 4)),  # and of the weight
        ((4,), (4,)),
    ],
)
def test_what_is_waived_asks_nothing_of_others_than_weights(waived, asked_of):
    program = lowered(FIRST, View(2), Scale(3, ONE), weights=((N, FEW),))
    found = walked(program, waived=frozenset(waived))
    assert tuple(sorted(found.of)) == asked_of
    assert len(found.weights[1]) == (2 in asked_of)


def test_a_demand_that_moves_by_nothing_is_the_same_but_for_what_is_said():
    assert GIVEN.shifted(ZERO) == GIVEN
    assert GIVEN.shifted(ZERO, law="another") == GIVEN._replace(law="another")


def test_given_numbers_are_among_the_constants_before_a_weight():
    roomy = Demand(ONE, TWO, False, "", meets_weight=True)
    made = walk(x=fixed(ZERO, 0b100, True))
    made.lowered = Lowered(None, (), 0, (), fixed=0b100)
    assert made.before_constants(at(DOT), roomy) == roomy
    assert asked(walk(), DOT, None) == {}  # and two values that nothing is asked of ask nothing


# -- which values follow the scale of a weight -----------------------------------------------------

FACTS = {X: value(trained=-QUARTER), Y: value(trained=HALF)}


def follows(structure: Structure, *known) -> tuple:
    law = FREEDOM.of(structure)
    return PINNED if law is None else law(structure, *known)


@pytest.mark.parametrize(
    "structure, hops, expected",
    [
        (View(X), (3, None), (3, THREE)),
        (Centre(X), (3, None), (3, THREE)),
        (Guard(X), (3, None), (3, THREE)),
        (Gather(X), (3, None), (3, THREE)),
        (Reduce(X, ONE), (3, None), (3, THREE)),
        (Scale(X, HALF), (3, None), (3, THREE + HALF)),
        (Power(X, TWO), (3, None), (3, TWO * 3)),
        (Power(X, HALF), (3, None), (3, HALF * 3)),
        (View(X), (None, 3), (None, THREE)),
        # neither an inverse nor a nonlinearity, a norm, a comparison, a constant
        (Power(X, -ONE), (3, None), (None, ZERO)),
        (Power(X, ZERO), (3, None), (None, ZERO)),
        (LinearLike(X), (3, None), (None, ZERO)),
        (Bounded(X, True), (3, None), (None, ZERO)),
        (Normalise(X, HALF), (3, None), (None, ZERO)),
        (Softmax(X, ONE), (3, None), (None, ZERO)),
        (Exp(X), (3, None), (None, ZERO)),
        (Log(X), (3, None), (None, ZERO)),
        (Discrete((X,)), (3, None), (None, ZERO)),
        (Known(ONE), (3, None), (None, ZERO)),
        # a sum follows where all of it does; it is as large as the largest, as near as the nearest
        (Sum((X, Y)), (3, 5), (3, THREE)),
        (Sum((Y, X)), (3, 5), (3, THREE)),
        (Sum((X, Y)), (5, 3), (3, THREE)),
        (Sum((X, Y)), (3, None), (None, ZERO)),
        (Sum((X, Y)), (None, 3), (None, ZERO)),
        (Sum(()), (3, 3), (None, ZERO)),
        # a product follows either; what is pinned counts with the order that it has
        (Product(X, Y), (3, 5), (3, THREE - QUARTER)),
        (Product(X, Y), (5, 3), (3, THREE - QUARTER)),
        (Product(X, Y), (3, None), (3, THREE + HALF)),
        (Product(X, Y), (None, 3), (3, -QUARTER - QUARTER)),
        (Product(X, Y), (None, None), (None, -QUARTER + HALF)),
        (Contract(X, Y, ONE, ONE, ONE), (3, 5), (3, ZERO)),
        (Contract(X, Y, ONE, ONE, ONE), (None, 5), (5, ZERO)),
        (Contract(X, Y, ONE, ONE, ONE), (None, None), (None, ZERO)),
    ],
)
def test_whofollows(structure, hops, expected):
    shift = {X: THREE, Y: -QUARTER}
    near, by = follows(structure, dict(enumerate(hops)), shift, FACTS)
    assert near == expected[0] and (near is None or by == expected[1])


def test_values_without_constants_have_no_shift():
    hops = {X: 3, Y: 3}
    assert follows(View(X), hops, {}, FACTS) == (3, ZERO)
    assert follows(Sum((X, Y)), hops, {}, FACTS) == (3, ZERO)
    assert follows(Product(X, Y), hops, {}, FACTS) == (3, ZERO)


def test_zeros_do_not_pin_a_sum():
    """A bias that starts at zero and does not train, a state that starts empty."""
    facts = {X: value(), Y: constant(OO)}
    assert follows(Sum((X, Y)), {X: 3, Y: None}, {X: HALF, Y: TWO}, facts) == (3, HALF)
    facts[Y] = value(init=OO)
    assert follows(Sum((X, Y)), {X: 3, Y: None}, {}, facts) == (None, ZERO)


def test_freedom_of_a_program():
    """W x, its scaled view, tanh of that, and tanh times a gain: free, free, pinned, free."""
    program = lowered(
        FIRST,
        Scale(3, HALF),
        Bounded(4, True),
        Product(5, 2),
        Scale(3, OO),
        weights=((N, FEW), (N,)),
        backward=0,
    )
    orders = {"W1": WeightOrders(None, ZERO), "W2": WeightOrders(ONE, None, random=False)}
    free = freedom(program, orders, FULL)
    assert free.hops == {0: None, 1: 0, 2: 0, 3: 1, 4: 2, 5: None, 6: 1, 7: None}
    assert free.shift == {3: ZERO, 4: HALF, 6: ZERO}
    # free values have order 0, and change by as much if they change; pinned ones what follows
    assert free.facts[3][:3] == free.facts[4][:3] == (ZERO, ZERO, ZERO)
    assert free.facts[5][:3] == (ZERO, ZERO, ZERO) and free.facts[7][:3] == (OO, OO, OO)
    assert free.facts[6].depends == 0b11
    gained = freedom(lowered(Scale(1, HALF), weights=((N,),)), {"W1": orders["W2"]}, FULL)
    assert gained.facts[2].deviation is None
    frozen = freedom(program, {"W1": WeightOrders(HALF, None), "W2": orders["W2"]}, FULL)
    assert frozen.facts[3][:3] == frozen.facts[6][:3] == (ZERO, ZERO, OO)


def test_freedom_ends_with_the_forward_pass_and_counts_every_atom():
    program = lowered(FIRST, View(2), View(3), View(4), weights=((N, FEW),), backward=1)
    free = freedom(program, {"W1": WeightOrders(ZERO, ZERO)}, FULL)
    assert free.hops == {0: None, 1: 0, 2: 1, 3: 2, 4: 3}
    # a scale of zero in a chain of shifts
    program = lowered(FIRST, Product(2, 0), weights=((N, FEW),))
    assert freedom(program, {"W1": WeightOrders(ZERO, ZERO)}, FULL).shift == {2: ZERO, 3: ZERO}


def test_of_a_weight_functions_and_sums_may_follow():
    hops, shift = {X: 3, Y: 5}, {X: THREE}
    mean, signs = weight()._replace(odd=0), weight()
    assert follows(Reduce(X, HALF), hops, shift, {X: mean}) == (3, THREE + HALF)
    for other_ in (signs, mean._replace(data=True)):
        assert follows(Reduce(X, HALF), hops, shift, {X: other_}) == (3, THREE)
    assert (
        follows(LinearLike(X), hops, shift, {X: signs})
        == (3, THREE)
        == follows(Bounded(X, True), hops, shift, {X: signs})
    )
    assert follows(LinearLike(X, True), hops, shift, {X: signs}) == PINNED


def test_what_meets_a_weight_follows_that():
    structure = Contract(X, Y, ONE, ONE, ZERO)
    for hops, at_x, at_y in (((3, 5), 3, 5), ((5, 3), 5, 3), ((None, 3), None, 3)):
        known = dict(enumerate(hops))
        assert follows(structure, known, {}, {X: weight(), Y: value()}) == (at_x, ZERO)
        assert follows(structure, known, {}, {X: value(), Y: weight()}) == (at_y, ZERO)


@pytest.mark.parametrize("swap", [False, True])
def test_what_given_numbers_make_has_a_size(swap):
    """G (x / w): no weight can scale it.  By law 1, or by the change of what it meets."""
    numbers, w = Known(-HALF, weight=0b100), {"W1": WeightOrders(HALF, ZERO)}

    def sizes(R, alignment=FULL, then=(), **more):
        met = Contract(3, 4, ONE, ZERO, R) if swap else Contract(4, 3, ONE, R, ZERO)
        program = lowered(Power(1, -ONE), Product(2, 0), numbers, met, *then, weights=((N,),))
        return freedom(program, w, alignment, **more).shift

    # x / w is n^1/2 at first and of order 0 later, and changes by as much: law 2
    assert (sizes(ONE), sizes(ZERO)) == ({5: -HALF + HALF + HALF}, {5: -HALF + ONE + HALF})
    assert sizes(ONE, Alignment("orthogonal changes", initial=ZERO)) == {5: -HALF + HALF + HALF}
    through = (View(5), Scale(6, QUARTER), Guard(7), Centre(8), View(3), Exp(5), Contract(3, 3, ONE, ZERO, ZERO))
    assert sizes(ONE, then=through) == {5: HALF, 6: HALF, 7: HALF + QUARTER, 8: HALF + QUARTER}
    assert sizes(ONE, then=(View(5),), multipliers={5: -ONE, 6: QUARTER}) == {5: -HALF, 6: -QUARTER}


def test_what_a_pinned_weight_makes_has_its_size_at_init():
    """An inverse, which has a mean, and is less once it has trained."""
    program = lowered(Power(1, -ONE), Contract(2, 0, ONE, ONE, ZERO), weights=((N, FEW),))
    assert freedom(program, {"W1": WeightOrders(HALF, ZERO)}, FULL).shift == {3: HALF + ONE}


def test_nominal_means_are_relative_to_the_size():
    """tanh + x^2 of a weight: n^-1/2 with a mean of n^-1, which is n^-1/2 of it."""
    program = lowered(Bounded(1, True, "none"), Scale(2, -QUARTER), weights=((N,),))
    for found in (freedom(program, {"W1": WeightOrders(HALF, ZERO)}, FULL).facts[vid] for vid in (2, 3)):
        assert (found.init, found.trained, found.mean) == (ZERO, ZERO, -HALF)
    assert freedom(program, {"W1": WeightOrders(None, ZERO)}, FULL).facts[2].mean is OO


def test_nominal_changes_are_whole():
    """Of a gain of rows times the entries, too."""
    program = replace(lowered(Product(1, 2), weights=((N, N), (FEW,))), finite=frozenset((2,)))
    orders = {name: WeightOrders(HALF, ONE) for name in ("W1", "W2")}
    assert propagate(program, orders)[3].own is not None
    assert freedom(program, orders, FULL).facts[3].own is None


def test_who_would_absorb_a_smaller_budget():
    """y = (W1 x + W2 x) * tanh(W1 x): the first factor follows W1 and W2; what is pinned is not asked."""
    program = lowered(
        FIRST,
        Contract(2, 0, ZERO, ONE, ZERO),
        Sum((4, 5)),
        Bounded(4, True),
        Product(6, 7),
        Scale(8, ONE),
        Contract(3, 9, ONE, ONE, ZERO),
        weights=((N, FEW), (N, FEW), (N, N)),
    )
    hops = freedom(program, {f"W{i}": WeightOrders(ZERO, ZERO) for i in (1, 2, 3)}, FULL).hops
    assert absorbers(program, 9, hops) == {1, 2}
    assert absorbers(program, 4, hops) == {1}
    assert absorbers(program, 7, hops) == set()
    assert absorbers(program, 10, hops) == {3}  # of a contraction with a weight: that weight
    assert absorbers(program, 1, hops) == {1}
    assert absorbers(program, 9, {}) == set()
    # of two free factors the nearer one absorbs: a gain
    gained = lowered(FIRST, Product(3, 2), weights=((N, FEW), (N,)))
    assert absorbers(gained, 4, {0: None, 1: 0, 2: 0, 3: 1, 4: 2}) == {2}
    # the backward pass is not walked
    assert absorbers(lowered(FIRST, View(2), weights=((N, FEW),), backward=1), 3, {1: 0, 2: 1, 3: 2}) == set()
