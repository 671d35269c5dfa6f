"""The zoo: every model derives, and every rule is that of its class by shape, or the exception that the zoo states."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from zoo import EXCEPT, ZOO, Net, entry, points, readout

import tpcalc
from tpcalc.derive import parametrize, solve
from tpcalc.errors import UnsupportedOpError
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


def test_a_spectrally_normalised_readout_needs_a_multiplier():
    """Its rows have length 1: aligned features give sqrt(n)."""
    norm = nn.utils.parametrizations.spectral_norm
    rules = tpcalc.derive(tpcalc.trace(lambda n: (nn.Sequential(entry(n), nn.ReLU(), norm(readout(n))), (points(),)), WIDTHS))
    assert [(site.op, site.found, site.needed) for site in rules.sites] == [("aten.addmm.default", Fraction(1, 2), 0)]


@pytest.mark.parametrize("decompose", [torch.linalg.svd, torch.linalg.qr, torch.matrix_exp], ids=lambda f: f.__name__)
def test_decompositions_of_growing_matrices_are_refused(decompose):
    def factory(n):
        def run(s, x):
            found = decompose(s.w)
            return s.o(s.i(x) @ (found if isinstance(found, torch.Tensor) else found[0]))

        return Net(run, i=entry(n), w=nn.Parameter(torch.eye(n)), o=readout(n)), (points(),)

    with pytest.raises(UnsupportedOpError, match=r"grows with width \(module \(top\), line test_zoo.py:\d+\).* spectrum"):
        tpcalc.derive(tpcalc.trace(factory, WIDTHS))


def test_what_follows_a_norm_is_not_made_larger_by_its_start():
    """A norm right behind a growing-to-finite weight: at init it makes n^-1/2 into 1, and its gradient n^1/2 times larger;
    after the first step the value is of order 1, and epsilon follows the gradients that remain."""

    def factory(n):
        def run(s, x):
            x = F.relu(s.i(x))
            return s.o(x * s.up(F.rms_norm(s.w(x), (16,))))

        return Net(run, i=entry(n), w=nn.Linear(n, 16, bias=False), up=nn.Linear(16, n), o=readout(n)), (points(),)

    rules = tpcalc.derive(tpcalc.trace(factory, WIDTHS))
    assert {name: (rule.b, rule.c, rule.eps) for name, rule in rules.items() if name.endswith("weight")} == {
        "i.weight": (0, 0, -1), "w.weight": (1, 1, 0), "up.weight": (0, 0, -1), "o.weight": (1, 1, 0),
    }  # fmt: skip
