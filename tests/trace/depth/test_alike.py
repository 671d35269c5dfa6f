"""Deep models are held to the shallow one that was traced, op by op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.support import stacks, unusual
from tests.support.depths import traced
from tpcalc.algebra.scales import Point
from tpcalc.errors import AlignError
from tpcalc.trace.depth import Periods, check_alike


def check(factory: Callable[..., Any], traced_as: Callable[..., Any], **depths: int) -> None:
    program = traced(traced_as, tuple(depths))
    periods = Periods(traced_as, program.widths[0], dict(program.repeats.periods))
    check_alike(factory, periods, Point(("width", *depths), (64, *depths.values())))


@pytest.mark.parametrize(
    "factory", [stacks.pre, stacks.post, stacks.gpt, stacks.tied, unusual.injected, unusual.ladder]
)
@pytest.mark.parametrize("depth", [2, 4, 14])
def test_more_of_the_same_blocks(factory, depth):
    check(factory, factory, depth=depth)


def test_fewer_and_more_of_two_stacks():
    check(stacks.two_depths, stacks.two_depths, encoder=1, decoder=5)


def changed(change: Callable[[Any], Any], at: int = 5) -> Callable[..., Any]:
    """The stack, but for what one block adds."""

    def factory(width: int, depth: int):
        model, inputs = stacks.pre(width, depth)
        for index, block in enumerate(model.blocks):
            if index == at:
                block.two.register_forward_hook(lambda module, args, output: change(output))
        return model, inputs

    return factory


@pytest.mark.parametrize("change", [torch.tanh, lambda y: y * 0.5, lambda y: y.flip(-1)], ids=["op", "number", "view"])
def test_another_block_is_refused(change):
    check(changed(change), stacks.pre, depth=5)  # it has no sixth block
    with pytest.raises(AlignError, match=r"at width=64, depth=6 is not that at width=16, depth=2 .*must be alike"):
        check(changed(change), stacks.pre, depth=6)


def test_a_number_of_one_block_alone_is_refused():
    def multiplied(by: Callable[[int], float]) -> Callable[..., Any]:
        def factory(width: int, depth: int):
            model, inputs = stacks.pre(width, depth)
            for index, block in enumerate(model.blocks):
                number = by(index)
                block.two.register_forward_hook(lambda module, args, output, number=number: output * number)
            return model, inputs

        return factory

    check(multiplied(lambda i: 1 - 0.01 * i), multiplied(lambda i: 1.0), depth=8)  # as rates of dropping a branch go
    with pytest.raises(AlignError, match="aten.mul.Tensor .* has another number, than in the block before"):
        check(multiplied(lambda i: 0.1 if i == 6 else 1.0), multiplied(lambda i: 1.0), depth=8)
