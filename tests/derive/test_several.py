"""Rules in several scales: the published ones, one formula for all directions, and on each ray what one scale gives."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import sympy
import torch
from torch import nn

import tpcalc
from tests.support import experts, scaled
from tests.support.once import once
from tpcalc.derive.several import ScaledParametrization
from tpcalc.errors import DeriveError


@once
def rules(factory: Callable[..., Any], optimizer: str = "adamw") -> ScaledParametrization:
    return tpcalc.derive(program(factory), optimizer)


@once
def program(factory: Callable[..., Any]) -> tpcalc.Program:
    return tpcalc.trace(factory, scales=SCALES[factory])


#: Init std, lr and eps of Adam at a = 0; lr of Muon (original factor).
ROWS = [
    (scaled.ffn, "up.weight", "n^-1/2 Min(1, sqrt(f/n))", "n^-1", "f^-1", "Min(1, sqrt(f/n))"),
    (scaled.ffn, "down.weight", "f^-1/2 Min(1, sqrt(n/f))", "f^-1", "n^-1", "Min(1, sqrt(n/f))"),
    (scaled.ffn, "readout.weight", "n^-1", "n^-1", "1", "n^-1"),
    (scaled.ffn, "embed.weight", "1", "1", "n^-1", "1"),
    (scaled.attention, "q.weight", "h^-1/2 d^-1", "h^-1 d^-3/2", "h^-1 d^-1/2", "d^-1/2"),
    (scaled.attention, "k.weight", "h^-1/2 d^-1/2", "h^-1 d^-1", "h^-1 d^-1", "1"),
    (scaled.attention, "v.weight", "h^-1/2 d^-1/2", "h^-1 d^-1", "h^-1 d^-1", "1"),
    (scaled.attention, "o.weight", "h^-1/2 d^-1/2", "h^-1 d^-1", "h^-1 d^-1", "1"),
    # a key head that is shared by g query heads: the operator norm of a matrix g times as wide as tall
    (scaled.grouped, "k.weight", "kv_heads^-1/2 groups^-1 d^-1/2", "kv_heads^-1 groups^-1 d^-1", None, None),
    (scaled.grouped, "v.weight", "kv_heads^-1/2 groups^-1 d^-1/2", "kv_heads^-1 groups^-1 d^-1", None, None),
]


@pytest.mark.parametrize(("factory", "name", "init", "lr", "eps", "muon"), ROWS)
def test_derived_by_hand(factory: Any, name: str, init: str, lr: str, eps: Any, muon: Any) -> None:
    rule = rules(factory)[name]
    assert str(rule.formulas["init_std"]) == init and str(rule.formulas["lr"]) == lr
    assert eps is None or str(rule.formulas["eps"]) == eps
    if muon is not None:
        assert str(rules(factory, "muon+adamw")[name].formulas["lr"]) == muon


def test_packed_blocks_have_formulas_of_their_own() -> None:
    pieces = rules(scaled.packed)["qkv.weight"].slices
    assert [str(piece.start) for piece in pieces][0] == "0"
    assert [str(piece.formulas["init_std"]) for piece in pieces] == ["h^-1/2 d^-1", *["h^-1/2 d^-1/2"] * 2]


def test_expressions_and_exact_exponents() -> None:
    rule = rules(scaled.ffn)["up.weight"]
    n, f = sympy.symbols("n f", positive=True)
    assert rule.lr == 1 / n and rule.weight_decay == n and rule.eps == 1 / f and rule.multiplier == 1
    assert sympy.simplify(rule.init_std - sympy.Min(1, sympy.sqrt(f / n)) / sympy.sqrt(n)) == 0
    assert rule.b is None and rule.c == {"n": 1, "f": 0} and rule.a == {"n": 0, "f": 0}
    assert rule.C == {"n": 1, "f": 0} and rule.A is None


class Block(scaled.FeedForward):
    """Attention and feed-forward with heads, their size and the inner size as scales."""

    def __init__(self, heads: int, head_dim: int, ffn: int, depth: int) -> None:
        super().__init__(heads * head_dim, ffn)
        self.blocks = nn.ModuleList(scaled.Attention(heads, 1, head_dim) for _ in range(depth))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = x + block.mix(block.norm(x)) + self.down(torch.relu(self.up(self.norm(x))))
        return self.readout(x)


def block(heads: int, head_dim: int, ffn: int) -> tuple[nn.Module, tuple]:
    return Block(heads, head_dim, ffn, 1), (scaled.TOKENS,)


def blocks(heads: int, head_dim: int, ffn: int, depth: int) -> tuple[nn.Module, tuple]:
    return Block(heads, head_dim, ffn, depth), (scaled.TOKENS,)


routed = experts.layer(experts.batched, experts.of_picked, ffn=24)
THREE = {"heads": (4, 8, 16), "head_dim": (4, 8, 16), "ffn": (24, 48, 96)}
SCALES = {
    **scaled.SCALES,
    block: THREE,
    blocks: {**THREE, "depth": (2, 3)},
    routed: experts.scales("width", "experts", "top_k"),
}


@pytest.mark.parametrize(
    "factory", [*(f for f in SCALES if f is not routed), pytest.param(routed, marks=pytest.mark.slow)]
)
def test_cones_cover_random_directions(factory: Any) -> None:
    found = rules(factory)
    tried = list(scaled.directions(len(found.scales), 300))
    if factory is routed:  # no more experts can be picked than there are
        tried = [direction for direction in tried if direction[2] < direction[1]]
        assert len(tried) > 100
    for direction in tried:
        inside = [c for c in found.cones if all(sum(a * b for a, b in zip(wall, direction)) > 0 for wall in c)]
        assert inside


#: A factory of one scale that runs along a ray, with the direction of that ray.
RAYS: list[tuple[Any, Callable[[int], Any], tuple[int, ...]]] = [
    (scaled.ffn, lambda n: scaled.ffn(n, 3 * n), (1, 1)),
    (scaled.ffn, lambda n: scaled.ffn(n, n * n // 8), (1, 2)),
    (scaled.ffn, lambda n: scaled.ffn(n * n // 32, n), (2, 1)),
    (scaled.attention, lambda n: scaled.attention(n, n), (1, 1)),
    (scaled.attention, lambda n: scaled.attention(n * n // 32, n), (2, 1)),
    (scaled.attention, lambda n: scaled.attention(n, n * n // 32), (1, 2)),
    (scaled.grouped, lambda n: scaled.grouped(n, n, n), (1, 1, 1)),
    (scaled.grouped, lambda n: scaled.grouped(n, n * n // 32, n), (1, 2, 1)),
]


@pytest.mark.parametrize(("factory", "alone", "direction"), RAYS)
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_on_a_ray_a_formula_is_what_one_scale_gives(factory: Any, alone: Any, direction: Any, optimizer: str) -> None:
    one = tpcalc.derive(_ray(alone), optimizer)
    for name, rule in rules(factory, optimizer).items():
        own = {key: None if x is None else x.along(direction) for key, x in rule.formulas.items()}
        assert own == one[name].formulas, name


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
@pytest.mark.parametrize("factory", [scaled.ffn, scaled.attention, scaled.packed, block], ids=lambda f: f.__name__)
def test_on_random_rays_too(factory: Any, seed: int) -> None:
    """Sizes ``k n^p`` with random k and p, walls between cones included."""
    source = random.Random(f"{factory.__name__} {seed}")
    names = list(SCALES[factory])
    direction = [source.randint(1, 3) for _ in names]
    least = [source.choice((4, 6, 8)) for _ in names]

    def alone(n: int) -> Any:
        return factory(**{name: k * (n // 2) ** p for name, k, p in zip(names, least, direction)})

    one = tpcalc.derive(tpcalc.trace(alone, widths=(2, 4, 8)), "adam")
    for name, rule in rules(factory, "adam").items():
        own = {key: None if x is None else x.along(direction) for key, x in rule.formulas.items()}
        assert own == one[name].formulas, (name, direction)


@once
def _ray(alone: Callable[[int], Any]) -> tpcalc.Program:
    return tpcalc.trace(alone, widths=(8, 16, 32))


def test_a_single_width_is_as_ever() -> None:
    by_name = tpcalc.trace(lambda width: scaled.ffn(width, 3 * width), scales={"width": (16, 32, 64)})
    assert isinstance(tpcalc.derive(by_name), tpcalc.Parametrization)
    assert tpcalc.derive(by_name)["up.weight"].c == Fraction(1)


def test_named_parametrizations_are_refused() -> None:
    with pytest.raises(DeriveError, match="ntp is one of the width alone"):
        tpcalc.derive(program(scaled.ffn), parametrization="ntp")


def test_printed() -> None:
    text = str(rules(scaled.ffn))
    assert "n = width, f = ffn (traced at width=16, ffn=24 and at 5 places around it)" in text
    assert "n^-1/2 Min(1, sqrt(f/n))" in text
