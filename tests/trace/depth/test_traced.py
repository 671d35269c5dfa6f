"""Depths that are traced, and how many layers make a period."""

from __future__ import annotations

import pytest
import torch

from tests.support.depths import WIDTHS, traced
from tests.support.stacks import pre, stages, translator, two_depths
from tests.support.unusual import pyramid, turns
from tpcalc import trace
from tpcalc.errors import AlignError, TargetError
from tpcalc.program.repeat import Repeats
from tpcalc.trace.depth import trace_depths


def test_two_periods_are_traced():
    program = traced(pre)
    (loop,) = program.repeats.loops
    assert (loop.scale, loop.count, program.repeats.periods) == ("depth", 2, (("depth", 1),))
    assert loop.covers(loop.start) and not loop.covers(loop.end)
    assert loop.place(loop.start + loop.period + 3) == 3 and loop.turn(loop.start + loop.period) == 1
    plain = trace(lambda n: pre(n, 2), WIDTHS)
    assert plain.repeats == Repeats() and not plain.repeats
    assert [node.op for node in plain.nodes] == [node.op for node in program.nodes]


def test_layers_that_take_turns_are_one_period():
    assert traced(turns).repeats.periods == (("depth", 2),)


def test_one_depth_may_have_several_loops_and_several_depths_one_each():
    assert [loop.scale for loop in traced(translator).repeats.loops] == ["depth", "depth"]
    both = traced(two_depths, ("encoder", "decoder"))
    assert [loop.scale for loop in both.repeats.loops] == ["encoder", "decoder"]
    assert [loop.scale for loop in traced(stages, ("first", "second")).repeats.loops] == ["first", "second"]


def restless(width: int, depth: int):
    """Layers of two kinds in a sequence (Thue and Morse's) that never does the same three times."""
    layers = [torch.nn.Linear(8, width)]
    layers += [torch.nn.Linear(width, width, bias=bin(i).count("1") % 2 == 0) for i in range(depth)]
    return torch.nn.Sequential(*layers), torch.ones(2, 8)


@pytest.mark.parametrize("factory", [pyramid, restless], ids=lambda factory: factory.__name__)
def test_what_does_not_repeat_itself_is_refused(factory):
    with pytest.raises(AlignError, match="the model does not repeat itself along depth: .*depend on their index"):
        trace_depths(factory, {"width": WIDTHS})


def test_a_depth_that_changes_nothing_is_refused():
    with pytest.raises(AlignError, match="depth changes nothing: the model has the same ops at depth 1 and 2"):
        trace_depths(lambda width, depth: pre(width, 2), {"width": WIDTHS})


def test_a_factory_that_takes_no_depth_is_refused():
    with pytest.raises((AlignError, TargetError), match="depth"):
        trace_depths(lambda width: pre(width, 2), {"width": WIDTHS})
