"""Parameters of deeper models: whose rule each has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch.nn.functional as F
from torch import nn

from tests.support import stacks
from tests.support.depths import traced
from tpcalc.algebra.scales import Point
from tpcalc.errors import AlignError
from tpcalc.trace.built import Built
from tpcalc.trace.depth import Periods


def sources(factory: Callable[..., Any], **depths: int) -> dict[str, str]:
    program = traced(factory, tuple(depths))
    place = Point(("width", *depths), (16, *depths.values()))
    return Periods(factory, program.widths[0], dict(program.repeats.periods)).sources(Built.at(factory, place))


def test_deeper_and_shallower():
    assert sources(stacks.pre, depth=2) == {name: name for name in sources(stacks.pre, depth=2)}
    deep = sources(stacks.pre, depth=5)
    assert deep["blocks.4.two.weight"] == "blocks.1.two.weight"
    assert {deep[f"blocks.{i}.one.bias"].partition(".")[2].partition(".")[2] for i in range(5)} == {"one.bias"}
    assert deep["norm.weight"] == "norm.weight" and len(deep) == 6 + 5 * 6
    assert sources(stacks.pre, depth=1)["blocks.0.two.weight"] in ("blocks.0.two.weight", "blocks.1.two.weight")


def test_two_stacks():
    found = sources(stacks.two_depths, encoder=1, decoder=4)
    assert found["decoder.3.cross.o.weight"] == "decoder.1.cross.o.weight"
    assert (
        sum(name.startswith("encoder.") for name in found) == sum(name.startswith("decoder.0.") for name in found) - 10
    )


def test_weights_registered_by_kind_and_not_by_block():
    """All first matrices, then all second ones: two runs of one parameter."""

    class Lists(nn.Module):
        def __init__(self, n: int, depth: int):
            super().__init__()
            self.entry, self.out = nn.Linear(8, n), nn.Linear(n, 4)
            self.up = nn.ModuleList(nn.Linear(n, 2 * n, bias=False) for _ in range(depth))
            self.down = nn.ModuleList(nn.Linear(2 * n, n, bias=False) for _ in range(depth))

        def forward(self, x):
            x = self.entry(x)
            for up, down in zip(self.up, self.down):
                x = x + down(F.relu(up(F.layer_norm(x, x.shape[-1:]))))
            return self.out(F.layer_norm(x, x.shape[-1:]))

    found = sources(lambda width, depth: (Lists(width, depth), stacks.points()), depth=6)
    assert found["up.5.weight"].startswith("up.") and found["down.5.weight"].startswith("down.")
    assert found["out.bias"] == "out.bias"


def test_another_model_at_another_depth_is_refused():
    def factory(width: int, depth: int):
        model, inputs = stacks.pre(width, depth)
        if depth > 20:
            model.blocks[7].more = nn.Linear(width, width)
        return model, inputs

    with pytest.raises(AlignError, match=r"at width=16, depth=21 is not the one .* \(blocks.7.more.weight differs\)"):
        sources(factory, depth=21)


def test_less_than_a_period_is_refused():
    def factory(width: int, depth: int):
        kinds = [stacks.Block(width, "pre" if i % 2 else "sandwich") for i in range(depth)]
        return stacks.Stack(width, kinds), stacks.points()

    with pytest.raises(AlignError, match="depth=3 is no whole number of periods.*every 2 blocks; choose depth=2 or 4"):
        sources(factory, depth=3)


def test_a_first_block_that_holds_more():
    """Its further parameters stand behind those that all blocks have, so that two blocks are no two periods."""

    def factory(width: int, depth: int):
        model, inputs = stacks.pre(width, depth)
        model.blocks[0].more = nn.Linear(width, width)
        model.blocks[0].register_forward_pre_hook(lambda block, args: (block.more(args[0]),))
        return model, inputs

    found = sources(factory, depth=5)
    assert found["blocks.4.two.weight"] == "blocks.1.two.weight" and found["blocks.0.more.bias"] == "blocks.0.more.bias"


def test_a_stack_of_torchs_own():
    class Encoder(nn.Module):
        def __init__(self, n: int, depth: int):
            super().__init__()
            layer = nn.TransformerEncoderLayer(n, 2, 2 * n, batch_first=True, norm_first=True, dropout=0.0)
            self.entry, self.out = nn.Linear(8, n), nn.Linear(n, 4)
            self.stack = nn.TransformerEncoder(layer, depth, nn.LayerNorm(n), enable_nested_tensor=False)

        def forward(self, x):
            return self.out(self.stack(self.entry(x)[None]))

    found = sources(lambda width, depth: (Encoder(width, depth), stacks.points()), depth=7)
    assert found["stack.layers.6.linear2.weight"].startswith("stack.layers.")
