"""LayerDrop in a library's config is regularisation like dropout: traced without it, and said."""

import pytest

from tpcalc.trace import trace
from tpcalc.trace.hf import hf_factory

SMALL = {"encoder_layers": "2", "decoder_layers": "2", "vocab_size": "32"}
TYPES = {
    "m2m_100": ({**SMALL, "encoder_ffn_dim": "32"}, 2),
    "opt": ({"num_hidden_layers": "2", "vocab_size": "32", "layerdrop": "0.5"}, 1),
    "biogpt": ({"num_hidden_layers": "2", "vocab_size": "32", "layerdrop": "0.9"}, 1),
    "bart": ({**SMALL, "decoder_layerdrop": "0.9"}, 1),
}


@pytest.mark.parametrize("kind", TYPES)
def test_no_layer_is_dropped(kind):
    pytest.importorskip("transformers")
    overrides, count = TYPES[kind]
    factory = hf_factory(kind, overrides=overrides, widths=(64, 128, 256))
    program = trace(factory, widths=(64, 128, 256))
    said = [note for note in program.assumptions if "layerdrop of hf:" in note]
    assert len(said) == count and all("is taken as 0" in note and "dropout" in note for note in said)
    layers = [weight for weight in program.weights if "layers." in weight.name]
    assert layers and all(weight.grad is not None for weight in layers)


def test_nothing_is_said_where_nothing_drops():
    pytest.importorskip("transformers")
    factory = hf_factory("opt", overrides={"num_hidden_layers": "1", "vocab_size": "32"}, widths=(64, 128, 256))
    factory.config(64)
    assert not any("layerdrop" in note for note in factory.assumptions)
