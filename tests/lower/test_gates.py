"""Axes that count experts: found through what gathers, weighs and normalises, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import nn

import tpcalc
from tests.support import experts as ex
from tests.support.models import Net, entry, points, readout
from tpcalc.algebra.order import ONE
from tpcalc.lower.gates import Gates
from tpcalc.lower.wiring import Wiring
from tpcalc.rules import REGISTRY

WIDTHS = (16, 32, 64)


def gates_of(factory: Callable) -> Gates:
    return Gates(Wiring(tpcalc.trace(factory, WIDTHS), REGISTRY))


def all_grow(form: Callable, gates: Callable | None = None) -> Callable:
    return lambda n: ex.layer(form, gates, ffn=2 * n, **({"top_k": 2} if gates else {}))(width=n, experts=n // 4)


def test_a_contraction_over_experts_and_neurons_is_a_mean_of_sums():
    assert [(mean.whole, mean.gates) for mean in gates_of(all_grow(ex.soft)).means.values()] == [(2, ONE)]
    assert not gates_of(all_grow(ex.weighed)).means


@pytest.mark.parametrize("form", [ex.soft, ex.weighed, ex.masked])
def test_one_width_alone_gives_the_same_rule_in_all_forms(form: Callable):
    """n/4 experts of 2n neurons, in [n/4, n, 2n]."""
    rules = tpcalc.derive(tpcalc.trace(all_grow(form, ex.of_picked if form is ex.masked else None), WIDTHS))
    assert [(rules[w].b, rules[w].c) for w in ("up", "down")] == [(Fraction(1, 2), 1)] * 2


def attention(n: int):
    def run(s, x):
        h = torch.tanh(s.i(x))
        q, k, v = (part(h).view(3, n // 8, 8).transpose(0, 1) for part in (s.q, s.k, s.v))
        return s.o((q @ k.mT / 8).softmax(-1).matmul(v).transpose(0, 1).reshape(3, n))

    return Net(run, i=entry(n), o=readout(n), **{name: nn.Linear(n, n) for name in "qkv"}), points()


def test_heads_of_attention_count_no_experts():
    """Their softmax runs over samples, and all heads are read."""
    found = gates_of(attention)
    assert not found.means and not any(growth > 0 for marks in found.met.values() for growth in marks.values())
    rules = tpcalc.derive(tpcalc.trace(attention, WIDTHS))
    assert rules["v.weight"].b == Fraction(1, 2)


#: Forms and gates of n experts of 8 neurons, a share n/8 of which is picked.
SHARES = [
    (ex.einsums, ex.of_picked),
    (ex.batched, ex.averaged),
    (ex.masked, ex.sigmoids),
    (ex.fused, ex.gathered_sigmoids),
    (ex.batched, ex.of_all),
]


@pytest.mark.parametrize(("form", "gates"), SHARES)
def test_a_router_is_a_readout_though_it_picks_a_share_of_all(form: Callable, gates: Callable):
    factory = ex.layer(form, gates, ffn=8)
    rules = tpcalc.derive(tpcalc.trace(lambda n: factory(width=n, experts=n, top_k=n // 8), WIDTHS))
    assert [(rules[w].b, rules[w].c) for w in ("router.weight", "up")] == [(1, 1), (1, 1)]
