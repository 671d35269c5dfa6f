"""Hugging Face targets: which fields follow the width, what is said about it, and that every family traces."""

import math
from fractions import Fraction

import pytest

pytest.importorskip("transformers")

import torch

from tests.derive.test_zoo import HUGGING_FACE
from tpcalc.derive import derive
from tpcalc.errors import TargetError, TraceError
from tpcalc.trace import trace
from tpcalc.trace.hf import hf_factory
from tpcalc.trace.init import measured_law

WIDTHS = (128, 256, 512)

ONE_LAYER = {"num_hidden_layers": "1"}
#: Model types with the settings that keep them shallow.
SHALLOW = {
    **{
        name: ONE_LAYER
        for name in (
            "gpt2 opt bloom phi llama mistral qwen2 qwen3 gemma gemma2 gemma3_text olmo2 granite cohere mixtral "
            "qwen3_moe "
            "granitemoe bert roberta electra deberta-v2 vit deit mamba mamba2"
        ).split()
    },
    "gpt_neo": {"num_layers": "2", "attention_types": "[[['global', 'local'], 1]]"},
    "gemma3": {"text_config.num_hidden_layers": "1", "vision_config.num_hidden_layers": "1"},
    "t5": {"num_layers": "1", "num_decoder_layers": "1"},
    "bart": {"encoder_layers": "1", "decoder_layers": "1"},
    "whisper": {"encoder_layers": "1", "decoder_layers": "1"},
    "swin": {"depths": "[1, 1]", "num_heads": "[4, 8]"},
    "convnext": {"depths": "[1, 1, 1, 1]"},
    "clip": {"text_config.num_hidden_layers": "1", "vision_config.num_hidden_layers": "1"},
}


def fields(model_type, *names, widths=WIDTHS, **options):
    """The named config fields at every width."""
    factory = hf_factory(model_type, widths=widths, **options)
    configs = [factory.config(width) for width in widths]
    return {name: [getattr(config, name) for config in configs] for name in names}


#: The others are traced, asked the same and derived in tests/derive/test_zoo.py.
@pytest.mark.parametrize("model_type", [name for name in SHALLOW if name not in HUGGING_FACE])
def test_every_family_traces(model_type):
    program = trace(hf_factory(model_type, overrides=SHALLOW[model_type]), WIDTHS)
    assert any(weight.trainable for weight in program.weights)
    unread = [weight.name for weight in program.weights if any(law.kind == "unknown" for _, law in weight.init)]
    assert not unread
    assert all(weight.init for weight in program.weights)


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "t5", "bert", "mamba", "vit", "gemma2", "whisper"])
def test_the_laws_are_those_of_the_model_really_built(model_type):
    factory = hf_factory(model_type, overrides=SHALLOW[model_type])
    laws = {
        name: law for weight in trace(factory, WIDTHS).weights for name in weight.names for _, law in weight.init[:1]
    }
    torch.manual_seed(0)
    model, _ = factory(128)
    for name, weight in model.named_parameters():
        law, found = laws[name], measured_law(weight)
        if weight.numel() > 64:
            error = 6 * found.std / math.sqrt(weight.numel())
            assert law.kind == found.kind, name
            assert law.std == pytest.approx(found.std, rel=0.02, abs=error), name
            assert law.mean == pytest.approx(found.mean, rel=0.02, abs=2 * error), name


def test_head_counts_grow_and_ratios_are_kept():
    assert fields("gpt2", "n_embd", "n_head") == {"n_embd": [128, 256, 512], "n_head": [2, 4, 8]}
    assert fields("llama", "intermediate_size", "num_attention_heads", "head_dim", widths=(256, 512, 1024)) == {
        "intermediate_size": [688, 1376, 2752],
        "num_attention_heads": [2, 4, 8],
        "head_dim": [128, 128, 128],
    }
    assert fields("mixtral", "num_attention_heads", "num_key_value_heads") == {
        "num_attention_heads": [8, 16, 32],
        "num_key_value_heads": [2, 4, 8],
    }
    assert fields("t5", "d_model", "d_ff", "d_kv", "num_heads") == {
        "d_model": [128, 256, 512],
        "d_ff": [512, 1024, 2048],
        "d_kv": [64, 64, 64],
        "num_heads": [2, 4, 8],
    }
    assert fields("bart", "encoder_attention_heads", "decoder_attention_heads", "encoder_ffn_dim") == {
        "encoder_attention_heads": [2, 4, 8],
        "decoder_attention_heads": [2, 4, 8],
        "encoder_ffn_dim": [512, 1024, 2048],
    }
    assert fields("swin", "embed_dim", "num_heads")["num_heads"][0] == [4, 8, 16, 32]
    assert fields("convnext", "hidden_sizes")["hidden_sizes"][0] == [128, 256, 512, 1024]
    assert fields("mamba", "intermediate_size", "time_step_rank", "state_size") == {
        "intermediate_size": [256, 512, 1024],
        "time_step_rank": [8, 16, 32],
        "state_size": [16, 16, 16],
    }
    clip = [hf_factory("clip").config(width) for width in WIDTHS]
    assert [config.vision_config.hidden_size for config in clip] == [192, 384, 768]
    assert [config.projection_dim for config in clip] == [128, 256, 512]


def test_departures_from_the_config_are_said():
    assert hf_factory("gpt2").assumptions == []
    assert hf_factory("llama", widths=(256, 512, 1024)).assumptions == []
    assert hf_factory("llama").assumptions == [
        "head dimension is 64 at every width (the config's own is 128) in hf:llama, for two or more whole "
        "heads at widths "
        "128, 256, 512"
    ]
    assert any("heads times head dimension 1*n" in text for text in hf_factory("gemma").assumptions)
    assert any("intermediate_size of hf:phi3 is 171/64*n" in text for text in hf_factory("phi3").assumptions)
    program = trace(hf_factory("llama", overrides=ONE_LAYER), WIDTHS)
    assert program.assumptions[0].startswith("head dimension is 64")


