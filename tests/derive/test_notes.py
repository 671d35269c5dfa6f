"""The sentences under a table.  Those of packed weights are in ``tests/lower/test_slices.py``."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import tpcalc
from tests.derive.test_sites import SITES
from tests.support.models import MODELS, derived, solution
from tpcalc.derive.notes import conventions, notes
from tpcalc.derive.parametrize import parametrize
from tpcalc.optimizers import ADAM, ADAMW, LAWS, SGD

MULTIPLIERS = "gradients, and so the eps column, count on the multipliers that the sites above ask for"


@pytest.mark.parametrize("name", ["mlp", "gpt", *SITES])
def test_sites_stand_first(name):
    assert derived(name).notes[:1] == ((MULTIPLIERS,) if name in SITES else ())


def test_what_no_output_depends_on():
    wanted = [
        f"unused.{part} has no path to an output: its exponents are 0 and nothing was derived"
        for part in ("bias", "weight")
    ]
    assert [note for note in derived("unused_and_frozen").notes if "no path" in note] == wanted


class Normed(nn.Module):
    """A norm of what ``before`` makes of n features."""

    def __init__(self, n, before):
        super().__init__()
        self.i, self.g, self.o, self.before = nn.Linear(6, n), nn.LayerNorm(n), nn.Linear(n, 4), before

    def forward(self, x):
        return self.o(self.g(self.before(self.i(x))))


@pytest.mark.parametrize(
    "before, of",
    [
        (lambda x: x.softmax(-1), "n^(-1)"),
        (lambda x: x.tanh() / x.shape[-1] ** 0.5, "n^(-1/2)"),
        (torch.relu, None),
    ],
)
def test_a_norm_of_what_vanishes_says_so_of_its_eps(before, of):
    program = tpcalc.trace(lambda n: (Normed(n, before), (torch.ones(3, 6),)), (32, 64, 128))
    said = [note for note in tpcalc.derive(program, "adamw").notes if "vanishes" in note]
    if of is None:
        assert said == []
    else:
        assert len(said) == 1 and f"vanishes as {of}" in said[0] and "native_layer_norm (g, test_notes.py" in said[0]


def test_a_law_that_warns_does_so_last_and_where_it_trains_something():
    found = solution(MODELS["mlp"])
    law = replace(SGD, note="beware")
    assert parametrize(found, law).notes == ("beware",)
    assert notes(found, derived("mlp", "sgd"), [SGD, law]) == ("beware",)
    assert notes(found, derived("mlp", "sgd"), [SGD]) == ()


def test_conventions_of_one_law_and_of_several():
    assert conventions([ADAMW]) == ADAMW.conventions
    shared, *_ = conventions([SGD, SGD])
    assert shared == SGD.decay.convention
    both = conventions([LAWS["muon"], ADAMW])
    assert ADAMW.decay.convention in both  # Muon's is the same
    assert f"adamw: {ADAMW.eps.convention}" in both
    apart = conventions([ADAM, ADAMW])
    assert f"adam: {ADAM.decay.convention}" in apart and ADAM.eps.convention in apart
