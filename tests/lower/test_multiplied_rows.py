"""Multipliers among a few atoms: which are written, where, and what reads them."""

from __future__ import annotations

from dataclasses import replace

from tpcalc.algebra.order import HALF, ONE, ZERO
from tpcalc.algebra.size import Size
from tpcalc.lower.lowered import Lowered
from tpcalc.lower.multiplied import multiplied
from tpcalc.program.ir import Program, Value
from tpcalc.rules.structures import Atom, Known, Product, Scale, Sum, View

N = Size.linear()
#: An input, its product with itself, scaled, the output; gradients of these, backwards.
X, SQUARE, SCALED, OUT, SEED, BACK, LAST = range(7)


def lowered(*backward: Atom, grads: dict[int, int] | None = None) -> Lowered:
    """The input is ``X``; in the backward pass ``SEED`` is the gradient of ``OUT``, ``BACK`` that of ``SCALED``."""
    values = {X: Value(X, (N,), "float32", "input"), SEED: Value(SEED, (N,), "float32", "seed")}
    program = Program(
        (64, 128, 256),
        (),
        values,
        (),
        inputs=(X,),
        seeds=((OUT, SEED),),
        grads={SCALED: BACK} if grads is None else grads,
    )
    forward = (Atom(SQUARE, Product(X, X), 0), Atom(SCALED, Scale(SQUARE, HALF), 1), Atom(OUT, View(SCALED), 2))
    return Lowered(program, (*forward, *backward), 3, ())


ALL = (Atom(BACK, View(SEED), 3), Atom(LAST, Product(BACK, X), 4), Atom(9, Known(ZERO), 5))


def test_nothing_is_multiplied():
    assert multiplied(lowered(*ALL), {}) == lowered(*ALL) == multiplied(lowered(*ALL), {99: ONE})


def test_a_value_keeps_its_id_behind_its_multiplier():
    found = multiplied(lowered(), {SQUARE: ONE})
    assert found.atoms == (
        Atom(5, Product(X, X), 0), Atom(SQUARE, Scale(5, ONE), 0), *lowered().atoms[1:]
    ) and found.forward == 4  # fmt: skip


def test_a_multiplier_is_multiplied():
    found = multiplied(lowered(), {SCALED: ONE})
    assert found.atoms[1] == Atom(SCALED, Scale(SQUARE, ONE + HALF), 1) and found.forward == 3


def test_what_is_further_back_reads_the_gradient_multiplied():
    found = multiplied(lowered(*ALL), {SCALED: ONE})
    back, last, known = ALL
    assert found.atoms[3:] == (back, Atom(10, Scale(BACK, ONE), 3), Atom(LAST, Product(10, X), 4), known)


def test_the_gradient_of_an_output_is_multiplied_before_all_others():
    found = multiplied(lowered(*ALL), {OUT: -ONE})
    assert found.atoms[2:6] == (
        Atom(10, View(SCALED), 2),
        Atom(OUT, Scale(10, -ONE), 2),
        Atom(11, Scale(SEED, -ONE), 3),
        Atom(BACK, View(11), 3),
    )
    assert found.forward == 4 and found.atoms[6:] == ALL[1:]


def test_both():
    found = multiplied(lowered(*ALL), {OUT: -ONE, SCALED: ONE})
    assert found.atoms[4:] == (
        Atom(11, Scale(SEED, -ONE), 3),
        Atom(BACK, View(11), 3),
        Atom(12, Scale(BACK, ONE), 3),
        Atom(LAST, Product(12, X), 4),
        ALL[2],
    )


def test_a_gradient_that_values_share_is_left_as_it_is():
    shared = lowered(*ALL, grads={SCALED: BACK, SQUARE: BACK})
    assert multiplied(shared, {SCALED: ONE}).atoms[3:] == ALL
    own = replace(lowered(*ALL), grads={SCALED: LAST})
    found = multiplied(own, {SCALED: ONE})
    assert found.atoms[3:] == (*ALL[:2], Atom(10, Scale(LAST, ONE), 4), ALL[2])
    assert multiplied(replace(own, grads={SCALED: SEED}), {SCALED: ONE}).atoms[3:] == ALL


def test_without_a_backward_pass_no_gradient_is_multiplied():
    assert len(multiplied(lowered(), {OUT: ONE}).atoms) == 4


def test_new_ids_are_those_of_no_value():
    plain = lowered(*ALL)
    plain.program.values[20] = Value(20, (N,), "float32", "buffer")
    assert multiplied(plain, {SQUARE: ONE}).atoms[0].out == 21
    more = lowered(*ALL, Atom(30, Sum((X, LAST)), 6))
    assert multiplied(more, {SQUARE: ONE}).atoms[0].out == 31
