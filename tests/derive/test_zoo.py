"""The zoo: every model derives, and every rule is that of its class by shape, or the exception that the zoo states."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tpcalc
from tests.support.zoo import EXCEPT, ZOO, Net, entry, points, readout
from tpcalc.derive.parametrize import parametrize
from tpcalc.derive.solve import solve
from tpcalc.errors import UnsupportedOpError
from tpcalc.optimizers import ADAMW, SGD
from tpcalc.trace.hf import hf_factory

WIDTHS = (64, 128, 256)

#: Class -> b, c under Adam, c under SGD, eps.
CLASSES = {"input": (0, 0, -1, -1), "hidden": ("1/2", 1, 0, -1), "output": (1, 1, 1, 0), "finite": (0, 0, 0, 0)}


def class_of(rule) -> str:
    """By the growth of fan-out and fan-in, for weights of layout (out, in, kernel)."""
    growths = [size.growth for size in rule.shape]
    fan_out, fan_in = (growths + [0])[0], sum(growths[1:])
    return {(0, 0): "finite", (1, 0): "input", (0, 1): "output", (1, 1): "hidden"}[(min(fan_out, 1), min(fan_in, 1))]


def expected(rule, exceptions) -> tuple:
    ends = [
        end for end in exceptions if any(name == end or name.endswith(f".{end}") for name in (rule.name, *rule.aliases))
    ]
    found = exceptions[max(ends, key=len)] if ends else class_of(rule)
    return tuple(map(Fraction, CLASSES[found] if isinstance(found, str) else found))


def check(solution, exceptions) -> None:
    adam, sgd = parametrize(solution, ADAMW), parametrize(solution, SGD)
    embeddings = {
        w.name for w in solution.lowered.program.weights if w.module_type.endswith(("Embedding", "EmbeddingBag"))
    }
    found, wanted = {}, {}
    for name, rule in adam.items():
        if rule.name in embeddings and not any(rule.name.endswith(end) for end in exceptions):
            wanted[name] = tuple(map(Fraction, CLASSES["input"]))
        else:
            wanted[name] = expected(rule, exceptions)
        found[name] = (rule.b, rule.c, sgd[name].c, rule.eps)
    assert found == wanted


@pytest.mark.parametrize("name", ZOO)
def test_rules(name):
    solution = solve(tpcalc.trace(ZOO[name], WIDTHS))
    check(solution, EXCEPT[name])
    assert not solution.sites


def test_a_spectrally_normalised_readout_needs_a_multiplier():
    """Its rows have length 1: aligned features give sqrt(n)."""
    norm = nn.utils.parametrizations.spectral_norm
    rules = tpcalc.derive(
        tpcalc.trace(lambda n: (nn.Sequential(entry(n), nn.ReLU(), norm(readout(n))), (points(),)), WIDTHS)
    )
    assert [(site.op, site.found, site.needed) for site in rules.sites] == [("aten.addmm.default", Fraction(1, 2), 0)]


@pytest.mark.parametrize("decompose", [torch.linalg.svd, torch.linalg.qr, torch.matrix_exp], ids=lambda f: f.__name__)
def test_decompositions_of_growing_matrices_are_refused(decompose):
    def factory(n):
        def run(s, x):
            found = decompose(s.w)
            return s.o(s.i(x) @ (found if isinstance(found, torch.Tensor) else found[0]))

        return Net(run, i=entry(n), w=nn.Parameter(torch.eye(n)), o=readout(n)), (points(),)

    with pytest.raises(
        UnsupportedOpError, match=r"grows with width \(module \(top\), line test_zoo.py:\d+\).* spectrum"
    ):
        tpcalc.derive(tpcalc.trace(factory, WIDTHS))


def test_what_follows_a_norm_is_not_made_larger_by_its_start():
    """A norm right behind a growing-to-finite weight: at init it makes n^-1/2 into 1, and its gradient n^1/2 times
    larger; after the first step the value is of order 1, and epsilon follows the gradients that remain.
    """

    def factory(n):
        def run(s, x):
            x = F.relu(s.i(x))
            return s.o(x * s.up(F.rms_norm(s.w(x), (16,))))

        return Net(run, i=entry(n), w=nn.Linear(n, 16, bias=False), up=nn.Linear(16, n), o=readout(n)), (points(),)

    rules = tpcalc.derive(tpcalc.trace(factory, WIDTHS))
    assert {name: (rule.b, rule.c, rule.eps) for name, rule in rules.items() if name.endswith("weight")} == {
        "i.weight": (0, 0, -1), "w.weight": (1, 1, 0), "up.weight": (0, 0, -1), "o.weight": (1, 1, 0),
    }  # fmt: skip


# --- Hugging Face --------------------------------------------------------------------------------------------------

#: The final norm before a tied readout makes up for the n of its contraction.
TIED = (1, 1, 1, 0)
#: Embeddings that the code makes larger by sqrt(n), and the final norm that makes up for what is left of it.
ROOT = ("1/2", "1/2", 0, "-1/2")
#: Keys and values of finite size, the state's inputs and outputs: rows that need the readout's init.
PACKED = (1, 1, 1, -1)

#: Model type -> where its rules differ from those by shape (see :data:`zoo.EXCEPT`).  Everything else is hidden
#: (1/2, 1, 0), input (0, 0, -1) or readout (1, 1, 1).
HUGGING_FACE: dict[str, dict] = {
    "gpt2": {"ln_f.weight": TIED, "ln_f.bias": TIED},
    "gpt_neo": {"ln_f.weight": TIED, "ln_f.bias": TIED},
    "gpt_neox": {},
    "opt": {"decoder.final_layer_norm.weight": TIED, "decoder.final_layer_norm.bias": TIED},
    "bloom": {"ln_f.weight": TIED, "ln_f.bias": TIED},
    "phi": {}, "llama": {}, "mistral": {}, "qwen2": {}, "qwen3": {}, "olmo2": {}, "granite": {},
    "gemma": {"embed_tokens.weight": ROOT},
    "gemma2": {"embed_tokens.weight": ROOT},
    "gemma3_text": {"embed_tokens.weight": ROOT},
    "minicpm3": {"kv_a_proj_with_mqa.weight": PACKED},
    "cohere": {"model.norm.weight": TIED},
    **{name: {"gate_up_proj": "hidden", "down_proj": "hidden"} for name in ("mixtral", "qwen3_moe", "granitemoe")},
    "bert": {"transform.LayerNorm.weight": TIED, "transform.LayerNorm.bias": TIED},
    "roberta": {"lm_head.layer_norm.weight": TIED, "lm_head.layer_norm.bias": TIED},
    "electra": {"generator_predictions.LayerNorm.weight": TIED, "generator_predictions.LayerNorm.bias": TIED},
    "deberta-v2": {"transform.LayerNorm.weight": TIED, "transform.LayerNorm.bias": TIED},
    "t5": {"decoder.final_layer_norm.weight": ROOT},
    "bart": {f"model.decoder.layers.0.final_layer_norm.{part}": TIED for part in ("weight", "bias")},
    "whisper": {
        "model.decoder.layer_norm.weight": TIED, "model.decoder.layer_norm.bias": TIED,
        "encoder.embed_positions.weight": (0, 0, 0, 0),
    },
    "vit": {"cls_token": "input", "position_embeddings": "input"},
    "deit": {"cls_token": "input", "distillation_token": "input", "position_embeddings": "input"},
    # a fixed number of heads in each stage, so that their dimension grows
    "swin": {"q_proj.weight": (1, "3/2", 1, "-1/2"), "q_proj.bias": ROOT},
    "convnext": {"dwconv.weight": "input"},
    "clip": {},
    "mamba": {"norm_f.weight": TIED, "x_proj.weight": PACKED, "conv1d.weight": "input"},
    "mamba2": {"in_proj.weight": PACKED, "conv1d.weight": (0, 0, 0, -1), "conv1d.bias": (0, 0, 0, -1)},
}  # fmt: skip
#: Settings that keep them shallow.
SHALLOW = {
    "gpt_neo": {"num_layers": "2", "attention_types": "[[['global', 'local'], 1]]"},
    "t5": {"num_layers": "1", "num_decoder_layers": "1"},
    "bart": {"encoder_layers": "1", "decoder_layers": "1"},
    "whisper": {"encoder_layers": "1", "decoder_layers": "1"},
    "swin": {"depths": "[1, 1]", "num_heads": "[4, 8]"},
    "convnext": {"depths": "[1, 1, 1, 1]"},
    "clip": {"text_config.num_hidden_layers": "1", "vision_config.num_hidden_layers": "1"},
}


@pytest.mark.parametrize("model_type", HUGGING_FACE)
def test_hugging_face(model_type):
    """gemma ties its embedding behind a norm of gain 1 + w, which no weight can make up for: one site."""
    pytest.importorskip("transformers")
    options = SHALLOW.get(model_type, {"num_hidden_layers": "1"})
    program = tpcalc.trace(hf_factory(model_type, overrides=options), (128, 256, 512))
    assert all(weight.init and all(law.kind != "unknown" for _, law in weight.init) for weight in program.weights)
    assert any(weight.trainable for weight in program.weights)
    solution = solve(program)
    sites = [(site.op, site.found, site.needed) for site in solution.sites]
    assert sites == ([("aten.mm.default", Fraction(1, 2), 0)] if model_type.startswith("gemma") else [])
    check(solution, HUGGING_FACE[model_type])


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "bert", "t5"])
def test_hugging_face_with_growing_heads(model_type):
    """Queries take the n^-1/2 that 1/sqrt(d) leaves (T5 does not divide at all: n^-1)."""
    pytest.importorskip("transformers")
    options, scales = SHALLOW.get(model_type, {"num_hidden_layers": "1"}), {"head_dim": (16, 32, 64)}
    rules = tpcalc.derive(tpcalc.trace(hf_factory(model_type, overrides=options, scales=scales), scales=scales))
    query = {
        "gpt2": "h.0.attn.c_attn.weight", "llama": "layers.0.self_attn.q_proj.weight",
        "bert": "layer.0.attention.self.query.weight", "t5": "encoder.block.0.layer.0.SelfAttention.q.weight",
    }[model_type]  # fmt: skip
    (found,) = [rule for name, rule in rules.items() if name.endswith(query)]
    parts = [(s.formulas["init_std"], s.formulas["lr"]) for s in found.slices or [found]]
    expected = ["d^-3/2", "d^-2"] if model_type == "t5" else ["d^-1", "d^-3/2"]
    assert expected in [list(map(str, part)) for part in parts]
    assert not rules.sites
