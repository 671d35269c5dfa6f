"""The sentences under a table.  Those of packed weights are in ``tests/lower/test_slices.py``."""

from __future__ import annotations

from dataclasses import replace

import pytest

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
