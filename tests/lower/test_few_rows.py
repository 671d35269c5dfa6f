"""What is remembered of one value at a time: which entries are zero, worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from tpcalc.algebra.order import HALF, MINUS_INFINITY, ONE, ZERO, Order
from tpcalc.lower.few import Few
from tpcalc.lower.lowered import Leaf
from tpcalc.lower.recognise import Recogniser
from tpcalc.program.ir import Program, Weight
from tpcalc.rules.structures import (
    Bounded,
    Contract,
    Discrete,
    Exp,
    Guard,
    Known,
    LinearLike,
    Normalise,
    Power,
    Product,
    Reduce,
    Scale,
    Sizes,
    Softmax,
    Structure,
    Sum,
    View,
)

OO = MINUS_INFINITY
TWO = Fraction(2)
#: Values: [n], its few largest entries, these among zeros, another [n], [n, n], a diagonal, a number.
H, TOP, ZEROS, PUT, G, W, DIAGONAL, NUMBER = range(8)
#: The least of the largest entries along [n], where it is equalled, and where it is not reached.
LEAST, EQUAL, BELOW = 8, 9, 10
#: A softmax of growth 1, and the sum of few entries.
PARTS, TOTAL = 11, 12
#: The smallest entry along [n], its mask; sizes of [n], the largest of these.
SMALLEST, SMALL, ABS, MOST = 13, 14, 15, 16
#: What is few along an axis whose growth is 1/2.
ROOT = 17
GIVEN: list[tuple[int, Structure, Order]] = [
    (TOP, Power(H, ONE, largest=True), ZERO),
    (ZEROS, Known(OO), ONE),
    (PUT, Sum((ZEROS, TOP), "put"), ONE),
    (LEAST, View(TOP), ONE),
    (EQUAL, Discrete((H, LEAST), how="same"), ONE),
    (BELOW, Discrete((H, LEAST), above=False), ONE),
    (PARTS, Softmax(G, ONE), ONE),
    (TOTAL, Reduce(PUT, ONE), ZERO),
    (SMALLEST, Power(H, ONE), ZERO),
    (SMALL, Discrete((SMALLEST, H), how="same"), ONE),
    (ABS, Power(H, ONE, "even"), ONE),
    (MOST, Power(ABS, ONE, largest=True), ZERO),
    (ROOT, Sum((ZEROS, NUMBER), "put"), HALF),
]
FIRST = 20


def few_of(*rows: tuple[Structure, Order], along: dict[int, bool] | None = None) -> Few:
    """Of values from 20 on, noted after those above; ``along``: of which values the axis is known."""
    growths: dict[int, Order] = {H: ONE, G: ONE, W: TWO, DIAGONAL: TWO, NUMBER: ZERO}
    seen = Recogniser(Program((64, 128, 256), (), {}, ()), {})
    few = Few(growths, seen, lambda x, node, least: (along or {}).get(x), lambda node: ())
    few.many[DIAGONAL] = ONE
    few.alike.add(DIAGONAL)
    for out, s, growth in [*GIVEN, *((FIRST + i, s, growth) for i, (s, growth) in enumerate(rows))]:
        growths[out] = growth
        seen.note(out, s, None)
        few.note(out, s, 0)
    return few


def told(few: Few, out: int) -> dict[str, Any]:
    tables = {name: getattr(few, name) for name in ("many", "rest", "extreme", "below")}
    sets = {name: getattr(few, name) for name in ("alike", "largest", "equal", "zero")}
    return {name: table[out] for name, table in tables.items() if out in table} | {
        name: True for name, found in sets.items() if out in found
    }


FEW: dict[str, Any] = {"many": ONE}
ONE_OF = {"many": ONE, "equal": True}
ALL: dict[str, Any] = {}
#: Structure, growth of the result, what is known of it.
NOTED = [
    (Known(OO), ONE, {"zero": True}),
    (Known(ZERO), ONE, ALL),
    (View(ZEROS), ONE, {"zero": True}),
    (Scale(ZEROS, ONE), ONE, {"zero": True}),
    (Product(ZEROS, H), ONE, {"zero": True}),
    (Product(H, ZEROS), ONE, {"zero": True}),
    (Discrete((H, ZEROS), how="and"), ONE, {"zero": True}),
    (Discrete((ZEROS, ZEROS), how="or"), ONE, {"zero": True}),
    (Discrete((ZEROS, H), how="or"), ONE, ALL),
    (Discrete((ZEROS, EQUAL), how="or"), ONE, ONE_OF),
    (Sum((ZEROS, ZEROS)), ONE, {"zero": True}),
    (Sum((ZEROS, H)), ONE, ALL),
    (Exp(ZEROS), ONE, ALL),
    # written into zeros
    (Sum((ZEROS, H), "put"), TWO, FEW),
    (Sum((ZEROS, H), "put"), ONE, ALL),
    (Sum((ZEROS, PUT), "put"), ONE, FEW),
    (Sum((ZEROS, PUT), "put"), TWO + ONE, {"many": TWO}),
    (Sum((G, TOP), "put"), ONE, ALL),
    (Sum((ZEROS, TOP), "sum"), ONE, ALL),
    (Sum((ROOT, TOP), "put"), ONE, {"many": HALF}),
    # sums
    (Sum((PUT, EQUAL)), ONE, ONE_OF),
    (Sum((PUT, ROOT)), ONE, {"many": HALF}),
    (Sum((PUT, H)), ONE, ALL),
    (Sum((PUT, ZEROS)), ONE, FEW),
    (Sum((DIAGONAL, DIAGONAL)), TWO, FEW),  # each along each axis, but not both along the same entries
    # products, and what both are not
    (Product(PUT, H), ONE, FEW),
    (Product(H, PUT), ONE, FEW),
    (Product(PUT, ROOT), ONE, FEW),
    (Product(DIAGONAL, W), TWO, {"many": ONE, "alike": True}),
    (Product(EQUAL, H), ONE, ONE_OF),
    (Discrete((PUT, H), how="and"), ONE, FEW),
    (Discrete((H, ROOT), how="and"), ONE, {"many": HALF}),
    (Discrete((PUT, ROOT), how="or"), ONE, {"many": HALF}),
    (Discrete((PUT, H), how="or"), ONE, ALL),
    # functions
    (View(PUT), ONE, FEW),
    (View(PUT), HALF, ALL),
    (View(DIAGONAL), TWO, {"many": ONE, "alike": True}),
    (Scale(PUT, HALF), ONE, FEW),
    (Normalise(PUT, ZERO), ONE, FEW),
    (Normalise(PUT, ZERO), HALF, ALL),
    (Power(PUT, TWO), ONE, FEW),
    (Power(PUT, HALF), ONE, FEW),
    (Power(PUT, ZERO), ONE, ALL),
    (Power(PUT, -ONE), ONE, ALL),
    (Bounded(PUT, True), ONE, FEW),
    (Bounded(PUT, False), ONE, ALL),
    (LinearLike(PUT), ONE, FEW),
    (LinearLike(PUT, True), ONE, ALL),
    (Exp(PUT), ONE, ALL),
    (Softmax(PUT, ONE), ONE, ALL),
    # masks: of one value where it is not zero, or is
    (Discrete((PUT,), above=True), ONE, FEW),
    (Discrete((PUT,), above=False), ONE, {"rest": ONE}),
    (Discrete((BELOW,), above=False), ONE, FEW),
    (Discrete((BELOW,), above=True), ONE, {"rest": ONE}),
    (Discrete((PUT,)), ONE, ALL),
    (Discrete((), above=True), ONE, ALL),
    (Discrete((H,), above=True), ONE, ALL),
    (Discrete((H,), above=False), ONE, ALL),
    # of a value beside its largest entries
    (Discrete((H, LEAST), above=True), ONE, FEW),
    (Discrete((H, LEAST), above=False), ONE, {"rest": ONE}),
    (Discrete((LEAST, H), above=False), ONE, FEW),
    (Discrete((LEAST, H), above=True), ONE, {"rest": ONE}),
    (Discrete((G, LEAST), above=True), ONE, ALL),
    (Discrete((LEAST, G), above=False), ONE, ALL),
    (Discrete((H, G), above=True, one=True), TWO, FEW),
    (Discrete((H, SMALLEST), above=True), ONE, ALL),
    (Discrete((H, LEAST)), ONE, ALL),
    (Discrete((ABS, MOST), above=True), ONE, FEW),
    (Discrete((H, LEAST), how="same"), ONE, ONE_OF),
    (Discrete((LEAST, H), how="same"), ONE, ONE_OF),
    (Discrete((H, SMALLEST), how="same"), ONE, ONE_OF),
    (Discrete((ABS, TOP), how="same"), ONE, ONE_OF),  # a norm by the largest: one entry has its size
    (Discrete((G, LEAST), how="same"), ONE, ALL),
    (Discrete((H,), how="same"), ONE, ALL),
    (Discrete((H, LEAST, LEAST), how="same"), ONE, ALL),
    # one of many
    (Discrete((NUMBER,), one=True), ONE, FEW),
    (Discrete((H,), one=True), TWO, FEW),
    (Discrete((H, NUMBER), one=True), ONE, ALL),
    (Discrete((NUMBER,)), ONE, ALL),
    # extreme entries
    (Power(H, ONE), ZERO, {"extreme": (H, ONE)}),
    (Power(W, ONE), HALF, {"extreme": (W, ONE + HALF)}),
    (Power(H, ONE, largest=True), ZERO, {"extreme": (H, ONE), "largest": True}),
    (Power(H, ONE, largest=True), ONE, ALL),
    (Power(H, TWO), ZERO, ALL),
    (View(TOP), ZERO, {"extreme": (H, ONE), "largest": True}),
    (View(SMALLEST), ZERO, {"extreme": (H, ONE)}),
    (Scale(TOP, ONE), ZERO, ALL),
    (View(BELOW), ONE, {"rest": ONE}),
    (Scale(BELOW, ONE), ONE, ALL),
    # sums over others leave few
    (Reduce(DIAGONAL, ONE), ONE, {"below": (DIAGONAL, ZERO)}),
    (Contract(DIAGONAL, G, ONE, ONE, ZERO), ONE, ALL),
    (Contract(PUT, W, ZERO, ONE, TWO), TWO + ONE, FEW),
    (Contract(W, PUT, ZERO, TWO, ONE), TWO + ONE, FEW),
    (Contract(PUT, G, ONE, ZERO, ZERO), ZERO, ALL),
    (Reduce(PUT, HALF), HALF, ALL),  # nobody knows along which axis
    # sums of few entries, spread over the others
    (Product(PARTS, PUT), ONE, {"many": ONE, "below": (PUT, ONE)}),
    (Product(PUT, PARTS), ONE, {"many": ONE, "below": (PUT, ONE)}),
    (Product(H, PARTS), ONE, ALL),
    (Product(PUT, G), ONE, FEW),
    (Reduce(PUT, ONE), ZERO, {"below": (PUT, ZERO)}),
    (Reduce(H, ONE), ZERO, ALL),
    (View(TOTAL), ONE, {"below": (PUT, ZERO)}),
    (Scale(TOTAL, HALF), ZERO, {"below": (PUT, -HALF)}),
    (Power(TOTAL, ONE), ZERO, ALL),
]


@pytest.mark.parametrize("structure, growth, expected", NOTED, ids=lambda x: str(x) if isinstance(x, dict) else "")
def test_what_is_known_of_a_value(structure, growth, expected):
    assert told(few_of((structure, growth)), FIRST) == expected


#: Several in a row: structures with the growths of their results, and what is known of the last.
ROWS = {
    "straight through": ([(Sum((PUT, H), "difference"), ONE), (Sum((FIRST, H)), ONE)], FEW),
    "straight through, other way round": ([(Sum((PUT, H), "difference"), ONE), (Sum((H, FIRST)), ONE)], FEW),
    "straight through a copy": (
        [(View(H), ONE), (Sum((PUT, H), "difference"), ONE), (View(21), ONE), (Sum((20, 22)), ONE)],
        FEW,
    ),
    "less another": ([(Sum((PUT, H), "difference"), ONE), (Sum((FIRST, G)), ONE)], ALL),
    "less twice": ([(Sum((PUT, H), "difference"), ONE), (Sum((FIRST, H), "difference"), ONE)], ALL),
    "less two": ([(Sum((PUT, H, G), "difference"), ONE), (Sum((FIRST, H)), ONE)], ALL),
    "straight through and more": ([(Sum((PUT, H), "difference"), ONE), (Sum((FIRST, H, PUT)), ONE)], ALL),
    "a sum that is no difference": ([(Sum((PUT, H)), ONE), (Sum((FIRST, H)), ONE)], ALL),
    "straight through what is all": ([(Sum((G, H), "difference"), ONE), (Sum((FIRST, H)), ONE)], ALL),
    # the gradient of a softmax: dp p less p times the sum of it
    "faint": ([(Reduce(PUT, ONE), ZERO), (Product(PARTS, FIRST), ONE), (Sum((PUT, 21), "difference"), ONE)], ALL),
    "spread by a mean": ([(Scale(TOTAL, -ONE), ZERO), (View(FIRST), ONE), (Sum((PUT, 21), "difference"), ONE)], FEW),
    "spread by one mean": ([(Scale(TOTAL, -ONE), ZERO), (View(FIRST), ONE), (Sum((H, 21), "difference"), ONE)], ALL),
    "spread by a mean of others": ([(Scale(TOTAL, -ONE), ZERO), (View(20), ONE), (Sum((EQUAL, 21)), ONE)], ALL),
    "spread by a root": ([(Scale(TOTAL, -HALF), ZERO), (View(FIRST), ONE), (Sum((PUT, 21), "difference"), ONE)], ALL),
    "spread by more": ([(Scale(TOTAL, -TWO), ZERO), (View(FIRST), ONE), (Sum((PUT, 21), "difference"), ONE)], FEW),
    "the gradient of a softmax": (
        [(Product(PARTS, PUT), ONE), (Reduce(20, ONE), ZERO), (View(21), ONE), (Product(PARTS, 22), ONE),
         (Sum((20, 23), "difference"), ONE)],
        ALL,
    ),
    "of a copy of the largest": ([(View(H), ONE), (Discrete((20, LEAST), above=True), ONE)], FEW),
    "of the largest of a copy": (
        [(View(H), ONE), (Power(20, ONE, largest=True), ZERO), (Discrete((H, 21), how="same"), ONE)],
        ONE_OF,
    ),
    "of the largest made again": ([(Power(H, ONE, largest=True), ZERO), (Discrete((H, 20), above=True), ONE)], FEW),
    "of a square": ([(Power(H, TWO), ONE), (Discrete((20, LEAST), how="same"), ONE)], ALL),
    "a log of a softmax": ([(Softmax(G, ONE, log=True), ONE), (Product(20, PUT), ONE)], FEW),
    "a view of a softmax": ([(View(PARTS), ONE), (Product(20, PUT), ONE)], {"many": ONE, "below": (PUT, ONE)}),
    "a sum of a part": ([(Product(PARTS, PUT), ONE), (Reduce(20, ONE), ZERO)], {"below": (PUT, ONE)}),
    "of an even function that is one": ([(Discrete((EQUAL,), above=True), ONE)], ONE_OF),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_several_in_a_row(name):
    rows, expected = ROWS[name]
    assert told(few_of(*rows), FIRST + len(rows) - 1) == expected


@pytest.mark.parametrize(
    "rows, picked",
    [
        ([(Product(PUT, H), ONE)], {H}),
        ([(Product(G, PUT), ONE)], {G}),
        ([(Product(PUT, EQUAL), ONE)], set()),
        ([(Product(G, H), ONE)], set()),
        ([(Sum((G, PUT)), ONE)], set()),
    ],
)
def test_what_masks_pick(rows, picked):
    assert few_of(*rows).picked == picked


#: A sum, of which values the axis is known, and its ``K``.
COUNTED = [
    (Reduce(PUT, ONE), {}, ZERO),
    (Reduce(PUT, TWO), {}, ONE),
    (Reduce(PUT, HALF), {}, HALF),  # the few may be along another axis
    (Reduce(PUT, ONE), {PUT: False}, ONE),
    (Reduce(PUT, ONE), {PUT: True}, ZERO),
    (Reduce(PUT, HALF), {PUT: True}, ZERO),
    (Reduce(H, ONE, Sizes(())), {}, ONE),
    (Reduce(PUT, ONE, Sizes(())), {}, ZERO),
    (Reduce(PUT, ZERO, Sizes(())), {}, ZERO),
    (Reduce(DIAGONAL, ONE), {}, ZERO),
    (Contract(PUT, W, ONE, ZERO, ONE), {}, ZERO),
    (Contract(W, PUT, ONE, ONE, ZERO), {}, ZERO),
    (Contract(H, W, ONE, ZERO, ONE), {}, ONE),
    (Contract(ROOT, PUT, ONE, ZERO, ZERO), {}, ZERO),
    (Contract(PUT, ROOT, ONE, ZERO, ZERO), {PUT: False}, HALF),
    (Contract(PUT, G, ZERO, ONE, ONE), {}, ZERO),
    (Scale(PUT, ONE), {}, None),
]


@pytest.mark.parametrize("structure, along, K", COUNTED)
def test_sums_over_few(structure, along, K):
    found = few_of(along=along).counted(structure, 0)
    assert found == (structure if K is None or K == structure.K else replace(structure, K=K, sizes=None))


def test_sums_over_others_are_as_few_as_what_is_known():
    rows = [(Sum((ZEROS, G), "put"), TWO), (Reduce(20, ONE), ONE)]
    for along, expected in (({}, ALL), ({20: False}, FEW), ({20: True}, {"below": (20, ZERO)})):
        assert told(few_of(*rows, along=along), 21) == expected


def test_summands_with_an_extreme_entry_beside_others():
    """What it adds to the gradients of all entries counts as spread over them."""
    few = few_of()
    assert few.beside(Sum((EQUAL, H)), 0) == [ONE, ZERO] and few.beside(Sum((H, EQUAL), "difference"), 0) == [ZERO, ONE]
    for s in (Sum((PUT, H)), Sum((EQUAL, PUT)), Sum((EQUAL, ZEROS)), Sum((EQUAL, H), "choice"), Sum((G, H))):
        assert few.beside(s, 0) == [ZERO, ZERO]


def test_what_is_told_by_axes_is_forgotten():
    few = few_of((Scale(TOTAL, -ONE), ZERO))
    del few.many[PUT], few.many[EQUAL]
    assert few.beside(Sum((EQUAL, H)), 0) == [ZERO, ZERO]
    few.growths[FIRST + 1] = ONE  # type: ignore[index]
    few.note(FIRST + 1, Sum((PUT, FIRST)), 0)
    assert not told(few, FIRST + 1)


def test_choices_by_a_mask():
    for xs, mask, found in (
        ((H, ZEROS), EQUAL, True),
        ((ZEROS, H), EQUAL, False),
        ((ZEROS, H), BELOW, True),
        ((H, ZEROS), BELOW, False),
        ((H, G), EQUAL, False),
        ((H, ZEROS), G, False),
    ):
        few = few_of()
        few.chosen(FIRST, xs, mask)
        assert told(few, FIRST) == (FEW if found else ALL) and few.picked == ({H} if found else set())


def leaf(grad: int | None, **known: Any) -> Leaf:
    return Leaf("w", Weight("w", 0, ()), 0, (), grad, **known)


def test_few_entries_of_a_gradient():
    """Few for each sample that it is a sum over; in a sum of uses for each of the most."""
    few = few_of()
    few.many.update(dict.fromkeys(range(30, 35), TWO))
    few.seen.made.update({
        30: Reduce(G, HALF), 31: View(30), 32: Scale(31, ONE), 33: Sum((H, 32)), 34: Sum((H, 32), "put"),
    })  # fmt: skip
    assert few.counted_in(leaf(99)) == leaf(99) and few.counted_in(leaf(None)) == leaf(None)
    assert few.counted_in(leaf(PUT, bulk=5)) == leaf(PUT, bulk=5)
    for grad in (30, 31, 32, 33):
        assert few.counted_in(leaf(grad)) == leaf(grad, few=TWO - HALF)
    assert few.counted_in(leaf(34)) == leaf(34, few=TWO)
    assert few.counted_in(leaf(PUT)) == leaf(PUT, few=ONE)
    assert few.counted_in(leaf(DIAGONAL)) == leaf(DIAGONAL, few=ONE, thin=True)
    few.seen.made[DIAGONAL] = Contract(G, G, ONE, ZERO, ZERO)
    assert few.counted_in(leaf(DIAGONAL)) == leaf(DIAGONAL)
    few.seen.made[DIAGONAL] = Contract(G, G, TWO, ZERO, ZERO)
    assert few.counted_in(leaf(DIAGONAL)) == leaf(DIAGONAL)


def measure(s: Structure, only: bool = False) -> tuple[Any, set]:
    """Of which values' extreme entries a result is made, and which of them something is multiplied by."""
    few = few_of()
    if only:
        few.measure = {TOP: frozenset({H})}
    few.growths[40] = ONE  # type: ignore[index]
    few._measures(40, s)
    return few.measure.get(40), few.measured


