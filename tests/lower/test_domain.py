"""How scales may grow beside one another: what is picked is no more than there is."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.wired import Op, wired
from tpcalc.algebra.form import Compass
from tpcalc.algebra.order import ONE
from tpcalc.algebra.scales import Scale
from tpcalc.algebra.size import Size
from tpcalc.errors import DeriveError
from tpcalc.lower.domain import domain
from tpcalc.rules.structures import Exp, Power, View

B = Size.constant(3)
SCALES = (Scale("experts"), Scale("k"))


COMPASS = Compass(SCALES, (5, 3))


def along(*powers: Fraction | int) -> Size:
    return Size(((COMPASS.form(powers), 1),))


EXPERTS, PICKED, EITHER = along(1, 0), along(0, 1), along(1, 1)
TOP = Power(0, ONE, largest=True)


def walls(*ops: Op, whole: Size = EXPERTS, scales=SCALES) -> tuple:
    wiring = wired(ops, {0: (B, whole)}, (), (0,), 1)
    program: Any = SimpleNamespace(nodes=wiring.program.nodes, values=wiring.program.values, scales=scales)
    registry: Any = SimpleNamespace(structure=lambda node, values: ops[node.index].structures)
    return domain(program, registry)


def top(taken: Size, s=TOP, **known: Any) -> Op:
    return Op((0,), (s,), "b.->b.", ((B, taken),))._replace(**known)


def test_no_more_is_taken_than_there_is():
    assert walls(top(PICKED)) == ((1, -1),) == walls(top(PICKED), top(PICKED))
    assert walls(top(along(0, Fraction(1, 2)))) == ((2, -1),)
    assert walls(top(B)) == () == walls(top(EXPERTS)) == walls(top(PICKED), whole=EITHER)
    assert walls(top(B), top(PICKED), top(along(0, 2))) == ((1, -1), (1, -2))


@pytest.mark.parametrize(
    "op",
    [
        top(PICKED, Power(0, ONE)),
        top(PICKED, Exp(0)),
        top(PICKED, Power(View(0), ONE, largest=True)),
        top(PICKED, phase="backward"),
        top(PICKED, shapes=(None,)),
        top(PICKED, shapes=()),
        top(PICKED + 1),
    ],
)
def test_what_takes_nothing_bounds_nothing(op):
    assert walls(op) == ()


def test_a_whole_of_several_terms_bounds_nothing():
    assert walls(top(PICKED), whole=EXPERTS + 1) == ()


def test_depths_bound_nothing_beside_others():
    for deep in ((replace(SCALES[0], depth=True), SCALES[1]), (SCALES[0], replace(SCALES[1], depth=True))):
        assert walls(top(PICKED), scales=deep) == ()
    beside = (*SCALES, Scale("depth", depth=True))
    compass = Compass(beside, (5, 3, 2))
    whole, taken = (Size(((compass.form(powers), 1),)) for powers in ((1, 0, 0), (0, 1, 0)))
    assert walls(top(taken), whole=whole, scales=beside) == ((1, -1, 0),)


def test_more_of_what_does_not_grow_is_refused():
    with pytest.raises(DeriveError, match="op .* takes k of 3 entries, which do not grow"):
        walls(top(PICKED), whole=B)
    with pytest.raises(DeriveError, match="entries, which do not grow"):
        walls(top(EITHER))
