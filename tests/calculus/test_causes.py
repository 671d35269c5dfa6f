"""From a result that is too large to what makes it so, by hand: each law on one atom, and how they are put together.

The result is ``n^1/2`` and changes by that; it may be ``n^-1/4``.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest

from tpcalc.algebra.order import HALF, MINUS_INFINITY, ONE, ZERO
from tpcalc.calculus.alignment import FULL, NONE
from tpcalc.calculus.causes import INIT, LR, MERGED, SITE, Fault, Search, Share, TooLarge
from tpcalc.calculus.facts import Fact, fixed
from tpcalc.lower.lowered import Leaf, Lowered
from tpcalc.program.ir import Weight
from tpcalc.rules.structures import (
    Atom,
    Bounded,
    Centre,
    Contract,
    Discrete,
    Exp,
    Gather,
    Guard,
    LinearLike,
    Log,
    Normalise,
    Power,
    Product,
    Reduce,
    Repeat,
    Scale,
    Slope,
    Softmax,
    Structure,
    Sum,
    View,
)

OO, QUARTER, EIGHTH, TWO, THREE = MINUS_INFINITY, Fraction(1, 4), Fraction(1, 8), Fraction(2), Fraction(3)
X, Y, OUT = 0, 1, 9


def value(init=ZERO, trained=ZERO, change=ZERO) -> Fact:
    return Fact(init, trained, change, data=True)


def weight(init=ONE, trained=TWO, change=HALF, bit: int = 1, **of: Any) -> Fact:
    """No two of its orders are alike."""
    return Fact(init, trained, change, bit, bit, 0, bit, **of)


RESULT = value(HALF, HALF, HALF)
SIZE, MOVE = TooLarge(OUT, -QUARTER, False, THREE), TooLarge(OUT, -QUARTER, True, THREE)
LEVEL = SIZE._replace(allowed=ZERO)
LARGE = value(QUARTER, HALF, EIGHTH)
#: Not too large itself.
SMALL = value(-QUARTER, -EIGHTH, -ONE)


def leaf(vid: int) -> Leaf:
    return Leaf(f"W{vid}", Weight(f"W{vid}", vid, ()), vid, (), None)


def searching(
    structure: Structure, *facts: Fact, limited=(), out: Fact = RESULT, alignment=FULL, fixed: int = 0
) -> Search:
    known = {**dict(enumerate(facts)), OUT: out}
    leaves = tuple(leaf(vid) for vid, fact in enumerate(facts) if fact.weight & ~fixed)
    lowered = Lowered(None, (Atom(OUT, structure, 0),), 1, leaves, fixed=fixed)
    return Search(lowered, known, alignment, limited)


def back(structure: Structure, large: TooLarge, *facts: Fact, **of: Any) -> list:
    """What one step finds, each fault by its kind, its leaf and its excess; a site with the constants before it."""
    return [told(item) for item in searching(structure, *facts, **of).step(large)]


def told(item: Any) -> Any:
    if isinstance(item, TooLarge):
        return item
    return (SITE, item.excess, item.scale) if item.leaf is None else (item.quantity, item.leaf.value, item.excess)


#: By what the result itself is too large.
HERE = (SITE, HALF + QUARTER, THREE)
AT_X, MOVE_X = SIZE._replace(value=X), MOVE._replace(value=X)


@pytest.mark.parametrize(
    "structure, x, large, expected",
    [
        *((kind(X), value(), large, large._replace(value=X)) for kind in (View, Centre) for large in (SIZE, MOVE)),
        # in the place of zero stands a constant
        (Guard(X), value(OO), SIZE, HERE),
        (Guard(X), value(OO), MOVE, MOVE_X),
        (Guard(X), value(OO), LEVEL, LEVEL._replace(value=X)),
        (Guard(X), value(), SIZE, AT_X),
        # f(0) stays
        (LinearLike(X, True), value(), SIZE, HERE),
        (LinearLike(X, True), value(), MOVE, MOVE_X),
        (LinearLike(X, True), value(), LEVEL, LEVEL._replace(value=X)),
        (LinearLike(X), value(), SIZE, AT_X),
        (Bounded(X, False), value(), SIZE, HERE),
        (Bounded(X, False), value(), MOVE, MOVE_X),
        (Bounded(X, True), value(), SIZE, AT_X),
        (Exp(X), value(), SIZE, HERE),
        (Exp(X), value(), MOVE, MOVE_X),
        # an entry of a softmax is less than what enters by what it is spread over
        (Softmax(X, EIGHTH), value(), MOVE, MOVE_X._replace(allowed=-EIGHTH)),
        (Softmax(X, EIGHTH), value(), SIZE, HERE),
        (Softmax(X, EIGHTH), value(), LEVEL, (SITE, HALF, THREE)),
        (Softmax(X, EIGHTH, log=True), value(), MOVE, MOVE_X),
        (Softmax(X, EIGHTH, log=True), value(), SIZE, HERE),
        (Softmax(X, EIGHTH, log=True), value(), LEVEL, LEVEL._replace(value=X)),
        # relative to the size
        (Log(X), value(-HALF), MOVE, MOVE_X._replace(allowed=-HALF - QUARTER)),
        (Log(X), value(-HALF), SIZE, HERE),
        (Log(X), value(OO), MOVE, HERE),
        (Normalise(X, EIGHTH), value(-HALF), MOVE, MOVE_X._replace(allowed=-HALF - QUARTER - EIGHTH)),
        (Normalise(X, EIGHTH), value(-HALF), SIZE, HERE),
        (Gather(X), value(), SIZE, AT_X),
        (Scale(X, EIGHTH), value(), SIZE, AT_X._replace(allowed=-QUARTER - EIGHTH, scale=THREE + EIGHTH)),
        # the mean-value law, or all of it
        (Power(X, TWO), value(EIGHTH), MOVE, MOVE_X._replace(allowed=-QUARTER - EIGHTH, scale=THREE * 2)),
        (Power(X, TWO), value(-HALF), MOVE, MOVE_X._replace(allowed=-EIGHTH, scale=THREE * 2)),
        (Power(X, TWO), value(OO), MOVE, MOVE_X._replace(allowed=-EIGHTH, scale=THREE * 2)),
        (Power(X, TWO), value(EIGHTH), SIZE, AT_X._replace(allowed=-EIGHTH, scale=THREE * 2)),
        (Power(X, HALF), value(EIGHTH), SIZE, AT_X._replace(allowed=-HALF, scale=THREE / 2)),
        # an inverse
        (Power(X, -ONE), value(), SIZE, HERE),
        (Power(X, -ONE), value(-HALF), MOVE, MOVE_X._replace(allowed=-QUARTER - ONE, scale=-THREE)),
        (Power(X, -ONE), value(QUARTER), MOVE, HERE),
        # of order 0 whatever enters
        (Discrete((X,)), value(), SIZE, HERE),
        (Slope(X), value(), SIZE, HERE),
        # a sum that is no weighted one
        (Reduce(X, ONE), LARGE, SIZE, AT_X._replace(allowed=ZERO)),
        (Reduce(X, ONE), LARGE, MOVE, MOVE_X._replace(allowed=ZERO)),
        (Reduce(X, ONE), SMALL, SIZE, HERE),
    ],
)
def test_one_step_back(structure, x, large, expected):
    assert back(structure, large, x) == [expected]


def test_every_term_of_a_sum_may_be_too_large():
    assert back(Sum((X, Y)), SIZE, value(), value()) == [AT_X, SIZE._replace(value=Y)]


def test_a_sum_over_the_depth_is_each_terms_to_bear():
    s = Repeat(X, HALF, own=1)
    mixed = value()._replace(depends=1, odd=1)
    moved = MOVE_X._replace(allowed=-QUARTER - HALF)
    assert back(s, SIZE, mixed) == [AT_X._replace(allowed=-HALF), moved]
    assert back(s, SIZE, value()) == [AT_X._replace(allowed=-QUARTER - HALF), moved]
    assert back(s, MOVE, mixed) == [moved]


def test_a_weighted_sum_is_a_contraction_written_out():
    moved = MOVE_X._replace(allowed=-QUARTER - ONE)
    assert back(Reduce(X, ONE), SIZE, weight()) == [AT_X._replace(allowed=-QUARTER - HALF), moved]
    assert back(Reduce(X, ONE), SIZE, weight()._replace(odd=0)) == [AT_X._replace(allowed=-QUARTER - ONE), moved]
    assert back(Reduce(X, ONE), MOVE, weight()) == [moved]
    assert back(Reduce(X, ONE), MOVE, weight(), alignment=NONE) == [moved._replace(allowed=-QUARTER - HALF)]


def test_nothing_is_at_fault_where_nothing_is_too_large():
    for allowed in (HALF, ONE):
        assert back(View(X), SIZE._replace(allowed=allowed), value()) == []
    search = searching(View(X), LARGE)
    assert list(search.step(SIZE._replace(value=X))) == []  # an input: nobody makes it
    assert search.size(X, True) == EIGHTH
    assert search.size(X, False) == HALF == searching(View(X), value(HALF, QUARTER)).size(X, False)


def test_a_value_that_is_judged_by_itself_is_no_suspect():
    for value_, limited, expected in (
        (LARGE, (), True),
        (LARGE, (X,), False),
        (SMALL, (), False),
        (value(), (), False),
    ):
        assert searching(View(X), value_, limited=limited).suspect(X, False) == expected
    search = searching(View(X), LARGE, SMALL, limited=(Y,))
    assert not search.suspect(X, False, Y) and search.suspect(X, False, X)


# -- weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Gather, View])
def test_the_init_and_the_update_of_a_weight_are_judged_apart(kind):
    """Rows of it at their look-up; what is a weight itself as that."""
    size, move = [(INIT, X, ONE + QUARTER), (LR, X, HALF + QUARTER)], [(LR, X, HALF + QUARTER)]
    if kind is Gather:
        assert (back(Gather(X), SIZE, weight()), back(Gather(X), MOVE, weight())) == (size, move)
    else:
        found = searching(View(X), weight(), out=weight())
        assert [told(f) for f in found.step(SIZE)] == size and [told(f) for f in found.step(MOVE)] == move


AROUND = Atom(8, View(7), 0)


@pytest.mark.parametrize(
    "fact, init, change, expected",
    [
        (weight(), ONE, HALF, [(INIT, X, ONE), (LR, X, HALF)]),
        (weight(), ZERO, HALF, [(LR, X, HALF)]),
        (weight(), ONE, ZERO, [(INIT, X, ONE)]),
        (weight(init=OO), ONE, HALF, [(LR, X, HALF)]),
        (weight(change=OO), ONE, HALF, [(INIT, X, ONE)]),
    ],
)
def test_a_leaf_is_blamed_for_what_it_has(fact, init, change, expected):
    search = searching(View(X), fact)
    for use, atom in ((AROUND, AROUND), (None, search.lowered.atoms[0])):
        found = list(search.of_weight(X, init, change, use))
        assert [told(fault) for fault in found] == expected and all(fault.atom == atom for fault in found)


def test_a_weight_that_nothing_uses_is_blamed_for_nothing():
    search = searching(View(Y), weight(), value())
    assert list(search.of_weight(X, ONE, ONE, None)) == []
    assert list(search.of_weight(Y, ONE, ONE, None)) == []  # nor is what nobody makes
    assert list(searching(Slope(X), value()).of_weight(OUT, ONE, ONE, AROUND)) == []


def test_a_size_that_no_weight_has_is_mended_where_it_is_used():
    search = searching(Exp(X), weight(), out=weight())
    (site, _) = search.of_weight(OUT, ONE, ONE, AROUND)
    assert (site.quantity, site.atom) == (SITE, AROUND)
    (site, _) = search.of_weight(OUT, ONE, ONE, None)
    assert site.atom == search.lowered.atoms[0]


def test_constants_and_given_numbers_are_fixed():
    search = searching(Sum((0, 1, 2)), value()._replace(data=False), fixed(ZERO, 0b100, True), weight(), fixed=0b100)
    assert [search.is_fixed(vid) for vid in (0, 1, 2)] == [True, True, False]


# -- contractions and products ---------------------------------------------------------------------


class Blamed(Search):
    """Keeps whom it would blame, and for what."""

    def of_weight(self, vid, init, change, use, carried=None) -> Iterator[Fault]:
        self.blamed = [*getattr(self, "blamed", []), (vid, init, change, carried)]
        return iter(())


def blamed(structure: Structure, large: TooLarge, *facts: Fact, **of: Any) -> tuple[list, list]:
    search = searching(structure, *facts, **of)
    search.__class__ = Blamed
    return list(search.step(large)), getattr(search, "blamed", [])


R = HALF
#: Law 2 over growth 1 with a weight whose other axes grow by 1/2.
BY_INIT = HALF + QUARTER


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize(
    "w, v, limited, large, suspects, init, change",
    [
        # law 1 for the size, law 2 for the change, law 3 for the update
        (weight(), SMALL, (), SIZE, False, ONE + HALF - QUARTER, HALF + ONE - EIGHTH),
        (weight(), SMALL, (), MOVE, False, ONE + BY_INIT - ONE, HALF + ONE - EIGHTH),
        # a change that is larger than the initial effect
        (weight(), SMALL._replace(change=ZERO), (), SIZE, False, ONE + BY_INIT, HALF + ONE - EIGHTH),
        # the value is mended itself, and the weight need not make up for it
        (weight(), LARGE, (), SIZE, True, ONE + BY_INIT, HALF + ONE),
        (weight(), LARGE._replace(change=-ONE), (), SIZE, True, ONE + HALF, HALF + ONE),
        # ... but it is judged where it stands
        (weight(), LARGE, (X, Y), SIZE, False, ONE + BY_INIT + EIGHTH, HALF + ONE + HALF),
        # what only its init changes by
        (weight(own=-ONE), SMALL, (), SIZE, False, ONE + HALF - QUARTER, -EIGHTH),
    ],
)
def test_a_weight_and_a_value(w, v, limited, large, suspects, init, change, swap):
    structure = Contract(X, Y, ONE, ONE * 5, R) if swap else Contract(X, Y, ONE, R, ONE * 5)
    facts, (w_id, v_id) = ((v, w), (Y, X)) if swap else ((w, v), (X, Y))
    found, blame = blamed(structure, large, *facts, limited=limited)
    assert found == ([TooLarge(v_id, ZERO, large.change)] if suspects else [])
    carried = None if w.own is None else w.change + BY_INIT + v.trained + QUARTER
    assert blame == [(w_id, init + QUARTER, change + QUARTER, carried)]


@pytest.mark.parametrize("bit, grows", [(2, HALF), (1, ONE)])
def test_two_weights_share_the_blame(bit, grows):
    """Law 1, or all of it where it is the same weight.  Neither is mended as a value."""
    x, y = weight(), weight(-HALF, -EIGHTH, -ONE, bit)
    found, blame = blamed(Contract(X, Y, ONE, R, R), SIZE, x, y)
    assert found == []
    assert blame == [
        (X, ONE + grows - HALF + QUARTER, HALF + ONE - EIGHTH + QUARTER, None),
        (Y, -HALF + grows + ONE + QUARTER, -ONE + ONE + TWO + QUARTER, None),
    ]


@pytest.mark.parametrize("swap", [False, True])
def test_given_numbers_are_a_constant(swap):
    numbers = fixed(EIGHTH, 4, True)._replace(trained=ONE)
    structure = Contract(X, Y, ONE, ONE, R) if swap else Contract(X, Y, ONE, R, ONE)
    facts = (value(), numbers) if swap else (numbers, value())
    for large in (SIZE, MOVE):
        expected = large._replace(value=X if swap else Y, allowed=-QUARTER - EIGHTH - BY_INIT)
        assert back(structure, large, *facts, fixed=4) == [expected]


@pytest.mark.parametrize("structure", [Product(X, Y), Contract(X, Y, ONE, ONE, ONE)], ids=lambda s: type(s).__name__)
def test_of_two_values_those_that_are_too_large(structure):
    at_y = SIZE._replace(value=Y, allowed=ZERO)
    assert back(structure, SIZE, LARGE, LARGE) == [AT_X._replace(allowed=ZERO), at_y]
    assert back(structure, SIZE, SMALL, LARGE) == [at_y]
    assert back(structure, SIZE, SMALL, LARGE, limited=(Y,)) == [HERE]


def test_a_product_of_two_values_counts_the_constants_before_it():
    """n^1/8 x times n^1/4 y, of which a part is zero."""
    atoms = tuple(
        Atom(out, s, 0)
        for out, s in (
            (2, Scale(X, EIGHTH)),
            (3, View(2)),
            (4, Scale(Y, QUARTER)),
            (5, Scale(4, OO)),
            (OUT, Product(3, 5)),
        )
    )
    facts = dict.fromkeys(range(6), SMALL) | {OUT: RESULT}
    search = Search(Lowered(None, atoms, len(atoms), ()), facts, FULL, ())
    assert [search.constants(vid) for vid in (X, 3, 4, 5)] == [ZERO, EIGHTH, QUARTER, QUARTER]
    assert [told(item) for item in search.step(SIZE)] == [(SITE, HALF + QUARTER, THREE + EIGHTH + QUARTER)]


@pytest.mark.parametrize("swap", [False, True])
def test_a_gain_of_a_value(swap):
    facts = (SMALL, weight()) if swap else (weight(), SMALL)
    w, v = (Y, X) if swap else (X, Y)
    for large, init in ((SIZE, ONE - EIGHTH + QUARTER), (MOVE, ONE - ONE + QUARTER)):
        found, blame = blamed(Product(X, Y), large, *facts)
        assert (found, blame) == ([], [(w, init, HALF - EIGHTH + QUARTER, None)])
    facts = (LARGE, weight()) if swap else (weight(), LARGE)
    assert blamed(Product(X, Y), SIZE, *facts) == ([SIZE._replace(value=v, allowed=ZERO)], [])


# -- merged weights --------------------------------------------------------------------------------

#: What is made of the weight, and what it has of the fault.
MERGING = Fact(ZERO, TWO, -QUARTER, 1, 1, 0, 1)
OF_INIT, OF_CHANGE = ONE, HALF


def shared(structure: Structure, *facts: Fact, init=OF_INIT, change=OF_CHANGE, carried=None, out=MERGING, **of) -> list:
    search = searching(structure, *facts, out=out, **of)
    found = MERGED[type(structure)](structure, Share(OUT, init, change, carried), search)
    return [told(item) if isinstance(item, Fault) else tuple(item) for item in found]


@pytest.mark.parametrize(
    "k, x, init, change, expected",
    [
        # an update as large as the weight is mended with it, else by k w^(k-1) dw
        (TWO, weight(), ONE, HALF, (HALF, QUARTER)),
        (TWO, weight(change=ZERO), ONE, HALF, (HALF, ZERO)),
        (TWO, weight(), -ONE, HALF, (-HALF, HALF)),
        (TWO, weight(init=OO), ONE, HALF, (HALF, QUARTER)),
        (THREE, weight(change=ZERO), THREE / 2, TWO, (HALF, ONE)),
        (HALF, weight(), QUARTER, HALF, (HALF, ONE)),
    ],
)
def test_a_power_of_a_weight(k, x, init, change, expected):
    assert shared(Power(X, k), x, init=init, change=change) == [(X, *expected, None)]


def test_what_a_function_cuts_off_is_mended_too():
    for s in (LinearLike(X), Bounded(X, True)):
        assert shared(s, weight()) == [(X, ONE + ONE, HALF + HALF + QUARTER, None)]
        nothing = weight(OO, ZERO, OO)
        assert shared(s, nothing) == [(X, ONE, HALF, None)]
        assert shared(s, weight(), out=nothing) == [(X, ONE, HALF, None)]


OWN = HALF + QUARTER


@pytest.mark.parametrize(
    "structure, by",
    [
        (Exp(X), ZERO),
        (Bounded(X, False), ZERO),
        (LinearLike(X, True), ZERO),
        (Softmax(X, EIGHTH), -EIGHTH),
        (Softmax(X, EIGHTH, log=True), ZERO),
        (Log(X), -ONE),
        (Discrete((X,)), -ONE),
        (Power(X, -ONE), -TWO),
    ],
)
def test_a_size_of_its_own_is_a_site_and_the_update_counts(structure, by):
    site, update = (SITE, OF_INIT, ZERO), (X, OO, OF_CHANGE + OWN + by, None)
    assert shared(structure, weight()) == [site, update]
    assert shared(structure, weight(), init=ZERO) == [update]
    assert shared(structure, weight(), change=ZERO) == [site]
    # no update of what starts at zero is small to it
    relative = isinstance(structure, (Log, Discrete, Power))
    found = shared(structure, weight(init=OO), init=ZERO)
    assert found == ([(SITE, OF_CHANGE, ZERO)] if relative else [update])


def test_terms_of_a_merged_sum():
    """Each by its own size; where means add up to the size, by its own mean."""
    s, x = Sum((X, Y)), weight(mean=-ONE)
    out = MERGING._replace(init=EIGHTH)
    share = (X, ONE + ONE - EIGHTH, HALF + HALF + QUARTER, None)
    assert shared(s, x, value(-ONE)._replace(data=False), out=out) == [share]
    by_means = shared(s, x, value(-ONE)._replace(data=False), out=out._replace(mean=EIGHTH))
    assert by_means == [(X, ONE - ONE - EIGHTH, HALF + HALF + QUARTER, None)]
    for size, excess in ((QUARTER, ONE + EIGHTH), (-ONE + THREE / 8, QUARTER), (-ONE + EIGHTH, None)):
        site = [] if excess is None else [(SITE, excess, ZERO)]
        assert shared(s, x, Fact(size, size, OO), out=out) == [share, *site]


def test_a_normalised_weight_is_mended_by_its_update_alone():
    s = Normalise(X, EIGHTH)
    site, update = (SITE, ONE, ZERO), (X, OO, HALF - ONE + QUARTER + HALF + EIGHTH, None)
    assert shared(s, weight()) == [site, update]
    assert shared(s, weight(), init=ZERO) == [update]
    assert shared(s, weight(), change=ZERO) == [site]
    assert shared(s, weight(init=OO)) == [site]


@pytest.mark.parametrize(
    "x, y, x_moved, y_moved",
    [
        ((ZERO, ZERO, ZERO), (ZERO, ZERO, -ONE), True, False),
        ((ZERO, ZERO, -ONE), (ZERO, ZERO, ZERO), False, True),
        ((-ONE, HALF, HALF), (ZERO, ZERO, ZERO), True, True),  # as much
        ((-ONE, HALF + QUARTER, QUARTER), (ZERO, ZERO, ZERO), True, True),
        ((HALF, HALF, -ONE), (ZERO, ZERO, ZERO), False, True),
    ],
)
@pytest.mark.parametrize("structure", [Product(X, Y), Contract(X, Y, ONE, ONE, ONE)], ids=lambda s: type(s).__name__)
def test_of_two_factors_the_one_that_moved_is_mended_and_the_first_for_the_init(structure, x, y, x_moved, y_moved):
    found = shared(structure, weight(*x), weight(*y, bit=2))
    assert found == [(X, ONE, HALF if x_moved else OO, None), (Y, OO, HALF if y_moved else OO, None)]
    # numbers for many entries move the entries along: each has its own part
    found = shared(structure, weight(*x, coarse=True), weight(*y, bit=2), carried=THREE)
    assert found == [(X, ONE, THREE, THREE), (Y, OO, HALF, THREE)]
    for coarse in (True, False):
        alike = shared(structure, weight(*x, coarse=coarse), weight(*y, bit=2, coarse=coarse), carried=THREE)
        assert alike == [(X, ONE, HALF if x_moved else OO, THREE), (Y, OO, HALF if y_moved else OO, THREE)]
    still = shared(structure, weight(*x, coarse=True), weight(*y, bit=2))
    assert still == [(X, ONE, HALF if x_moved else OO, None), (Y, OO, HALF if y_moved else OO, None)]


def test_a_factor_that_is_no_weight_is_not_mended():
    assert shared(Product(X, Y), value(change=-THREE), weight()) == [(Y, ONE, HALF, None)]


# -- the whole search ------------------------------------------------------------------------------


def program(*atoms: tuple[int, Structure]) -> Lowered:
    return Lowered(None, tuple(Atom(out, s, 0) for out, s in atoms), len(atoms), (leaf(X),))


@pytest.mark.parametrize("terms", [(3, 4), (4, 3)])
def test_what_reaches_a_sum_in_two_ways_is_blamed_for_the_worse(terms):
    """x + n^1/2 x for x = W y: W is to be n^5/8 smaller, whichever term is looked at first."""
    lowered = program((2, Contract(X, Y, ONE, ONE, ONE)), (3, View(2)), (4, Scale(2, HALF)), (OUT, Sum(terms)))
    facts = {X: weight(-HALF, -HALF, OO), Y: value(), **dict.fromkeys((2, 3), value(ZERO, ZERO, OO))}
    facts |= dict.fromkeys((4, OUT), value(HALF, HALF, OO))
    (found,) = Search(lowered, facts, FULL, ()).faults(TooLarge(OUT, -EIGHTH, False))
    assert told(found) == (INIT, X, HALF + EIGHTH)


def test_of_two_uses_as_bad_the_first_one_met_is_told():
    lowered = program((2, Contract(X, Y, ONE, ONE, ONE)), (3, Contract(X, Y, ONE, ONE, ONE)), (OUT, Sum((2, 3))))
    facts = {X: weight(ZERO, ZERO, OO), Y: value(), **dict.fromkeys((2, 3, OUT), value(HALF, HALF, OO))}
    (found,) = Search(lowered, facts, FULL, ()).faults(TooLarge(OUT, ZERO, False))
    assert (found.atom.out, found.excess) == (3, HALF)


def test_a_deep_stream_is_walked_once():
    """Through 50 sums of a value with itself there are 2^50 ways."""
    deep = [(vid + 1, Sum((vid, vid))) for vid in range(2, 52)]
    lowered = program((2, Contract(X, Y, ONE, ONE, ONE)), *deep)
    facts = {X: weight(HALF, HALF, OO), Y: value(), **dict.fromkeys(range(2, 53), value(ONE, ONE, OO))}
    (found,) = Search(lowered, facts, FULL, ()).faults(TooLarge(52, ZERO, False))
    assert told(found) == (INIT, X, ONE)


def test_sites_are_told_apart_by_their_places_and_leaves_by_their_names():
    lowered = program((2, Exp(X)), (3, Exp(X)), (4, Contract(X, Y, ONE, ONE, ONE)), (OUT, Sum((2, 3, 4))))
    facts = {X: weight(), Y: SMALL, **dict.fromkeys((2, 3, 4, OUT), RESULT)}
    found = Search(lowered, facts, FULL, ()).faults(SIZE)
    assert {fault.key for fault in found} == {(SITE, 2), (SITE, 3), (INIT, "W0"), (LR, "W0")}
