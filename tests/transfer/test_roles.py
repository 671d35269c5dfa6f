"""Roles are read off what a weight meets: each way that models are written has one."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tpcalc
from tests.support.models import MODELS, example, program
from tests.support.zoo import ZOO
from tpcalc.trace.target import factory_of
from tpcalc.transfer.roles import Roles


def roles(traced):
    """Name -> roles in one text, for all that have one."""
    found = Roles(traced)
    table = {weight.name: " ".join(sorted(found.of(weight))) for weight in traced.weights}
    return {name: text for name, text in table.items() if text}


#: Model -> some of its weights.
CASES = {
    # tables, tokens and queries that no input picks from
    "vision_transformer": {"token": "positions", "position": "positions", "patch.weight": "embedding"},
    "patches": {"token": "positions", "position": "positions"},
    "perceiver": {"latents": "positions", "wq.weight": "hidden", "p.weight": "hidden projection"},
    "pooled_by_a_projected_query": {"probe": "positions", "wq.weight": "hidden"},
    # residual branches: behind a norm, gated, scaled, with a projected shortcut
    "torch_transformer": {
        "1.self_attn.in_proj_weight": "hidden",
        "1.self_attn.out_proj.weight": "hidden projection",
        "1.linear1.weight": "hidden",
        "1.linear2.weight": "hidden projection",
        "1.norm1.weight": "norm",
    },
    "diffusion_transformer": {
        "modulation.weight": "hidden",
        "attention.out.weight": "hidden projection",
        "mlp.2.weight": "hidden projection",
        "time.0.weight": "embedding",
    },
    "residual_gains": {"u.weight": "hidden", "d.weight": "hidden projection", "gain": "norm", "gate": "norm"},
    "mobilenet_v3": {
        "block.project.weight": "hidden projection",
        "block.excite.weight": "hidden",
        "block.depthwise.weight": "hidden",
    },
    "shared_layer": {"h.weight": "hidden projection"},
    # no branches: recurrence, low rank, graphs, skips by concatenation, gated units
    "rnn": {"rnn.weight_ih_l0": "embedding", "rnn.weight_hh_l0": "hidden"},
    "bidirectional_gru": {"rnn.weight_hh_l0": "hidden"},
    "lstm_cell": {"cell.weight_ih": "embedding", "cell.weight_hh": "hidden"},
    "lora": {"A": "hidden", "B": "hidden"},
    "graph_mean": {"one.weight": "hidden", "own_one.weight": "hidden"},
    "unet": {"join.weight": "hidden", "leave.weight": "readout"},
    "gated": {"up.weight": "hidden", "down.weight": "hidden"},
    "state_space": {"wb.weight": "hidden", "wc.weight": "hidden", "A": "bias", "D": "norm"},
    # gates
    "sparse_mixture": {"router.weight": "router", "router.bias": "bias", "experts.0.2.weight": "hidden projection"},
    "picked_experts": {"router.weight": "router", "experts": "hidden"},
    "squeeze_and_excite": {"down.weight": "hidden", "up.weight": "hidden"},
    "pooled_by_a_learned_query": {"query": "hidden"},
    # tied and factored weights
    "tied_autoencoder": {"w1.weight": "embedding readout", "w2": "hidden"},
    "weight_normalised": {
        "0.parametrizations.weight.original1": "embedding",
        "2.parametrizations.weight.original0": "norm",
        "2.parametrizations.weight.original1": "hidden",
        "4.parametrizations.weight.original1": "readout",
    },
    # norms: a gain of 1 + w, without training, after a readout
    "gemma": {"norm.gain": "norm"},
    "resnet_in_eval_mode": {"4.bn2.weight": "norm", "4.bn2.bias": "norm", "8.bias": "bias"},
    "cosine_classifier": {"prototypes": "readout", "h.weight": "hidden"},
    "dot_product_of_two_towers": {"a.weight": "hidden", "b.weight": "hidden"},
    "several_outputs": {"o.weight": "readout", "value.weight": "readout", "h.weight": "hidden"},
}


@pytest.mark.parametrize("name", CASES)
def test_roles(name):
    found = roles(program(MODELS.get(name) or ZOO[name]))
    assert {weight: found.get(weight) for weight in CASES[name]} == CASES[name]


@pytest.mark.parametrize("name", ["unused_and_frozen", "unused_parameters", "lora_on_a_frozen_base"])
def test_frozen_and_unused_weights_have_none(name):
    traced = program(MODELS.get(name) or ZOO[name])
    none = {weight.name for weight in traced.weights} - roles(traced).keys()
    assert none and none == {weight.name for weight in traced.weights if not weight.trainable or weight.grad is None}


@pytest.mark.parametrize("name", ["gpt", "gpt_mqa"])
def test_attention_has_no_router(name):
    """Its keys and values may have few features, and a softmax weighs by them."""
    found = roles(program(example("gpt.py", name)))
    assert {found[f"blocks.0.attn.{matrix}.weight"] for matrix in "qkv"} == {"hidden"}


class Residual(nn.Module):
    """Blocks on the inputs, or behind an embedding; with no readout the last branch reaches the output."""

    def __init__(self, n, head):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(6, n))
        self.i = nn.Linear(8, n)
        self.up, self.down = nn.Linear(n, n), nn.Linear(n, n)
        self.head = nn.Linear(n, 1) if head else nn.Identity()

    def forward(self, x):
        x = self.i(x) + self.table
        return self.head(x + F.relu(self.down(F.relu(self.up(x)))))


@pytest.mark.parametrize("head", [False, True])
def test_the_last_branch_is_no_readout(head):
    traced = tpcalc.trace(lambda width: (Residual(width, head), (torch.linspace(-1, 1, 96).reshape(2, 6, 8),)))
    expected = {
        "table": "positions",
        "i.weight": "embedding",
        "up.weight": "hidden",
        "down.weight": "hidden projection",
        "head.weight": "readout",
    }
    found = {name: text for name, text in roles(traced).items() if not name.endswith("bias")}
    assert found == {name: text for name, text in expected.items() if head or name != "head.weight"}


T5 = {"num_layers": "1", "num_decoder_layers": "1"}
#: Model type -> fields set, and the ends of the names of all weights but norms and biases.
LIBRARY = {
    "llama": (
        {},
        {
            "embed_tokens.weight": "embedding",
            **dict.fromkeys(("q_proj.weight", "k_proj.weight", "v_proj.weight"), "hidden"),
            **dict.fromkeys(("gate_proj.weight", "up_proj.weight"), "hidden"),
            **dict.fromkeys(("o_proj.weight", "down_proj.weight"), "hidden projection"),
            "lm_head.weight": "readout",
        },
    ),
    "gpt2": (
        {},
        {
            "wte.weight": "embedding readout",
            "wpe.weight": "positions",
            **dict.fromkeys(("c_attn.weight", "c_fc.weight"), "hidden"),
            "c_proj.weight": "hidden projection",
        },
    ),
    "gptj": (  # attention and feed-forward beside each other
        {},
        {
            "wte.weight": "embedding",
            **dict.fromkeys(("q_proj.weight", "k_proj.weight", "v_proj.weight", "fc_in.weight"), "hidden"),
            **dict.fromkeys(("out_proj.weight", "fc_out.weight"), "hidden projection"),
            "lm_head.weight": "readout",
        },
    ),
    "mixtral": (
        {},
        {
            "embed_tokens.weight": "embedding",
            **dict.fromkeys(("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_up_proj"), "hidden"),
            **dict.fromkeys(("o_proj.weight", "down_proj"), "hidden projection"),
            "mlp.gate.weight": "router",
            "lm_head.weight": "readout",
        },
    ),
    "vit": (
        {},
        {
            **dict.fromkeys(("cls_token", "position_embeddings"), "positions"),
            "patch_embeddings.projection.weight": "embedding",
            **dict.fromkeys(("q_proj.weight", "k_proj.weight", "v_proj.weight", "fc1.weight"), "hidden"),
            **dict.fromkeys(("o_proj.weight", "fc2.weight"), "hidden projection"),
            "classifier.weight": "readout",
        },
    ),
    "t5": (
        T5,
        {
            "shared.weight": "embedding readout",
            "relative_attention_bias.weight": "positions",
            **dict.fromkeys((".q.weight", ".k.weight", ".v.weight", "wi.weight"), "hidden"),
            **dict.fromkeys((".o.weight", "wo.weight"), "hidden projection"),
        },
    ),
    "mamba": (
        {},
        {
            "embeddings.weight": "embedding readout",
            **dict.fromkeys(("conv1d.weight", "in_proj.weight", "x_proj.weight", "dt_proj.weight"), "hidden"),
            "out_proj.weight": "hidden projection",
        },
    ),
    "gpt_oss": (  # experts and their biases picked by an index
        {},
        {
            "embed_tokens.weight": "embedding",
            "sinks": "positions",
            **dict.fromkeys(("q_proj.weight", "k_proj.weight", "v_proj.weight", "experts.gate_up_proj"), "hidden"),
            **dict.fromkeys(("o_proj.weight", "experts.down_proj"), "hidden projection"),
            "router.weight": "router",
            "lm_head.weight": "readout",
        },
    ),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_models_of_the_library(name):
    pytest.importorskip("transformers")
    fields, expected = LIBRARY[name]
    widths = (128, 256, 512)
    traced = tpcalc.trace(factory_of(f"hf:{name}", widths, fields or {"num_hidden_layers": "2"}), widths)
    found = {weight: text for weight, text in roles(traced).items() if text not in ("norm", "bias")}
    ends = {weight: [end for end in expected if weight.endswith(end)] for weight in found}
    assert {weight for weight, own in ends.items() if len(own) != 1} == set()
    assert {weight: expected[own] for weight, (own,) in ends.items()} == found
    assert {end for own in ends.values() for end in own} == set(expected)
    for weight, text in roles(traced).items():
        if text in ("norm", "bias"):
            assert ("norm" in weight.lower() or "ln_" in weight or weight.endswith(".D")) == (text == "norm"), weight
