"""Which values are limited and why, by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tpcalc.algebra.order import HALF, MINUS_INFINITY, ONE, ZERO
from tpcalc.calculus.facts import Fact, fixed
from tpcalc.calculus.limits import NORM, OUTPUT, SOFTMAX, STREAM, WEIGHT, Limit, base, limits, passes, weighs
from tpcalc.lower.lowered import Lowered
from tpcalc.rules.structures import (
    Atom,
    Centre,
    Contract,
    Exp,
    Guard,
    Normalise,
    Product,
    Reduce,
    Scale,
    Softmax,
    Structure,
    Sum,
    View,
)

OO = MINUS_INFINITY
X, Y, OUT = 0, 1, 9
VALUE, MATRIX = Fact(ZERO, ZERO, ZERO, data=True), Fact(-HALF, -HALF, -ONE, 1, 1, 0, 1)
GIVEN = fixed(-HALF, 4, True)


def lowered(*atoms: tuple[int, Structure], results=(), values=(), summed=()) -> Lowered:
    program: Any = SimpleNamespace(results=results, values=dict.fromkeys(values))
    made = tuple(Atom(out, s, 0) for out, s in atoms)
    return Lowered(program, made, len(made), (), fixed=4, summed=frozenset(summed))


def told(program: Lowered, but=(), **facts: Fact) -> list[tuple[int, str]]:
    known = {vid: VALUE for vid in range(10)} | {int(name[1:]): fact for name, fact in facts.items()}
    return [(limit.value, limit.why) for limit in limits(program, known, but)]


@pytest.mark.parametrize(
    "x, y, K, expected",
    [
        (MATRIX, VALUE, ONE, [(Y, WEIGHT)]),
        (VALUE, MATRIX, ONE, [(X, WEIGHT)]),
        (MATRIX, VALUE, HALF, [(Y, WEIGHT)]),
        (MATRIX, VALUE, ZERO, []),  # nothing is summed
        (VALUE, VALUE, ONE, []),
        (MATRIX, MATRIX, ONE, []),
        (GIVEN, VALUE, ONE, []),
        (VALUE, GIVEN, ONE, []),
        (MATRIX, VALUE._replace(data=False), ONE, []),  # no input enters it
    ],
)
def test_what_meets_a_weight_over_a_growing_axis_is_limited(x, y, K, expected):
    assert told(lowered((OUT, Contract(X, Y, K, ONE, ONE))), v0=x, v1=y) == expected


def test_before_constants_and_views():
    program = lowered((2, View(X)), (3, Scale(2, -ONE)), (4, Guard(3)), (OUT, Contract(Y, 4, ONE, ONE, ONE)))
    assert told(program, v1=MATRIX) == [(X, WEIGHT)]
    assert [passes(program)(vid) for vid in (X, 2, 3, 4, OUT)] == [False, True, True, True, False]
    assert [base(program, vid) for vid in (X, 2, 3, 4, OUT)] == [X, X, X, X, OUT]


def test_what_enters_a_norm_is_limited_before_it_is_centred():
    assert told(lowered((OUT, Normalise(X, ZERO)))) == [(X, NORM)]
    assert told(lowered((2, Centre(X)), (OUT, Normalise(2, ZERO)))) == [(X, NORM)]
    assert told(lowered((OUT, Normalise(X, ZERO))), but=(NORM,)) == []
    assert told(lowered((OUT, Normalise(X, ZERO))), but=(STREAM,)) == [(X, NORM)]


def test_outputs_come_last_and_views_are_no_place_of_a_limit():
    program = lowered((2, View(X)), (OUT, Exp(2)), results=(OUT, Y))
    assert [vid for vid, _ in told(program)] == [2, OUT, Y]
    assert told(program, v1=MATRIX)[1:] == [(OUT, OUTPUT)]


@pytest.mark.parametrize(
    "values, summed, how, y, limited",
    [
        ((X, Y), (), "sum", VALUE, True),
        ((X,), (Y,), "sum", VALUE, True),
        ((), (X, Y), "sum", VALUE, True),
        ((X,), (), "sum", VALUE, False),  # a block of a packed value
        ((X, Y), (), "choice", VALUE, False),
        ((X, Y), (), "put", VALUE, False),
        ((X, Y), (), "sum", MATRIX, False),  # a bias
    ],
)
def test_a_sum_of_two_values_of_the_program_joins_a_stream(values, summed, how, y, limited):
    program = lowered((OUT, Sum((X, Y), how)), values=values, summed=summed)
    assert told(program, v1=y) == ([(OUT, STREAM)] if limited else [])


def test_a_sum_of_three_joins_a_stream_once():
    assert told(lowered((OUT, Sum((X, Y, 2))), values=(X, Y, 2))) == [(OUT, STREAM)]
    assert told(lowered((OUT, Sum(())), values=(X,))) == []


def test_a_limit_says_what_kind_it_is():
    for why in (NORM, SOFTMAX, STREAM):
        limit = Limit(X, why, None)
        assert (limit.norm, limit.softmax) == (why == NORM, why == SOFTMAX)
    assert told(lowered((OUT, Softmax(X, ZERO)))) == [(X, SOFTMAX)]


@pytest.mark.parametrize(
    "structure, x, y, expected",
    [
        (Product(X, Y), MATRIX, VALUE, True),
        (Product(X, Y), VALUE, MATRIX, True),
        (Product(X, Y), VALUE, VALUE, False),
        (Product(X, Y), MATRIX, MATRIX, False),
        (Product(X, Y), GIVEN, VALUE, False),
        (Product(X, Y), VALUE, GIVEN, False),
        (Contract(X, Y, ZERO, ONE, ZERO), MATRIX, VALUE, True),
        (Contract(X, Y, ONE, ONE, ZERO), MATRIX, VALUE, False),
        (Exp(X), VALUE, VALUE, False),
        (Sum((X, Y)), MATRIX, MATRIX, True),
        (Sum((X, Y)), MATRIX, VALUE, False),
        (View(X), MATRIX, VALUE, True),
        (Guard(X), MATRIX, VALUE, True),
        (Scale(X, ONE), MATRIX, VALUE, True),
        (Reduce(X, ONE), MATRIX, VALUE, True),
        (Reduce(X, ONE), GIVEN, VALUE, False),
    ],
)
def test_what_a_weighted_sum_adds_up(structure, x, y, expected):
    assert weighs(lowered((OUT, structure)), {X: x, Y: y, OUT: VALUE}, OUT) == expected


def test_a_weight_weighs_itself_whatever_it_is_made_of():
    program = lowered((OUT, Exp(X)))
    assert weighs(program, {X: MATRIX, OUT: MATRIX}, OUT)
    assert not weighs(program, {X: MATRIX, OUT: VALUE._replace(data=False)}, OUT)
    assert weighs(program, {X: MATRIX}, X) and not weighs(program, {X: VALUE}, X) and not weighs(program, {X: GIVEN}, X)
