"""Fields of configs, of transformers and of any class that has a constructor."""

import pytest

from tpcalc.trace.hf.fields import first, hidden_field, items, mapped, own_name, settable, sizes, sub_configs


class Inner:
    def to_dict(self):
        return {}


class Config:
    attribute_map = {"hidden_size": "n_embd", "num_attention_heads": "n_head"}
    sub_configs = {"text": None, "vision": None}

    def __init__(self, n_embd=12, n_head=3, sizes=(4, 8), bias=True, later=None, rate=0.5, auto="auto", **rest):
        self.n_embd, self.n_head, self.sizes, self.bias, self.later = n_embd, n_head, list(sizes), bias, 7
        self.rate, self.auto, self.text, self.vision = rate, 9, Inner(), None


def test_fields():
    config = Config()
    assert list(settable(config)) == ["self", "n_embd", "n_head", "sizes", "bias", "later", "rate", "auto"]
    assert sizes(config) == {"n_embd": 12, "n_head": 3, "sizes": [4, 8]}
    assert hidden_field(config) == own_name(config, "hidden_size") == "n_embd"
    assert list(sub_configs(config)) == ["text"]
    assert hidden_field(Inner()) is None and own_name(Inner(), "hidden_size") == "hidden_size"


def test_transformers_configs():
    transformers = pytest.importorskip("transformers")
    assert hidden_field(transformers.T5Config()) == "d_model" and sizes(transformers.T5Config())["d_kv"] == 64
    assert list(sub_configs(transformers.CLIPConfig())) == ["text_config", "vision_config"]


def test_numbers_and_lists_of_them():
    assert items(3) == [3] and items((1, 2)) == [1, 2] and first([5, 6]) == 5
    assert mapped([1, 2], str) == ["1", "2"] and mapped(1, str) == "1"