@pytest.mark.parametrize(
    "model_type, field, shallow",
    [
        ("m2m_100", "encoder_layerdrop", {"encoder_layers": "1", "decoder_layers": "1"}),
        ("nllb-moe", "decoder_layerdrop", {"encoder_layers": "2", "decoder_layers": "2"}),
        ("hubert", "layerdrop", ONE_LAYER),
    ],
)
def test_no_layer_is_dropped_at_random(model_type, field, shallow):
    """Each one draw would leave out other layers; who asks for it is told."""
    factory = hf_factory(model_type, overrides=shallow)
    assert f"{field} of hf:{model_type} is 0: no layer is dropped at random" in factory.assumptions
    assert fields(model_type, field, overrides=shallow)[field] == [0, 0, 0]
    assert not any(rule.role == "unused" for name, rule in derive(trace(factory, WIDTHS)).items() if "layers" in name)
    with pytest.raises(TraceError, match="decides by a random number what runs"):
        trace(hf_factory(model_type, overrides={**shallow, field: "0.5"}), WIDTHS)


def test_fields_set_by_hand_are_the_same_at_every_width():
    assert fields("llama", "num_key_value_heads", "num_attention_heads", overrides={"num_key_value_heads": "2"}) == {
        "num_key_value_heads": [2] * 3,
        "num_attention_heads": [4, 8, 16],
    }
    assert fields("llama", "num_attention_heads", overrides={"num_key_value_heads": "8"})["num_attention_heads"] == [
        16,
        32,
        64,
    ]
    assert fields("llama", "head_dim", "num_attention_heads", overrides={"head_dim": "32"}) == {
        "head_dim": [32] * 3,
        "num_attention_heads": [4, 8, 16],
    }
    assert fields("llama", "num_attention_heads", "head_dim", overrides={"num_attention_heads": "8"}) == {
        "num_attention_heads": [8] * 3,
        "head_dim": [16, 32, 64],
    }
    assert fields("gpt2", "n_inner", "n_layer", overrides={"n_inner": "1000", "num_hidden_layers": 3}) == {
        "n_inner": [1000] * 3,
        "n_layer": [3] * 3,
    }
    assert fields(
        "llama", "hidden_act", "attention_bias", overrides={"hidden_act": "gelu", "attention_bias": "true"}
    ) == {
        "hidden_act": ["gelu"] * 3,
        "attention_bias": [True] * 3,
    }


@pytest.mark.parametrize(
    "model_type, options, message",
    [
        ("lama", {}, "transformers knows no model type 'lama'; did you mean hf:llama"),
        ("xqzw", {}, "transformers knows no model type 'xqzw'; see transformers.CONFIG_MAPPING"),
        ("llama", {"overrides": {"num_layers": "2"}}, "has no field 'num_layers'; did you mean num_hidden_layers"),
        ("clip", {"overrides": {"num_hidden_layers": "2"}}, "did you mean text_config.num_hidden_layers"),
        (
            "clip",
            {"overrides": {"txt.num_hidden_layers": "2"}},
            "no nested config 'txt'; it has text_config, vision_config",
        ),
        (
            "llama",
            {"overrides": {"hidden_size": "64"}},
            "hidden_size is the width of hf:llama and can't be set; give it with --widths",
        ),
        (
            "starcoder2",
            {"widths": (128, 256, 512)},
            "the heads of hf:starcoder2 (num_attention_heads=24, num_key_value_heads=2, head dimension 128) "
            "don't fit the widths 128, 256, 512; use widths such as 192,384,768, or give a count that fits: --set "
            "num_key_value_heads=n/64",
        ),
        ("gpt2", {"widths": (100, 200, 300)}, "don't fit the widths 100, 200, 300; use widths such as 128,256,512"),
        ("mobilenet_v2", {}, "hf:mobilenet_v2 has no hidden size to scale; write a factory that builds it"),
    ],
)
def test_bad_targets(model_type, options, message):
    with pytest.raises(TargetError) as error:
        hf_factory(model_type, **options)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "model_type, overrides, width, message",
    [
        (
            "gpt2",
            {},
            100,
            "n_head of hf:gpt2 would be 1.5625 at width 100; choose multiples of 64, or set it: --set n_head=...",
        ),
        ("gpt_neo", {"num_layers": "2"}, 128, "hf:gpt_neo refuses its config at width 128"),
    ],
)
def test_bad_widths_and_values(model_type, overrides, width, message):
    factory = hf_factory(model_type, overrides=overrides)
    with pytest.raises(TargetError) as error:
        factory(width)
    assert message in str(error.value)


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("model_type", ["llama", "mixtral"])
def test_fixed_key_value_heads_at_the_default_widths(model_type, heads):
    """There are more query heads than shared ones at every width: with as many, the code takes another path."""
    overrides = {"num_key_value_heads": str(heads), "num_hidden_layers": "1", "vocab_size": "97"}
    factory = hf_factory(model_type, overrides=overrides, widths=(128, 256, 512))
    rules = derive(trace(factory, widths=(128, 256, 512)))
    for name in ("k_proj", "v_proj"):
        rule = rules[f"model.layers.0.self_attn.{name}.weight"]
        assert (rule.A, rule.C, rule.role) == (1, 1, "output")


def test_any_consistent_widths_serve():
    for unit in (Fraction(1), Fraction(3), Fraction(5)):
        widths = tuple(int(128 * unit * k) for k in (1, 2, 3))
        assert fields("gpt2", "n_embd", widths=widths)["n_embd"] == list(widths)
