"""A deep model of which few blocks are traced: the same table as with all of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Optional

import pytest
from torch import nn

import tpcalc
from tests.support import stacks, unusual
from tpcalc.derive.explain import explain
from tpcalc.program.ir import Program
from tpcalc.trace.depth import folded

WIDTHS = (16, 32, 64)


def fold(factory: Callable[..., Any], depth: int) -> Optional[Program]:
    return folded(factory, WIDTHS, depth, tpcalc.trace)


def table(program: Program, optimizer: str = "adamw") -> str:
    rules = tpcalc.derive(program, optimizer)
    return str(replace(rules, assumptions=()))


@pytest.mark.parametrize(
    "factory",
    [stacks.gpt, stacks.post, stacks.tied, stacks.translator, unusual.turns, unusual.ladder],
    ids=lambda factory: factory.__name__,
)
def test_the_table_is_that_of_all_blocks(factory):
    depth = 8
    few = fold(factory, depth)
    whole = tpcalc.trace(partial(factory, depth=depth), WIDTHS)
    assert few is not None and len(few.nodes) < 0.9 * len(whole.nodes)
    rules, all_rules = tpcalc.derive(few), tpcalc.derive(whole)
    assert list(rules) == list(all_rules)
    assert rules.clipping == all_rules.clipping
    for name, rule in rules.items():
        other = all_rules[name]
        assert (rule.name, rule.aliases, rule.formulas) == (other.name, other.aliases, other.formulas)
    assert table(few) == table(whole)
    assert re.fullmatch("[3-6] blocks were traced and stand for all 8", few.assumptions[-1])


def test_sites_are_told_of_every_block():
    """A norm without a gain behind each branch, which no weight in front of it can make smaller."""

    class Fixed(nn.Module):
        def __init__(self, n: int):
            super().__init__()
            self.q, self.k, self.out = (nn.Linear(n, n, bias=False) for _ in range(3))

        def forward(self, x):
            norm = partial(nn.functional.layer_norm, normalized_shape=x.shape[-1:])
            scores = (norm(self.q(x)) @ norm(self.k(x)).transpose(-1, -2)) / x.shape[-1] ** 0.5
            return x + self.out(scores.softmax(-1) @ x)

    def factory(width: int, depth: int):
        model, inputs = stacks.gpt(width, depth)
        model.layers = nn.ModuleList(Fixed(width) for _ in range(depth))
        return model, inputs

    few, whole = fold(factory, 5), tpcalc.trace(partial(factory, depth=5), WIDTHS)
    assert few is not None
    sites, all_sites = (tpcalc.derive(program).sites for program in (few, whole))
    assert {site.module for site in sites} == {site.module for site in all_sites} == {f"layers.{i}" for i in range(5)}
    assert {(site.module, site.message) for site in sites} == {(site.module, site.message) for site in all_sites}


def test_any_weight_is_explained():
    program = fold(stacks.gpt, 9)
    assert program is not None
    text = str(explain(program, "layers.7.down.weight"))
    assert text.startswith("layers.1.down.weight") and "n^-A" in text
    with pytest.raises(tpcalc.DeriveError, match="no parameter 'layers.9.down.weight'; did you mean layers.[78]"):
        explain(program, "layers.9.down.weight")


def test_what_does_not_repeat_itself_is_not_folded():
    assert fold(stacks.gpt, 2) is None  # nothing to gain
    assert fold(unusual.pyramid, 6) is None

    def odd(width: int, depth: int):
        model, inputs = stacks.pre(width, depth)
        if depth > 20:
            model.blocks[20].order = "none"  # same names, and another block
        return model, inputs

    assert fold(odd, 20) is not None
    assert fold(odd, 21) is None


def by_index(odd: Callable[[int, int, int], float], held: bool) -> Callable[..., Any]:
    """Blocks that divide by a number of their own: an attribute, or what the forward pass makes of their index."""

    class Block(stacks.Block):
        def __init__(self, n: int, index: int, depth: int):
            super().__init__(n)
            self.number = odd(n, index, depth) if held else 0.0
            self.index, self.of, self.held = index, (n, depth), held

        def forward(self, x):
            number = self.number if self.held else odd(self.of[0], self.index, self.of[1])
            return x + self.two(nn.functional.relu(self.one(self.norm(x)) * number))

    def factory(width: int, depth: int):
        return stacks.Stack(width, [Block(width, i, depth) for i in range(depth)]), stacks.points()

    return factory


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize(
    "odd",
    [
        lambda n, i, depth: 1 / n if i == 14 else 1.0,
        lambda n, i, depth: 1 / n if i >= depth // 2 else 1.0,
        lambda n, i, depth: 1 / n if i == depth - 2 else 1.0,
        lambda n, i, depth: 1 / n if i % 8 == 7 else 1.0,
    ],
    ids=["one", "half", "last but one", "each eighth"],
)
def test_blocks_that_go_by_their_index_are_not_folded(odd, held):
    """Names and classes do not tell them apart; where blocks in the middle are like no other, the table is an error."""
    program = fold(by_index(odd, held), 20)
    if program is not None:
        with pytest.raises(tpcalc.DeriveError, match="does not stand for other blocks; trace the model with all"):
            tpcalc.derive(program)


def test_numbers_that_follow_the_depth_are_folded():
    assert fold(by_index(lambda n, i, depth: 1 / depth, True), 20) is not None


def test_a_model_that_is_never_shallow():
    def factory(width: int, depth: int):
        if depth < 18:
            raise ValueError("too shallow")
        return stacks.pre(width, depth)

    assert fold(factory, 20) is None
