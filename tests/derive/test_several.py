"""Rules in several scales: the published ones, one formula for all directions, and on each ray what one scale gives."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import sympy

import tpcalc
from tests.support import scaled
from tests.support.once import once
from tpcalc.derive.several import ScaledParametrization
from tpcalc.errors import DeriveError


@once
def rules(factory: Callable[..., Any], optimizer: str = "adamw") -> ScaledParametrization:
    return tpcalc.derive(program(factory), optimizer)


@once
def program(factory: Callable[..., Any]) -> tpcalc.Program:
    return tpcalc.trace(factory, scales=scaled.SCALES[factory])


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


@pytest.mark.parametrize("factory", scaled.SCALES)
def test_cones_cover_random_directions(factory: Any) -> None:
    found = rules(factory)
    for direction in scaled.directions(len(found.scales), 300):
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
