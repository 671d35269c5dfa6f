"""Real runs have the slopes that findings predict."""

from __future__ import annotations

import pytest

from tests.support import verify_runs as runs
from tests.support import verify_setups as setups
from tests.support.verify_reports import MUP

L0 = "layers.0."

MEASURED = {
    "standard AdamW, hidden": (setups.standard_adamw, runs.own_effect("hidden2"), 1),
    "standard SGD, features": (setups.standard_sgd, runs.features_change("hidden2", 3), -0.5),
    "nanotron": (setups.nanotron, runs.own_effect(L0 + "feed_forward.w1"), 1),
    "gpt-neox": (setups.gpt_neox, runs.own_effect("hidden2"), 1),
    "multiplier before a norm, init": (setups.multiplier_before_norm, runs.at_init("output"), 0.5),
    "multiplier before a norm, update": (setups.multiplier_before_norm, runs.own_effect("output"), 1),
    "suffix filter": (setups.suffix_filter, runs.own_effect(L0 + "feed_forward.w1"), 1),
    "router, init": (setups.router, runs.at_init(L0 + "feed_forward.router"), 0.5),
    "router, update": (setups.router, runs.own_effect(L0 + "feed_forward.router"), 1),
    "1/sqrt(d)": (setups.inverse_sqrt_attention, runs.logits_change(5), 0.5),
    "1/d": (setups.llama_growing_heads, runs.logits_change(5), 0),
    "depthwise": (setups.depthwise, runs.own_effect(L0 + "conv"), -1),
    "Muon, constant lr": (setups.muon_rms_constant, runs.own_effect(L0 + "feed_forward.w1"), 0.5),
    "Muon, Adam's lr": (setups.muon_rms_adams, runs.own_effect(L0 + "feed_forward.w1"), -0.5),
    "Muon, right": (setups.muon_rms_right, runs.own_effect(L0 + "feed_forward.w1"), 0),
    "slow embedding": (setups.slow_embedding, runs.own_effect("tok_embeddings"), -0.5),
    "gradient": (setups.eps_left, runs.gradient("hidden2.weight"), -1),
}


@pytest.mark.parametrize("case", MEASURED)
def test_measured_slopes(case):
    setup, measure, predicted = MEASURED[case]
    if setup.__name__ in MUP:
        pytest.importorskip("mup")
    widths = (
        runs.WIDTHS[:3] if case.startswith("Muon") else runs.WIDTHS
    )  # its steps at the largest take most of the time
    assert runs.measured(setup, measure, widths) == pytest.approx(predicted, abs=0.2)
