"""Which part of a deeper model is looked at: the middle of each stack, op by op the one that was traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from tests.support import stacks
from tests.support.once import once
from tpcalc.algebra.scales import Point
from tpcalc.check.plan import Plan
from tpcalc.check.settings import Settings
from tpcalc.check.several import along_rays
from tpcalc.errors import AlignError
from tpcalc.optimizers import recipe

SETTINGS = Settings((16,), recipe("adamw"), 1, (0,), "derived", 0.15, None, 0.0, None)


@once
def plan(factory: Callable[..., Any]) -> Plan:
    (found,) = along_rays(factory, {"width": (16,), "depth": (2, 3, 4)}, SETTINGS, 1, None)
    return found


def seen(factory: Callable[..., Any], depth: int):
    return plan(factory).probe.at(Point(("width", "depth"), (16, depth)))


def blocks(names) -> set[int]:
    return {int(name.split(".")[1]) for name in names if name.split(".")[0] in ("blocks", "layers")}


@pytest.mark.parametrize("factory", [stacks.pre, stacks.post, stacks.without_norm, stacks.gpt, stacks.parallel])
@pytest.mark.parametrize("depth, middle", [(2, {1}), (3, {1, 2}), (4, {2}), (5, {2, 3}), (9, {4, 5})])
def test_the_middle_is_looked_at(factory, depth, middle):
    found = seen(factory, depth)
    assert blocks(found.weights) == middle and blocks(found.weights.values()) == {0}
    for name, uses in found.uses.items():
        own = [use.weight.name for use in uses]
        if blocks([name]):
            assert len(own) == len(middle) and blocks(own) == middle
        else:
            assert own == [name]


@pytest.mark.parametrize("factory", [stacks.pre, stacks.gpt])
def test_each_use_is_that_of_its_own_weight(factory):
    """At every depth an effect needs its weight's own operands, and ends in a value of its own module."""
    program = plan(factory).probe.program
    traced = {weight.name: {node.module for node in program.uses(weight)} for weight in program.weights}
    for name, uses in seen(factory, 5).uses.items():
        for use in uses:
            (block,) = blocks([use.weight.name]) or {0}
            (module,) = traced[name]
            assert use.node.module == module.replace(".0", f".{block}") and use.weight.value not in use.held


def test_what_only_looks_like_a_part_of_a_block():
    """The sum of two embeddings is an add in front of a norm, as every block ends in one; a last norm is a norm."""
    found = seen(stacks.gpt, 4)
    assert {"pos", "norm.weight", "embed.weight"} <= found.uses.keys()
    assert [use.weight.name for use in found.uses["pos"]] == ["pos"]
    assert [use.weight.name for use in found.uses["norm.weight"]] == ["norm.weight"]


def test_tied_blocks_are_one_weight():
    found = seen(stacks.tied, 4)
    assert len(found.uses["blocks.0.two.weight"]) == 1 and found.weights["blocks.0.two.weight"] == "blocks.0.two.weight"


def test_blocks_that_differ_at_another_depth_are_refused():
    def factory(width: int, depth: int):
        model, inputs = stacks.pre(width, depth)
        if depth == 20:  # deeper than was looked
            model.blocks[7].norm = nn.Identity()
        return model, inputs

    with pytest.raises(AlignError, match="at width=16, depth=20 is not the one at"):
        seen(factory, 20)

    def other(width: int, depth: int):
        model, inputs = stacks.pre(width, depth)
        if depth == 20:
            model.blocks[7].register_forward_hook(lambda module, args, out: out * 2)
        return model, inputs

    with pytest.raises(AlignError, match="does not run the ops of the one at .* with whole blocks put in"):
        seen(other, 20)
