"""Values in blocks: cut further, joined, as sums of parts; with what is written for each."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tests.support.wired import Op, wired
from tpcalc.algebra.order import MINUS_INFINITY, ONE, ZERO
from tpcalc.algebra.size import Size
from tpcalc.lower.atoms import Writer
from tpcalc.lower.picks import Picks
from tpcalc.lower.segments import Segments, averaged, by_growth, coarse, differ, fine
from tpcalc.rules.layout import UNIT
from tpcalc.rules.structures import Atom, Exp, Known, Scale, Sum, View

N, B, K = Size.linear(), Size.constant(3), Size.constant(16)
TWO, THREE, ROUGH, NOTHING = Size.linear(2), Size.linear(3), Size(((Fraction(1, 2), 1),), rounded=True), Size(())
#: A value [3, 3n] and its blocks of n and 2n, one [3, n + 16] and its blocks; a number a sample;
#: [16, n].
X, ONE_N, TWO_N, Y, Y_N, Y_K, S, ROWS, OUT = range(9)
LEAVES = {
    X: (B, THREE),
    ONE_N: (B, N),
    TWO_N: (B, TWO),
    Y: (B, N + 16),
    Y_N: (B, N),
    Y_K: (B, K),
    S: (B,),
    ROWS: (K, N),
}
HELD = Segments(1, (N, TWO), (ONE_N, TWO_N))
MIXED = Segments(1, (N, K), (Y_N, Y_K))
EMPTY = Segments(1, (N, NOTHING, TWO), (ONE_N, Y_K, TWO_N))
NEW = OUT + 1


def writer() -> Writer:
    """The next value is ``NEW``."""
    wiring = wired((Op((X, Y, S), (Exp(X),), "bn,bm,b->bn", ((B, THREE),)),), LEAVES, (), tuple(LEAVES), OUT)
    return Writer(wiring.program, Picks(wiring))


def test_blocks_that_grow_alike():
    assert not differ((N, TWO)) and differ((N, K)) and not differ((N,))


@pytest.mark.parametrize(
    "held, ends, expected",
    [
        (HELD, (NOTHING, N), HELD),
        (HELD, (N, THREE), HELD),
        (HELD, (TWO,), Segments(1, (N, N, N), (ONE_N, NEW, NEW + 1))),
        (EMPTY, (N,), EMPTY),
        (EMPTY, (NOTHING, N, THREE), EMPTY),
        (HELD, (THREE + N,), None),
        (HELD, (Size.constant(100),), None),  # before n or behind it
        (HELD, (ROUGH,), None),
        (Segments(1, (ROUGH, N), (ONE_N, TWO_N)), (N,), None),
        (Segments(2, (N, TWO), (ONE_N, TWO_N), True), (TWO,), Segments(2, (N, N, N), (ONE_N, NEW, NEW + 1))),
    ],
)
def test_cut_further(held, ends, expected):
    made = writer()
    assert fine(made, held, ends, 0) == expected
    if expected is not None and NEW in expected.parts:
        shown = View(TWO_N, repeated=held.axis == 2)  # a block as it is has fewer axes here
        assert made.atoms == [Atom(NEW, shown, 0), Atom(NEW + 1, shown, 0)]
        assert made.values[NEW].shape == ((B, N) if held.axis == 1 else (N, TWO))


def test_cut_in_the_first_block():
    half = Size.linear(Fraction(1, 2))
    found = fine(writer(), HELD, (half,), 0)
    assert found == Segments(1, (half, half, TWO), (NEW, NEW + 1, TWO_N))


@pytest.mark.parametrize(
    "held, lengths, parts",
    [
        (HELD, (N, TWO), (ONE_N, TWO_N)),
        (HELD, (THREE,), (NEW,)),
        (HELD, (TWO, N), None),
        (HELD, (ROUGH, N), None),
        (Segments(1, (ROUGH, N), (ONE_N, TWO_N)), (THREE,), None),
        (Segments(1, (N, TWO), (ONE_N, TWO_N), True), (N, TWO), None),
        (Segments(1, (N, N, N), (ONE_N, Y_N, ONE_N)), (N, TWO), (ONE_N, NEW)),
        (Segments(1, (N, N, N), (ONE_N, Y_N, ONE_N)), (TWO, N), (NEW, ONE_N)),
    ],
)
def test_joined(held, lengths, parts):
    made = writer()
    found = coarse(made, held, lengths, 0)
    assert found == (None if parts is None else Segments(1, lengths, parts))
    group = {2: (ONE_N, TWO_N), 3: (ONE_N, Y_N) if lengths == (TWO, N) else (Y_N, ONE_N)}[len(held.parts)]
    if parts is not None and NEW in parts:
        assert made.atoms == [Atom(NEW, Sum(group, "choice"), 0)]
        assert made.values[NEW].shape == (B, lengths[parts.index(NEW)])


def test_sums_of_parts_by_growth():
    made = writer()
    node = made.program.nodes[0]
    found = by_growth(made, node, (X, Y, S), {1: MIXED}, [0, 1])
    # the whole of the first is n long: nothing of it is among the few
    assert found == {
        X: Segments(1, (THREE, K), (X, NEW), True),
        Y: Segments(1, (THREE, K), (Y_N, Y_K), True),
    }
    assert made.atoms == [Atom(NEW, Known(MINUS_INFINITY), 0)] and made.values[NEW].shape == (B, K)


def test_parts_that_grow_alike_are_one():
    made = writer()
    held = {0: Segments(1, (N, K, TWO), (ONE_N, Y_K, TWO_N))}
    found = by_growth(made, made.program.nodes[0], (X, Y, S), held, [0])
    assert found == {X: Segments(1, (N, K), (NEW, Y_K), True)}
    assert made.atoms == [Atom(NEW, Sum((ONE_N, TWO_N), "choice"), 0)] and made.values[NEW].shape == (B, N)


def test_a_block_of_several_is_like_the_first():
    made = writer()
    for parts, rows in (((ONE_N, ROWS), B), ((ROWS, ONE_N), K)):
        found = coarse(made, Segments(1, (N, N), parts), (TWO,), 0)
        assert found is not None and made.values[found.parts[0]].shape == (rows, TWO)


def test_each_is_in_blocks_along_an_axis_of_its_own():
    made = writer()
    held = {0: Segments(2, (B,), (Y_N,)), 1: Segments(1, (B,), (S,))}
    found = by_growth(made, made.program.nodes[0], (Y, S), held, [0, 1])
    assert found == {Y: Segments(2, (B,), (Y_N,), True), S: Segments(1, (B,), (S,), True)}


def test_what_lacks_the_axis_is_one_long():
    made = writer()
    for axis in (2, 1):
        found = by_growth(made, made.program.nodes[0], (S, Y), {1: Segments(axis, (K,), (Y_K,))}, [0, 1])
        assert found[S] == Segments(axis, (UNIT if axis == 2 else B,), (S,), True) and found[Y].parts == (Y_K,)


def test_gradients_behind_a_norm_over_all_blocks():
    """Each has a mean over the others beside its own: of few entries it is less, in most."""
    made = writer()
    found = averaged(made, made.program.nodes[0], (N, K), [Y_N, Y_K])
    by = {atom.out: atom.structure for atom in made.atoms}
    first, second = (by[vid] for vid in found)
    assert isinstance(first, Sum) and isinstance(second, Sum)
    assert first.xs[0] == Y_N and by[first.xs[1]] == Scale(Y_K, -ONE) and len(first.xs) == 2
    assert second.xs[0] == Y_K and by[second.xs[1]].x in (Y_N, *by) and len(second.xs) == 2  # type: ignore[attr-defined]
    assert made.values[found[0]].shape == (B, N) and made.values[found[1]].shape == (B, K)
    assert Scale(Y_N, ZERO) in by.values()
    three = averaged(made, made.program.nodes[0], (N, K, TWO), [Y_N, Y_K, TWO_N])
    by = {atom.out: atom.structure for atom in made.atoms}
    assert [len(by[vid].xs) for vid in three] == [3, 3, 3]  # type: ignore[attr-defined]
    assert averaged(made, made.program.nodes[0], (N, K), [Y_N]) == [Y_N]
