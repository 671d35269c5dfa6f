"""The zoo: every model derives, and every rule is that of its class by shape, or the exception that the zoo states."""

from __future__ import annotations

from fractions import Fraction

import pytest
from zoo import EXCEPT, ZOO

import tpcalc
from tpcalc.derive import parametrize, solve
from tpcalc.optimizers import ADAMW, SGD

WIDTHS = (64, 128, 256)

#: Class -> b, c under Adam, c under SGD, eps.
CLASSES = {"input": (0, 0, -1, -1), "hidden": ("1/2", 1, 0, -1), "output": (1, 1, 1, 0), "finite": (0, 0, 0, 0)}


def class_of(rule) -> str:
    """By the growth of fan-out and fan-in, for weights of layout (out, in, kernel)."""
    growths = [size.growth for size in rule.shape]
    fan_out, fan_in = (growths + [0])[0], sum(growths[1:])
    return {(0, 0): "finite", (1, 0): "input", (0, 1): "output", (1, 1): "hidden"}[(min(fan_out, 1), min(fan_in, 1))]


def expected(rule, exceptions) -> tuple:
    ends = [end for end in exceptions if any(name == end or name.endswith(f".{end}") for name in (rule.name, *rule.aliases))]
    found = exceptions[max(ends, key=len)] if ends else class_of(rule)
    if "Embedding" in found:
        found = "input"
    return tuple(map(Fraction, CLASSES[found] if isinstance(found, str) else found))


def check(solution, exceptions) -> None:
    adam, sgd = parametrize(solution, ADAMW), parametrize(solution, SGD)
    embeddings = {w.name for w in solution.lowered.program.weights if w.module_type in ("Embedding", "EmbeddingBag")}
    found, wanted = {}, {}
    for name, rule in adam.items():
        if rule.name in embeddings and not any(rule.name.endswith(end) for end in exceptions):
            wanted[name] = tuple(map(Fraction, CLASSES["input"]))
        else:
            wanted[name] = expected(rule, exceptions)
        found[name] = (rule.b, rule.c, sgd[name].c, rule.eps)
    assert found == wanted
    assert not adam.sites


@pytest.mark.parametrize("name", ZOO)
def test_rules(name):
    check(solve(tpcalc.trace(ZOO[name], WIDTHS)), EXCEPT[name])
