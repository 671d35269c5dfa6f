"""Parametrizations of the literature: inits, largest rates, gauges; and a rate measured."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tpcalc
from tests.support.models import bare_mlp, example, program
from tpcalc.check.slopes import fit
from tpcalc.derive.gauge import WRITTEN_IN

H = Fraction(1, 2)
GPT, MLP = example("gpt.py", "gpt"), example("mlp.py", "mlp")


def rules(factory=GPT, **options):
    return tpcalc.derive(program(factory), **{"optimizer": "adam", **options})


@pytest.mark.parametrize("name", WRITTEN_IN)
@pytest.mark.parametrize("gauge", ["init", "mup", "symmetric", "ntk", None])
def test_every_gauge_writes_the_same_parametrization(name, gauge):
    found = rules(parametrization=name, gauge=gauge)
    assert (found.parametrization, found.gauge) == (name, gauge or WRITTEN_IN[name])
    other = rules(parametrization=name, gauge="init")
    for weight, rule in found.items():
        assert (rule.A, rule.C) == (rule.a + rule.b, rule.C) == (other[weight].A, other[weight].C)


def test_standard_parametrization_of_a_gpt():
    """W ~ n^-1/2 in the readout: what it reads may move by n^-1/2 only (law 2), or freely if it counts as random."""
    full, omega = rules(parametrization="sp"), rules(parametrization="sp", alignment="omega")
    for name, rule in full.items():
        lazy = H if name != "head.weight" else 0
        assert (rule.a, rule.A) == (0, H if rule.role in ("hidden", "output") else 0), name
        assert (rule.C, omega[name].C) == (rule.A * 2 + lazy, rule.A * 2), name
    assert full["head.weight"].C == 1


def test_heads_that_grow_are_lazy_under_a_given_init():
    """1/sqrt(d) and d ~ n: nothing is absorbed, so queries and keys move by n^-1/2."""
    growing = rules(example("gpt.py", "gpt_growing_heads"), parametrization="mup")
    assert growing["blocks.0.attn.q.weight"].C - growing["blocks.0.attn.v.weight"].C == H
    assert "absorbs" not in str(growing)


def test_mup_is_what_is_derived():
    for factory in (MLP, GPT, bare_mlp(3)):
        named, derived = rules(factory, parametrization="mup", gauge="init"), rules(factory)
        assert {n: (r.A, r.C, r.c, r.eps) for n, r in named.items()} == {
            n: (r.A, r.C, r.c, r.eps) for n, r in derived.items()
        }


def test_an_init_that_is_unstable_is_refused():
    """A tied embedding of std 1 read as logits: n^(1), as it meets what it made itself."""
    with pytest.raises(
        tpcalc.DeriveError, match=r"unstable before any update: h\d+, which leaves as an output, grows like n"
    ):
        rules(example("gpt.py", "gpt_tied"), parametrization="sp")


# --- measured ---------------------------------------------------------------------------------------------------------


def logits_moved(width: int, seed: int, rates: list[float], steps: int) -> float:
    """An MLP of Gaussian weights of std 1/sqrt(fan_in) under Adam: what the features' change moves the logits by,
    through the readout as it started."""
    torch.manual_seed(seed)
    sizes = [(width, 8), (width, width), (4, width)]
    weights = [nn.Parameter(torch.randn(size) / math.sqrt(size[1])) for size in sizes]
    x, y = torch.randn(16, 8, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 4

    def features():
        return F.relu(F.relu(x @ weights[0].T) @ weights[1].T)

    readout, before = weights[2].detach().clone(), features().detach()
    groups = [{"params": [w], "lr": rate} for w, rate in zip(weights, rates, strict=True)]
    optimizer = torch.optim.Adam(groups, eps=1e-12)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(features() @ weights[2].T, y).backward()
        optimizer.step()
    return float(((features().detach() - before) @ readout.T).square().mean().sqrt())


@pytest.mark.parametrize("alignment, expected", [("full", 0.0), ("omega", 0.5)])
def test_the_largest_rates_of_sp_measured(alignment, expected):
    """Under full alignment W_out times the features' change stays O(1); with omega = 1/2 it grows as n^(1/2) (D18)."""
    found = tpcalc.derive(program(bare_mlp(2)), "adam", parametrization="sp", alignment=alignment)
    widths, base = (128, 256, 512, 1024, 2048), 128
    sizes = [
        [
            logits_moved(width, seed, [2e-3 * (width / base) ** -float(r.c) for r in found.values()], steps=3)
            for width in widths
        ]
        for seed in range(3)
    ]
    slope = fit(widths, sizes)
    assert abs(slope.value - expected) < 0.15, slope


def test_blocks_of_a_packed_weight_have_each_their_init():
    """q, k and v in one matrix, heads that grow: q's block starts smaller, and all share its update."""
    from tests.scaling.test_scaling_slices import factory

    found = tpcalc.derive(tpcalc.trace(factory(), (32, 64, 128)), "adamw", parametrization="mup", gauge="init")
    rule = next(rule for rule in found.values() if rule.slices)
    assert [piece.b for piece in rule.slices] == [1, H, H]
    assert rule.C == max(piece.C for piece in rule.slices)
