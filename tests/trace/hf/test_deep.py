"""Deep Hugging Face models, of which few blocks are traced."""

from __future__ import annotations

import pytest

import tpcalc
from tpcalc.cli.given import traced
from tpcalc.trace.hf import by_depth
from tpcalc.trace.target import by_depth as by_depth_of

WIDTHS = "64,128,256"


@pytest.fixture(autouse=True)
def worth(monkeypatch):
    """Also models of a few layers are folded."""
    monkeypatch.setattr("tpcalc.trace.depth.WORTH", 2)


def tables(target: str, layers: int, field: str = "num_hidden_layers") -> list[tpcalc.Parametrization]:
    sets = [f"{field}={layers}", "vocab_size=1000"]
    return [tpcalc.derive(traced(target, WIDTHS, sets, None, None, fold=fold)) for fold in (True, False)]


@pytest.mark.parametrize(
    "target, layers, few",
    [
        ("hf:llama", 6, 3),
        ("hf:gemma2", 8, 6),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in [("hf:gpt2", 6, 3), ("hf:xlnet", 6, 3), ("hf:deepseek_v3", 8, 6), ("hf:mixtral", 5, 3)]
        ),
    ],
)
def test_the_table_is_that_of_all_blocks(target, layers, few):
    folded, whole = tables(target, layers, "n_layer" if "gpt2" in target or "xlnet" in target else "num_hidden_layers")
    assert folded.assumptions[-1] == f"{few} blocks were traced and stand for all {layers}"
    assert list(folded) == list(whole) and folded.clipping == whole.clipping
    for name, rule in folded.items():
        assert (rule.formulas, rule.role, rule.aliases) == (whole[name].formulas, whole[name].role, whole[name].aliases)
    assert {(site.module, site.op) for site in folded.sites} == {(site.module, site.op) for site in whole.sites}


def test_what_a_config_says_of_its_depth():
    made = by_depth("llama", {"num_hidden_layers": "12", "num_key_value_heads": "2"}, (128, 256, 512))
    assert made is not None
    factory, depth = made
    assert depth == 12 and factory.config(width=128, depth=3).num_hidden_layers == 3
    assert factory.config(width=256, depth=3).num_key_value_heads == 2
    assert by_depth("t5", {"num_layers": "3", "num_decoder_layers": "4"}, (128, 256, 512)) is None


def test_a_function_with_a_default_depth():
    def gpt(width, depth=12):
        raise AssertionError

    assert by_depth_of(gpt, (16, 32, 64)) == (gpt, 12)
    for other in (
        lambda width: 0,
        lambda width, depth: 0,
        lambda width, depth=None: 0,
        lambda width, heads, depth=2: 0,
    ):
        assert by_depth_of(other, (16, 32, 64)) is None
