"""Configs that were saved, fields that follow the width by a formula, and widths chosen to fit."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("transformers")

import transformers

from tpcalc.errors import TargetError
from tpcalc.trace import trace
from tpcalc.trace.hf import hf_factory

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "torch_dtype": "bfloat16",
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "num_hidden_layers": 1,
    "vocab_size": 300,
    "tie_word_embeddings": True,
    "rope_theta": 5e5,
}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA))
    return path


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_saved_config_is_the_base(saved, as_folder):
    widths = (512, 1024, 2048)
    factory = hf_factory(str(saved.parent if as_folder else saved), widths=widths)
    at = {width: factory.config(width) for width in widths}
    assert factory.base == 512 and factory.assumptions == []
    assert [at[w].intermediate_size for w in at] == [1536, 3072, 6144]
    assert [at[w].num_attention_heads for w in at] == [8, 16, 32]
    assert [at[w].num_key_value_heads for w in at] == [2, 4, 8]
    assert {(at[w].vocab_size, at[w].tie_word_embeddings, at[w].num_hidden_layers) for w in at} == {(300, True, 1)}
    assert at[512].rope_parameters["rope_theta"] == 5e5
    program = trace(factory, widths)
    names = {name for weight in program.weights for name in weight.names}
    assert {"lm_head.weight", "model.embed_tokens.weight"} <= names  # tied, as the file says


def test_what_transformers_saves_is_read_again(tmp_path):
    config = transformers.CLIPConfig(projection_dim=128)
    config.text_config.hidden_size, config.vision_config.hidden_size = 256, 384
    config.text_config.num_attention_heads, config.vision_config.num_attention_heads = 4, 6
    config.text_config.num_hidden_layers = config.vision_config.num_hidden_layers = 1
    config.save_pretrained(tmp_path)
    factory = hf_factory(str(tmp_path), widths=(128, 256, 512))
    assert [factory.config(w).vision_config.hidden_size for w in (128, 256, 512)] == [192, 384, 768]
    assert factory.config(256).text_config.num_hidden_layers == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "can't be read .*give a folder or a file that a Hugging Face model was saved to"),
        ("{", "is no JSON"),
        ("[1]", "has no model_type"),
        ('{"model_type": "lama"}', "knows no model type 'lama'; did you mean hf:llama"),
    ],
)
def test_bad_files(tmp_path, content, message):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TargetError, match=message):
        hf_factory(str(path))


def test_no_name_is_no_folder():
    with pytest.raises(TargetError, match="hf: names no model; give a model type such as hf:llama"):
        hf_factory("")


def test_a_folder_is_no_model_type(tmp_path, monkeypatch):
    """Checkpoints are often kept in folders that are called like their model type."""
    (tmp_path / "gpt2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert hf_factory("gpt2").base is None


def test_a_name_on_a_hub_is_not_downloaded():
    with pytest.raises(TargetError, match="nothing is downloaded here; save its config.json and give hf:./config.json"):
        hf_factory("meta-llama/Llama-3.1-8B")


# -- formulas ------------------------------------------------------------------------------------------------


def test_fields_follow_a_formula():
    overrides = {
        "intermediate_size": "8/3*n",
        "num_attention_heads": "n/48",
        "num_key_value_heads": "n/96",
        "num_hidden_layers": "1",
    }
    factory = hf_factory("llama", overrides=overrides, widths=(192, 384, 768))
    at = [factory.config(width) for width in factory.widths]
    assert [config.intermediate_size for config in at] == [512, 1024, 2048]
    assert [config.num_attention_heads for config in at] == [4, 8, 16]
    assert [config.num_key_value_heads for config in at] == [2, 4, 8]
    assert {config.head_dim for config in at} == {48}
    grown = dict((name, text) for name, _, text in factory.growth())
    assert (grown["intermediate_size"], grown["num_attention_heads"]) == ("8/3*n", "n/48")


def test_head_dimensions_follow_a_formula():
    factory = hf_factory("llama", overrides={"head_dim": "n/8"}, widths=(128, 256, 512))
    at = [factory.config(width) for width in factory.widths]
    assert [config.head_dim for config in at] == [16, 32, 64]
    assert {config.num_attention_heads for config in at} == {8}


def test_heads_must_be_in_proportion():
    with pytest.raises(TargetError, match="num_attention_heads=n/64 [+] 1 is no multiple of n, as heads must be"):
        hf_factory("llama", overrides={"num_attention_heads": "n/64 + 1"})


def test_what_a_fixed_field_means_is_said():
    overrides = {"num_attention_heads": "4", "num_key_value_heads": "4", "intermediate_size": "704"}
    said = hf_factory("llama", overrides=overrides).assumptions
    finite = "intermediate_size of hf:llama is 704 at every width and counts as finite; write --set "
    assert any(finite + "intermediate_size=43*n/16" in text for text in said)
    assert any("num_attention_heads of hf:llama is 4 at every width: the size of a head grows" in text for text in said)


# -- widths --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", ["starcoder2", "glm4", "nemotron"])
def test_widths_are_chosen_to_fit(model_type):
    factory = hf_factory(model_type)
    assert len(factory.widths) == 3 and factory.widths[0] >= 128
    assert all(factory.config(width) for width in factory.widths)
    assert any(text.startswith("traced at ") for text in factory.assumptions) == (factory.widths != (128, 256, 512))


def test_what_grows_is_listed():
    grown = {name: (own, text) for name, own, text in hf_factory("clip").growth()}
    assert grown["projection_dim"] == ("512", "n")
    assert grown["text_config.hidden_size"] == ("512", "n") and grown["vision_config.hidden_size"] == ("768", "3*n/2")
    assert grown["vision_config.patch_size"] == ("32", "32")
