"""Numbers that depend on the depth: their powers, forward and back."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tests.support.depths import traced
from tests.support.unusual import logarithmic, multiplied
from tpcalc.errors import AlignError


@pytest.mark.parametrize("power", [Fraction(1), Fraction(1, 2)])
def test_a_multiplier_has_its_power_forward_and_back(power):
    program = traced(multiplied(float(power), 2**-0.5))
    found = program.repeats.constants
    assert {(scale, each) for _, scale, each in found} == {("depth", -power)}
    phases = [program.nodes[index].phase for index, _, _ in found]
    assert phases == ["forward"] * 2 + ["backward"] * 2
    assert len({program.nodes[index].op for index, _, _ in found}) == 1


def test_a_number_that_is_the_same_at_all_depths_is_none():
    assert traced(multiplied(0.0, 0.5)).repeats.constants == ()


def test_what_is_no_power_is_refused():
    with pytest.raises(AlignError, match=r"unusual.py:\d+\) is no power of depth: 1.4427 at depth 1, .*; write it as"):
        traced(logarithmic)
