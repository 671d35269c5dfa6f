"""One weight explained: what is said, in which order, and of what nothing can be said."""

from __future__ import annotations

import pytest

from tests.support.models import MODELS, program
from tpcalc.derive.explain import explain, find_weight
from tpcalc.errors import DeriveError


def lines(name: str, weight: str, optimizer: str = "adamw", **options: str) -> list[str]:
    return explain(program(MODELS[name]), weight, optimizer, **options).splitlines()


def test_a_hidden_weight():
    found = lines("mlp", "hidden.weight")
    assert found[0] == "hidden.weight [n, n]: hidden (contraction, growing to growing)"
    A, C = (next(i for i, line in enumerate(found) if line.startswith(f"{exponent} = ")) for exponent in "AC")
    assert found[A] == "A = 1/2   (std of W ~ n^-A)" and found[C] == "C = 1   (entries of an update ~ n^-C)"
    for line in (found[A + 2], found[C + 2]):
        assert line.startswith("  smaller by 1/8, ") and line.endswith("would have order 1/8, above its budget 0")
    path = found[found.index("From the weight to where the budget stands:") + 1 :]
    assert "addmm: order 0, budget 0" in path[0]
    assert "Gradient: g = -1   (entries ~ n^g)" in found
    assert "  c = C + u = 1   (lr ~ n^-c)" in found
    assert any(line.startswith("  eps ~ n^-1: ") for line in found)


def test_another_optimizer_and_gauge():
    found = lines("mlp", "output.weight", "sgd", gauge="mup")
    assert any(line.startswith("  a = 1, b = A - a = 0, gradient g - a = -1 ") for line in found)
    assert not any("eps ~" in line for line in found)


def test_of_an_unused_weight_nothing_is_said():
    found = lines("unused_and_frozen", "unused.weight")
    assert found[-1] == "Nothing was derived: no output depends on this parameter."


def test_weights_are_found_by_any_of_their_names():
    weight = find_weight(program(MODELS["gpt_tied"]), "head.weight")
    assert weight.names == ("token.weight", "head.weight")
    assert lines("gpt_tied", "head.weight")[0].startswith("token.weight = head.weight [96, n]: ")


@pytest.mark.parametrize(
    "name, hint",
    [("hiden.weight", "did you mean hidden.weight"), ("zzz", "run tpcalc table to see the names")],
)
def test_an_unknown_name(name, hint):
    with pytest.raises(DeriveError, match=f"the model has no parameter '{name}'; {hint}"):
        find_weight(program(MODELS["mlp"]), name)
