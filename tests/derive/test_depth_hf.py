"""Depth of Hugging Face models: their streams are found, and their weights have the rows of the table."""

from __future__ import annotations

from fractions import Fraction

import pytest

import tpcalc
from tests.support.depths import rules
from tpcalc.algebra.form import coordinates
from tpcalc.derive.parametrize import parametrize
from tpcalc.derive.solve import solve

pytest.importorskip("transformers")

SCALES = {"width": (64, 128, 256), "depth": (2, 3)}
HALF = Fraction(1, 2)


#: Ends of the names of the weights that take L^-1, and of gains on the stream; sites for a period.
CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...], int]] = {
    "llama": (("o_proj.weight", "down_proj.weight"), (), 0),
    "gpt2": (("attn.c_proj.weight", "attn.c_proj.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"), (), 0),
}
SLOW: dict[str, tuple[tuple[str, ...], tuple[str, ...], int]] = {
    "gpt_neox": (("attention.dense.weight", "attention.dense.bias", "4h_to_h.weight", "4h_to_h.bias"), (), 0),
    "gemma2": ((), (), 2),
    "gemma3_text": ((), (), 2),
    "bert": (
        ("layer.*.output.dense.weight", "layer.*.output.dense.bias", "layer.*.output.LayerNorm.bias"),
        ("layer.*.output.LayerNorm.weight",),
        0,
    ),
    "albert": (
        (
            "attention.dense.weight",
            "attention.dense.bias",
            "attention.LayerNorm.bias",
            "ffn_output.weight",
            "ffn_output.bias",
            "full_layer_layer_norm.bias",
        ),
        ("attention.LayerNorm.weight", "full_layer_layer_norm.weight"),
        0,
    ),
    "t5": (("SelfAttention.o.weight", "EncDecAttention.o.weight", "DenseReluDense.wo.weight"), (), 0),
    "whisper": (("out_proj.weight", "out_proj.bias", "fc2.weight", "fc2.bias"), (), 0),
    "mixtral": (("o_proj.weight", "experts.down_proj"), (), 0),
    "deepseek_v3": (("o_proj.weight", "experts.down_proj", "down_proj.weight"), (), 0),
    "mamba": (("mixer.out_proj.weight",), (), 0),
    "vit": (("o_proj.weight", "o_proj.bias", "fc2.weight", "fc2.bias"), (), 0),
    "qwen3": (("o_proj.weight", "down_proj.weight"), (), 0),
    "falcon": (("self_attention.dense.weight", "mlp.dense_4h_to_h.weight"), (), 0),
    "olmo2": (("post_attention_layernorm.weight", "post_feedforward_layernorm.weight"), (), 0),
    "granite": (("o_proj.weight", "down_proj.weight"), (), 0),
    # with a vision model beside the text, which no text needs
    "gemma3": ((), (), 2),
    # stages, all as deep; their first blocks change the size
    "resnet": (("layer.2.normalization.weight", "layer.2.normalization.bias"), (), 0),
    "swin": (("o_proj.weight", "o_proj.bias", "fc2.weight", "fc2.bias"), (), 0),
}


def ends(name: str, some: tuple[str, ...]) -> bool:
    """Whether a name ends so; ``layer.*`` stands for a module anywhere before."""
    return any(name.endswith(end.rpartition("*.")[2]) and end.partition(".*")[0] in name for end in some)


@pytest.mark.parametrize("name", [*CASES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_rows(name):
    last, gains, sites = {**CASES, **SLOW}[name]
    program = tpcalc.trace(f"hf:{name}", scales=SCALES)
    found, half = (rules(program, alpha) for alpha in (1, HALF))
    plain = parametrize(solve(program), "adamw", "init")
    seen = set()
    for weight, rule in found.items():
        # dense layers of deepseek do not repeat, and the readouts of bert and albert end as blocks do
        alone = tuple(f"model.layers.{i}." for i in range(3)) if name == "deepseek_v3" else ()
        outside = "predictions" in weight or weight.startswith(alone)
        row = "" if outside else "last" if ends(weight, last) else "gain" if ends(weight, gains) else ""
        seen.add(row)
        assert rule.A is not None and rule.C is not None
        powers = rule.A["L"], rule.C["L"]
        assert (rule.A["n"], rule.C["n"]) == tuple(coordinates(x, 2)[0] for x in (plain[weight].A, plain[weight].C))
        assert powers == {"last": (1, 1), "gain": (0, 1), "": (0, 0)}[row], weight
        A, C = half[weight].A, half[weight].C
        assert A is not None and C is not None
        powers = A["L"], C["L"]
        alpha = 1 if name == "albert" else HALF
        assert powers in {"last": [(alpha, 1)], "gain": [(0, 1)], "": [(0, 0), (0, 1 - alpha)]}[row], weight
    assert seen == {"", *(["last"] if last else []), *(["gain"] if gains else [])}
    deep = [site for site in found.sites if "multiply it by depth^-1" in site.message]
    periods = max(loop.count for loop in program.repeats.loops)
    assert len(deep) == sites * periods and len(found.sites) - len(deep) == len(plain.sites)
