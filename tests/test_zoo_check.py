"""One model of each family is trained for a few steps at small widths; every slope is as predicted."""

from __future__ import annotations

import pytest
from zoo import ZOO

import tpcalc
from tpcalc.trace.huggingface import hf_factory

#: Family -> model, and the seeds that its noise needs.
FAMILIES = {
    "resnet": 2, "efficientnet": 2, "unet": 2, "vision_transformer": 2, "diffusion_transformer": 2, "encoder_decoder": 2, "lstm": 2,
    "state_space": 4, "dense_mixture": 2, "graph_mean": 2, "dlrm": 2, "perceiver": 2, "spectrally_normalised": 2,
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_measured_slopes_are_those_predicted(name):
    result = tpcalc.check(ZOO[name], (32, 64, 128, 256), steps=4, seeds=FAMILIES[name])
    assert result.ok, result


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "bert"])
def test_hugging_face(model_type):
    pytest.importorskip("transformers")
    widths = (64, 128, 256, 512)
    factory = hf_factory(model_type, overrides={"num_hidden_layers": "1", "vocab_size": "500"}, widths=widths)
    result = tpcalc.check(factory, widths, steps=4, seeds=2)
    assert result.ok, result
