"""One weight explained: what binds it, the way there, and of what nothing can be said.

The text of an explanation is tested in ``tests/report/test_explain.py``.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.support.models import MODELS, program
from tpcalc.derive.explain import Explanation, explain, find_weight
from tpcalc.errors import DeriveError


def explained(name: str, weight: str, optimizer: str = "adamw", **options: str) -> Explanation:
    return explain(program(MODELS[name]), weight, optimizer, **options)


def test_a_hidden_weight():
    found = explained("mlp", "hidden.weight")
    assert (found.names, found.rule.role, found.law.name) == (("hidden.weight",), "hidden", "adamw")
    assert [(c.exponent, str(c.found), c.budget, c.holds) for c in found.certificates] == [
        ("A", "1/8", 0, True),
        ("C", "1/8", 0, True),
    ]
    assert found.path[0].how == "addmm" and {(step.order, step.budget) for step in found.path} == {(0, 0)}
    assert found.gradient[0].order == found.rule.gradient == -1


def test_the_way_ends_where_the_budget_stands():
    """Queries are held back for the softmax of their logits; views between are left out."""
    path = explained("gpt_growing_heads", "blocks.0.attn.q.weight").path
    assert [(step.how, str(step.order)) for step in path] == [
        ("mm", "-1/2"),
        ("mul", "-3/4"),
        ("bmm", "0"),
        ("add", "0"),
        ("_safe_softmax", "0"),
    ]


def test_the_rule_is_that_of_the_optimizer_in_its_gauge():
    found = explained("mlp", "output.weight", "sgd", gauge="mup")
    assert (found.rule.a, found.rule.b, found.rule.gradient) == (1, 0, -1) and found.rule.eps is None
    assert (found.law.name, found.gauge) == ("sgd", "mup")
    matrix = explained("mlp", "hidden.weight", "muon+adamw")
    assert matrix.law.name == "muon"


def test_of_an_unused_weight_nothing_is_said():
    found = explained("unused_and_frozen", "unused.weight")
    assert found.path is None and not found.certificates and not found.gradient


def test_weights_are_found_by_any_of_their_names():
    weight = find_weight(program(MODELS["gpt_tied"]), "head.weight")
    assert weight.names == ("token.weight", "head.weight") == explained("gpt_tied", "head.weight").names


@pytest.mark.parametrize(
    "name, hint",
    [("hiden.weight", "did you mean hidden.weight"), ("zzz", "run tpcalc table to see the names")],
)
def test_an_unknown_name(name, hint):
    with pytest.raises(DeriveError, match=f"the model has no parameter '{name}'; {hint}"):
        find_weight(program(MODELS["mlp"]), name)


class Picked(nn.Module):
    """Two layers of which one, packed, is picked by an index."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.first = nn.LayerNorm(width), nn.Linear(8, width)
        self.packed = nn.Parameter(torch.randn(3, 4 * width, width) / width**0.5)
        self.last = nn.Linear(2 * width, 4)

    def forward(self, x):
        rows = self.packed[torch.zeros(2, dtype=torch.long)]
        gate, up = torch.bmm(rows, self.norm(self.first(x))[:, :, None])[:, :, 0].chunk(2, -1)
        return self.last(nn.functional.silu(gate) * up)


def picked(width: int):
    return Picked(width), (torch.randn(2, 8),)


def test_a_gradient_may_come_from_a_block_of_a_packed_weight():
    found = explain(program(picked), "norm.weight").gradient
    assert (found[-1].value, found[-1].how) == ("packed[:, 0:2*n]", "weight packed[:, 0:2*n]")
    packed = next(weight for weight in program(picked).weights if weight.name == "packed")
    assert found[-1].shown == packed.value, "the whole weight stands for it"


def test_values_on_the_way_are_those_of_the_program():
    found, traced = explained("mlp", "hidden.weight"), program(MODELS["mlp"])
    for step in (*found.path, *found.gradient):  # of a part of an op its result
        assert step.value.endswith(traced.value_name(step.shown))
