"""Scales of Hugging Face targets by name: the fields that each sets, what follows, what is refused, what is derived."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")

import tpcalc
from tests.support.once import once
from tpcalc.algebra.scales import star
from tpcalc.cli.given import checked
from tpcalc.errors import AlignError, TargetError
from tpcalc.report.config import config_text
from tpcalc.trace.hf import hf_factory
from tpcalc.trace.hf.library import default_config
from tpcalc.trace.hf.scales import FIELDS, reference_of, repeated

WIDTH = (128, 256, 512)
DEPTH = (2, 3)


def fields(model_type, scales, *names, **overrides):
    """Fields of the config (``text_config.x`` in a nested one) at the base, with each scale alone at its second value,
    and where all have moved.
    """
    factory = hf_factory(model_type, scales=scales, overrides=overrides)
    base, *others = star({name: values[:2] for name, values in factory.scales.items()})
    found = {}
    for name in names:
        *path, last = name.split(".")
        found[name] = []
        for point in (base, *others):
            config = factory.config(**point.by_name)
            for part in path:
                config = getattr(config, part)
            found[name].append(getattr(config, last))
    return found


#: Scales, and fields at the base and as each scale moves.
CASES = [
    (
        "llama",
        {"width": WIDTH, "depth": DEPTH},
        {
            "hidden_size": [128, 256, 128, 256],
            "num_hidden_layers": [2, 2, 3, 3],
            "intermediate_size": [344, 688, 344, 688],
        },
    ),
    (
        "llama",
        {"heads": (2, 4, 8), "head_dim": (32, 64, 128), "ffn": (256, 512, 1024)},
        {
            "hidden_size": [64, 128, 128, 64, 256],
            "num_attention_heads": [2, 4, 2, 2, 4],
            "num_key_value_heads": [2, 4, 2, 2, 4],
            "head_dim": [32, 32, 64, 32, 64],
            "intermediate_size": [256, 256, 256, 512, 512],
            "num_hidden_layers": [32] * 5,
        },
    ),
    # of three that hang together two say the third
    (
        "llama",
        {"heads": (2, 4, 8)},
        {"hidden_size": [256, 512], "head_dim": [128, 128], "intermediate_size": [688, 1376]},
    ),
    ("llama", {"head_dim": (8, 16, 32)}, {"hidden_size": [256, 512], "num_attention_heads": [32, 32]}),
    (
        "llama",
        {"width": WIDTH, "heads": (2, 4, 8)},
        {"head_dim": [64, 128, 32, 64], "num_key_value_heads": [2, 2, 4, 4]},
    ),
    (
        "llama",
        {"width": WIDTH, "head_dim": (16, 32, 64)},
        {"num_attention_heads": [8, 16, 4, 8], "head_dim": [16, 16, 32, 32]},
    ),
    (
        "llama",
        {"width": WIDTH, "heads": (2, 4, 8), "head_dim": (16, 32, 64)},
        {
            "hidden_size": [128, 256, 128, 128, 256],
            "num_attention_heads": [2, 2, 4, 2, 4],
            "head_dim": [16, 16, 16, 32, 32],
        },
    ),
    # what is no scale and follows none is as in the config
    ("llama", {"ffn": (256, 512, 1024)}, {"hidden_size": [4096, 4096], "num_attention_heads": [32, 32]}),
    ("llama", {"vocab": (100, 200, 300)}, {"vocab_size": [100, 200], "num_hidden_layers": [32, 32]}),
    # grouped queries: the ratio is kept, or is a scale itself
    ("mixtral", {"heads": (8, 16, 32)}, {"num_key_value_heads": [2, 4], "hidden_size": [1024, 2048]}),
    (
        "mixtral",
        {"heads": (16, 32, 64), "kv_heads": (2, 4, 8)},
        {"num_key_value_heads": [2, 2, 4, 4], "hidden_size": [2048, 4096] * 2},
    ),
    (
        "mixtral",
        {"width": (256, 512, 1024), "experts": (8, 16, 32), "top_k": (2, 4, 8)},
        {"num_local_experts": [8, 8, 16, 8, 16], "num_experts_per_tok": [2, 2, 2, 4, 4]},
    ),
    # heads times head dimension is not the width: 9/8, 2 and 1/4 of it
    (
        "gemma2",
        {"heads": (4, 8, 16), "head_dim": (32, 64, 128)},
        {
            "hidden_size": [144, 288, 288, 576],
            "query_pre_attn_scalar": [32, 32, 64, 64],
            "num_key_value_heads": [2, 4, 2, 4],
        },
    ),
    (
        "mamba2",
        {"heads": (16, 32, 64), "head_dim": (16, 32, 64)},
        {"hidden_size": [128, 256, 256, 512], "num_heads": [16, 32, 16, 32]},
    ),
    (
        "deepseek_v3",
        {"heads": (8, 16, 32), "head_dim": (32, 64, 128)},
        {"hidden_size": [112, 224, 224, 448], "qk_rope_head_dim": [16, 16, 32, 32], "v_head_dim": [32, 32, 64, 64]},
    ),
    (
        "qwen3_moe",
        {"expert_ffn": (96, 192, 384)},
        {"moe_intermediate_size": [96, 192], "intermediate_size": [6144, 6144]},
    ),
    # under their own names
    (
        "gpt2",
        {"width": WIDTH, "ffn": (100, 200, 300), "depth": DEPTH},
        {"n_inner": [100, 100, 200, 100, 200], "n_layer": [2, 2, 2, 3, 3]},
    ),
    ("gpt2", {"n_head": (2, 4, 8)}, {"n_embd": [128, 256]}),
    ("gpt2", {"num_hidden_layers": (2, 3, 4)}, {"n_layer": [2, 2, 3, 3], "n_embd": [128, 256, 128, 256]}),
    ("vit", {"width": WIDTH, "num_channels": (3, 4, 5)}, {"num_channels": [3, 3, 4, 4]}),
    # two stacks
    ("whisper", {"width": WIDTH, "depth": DEPTH}, {"encoder_layers": [2, 2, 3, 3], "decoder_layers": [2, 2, 3, 3]}),
    ("whisper", {"encoder_depth": DEPTH}, {"encoder_layers": [2, 2, 3, 3], "decoder_layers": [4] * 4}),
    (
        "t5",
        {"encoder_depth": DEPTH, "decoder_depth": DEPTH},
        {"num_layers": [2, 2, 3, 2, 3], "num_decoder_layers": [2, 2, 2, 3, 3]},
    ),
    ("whisper", {"ffn": (64, 128, 256)}, {"encoder_ffn_dim": [64, 128], "decoder_ffn_dim": [64, 128]}),
    (
        "moonshine",
        {"encoder_depth": DEPTH},
        {"encoder_num_hidden_layers": [2, 2, 3, 3], "decoder_num_hidden_layers": [6] * 4},
    ),
    ("convnext", {"depth": (2, 4)}, {"depths": [[2] * 4, [2] * 4, [4] * 4, [4] * 4], "num_stages": [4] * 4}),
    ("swin", {"depth": (2, 4)}, {"depths": [[2] * 4, [2] * 4, [4] * 4, [4] * 4]}),
    ("swin", {"heads": (6, 12, 24)}, {"num_heads": [[6, 12, 24, 48], [12, 24, 48, 96]], "embed_dim": [192, 384]}),
    # nested configs
    (
        "clip",
        {"heads": (2, 4, 8), "depth": DEPTH},
        {"text_config.hidden_size": [128, 256, 128, 256], "vision_config.num_hidden_layers": [2, 2, 3, 3]},
    ),
    (
        "gemma3",
        {"width": WIDTH, "depth": DEPTH},
        {"text_config.num_hidden_layers": [2, 2, 3, 3], "text_config.hidden_size": [128, 256, 128, 256]},
    ),
]


@pytest.mark.parametrize(("model_type", "scales", "expected"), CASES)
def test_each_scale_sets_its_fields(model_type, scales, expected):
    assert fields(model_type, scales, *expected) == expected


def test_set_beside_scales():
    scales = {"heads": (4, 8, 16), "head_dim": (32, 64, 128)}
    found = fields("llama", scales, "intermediate_size", intermediate_size="3*n + 8*heads")["intermediate_size"]
    assert found == [416, 832, 800, 1600]
    assert fields("llama", scales, "num_key_value_heads", num_key_value_heads="2") == {"num_key_value_heads": [2] * 4}
    assert fields("llama", {"head_dim": (32, 64, 128)}, "hidden_size", num_attention_heads="4") == {
        "hidden_size": [128, 256]
    }
    assert fields("llama", {"heads": (2, 4, 8)}, "hidden_size", head_dim="16") == {"hidden_size": [32, 64]}


def test_a_ratio_that_does_not_fit_is_1_and_said():
    factory = hf_factory("gemma2", scales={"heads": (4, 6, 8), "head_dim": (6, 10, 12)})
    assert factory.config(heads=6, head_dim=6).hidden_size == 36
    assert factory.assumptions == [
        "heads times head dimension of hf:gemma2 is 1*n (the config's own ratio is 0.8889, no whole number at these "
        "values)"
    ]


def test_a_width_that_fits_is_found_beside_depths():
    factory = hf_factory("starcoder2", scales={"depth": DEPTH})
    assert factory.scales == {"width": (192, 384, 768), "depth": DEPTH} and factory.depths == ("depth",)
    assert hf_factory("llama", scales={"num_hidden_layers": (2, 3, 4)}, widths=WIDTH).scales["width"] == WIDTH
    assert hf_factory("llama", scales={"ffn": WIDTH}).scales == {"ffn": WIDTH}


# -- lists with an entry for each layer -----------------------------------------------------------------------


@pytest.mark.parametrize("model_type", ["gemma2", "gemma3_text", "qwen3"])
def test_layers_of_a_saved_config_take_turns_as_in_the_model(tmp_path, model_type):
    default_config(model_type).save_pretrained(tmp_path)
    saved = hf_factory(str(tmp_path), scales={"width": WIDTH, "depth": DEPTH})
    own = hf_factory(model_type, scales={"width": WIDTH, "depth": DEPTH})
    for depth in (1, 2, 7, 40):
        types = [factory.config(width=128, depth=depth).layer_types for factory in (saved, own)]
        assert types[0] == types[1] and len(types[0]) == depth


def test_lists_go_on_with_their_least_period():
    config = default_config("gemma2")
    turns = ["a", "a", "b"] * 8 + ["a", "a"]
    fields = {"num_hidden_layers": 31, "layer_types": turns, "other": [1, 2], "plain": list(range(26))}
    longer = repeated(config, fields)
    assert longer == {"layer_types": (turns * 2)[:24] + ["a", "a", "b"] * 2 + ["a"], "plain": [*range(26), *range(5)]}
    assert repeated(config, {**fields, "num_hidden_layers": 2})["layer_types"] == ["a", "a"]
    assert repeated(config, {**fields, "num_hidden_layers": 26}) == {}
    config.num_hidden_layers = 2
    few = {"num_hidden_layers": 3, "image_size": [224, 224], "no_rope_layers": [0, 1], "layer_types": ["a", "b"]}
    assert repeated(config, few) == {"no_rope_layers": [0, 1, 0], "layer_types": ["a", "b", "a"]}


# -- refusals ---------------------------------------------------------------------------------------------------

KNOWN = (
    "it has width, depth, heads, kv_heads, head_dim, ffn, vocab, and each whole number of its config by its own name"
)
REFUSED = [
    ("llama", {"batch": WIDTH}, {}, f"hf:llama has no scale 'batch'; {KNOWN}"),
    ("mobilevit", {"depth": DEPTH}, {}, "hf:mobilevit has no scale 'depth'; it has width, heads"),
    ("llama", {"experts": WIDTH}, {}, f"hf:llama has no scale 'experts'; {KNOWN}"),
    ("llama", {"hedas": WIDTH}, {}, "hf:llama has no scale 'hedas'; did you mean heads? It has width, depth"),
    ("llama", {"vocab_sise": WIDTH}, {}, "did you mean vocab_size?"),
    ("mamba", {"ffn": WIDTH}, {}, "hf:mamba has no scale 'ffn'; it has width, depth, vocab, and each"),
    ("llama", {"decoder_depth": DEPTH}, {}, "has no scale 'decoder_depth'; "),
    ("llama", {"hidden_size": WIDTH}, {}, "hidden_size is the width of hf:llama; write --scale width=... for it"),
    (
        "llama",
        {"depth": DEPTH, "num_hidden_layers": DEPTH},
        {},
        "by the scale depth and by the scale num_hidden_layers",
    ),
    (
        "llama",
        {"heads": WIDTH, "num_attention_heads": WIDTH},
        {},
        "the scales heads and num_attention_heads of hf:llama",
    ),
    ("llama", {"heads": WIDTH}, {"num_attention_heads": "8"}, "num_attention_heads of hf:llama is set by --set and by"),
    (
        "clip",
        {"ffn": WIDTH},
        {"text_config.intermediate_size": "8"},
        "text_config.intermediate_size of hf:clip is set by",
    ),
    (
        "llama",
        {"width": WIDTH, "heads": (2, 4, 6)},
        {},
        "the size of a head=n/heads would be 21.3333 at width=128, heads=6",
    ),
    ("gpt2", {"width": WIDTH, "heads": (2, 4, 8), "head_dim": WIDTH}, {}, "give two of width, heads and head_dim"),
    (
        "llama",
        {"head_dim": WIDTH},
        {"num_attention_heads": "n/64"},
        "has no value where the width follows from head_dim",
    ),
    ("llama", {"heads": (1, 2, 4)}, {}, "num_attention_heads of hf:llama would be 1 at heads=1, and an axis of one"),
    (
        "mixtral",
        {"heads": (2, 4, 8)},
        {},
        "num_key_value_heads=heads/4 would be 0.5 at heads=2; choose sizes at which",
    ),
    (
        "mixtral",
        {"heads": (8, 16, 32), "kv_heads": (2, 3, 4)},
        {},
        "is no multiple of num_key_value_heads=3 at heads=8, kv",
    ),
    ("mixtral", {"heads": (8, 16, 32), "kv_heads": (2, 4, 8)}, {}, "and the code takes another path there"),
    (
        "mixtral",
        {"width": (256, 512, 1024), "kv_heads": (2, 4, 8)},
        {},
        "leaves open how many heads of hf:mixtral there are",
    ),
    ("mamba2", {"heads": (8, 16, 32)}, {}, "gives no two heads or more to each of n_groups=8"),
    (
        "deepseek_v3",
        {"experts": (8, 16, 32)},
        {},
        "n_routed_experts=8 of hf:deepseek_v3 at experts=8 gives no two experts",
    ),
    ("mixtral", {"experts": (8, 16, 32), "top_k": (2, 4, 16)}, {}, "num_experts_per_tok=16 of hf:mixtral at experts=8"),
]


@pytest.mark.parametrize(("model_type", "scales", "overrides", "message"), REFUSED)
def test_what_is_refused(model_type, scales, overrides, message):
    with pytest.raises(TargetError) as error:
        hf_factory(model_type, scales=scales, overrides=overrides)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_every_scale_is_known_to_some_model():
    known = set()
    for model_type in ("mixtral", "qwen3_moe", "whisper"):
        with pytest.raises(TargetError) as error:
            hf_factory(model_type, scales={"nonsense": WIDTH})
        known |= set(str(error.value).partition("it has ")[2].partition(", and each")[0].split(", "))
    assert known == {"width", *FIELDS}


def test_a_factory_takes_its_own_scales():
    with pytest.raises(TargetError, match="hf:llama was made for width, ffn and is to be built at width; give"):
        hf_factory("llama", scales={"width": WIDTH, "ffn": WIDTH}).config(128)


def test_a_scale_that_changes_nothing():
    """All layers of qwen3_moe have experts, whose size is another field."""
    with pytest.raises(
        AlignError, match="^ffn changes nothing: the model is the same at heads=8, ffn=96 and at heads=8, ffn"
    ):
        overrides = {"num_hidden_layers": "1", "vocab_size": "50", "num_key_value_heads": "4"}
        scales = {"heads": (8, 16, 32), "ffn": (96, 192, 384)}
        tpcalc.trace(hf_factory("qwen3_moe", overrides=overrides, scales=scales), scales=scales)


def test_padding_stays_in_the_vocabulary():
    factory = hf_factory("whisper", scales={"vocab": (100, 200, 400)})
    assert {factory.config(vocab=size).pad_token_id for size in (100, 200)} == {99}
    assert factory.assumptions == ["pad_token_id of hf:whisper is 99, in the smallest vocabulary"]
    assert hf_factory("whisper", overrides={"vocab_size": "80"}).config(128).pad_token_id == 79
    assert hf_factory("whisper", scales={"ffn": WIDTH}).config(ffn=128).pad_token_id == 50256


@pytest.mark.parametrize(("model_type", "none"), [("swin", 0.0), ("cvt", [0.0] * 3)])
def test_no_path_is_dropped_at_a_rate_that_each_block_has_by_its_index(model_type, none):
    factory = hf_factory(model_type, scales={"depth": (2, 4)})
    assert factory.config(width=128, depth=4).drop_path_rate == none
    (said,) = [text for text in factory.assumptions if "drop_path" in text]
    assert said == (
        f"drop_path_rate of hf:{model_type} is 0: its blocks, which differ by it, are the same at every depth"
    )
    plain = hf_factory(model_type)  # along the width they are what they are
    assert plain.config(128).drop_path_rate == default_config(model_type).drop_path_rate and not plain.assumptions
    by_hand = hf_factory("swin", scales={"depth": (2, 4)}, overrides={"drop_path_rate": "0.5"})
    assert by_hand.config(width=128, depth=4).drop_path_rate == 0.5


def test_the_width_is_that_of_the_text():
    assert reference_of(default_config("clip")) == reference_of(default_config("clip").text_config) == 512
    assert reference_of(default_config("mobilenet_v2")) is None


def test_how_fields_follow_scales_is_printed():
    scales = {"heads": (8, 16, 32), "head_dim": (32, 64, 128), "ffn": WIDTH, "depth": DEPTH}
    text = config_text(hf_factory("mixtral", scales=scales))
    rows = {line.split()[0]: " ".join(line.split()[2:]) for line in text.splitlines() if line and line[0] not in " -"}
    assert "sizes along heads, head_dim, ffn, depth, where n is heads*head_dim" in text
    assert (
        rows["hidden_size"] == "n" and rows["num_key_value_heads"] == "heads/4" and rows["intermediate_size"] == "ffn"
    )
    assert rows["num_hidden_layers"] == "depth" and rows["vocab_size"] == "fixed"


# -- derived ------------------------------------------------------------------------------------------------------


@once
def rules(model_type, depth=DEPTH, **scales):
    scales = {**scales, **({"depth": depth} if depth else {})}
    shallow = {"vocab_size": "50", **({} if depth else {"num_hidden_layers": "1"})}
    return tpcalc.derive(tpcalc.trace(hf_factory(model_type, overrides=shallow, scales=scales), scales=scales))


#: Init std, lr and eps of Adam: the table of several scales, times what the depth adds.
TABLE = {
    "mlp.up_proj": ("h^-1/2 d^-1/2 Min(1, sqrt(f/(h d)))", "h^-1 d^-1", "f^-1 L^-1"),
    "mlp.down_proj": ("f^-1/2 L^-1 Min(1, sqrt(h d/f))", "f^-1 L^-1", "h^-1 d^-1"),
    "self_attn.q_proj": ("h^-1/2 d^-1", "h^-1 d^-3/2", "h^-1 d^-1/2 L^-1"),
    "self_attn.k_proj": ("h^-1/2 d^-1/2", "h^-1 d^-1", "h^-1 d^-1 L^-1"),
    "self_attn.v_proj": ("h^-1/2 d^-1/2", "h^-1 d^-1", "h^-1 d^-1 L^-1"),
    "self_attn.o_proj": ("h^-1/2 d^-1/2 L^-1", "h^-1 d^-1 L^-1", "h^-1 d^-1"),
}


def shown(rule):
    return tuple(str(rule.formulas[key]) for key in ("init_std", "lr", "eps"))


def test_heads_head_dimension_feed_forward_size_and_depth():
    found = rules("llama", heads=(4, 8, 16), head_dim=(8, 16, 32), ffn=(96, 192, 384))
    for name, expected in TABLE.items():
        assert shown(found[f"model.layers.1.{name}.weight"]) == expected, name
    assert shown(found["lm_head.weight"]) == ("h^-1 d^-1", "h^-1 d^-1", "1") and not found.sites


def test_grouped_queries():
    """g query heads for each of kv: g is h/kv where there are more of them."""
    found = rules("llama", None, heads=(16, 32, 64), kv_heads=(2, 4, 8), head_dim=(8, 16, 32))
    for name in "kv":
        key = found[f"model.layers.0.self_attn.{name}_proj.weight"]
        assert shown(key) == ("h^-1/2 d^-1/2 Min(1, sqrt(kv_heads/h))", "h^-1 d^-1", "kv_heads^-1 d^-1")


def test_experts_and_their_size():
    found = rules("mixtral", None, heads=(8, 16, 32), experts=(4, 8, 16), ffn=(96, 192, 384))
    router, up, down = (
        found[f"model.layers.0.mlp.{name}"] for name in ("gate.weight", "experts.gate_up_proj", "experts.down_proj")
    )
    assert shown(router)[:2] == ("h^-1", "h^-1")  # whatever the number of experts
    assert shown(up) == ("h^-1/2 Min(1, sqrt(f/h))", "h^-1", "f^-1")
    assert shown(down) == ("f^-1/2 Min(1, sqrt(h/f))", "f^-1", "h^-1")
    assert any("vanishes as E^(-1)" in note for note in found.notes)


def test_a_scale_that_a_check_keeps_where_it_is_still_grows():
    """It is traced along it, to know what would."""
    made, options = checked("hf:llama", None, None, ["width=64", "depth=2,4,8"])
    assert options == {"scales": {"width": (64,), "depth": (2, 4, 8)}}
    assert [made.config(width=width, depth=4).hidden_size for width in (64, 128)] == [64, 128]
