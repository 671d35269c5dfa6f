"""What is said of a weight: one line for the table, and what binds each exponent."""

from __future__ import annotations

import pytest
import torch

import tpcalc
from tests.support.models import derived

SAID = [
    ("mlp", "input.weight", "contraction, finite to growing"),
    ("mlp", "hidden.weight", "contraction, growing to growing"),
    ("mlp", "output.weight", "contraction, growing to finite"),
    ("mlp", "output.bias", "added"),
    ("gpt", "token.weight", "look-up"),
    ("gpt", "norm.weight", "entrywise gain"),
    ("hypernetwork", "j.weight", "contraction, finite to finite"),
    ("multiplier_after_readout", "o.weight", "contraction, growing to finite; a constant n^(-1) follows in the code"),
    ("ntk", "4.w", "contraction, growing to finite; a constant n^(-1/2) follows in the code"),
    ("unused_and_frozen", "unused.weight", "no output depends on it"),
    ("unused_and_frozen", "h.bias", "added; frozen"),
]


@pytest.mark.parametrize("model, weight, line", SAID)
def test_the_line_of_a_weight(model, weight, line):
    assert derived(model)[weight].reason == line


def test_a_frozen_weight_says_so():
    assert derived("lora")["base.weight"].reason.endswith("; frozen")


def test_growing_heads_are_explained():
    rule = derived("gpt_growing_heads", "adam")["blocks.0.attn.q.weight"]
    assert "absorbs n^(-1/2)" in rule.reason and "gpt.py" in rule.reason
    assert "absorbs" not in derived("gpt_growing_heads", "adam")["blocks.0.attn.k.weight"].reason


BOUNDS = [
    ("mlp", "input.weight", "law 1: nothing growing is contracted", "law 3: weight update x value over growth 0"),
    (
        "mlp",
        "hidden.weight",
        "law 2: initial weight x changed value over growth 1 with R = 1: 1/2",
        "law 3: weight update x value over growth 1",
    ),
    (
        "mlp",
        "output.weight",
        "law 2: initial weight x changed value over growth 1 with R = 0: 1",
        "law 3: weight update x value over growth 1",
    ),
    ("mlp", "output.bias", "sum: the order is the max", "entrywise: the update passes through"),
    ("gpt", "token.weight", "look-up: entries pass through", "entrywise: the update passes through"),
    ("gpt", "norm.weight", "entrywise product: orders add", "entrywise: the update passes through"),
]


@pytest.mark.parametrize("model, weight, init, update", BOUNDS)
def test_what_binds(model, weight, init, update):
    rule = derived(model)[weight]
    assert rule.init_bound.law.startswith(f"{init}; the result ")
    assert rule.update_bound.law.startswith(f"{update}; the result ")
    assert rule.init_bound.value == rule.update_bound.value


def test_where_it_binds():
    bound = derived("mlp")["output.bias"].init_bound
    assert bound.law.endswith("leaves as an output") and bound.where == ""
    assert "mlp.py:" in derived("mlp")["hidden.bias"].init_bound.where
    assert derived("unused_and_frozen")["unused.weight"].init_bound is None


class OneUnitOff(torch.nn.Module):
    """The first unit of a layer is switched off by a write."""

    def __init__(self, width):
        super().__init__()
        self.first, self.last = torch.nn.Linear(8, width), torch.nn.Linear(width, 4)

    def forward(self, x):
        h = self.first(x).clone()
        h[:, 0] = 0
        return self.last(torch.relu(h))


def test_a_few_rows_that_stand_apart_do_not_speak_for_a_weight():
    rules = tpcalc.derive(tpcalc.trace(lambda width: (OneUnitOff(width), (torch.ones(2, 8),)), (64, 128, 256)))
    said = {name: (rule.role, rule.reason) for name, rule in rules.items()}
    assert said["first.weight"] == ("input", "contraction, finite to growing")
    assert said["first.bias"] == ("input", "added")
