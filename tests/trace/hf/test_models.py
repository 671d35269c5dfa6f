"""The main model of a type, and inputs that reach every weight of it."""

import pytest

pytest.importorskip("transformers")

from torch import nn

from tpcalc.errors import TargetError
from tpcalc.trace.hf import hf_factory
from tpcalc.trace.hf.models import build, example_inputs

SHALLOW = {
    **dict.fromkeys(("gpt2", "bert", "vit"), {"num_hidden_layers": "1"}),
    "t5": {"num_layers": "1", "num_decoder_layers": "1"},
    "clip": {"text_config.num_hidden_layers": "1", "vision_config.num_hidden_layers": "1"},
}


def test_the_main_model_and_its_inputs():
    def built(model_type):
        model, inputs = hf_factory(model_type, overrides=SHALLOW[model_type])(128)
        assert model.training
        return type(model).__name__, {name: tuple(value.shape) for name, value in inputs.items()}

    assert built("gpt2") == ("GPT2LMHeadModel", {"input_ids": (2, 8)})
    assert built("bert") == ("BertForMaskedLM", {"input_ids": (2, 8)})
    assert built("t5") == ("T5ForConditionalGeneration", {"input_ids": (2, 8), "decoder_input_ids": (2, 8)})
    assert built("vit") == ("ViTForImageClassification", {"pixel_values": (2, 3, 224, 224)})
    assert built("clip") == ("CLIPModel", {"input_ids": (2, 8), "pixel_values": (2, 3, 224, 224)})


def test_what_can_not_be_built_or_fed_is_refused():
    class Unheard(nn.Module):
        def forward(self, sound, mask):
            return sound

    with pytest.raises(TargetError, match=r"no example inputs are known for Unheard \(it takes sound, mask\)"):
        example_inputs(Unheard(), object())
    with pytest.raises(TargetError, match="it has no model to build from its config"):
        build(object(), "it", 128)
