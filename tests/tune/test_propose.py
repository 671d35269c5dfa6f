"""Proposals: reproducible, within their ranges, apart from each other, and better than chance."""

from __future__ import annotations

import math

import pytest

from tpcalc.errors import TpcalcError
from tpcalc.tune.propose import SAMPLERS, propose
from tpcalc.tune.space import Space

SPACE = Space(
    {"lr": (1e-4, 1.0), "embedding.lr": (0.1, 10.0), "readout.init": (0.0123456789, 4.0), "weight_decay": (0.1, 0.1)}
)
BEST = {"lr": 0.003, "embedding.lr": 3.0, "readout.init": 0.1}


def loss(numbers) -> float:
    return sum(math.log2(numbers[name] / best) ** 2 for name, best in BEST.items())


def tried(count: int, seed: int = 0, sampler: str = "random") -> list:
    return [(numbers, loss(numbers)) for numbers in propose(SPACE, [], count, seed, sampler)]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_and_history_give_the_same(sampler):
    history = tried(12)
    found = propose(SPACE, history, 6, 7, sampler)
    assert found == propose(SPACE, list(history), 6, 7, sampler)
    assert found != propose(SPACE, history, 6, 8, sampler)
    assert found[:2] == propose(SPACE, history, 2, 7, sampler)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_numbers_stay_within_their_ranges(sampler):
    for seed in range(3):
        for numbers in propose(SPACE, tried(10, seed), 10, seed, sampler):
            assert list(numbers) == list(SPACE.ranges) and numbers["weight_decay"] == 0.1
            assert all(low <= numbers[name] <= high for name, (low, high) in SPACE.ranges.items())


def test_an_end_of_a_range_can_be_part_of_the_history():
    history = [(SPACE.within(dict.fromkeys(SPACE.ranges, end)), 1.0) for end in (0.0, 100.0)]
    assert history[0][0]["readout.init"] == 0.0123456789
    assert len(propose(SPACE, history, 3, 0, "tpe")) == 3


@pytest.mark.parametrize("known", [True, False])
def test_proposals_of_one_generation_differ(known):
    """Also where all that is known diverged."""
    history = [(numbers, value if known else math.inf) for numbers, value in tried(20, 0)]
    found = propose(SPACE, history, 10, 0, "tpe")
    assert all(len({numbers[name] for numbers in found}) == 10 for name in SPACE.free)


def search(sampler: str, seed: int) -> float:
    history = tried(5, seed)
    for generation in range(10):
        new = propose(SPACE, history, 4, 100 * seed + generation, sampler)
        history += [(numbers, loss(numbers)) for numbers in new]
    return min(value for _, value in history)


def test_tpe_finds_an_optimum_better_than_chance():
    tpe, chance = ([search(sampler, seed) for seed in range(6)] for sampler in ("tpe", "random"))
    assert sum(tpe) < 0.6 * sum(chance)
    assert sum(ours < theirs for ours, theirs in zip(tpe, chance)) >= 4


def test_divergence_is_worse_than_the_worst():
    """Rates at which runs diverge are left."""
    history = [(numbers, math.inf if numbers["lr"] > 0.01 else 2.0 + loss(numbers)) for numbers, _ in tried(30)]
    found = propose(SPACE, history, 20, 0, "tpe")
    assert sum(numbers["lr"] > 0.01 for numbers in found) <= 6


def test_an_unknown_sampler():
    with pytest.raises(TpcalcError, match="^sampler 'grid' is unknown; choose one of tpe, random$"):
        propose(SPACE, [], 1, 0, "grid")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_large_seeds(sampler):
    """numpy takes those below 2^32, and a search makes larger ones of its own seed and how far it is."""
    found = [propose(SPACE, tried(12), 1, seed, sampler) for seed in (2**32 - 1, 100_003 * (2**32 - 1) + 12)]
    assert found[0] != found[1]