def test_what_is_made_of_extreme_entries():
    of_h = frozenset({H})
    assert few_of().measure[TOP] == of_h == few_of().measure[SMALLEST] and few_of().equal[EQUAL] == H
    for s in (View(TOP), Guard(TOP), Scale(TOP, ONE), Power(TOP, -ONE), Sum((TOP, ZEROS)), Sum((TOP, SMALLEST))):
        assert measure(s) == (of_h, set())
    assert measure(Sum((TOP, MOST))) == (frozenset({H, ABS}), set())
    assert measure(Sum((TOP, TOP)), only=True) == (of_h, set())
    for other in (Exp(TOP), View(G), Sum((TOP, G)), Sum((ZEROS, ZEROS)), Product(G, H)):
        assert measure(other) == (None, set())
    assert measure(Product(G, TOP)) == (None, {H}) == measure(Product(TOP, G))


def test_sums_that_are_uneven():
    few = few_of()
    assert few.beside(Sum((EQUAL, H)), 7) == [ONE, ZERO] and not few.uneven
    few.measured.add(H)
    few.beside(Sum((EQUAL, PUT)), 8)
    assert not few.uneven
    few.beside(Sum((H, EQUAL)), 9)
    assert few.uneven == {9}


def test_what_is_written_where_an_extreme_entry_was_found():
    for largest, reader, found in ((False, 5, True), (False, 6, False), (True, 5, False)):
        few = few_of()
        few.reads = lambda node: (49, 50) if node == 5 else ()
        few.growths.update({41: ZERO, 50: ZERO, 51: ONE})  # type: ignore[attr-defined]
        few.note(41, Power(G, ONE, largest=largest), 3)
        few.note(50, Discrete((G,)), 3)
        few.note(51, Sum((ZEROS, NUMBER), "put"), reader)
        assert few.many[51] == ONE and few.equal.get(51) == (G if found else None)
