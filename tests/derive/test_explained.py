"""Every weight and every value explained at once: as one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest

import tpcalc
from tests.support.models import MODELS, program, solution
from tests.support.stacks import pre
from tpcalc.derive import explained
from tpcalc.derive.api import solve_along
from tpcalc.derive.explain import explain
from tpcalc.derive.explained import explain_all
from tpcalc.document.scaled import scaled_json
from tpcalc.errors import DeriveError
from tpcalc.program.repeat import Copies


@pytest.mark.parametrize("name", ["mlp", "gpt_growing_heads", "gpt_tied"])
@pytest.mark.parametrize("options", [{}, {"gauge": "mup", "optimizer": "sgd"}], ids=["usual", "another gauge"])
def test_weights_as_one_by_one(name, options):
    every = explain_all(program(MODELS[name]), **options)
    found = every.weights
    assert every.rules == tpcalc.derive(program(MODELS[name]), **options)
    assert list(found) == [weight.name for weight in program(MODELS[name]).weights]
    for weight, own in list(found.items())[::6]:
        assert own == explain(program(MODELS[name]), weight, **options)


def test_along_several_scales_as_one_by_one():
    traced = tpcalc.trace(pre, scales={"width": (16, 32, 64), "depth": (2, 3)})
    found = explain_all(traced)
    assert scaled_json(found.rules) == scaled_json(tpcalc.derive(traced))
    for weight in [weight.name for weight in traced.weights][::3]:
        one = explain(traced, weight)
        assert found.weights[weight].formulas == one.formulas
        assert [str(own.rule) for _, own in found.weights[weight].cones] == [str(own.rule) for _, own in one.cones]
    assert len(found.values) == len(traced.values) and all(reason.rule for reason in found.values.values())


def test_values_have_the_orders_of_the_solution():
    solved = solution(MODELS["gpt_growing_heads"])
    found = explain_all(program(MODELS["gpt_growing_heads"])).values
    assert set(found) == set(solved.facts) & set(program(MODELS["gpt_growing_heads"]).values)
    for vid, reason in found.items():
        fact = solved.facts[vid]
        assert (reason.init, reason.trained, reason.change) == (fact.init, fact.trained, fact.change)
    assert sum(reason.budget is not None for reason in found.values()) > 50
    assert {reason.trained for reason in found.values()} > {0, -1}


def test_what_decides_is_an_operand_and_no_bias():
    """From any value back to a leaf; of a product and the bias that is added to it, the product tells the story."""
    traced = program(MODELS["mlp"])
    found = explain_all(traced).values
    for vid, reason in found.items():
        node = traced.producers.get(vid)
        assert (reason.decides is None) == (node is None or not tuple(node.refs))
        if reason.decides is not None:
            assert reason.decides in node.refs
    hidden = next(node for node in traced.nodes if node.where.startswith("hidden") and node.short_op == "addmm")
    reason = found[hidden.outputs[0]]
    assert traced.value_name(reason.decides) not in ("hidden.bias", "hidden.weight")
    assert reason.rule.startswith("a sum: the largest order; law ")


def test_a_program_is_solved_once(monkeypatch):
    """Rules and explanations of a page are of one solution, which takes seconds at 126 blocks."""
    solved = []
    monkeypatch.setattr(explained, "solve_along", lambda *given: solved.append(given) or solve_along(*given))
    explain_all(program(MODELS["mlp"]))
    assert len(solved) == 1


def test_a_program_of_few_blocks_is_refused():
    traced = program(MODELS["gpt"])
    name = traced.weights[0].name
    with pytest.raises(DeriveError, match="trace all of them"):
        explain_all(replace(traced, copies=Copies((((name,), name),))))
