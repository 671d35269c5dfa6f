"""Residual MLPs and GPTs over 2 to 32 blocks and widths 64 to 512: every slope, under three optimizers."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch

import tpcalc
from tests.support import stacks

pytestmark = pytest.mark.slow

DEPTHS, WIDTHS = (2, 4, 8, 16, 32), (64, 128, 256, 512)
POINTS = torch.randn(16, stacks.FEATURES, generator=torch.Generator().manual_seed(0))


def mlp(width: int, depth: int) -> Any:
    return stacks.pre(width, depth)[0], (POINTS,)


#: Ends of the names of what is added to the stream.
LAST = {mlp: ("two.weight", "two.bias"), stacks.gpt: ("attn.o.weight", "attn.o.bias", "down.weight", "down.bias")}
OPTIMIZERS = ("adamw", "sgd", "muon+adamw")


def inside(name: str) -> bool:
    return name.startswith(("blocks.0.", "layers.0."))


@pytest.mark.parametrize("alpha", [Fraction(1), Fraction(1, 2)], ids=["1", "1/2"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("factory", LAST)
def test_derived_multipliers(factory: Callable[..., Any], optimizer: str, alpha: Fraction) -> None:
    """Updates of inner weights of a block do as much at every depth, or L^-1/2.  At one depth alpha changes nothing."""
    scales = {"width": WIDTHS if alpha == 1 else 64, "depth": DEPTHS}
    result = tpcalc.check(factory, scales=scales, optimizer=optimizer, depth_alpha=alpha, seeds=2)
    assert result.ok, str(result)
    # a bias of keys has no gradient, and no effect
    effects = [entry for entry in result["depth"].of("effect") if inside(entry.subject) and entry.slope is not None]
    inner = [entry for entry in effects if not entry.subject.endswith(LAST[factory])]
    assert len(inner) >= 4 and len(effects) - len(inner) == len(LAST[factory])
    for entry in effects:
        wanted = alpha - 1 if entry in inner else -1
        assert entry.wanted == wanted and abs(entry.slope.value - float(wanted)) < 0.15 + 2 * entry.slope.error, entry


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("factory", LAST)
def test_rules_of_the_width_alone(factory: Callable[..., Any], optimizer: str) -> None:
    """Too large is what is added to the stream: L^0 where L^-1 is wanted.

    A stream that grows as L^1/2 divides gradients by as much, which SGD's updates follow; the embedding of a GPT is
    larger than what 32 blocks add, so that they do not yet.
    """
    result = tpcalc.check(
        factory, scales={"width": 64, "depth": DEPTHS}, optimizer=optimizer, parametrization="standard", seeds=2
    )["depth"]
    failed = {entry.subject: entry for entry in result.failures if entry.quantity == "effect"}
    assert {name for name in failed if inside(name)} == {
        f"{'blocks' if factory is mlp else 'layers'}.0.{end}" for end in LAST[factory]
    }
    for name, entry in failed.items():
        assert (entry.verdict, entry.wanted) == ("above", -1), name
        assert entry.predicted == (Fraction(-1, 2) if optimizer == "sgd" else 0)
        least = float(entry.predicted) - 0.2
        assert least < entry.slope.value < 0.3, entry
