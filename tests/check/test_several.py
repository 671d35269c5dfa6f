"""Checks along several scales: derived multipliers pass on every ray, the code's own fail, and a wrong one by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

import tpcalc
from tests.support import scaled, stacks
from tests.support.once import once
from tpcalc.algebra.scales import Point
from tpcalc.check.result import FADES, Result, ScaledResult
from tpcalc.errors import TpcalcError
from tpcalc.program.names import starred
from tpcalc.scaling import entries

DEPTHS = (2, 4, 8, 16)
TOKENS = torch.randint(32, (2, 5), generator=torch.Generator().manual_seed(0))
X = torch.randn(16, stacks.FEATURES, generator=torch.Generator().manual_seed(0))


def ffn(width: int, ffn: int):
    return scaled.ffn(width, ffn)[0], (TOKENS,)


def attention(heads: int, head_dim: int):
    return scaled.attention(heads, head_dim)[0], (TOKENS,)


def pre(width: int, depth: int):
    return stacks.pre(width, depth)[0], (X,)


def sandwich(width: int, depth: int):
    return stacks.sandwich(width, depth)[0], (X,)


RAYS: dict[Callable[..., Any], dict[str, Any]] = {
    ffn: {"width": 64, "ffn": (64, 128, 256)},
    attention: {"heads": (4, 8, 16), "head_dim": 16},
    pre: {"width": 64, "depth": DEPTHS},
    sandwich: {"width": 64, "depth": DEPTHS},
}


@once
def run(factory: Callable[..., Any], parametrization: str = "derived", optimizer: str = "adamw") -> Result:
    found = tpcalc.check(factory, optimizer=optimizer, scales=RAYS[factory], seeds=2, parametrization=parametrization)
    assert isinstance(found, ScaledResult)
    (ray,) = found.rays
    return ray


def effect(result: Result, name: str):
    (found,) = result.of("effect", name)
    return found


@pytest.mark.parametrize("factory", RAYS)
def test_derived_multipliers_keep_every_slope(factory):
    result = run(factory)
    assert result.ok, str(result)
    (moved,) = [name for name, values in RAYS[factory].items() if not isinstance(values, int)]
    assert (result.scale, result.widths) == (moved, RAYS[factory][moved])
    effects = list(result.of("effect"))
    assert len(effects) >= 7 and all(entry.verdict == "ok" for entry in effects) and not result.skipped


#: A weight whose effect is too large along the ray with one learning rate, its predicted slope, and one that is not.
STANDARD = [
    (ffn, "down.weight", 0, 1, "embed.weight"),
    (attention, "o.weight", 0, 1, "embed.weight"),
    (pre, "blocks.0.two.weight", -1, 0, "entry.weight"),
]


@pytest.mark.parametrize("factory, name, wanted, predicted, innocent", STANDARD)
def test_the_code_s_own_rules_fail_at_the_predicted_slope(factory, name, wanted, predicted, innocent):
    result = run(factory, "standard")
    assert not result.ok
    found = effect(result, name)
    assert (found.verdict, found.wanted, found.predicted) == ("above", wanted, predicted)
    assert abs(found.slope.value - predicted) < 0.15
    assert effect(result, innocent).verdict == "ok"


def test_over_the_depth_only_what_is_added_to_the_stream_is_too_large():
    """The last matrices and biases of the branches; all other weights have the effect that they should."""
    failed = {entry.subject for entry in run(pre, "standard").failures if entry.quantity == "effect"}
    assert failed == {"blocks.0.two.weight", "blocks.0.two.bias"}
    changes = {entry.slope.value: entry.predicted for entry in run(pre, "standard").of("change") if entry.wanted == 0}
    assert max(changes) > 0.8 and 1 in changes.values()  # of the stream


def wrong(monkeypatch, name: str, number: str, scale: str, power: float) -> None:
    """From here on one multiplier of one weight, in every block, is wrong by a power of a scale."""
    honest = entries.numbers

    def numbers(way, of, law, shapes):
        found = honest(way, of, law, shapes)
        if starred(of) == starred(name):
            assert isinstance(way.target, Point) and isinstance(way.base, Point)
            found[number] *= (way.target.by_name[scale] / way.base.by_name[scale]) ** power
        return found

    monkeypatch.setattr(entries, "numbers", numbers)


@pytest.mark.parametrize(
    "factory, name, number, power, quantity, verdict",
    [
        (pre, "blocks.0.two.weight", "lr", 1, "effect", "above"),  # not divided by L
        (pre, "blocks.0.one.weight", "lr", -0.5, "effect", "below"),
        (pre, "blocks.0.two.weight", "init", 1, "init", "above"),
        (sandwich, "blocks.0.behind.weight", "lr", 1, "effect", "above"),
        (ffn, "down.weight", "lr", 0.5, "effect", "above"),
    ],
)
def test_a_wrong_multiplier_fails_by_name(monkeypatch, factory, name, number, power, quantity, verdict):
    scale = run(factory).scale
    wrong(monkeypatch, name, number, scale, power)
    (result,) = tpcalc.check(factory, scales=RAYS[factory], seeds=2).rays
    modules = {(entry.module, entry.verdict) for entry in result.failures if entry.quantity == quantity}
    assert (name.rpartition(".")[0], verdict) in modules, result
    if quantity == "effect":
        assert effect(result, name).verdict == verdict


def test_what_fades_is_held_to_what_follows_from_it():
    """Behind a sandwich norm branches are large beside the stream, and gradients rise as it falls at init."""
    result = run(sandwich)
    passed = [entry for entry in result.entries if entry.reason == FADES]
    assert passed and any("at init streams fall as depth^-" in note for note in result.notes)
    (gradient,) = result.of("gradient", "blocks.0.one.weight")
    assert gradient in passed and gradient.slope.value > float(gradient.wanted) + 0.15
    assert "slopes that pass are off by more than the tolerance, as predicted before they settle" in str(result)
    assert not any("streams fall" in note for note in run(pre, "standard").notes)


def test_result_as_text_and_document():
    result = ScaledResult((run(ffn), run(pre)))
    text = str(result)
    assert "adamw: ffn 64, 128, 256 at width=64, 2 seeds, 5 steps\n" in text
    assert "adamw: depth 2, 4, 8, 16 at width=64, 2 seeds, 5 steps\n" in text
    assert result.ok and not result.failures and result["depth"] is run(pre)
    document = json.loads(json.dumps(result.json()))
    assert (document["schema"], [ray["scale"] for ray in document["rays"]]) == ("tpcalc.check/2", ["ffn", "depth"])
    assert document["rays"][1]["base"] == {"width": 64, "depth": 2}
    assert document["rays"][1]["check"]["widths"] == list(DEPTHS) and document["rays"][0]["check"]["ok"]


def test_a_kink_on_a_ray_is_refused():
    message = "from width=32 to 128 rules pass a kink .*, where slopes are between two powers; keep it on one side"
    with pytest.raises(TpcalcError, match=message):
        tpcalc.check(ffn, scales={"width": (32, 64, 128), "ffn": 64})


def test_the_width_by_name_is_the_width():
    factory = lambda width: ffn(width, 64)  # noqa: E731
    named = tpcalc.check(factory, scales={"width": (16, 32, 64)}, seeds=1, steps=1)
    assert str(named) == str(tpcalc.check(factory, (16, 32, 64), seeds=1, steps=1))


def test_a_set_up_is_checked_along_its_width():
    def setup(width: int, depth: int):
        model, inputs = pre(width, depth)
        return model, torch.optim.AdamW(model.parameters()), inputs

    with pytest.raises(TpcalcError, match="a set-up is checked along its width alone"):
        tpcalc.check(setup, scales={"depth": DEPTHS})


def test_batches_take_scales_by_name():
    seen = set()

    def batch(width: int, depth: int):
        seen.add((width, depth))
        return X

    tpcalc.check(stacks.pre, scales={"width": 16, "depth": (2, 3, 4)}, seeds=1, steps=1, batch=batch)
    assert seen == {(16, 2), (16, 3), (16, 4)}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon+adamw"])
@pytest.mark.parametrize("name", sorted(stacks.STACKS.keys() - {"plus_one"}))
def test_stacks_of_all_kinds(name, optimizer):
    """A site (``plus_one``) is left to its note."""
    factory = stacks.STACKS[name]
    own = factory(8, 2)[1]
    inputs = X if torch.is_tensor(own) and own.is_floating_point() else own
    (result,) = tpcalc.check(
        lambda width, depth: (factory(width, depth)[0], inputs), optimizer=optimizer, scales=RAYS[pre]
    ).rays
    assert result.ok, str(result)


@pytest.mark.slow
def test_both_ways_at_once():
    """Width and depth each along its own ray, from one derivation."""
    result = tpcalc.check(stacks.gpt, scales={"width": (64, 128, 256, 512), "depth": DEPTHS})
    assert [ray.scale for ray in result.rays] == ["width", "depth"] and result.ok, str(result)
