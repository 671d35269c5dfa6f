"""Derived rules: a golden table over very different models, and what does not matter for them.

The rules of a class at a = 0 by the papers (TP4 Table 1, TP5 Table 3), as (b, c under Adam, c under SGD):
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

import tpcalc
from tests.support.models import MODELS, derived, program
from tpcalc.derive.parametrize import parametrize
from tpcalc.derive.result import Parametrization
from tpcalc.derive.solve import solve
from tpcalc.optimizers import ADAM, SGD

H = "1/2"
CLASSES = {
    "input": (0, 0, -1),  # also biases and gains
    "hidden": (H, 1, 0),
    "output": (1, 1, 1),
    "finite": (0, 0, 0),
}
IN, HID, OUT, FIN = CLASSES["input"], CLASSES["hidden"], CLASSES["output"], CLASSES["finite"]

#: Names end in these unless a model's own entry says otherwise.
USUAL = {
    "i.weight": IN,
    "i.bias": IN,
    "o.weight": OUT,
    "o.bias": FIN,
    "h.weight": HID,
    "h.bias": IN,
    "e.weight": IN,
    "norm.gain": IN,
}

BLOCK = {
    "ln1.weight": IN,
    "ln1.bias": IN,
    "ln2.weight": IN,
    "ln2.bias": IN,
    "attn.q.weight": HID,
    "attn.k.weight": HID,
    "attn.v.weight": HID,
    "attn.proj.weight": HID,
    "fc.weight": HID,
    "fc.bias": IN,
    "mlp.proj.weight": HID,
    "mlp.proj.bias": IN,
}
GPT = {**BLOCK, "token.weight": IN, "position.weight": IN, "norm.weight": IN, "norm.bias": IN, "head.weight": OUT}
ATTENTION = {"q.weight": HID, "k.weight": HID, "v.weight": HID, "p.weight": HID}

#: Model -> end of a parameter's name -> rules; the longest end that fits counts.
GOLDEN: dict[str, dict[str, tuple]] = {
    "mlp": {
        "input.weight": IN,
        "input.bias": IN,
        "hidden.weight": HID,
        "hidden.bias": IN,
        "output.weight": OUT,
        "output.bias": FIN,
    },
    "resnet": {
        "stem.weight": IN,
        "conv1.weight": HID,
        "conv2.weight": HID,
        "shortcut.weight": HID,
        "head.weight": OUT,
        "head.bias": FIN,
        **{f"{norm}.{part}": IN for norm in ("norm", "bn1", "bn2") for part in ("weight", "bias")},
    },
    "gpt": GPT,
    "gpt_growing_heads": {**GPT, "attn.q.weight": (1, "3/2", 1)},
    "gpt_growing_heads_mup": GPT,
    "gpt_mqa": {**GPT, "attn.k.weight": OUT, "attn.v.weight": OUT},
    "gpt_moe": {**GPT, "router.weight": OUT, "proj.weight": HID, "proj.bias": IN},
    # the token embedding is looked up and read out: the final norm makes up for it
    "gpt_tied": {
        **GPT,
        "head.weight": IN,
        "norm.weight": (1, 1, 1),
        "norm.bias": (1, 1, 1),
        "ln1.weight": IN,
        "ln1.bias": IN,
    },
    "multiplier_after_readout": {"o.weight": (0, 0, -1)},
    "multiplier_before_readout": {"o.weight": (0, 0, -1), "gain": IN, "bias": IN},
    "ntk": {"0.w": IN, "2.w": (0, H, -1), "4.w": (H, H, 0), "b": IN, "4.b": FIN},
    "bottleneck": {
        "0.weight": IN,
        "0.bias": IN,
        "2.weight": OUT,
        "2.bias": FIN,
        "4.weight": IN,
        "4.bias": IN,
        "6.weight": OUT,
        "6.bias": FIN,
    },
    "unused_and_frozen": {"unused.weight": FIN, "unused.bias": FIN, "h.weight": (H, 1, 1), "h.bias": FIN},
    "gated": {"up.weight": HID, "up.bias": IN, "down.weight": HID, "down.bias": IN},
    "learned_slope": {
        "0.weight": IN,
        "0.bias": IN,
        "1.weight": IN,
        "2.weight": HID,
        "2.bias": IN,
        "3.weight": FIN,
        "4.weight": OUT,
        "4.bias": FIN,
    },
    "residual_gains": {
        "gain": IN,
        "gate": FIN,
        "u.weight": HID,
        "d.weight": HID,
        "v.weight": HID,
        "u.bias": IN,
        "d.bias": IN,
        "v.bias": IN,
    },
    # features that never move meet the readout as the independent values they are at init: law 1
    "random_features": {"basis": FIN, "o.weight": (H, 1, 1)},
    "hf_conv1d": {"0.w": IN, "2.w": HID, "4.w": HID, "6.w": OUT, "b": IN, "6.b": FIN},
    # the contraction runs over n^2 entries, of which one factor changes at a time
    "bilinear": {
        "j.weight": IN,
        "j.bias": IN,
        "b.weight": (1, 2, 1),
        "b.bias": IN,
        "last.weight": ("3/2", 2, 2),
        "last.bias": FIN,
    },
    "lora": {"A": OUT, "B": IN, "base.weight": (H, 1, 1), "base.bias": FIN},
    "stacked_experts": {"router.weight": OUT, "router.bias": FIN, "up": HID, "down": HID},
    "picked_experts": {"router.weight": OUT, "router.bias": FIN, "experts": HID},
    # the size of a normalised weight is free; its update is n^-1/2 of it in a hidden layer
    "unit_vectors": {"up": (0, H, -1), "down": (0, H, -1), "out": IN, "step": IN, "temperature": FIN},
    # value x value: the first of the two, here the features, absorbs the n
    "hypernetwork": {
        "i.weight": (1, 1, 1),
        "i.bias": (1, 1, 1),
        "j.weight": FIN,
        "j.bias": FIN,
        "make.weight": IN,
        "make.bias": IN,
    },
    "shared_layer": {},
    # the operator norm: fan-in n and fan-out sqrt(n) give max(1/2, 1 - 1/4)
    "square_root_bottleneck": {
        "0.weight": IN,
        "0.bias": IN,
        "2.weight": ("3/4", 1, H),
        "2.bias": (0, 0, "-1/2"),
        "4.weight": ("1/4", H, "-1/2"),
        "4.bias": IN,
        "6.weight": OUT,
        "6.bias": FIN,
    },
    "mean_over_width": {},
    "tied_autoencoder": {"w1.weight": IN, "w1.bias": IN, "w2": HID},
    "rms_norms": {
        "0.weight": IN,
        "2.weight": HID,
        "4.weight": HID,
        "6.weight": OUT,
        "bias": IN,
        "6.bias": FIN,
        "gain": IN,
    },
    "group_norms": {
        "0.weight": IN,
        "0.bias": IN,
        "1.weight": IN,
        "1.bias": IN,
        "3.weight": HID,
        "3.bias": IN,
        "4.weight": IN,
        "4.bias": IN,
        "8.weight": OUT,
        "8.bias": FIN,
    },
    "gemma": {"e.weight": (H, H, 0)},
    "gemma_tied": {"e.weight": (H, H, 0), "norm.gain": (H, H, 0)},
    "t5_tied": {"norm.gain": (H, H, 0)},
    "tied_without_gain": {},
    "tied_with_gain_plus_one": {},
    "qk_norm_without_gain": ATTENTION,
    "qk_norm_without_gain_mup": ATTENTION,
    "qk_norm_with_gain": {**ATTENTION, "q_gain": (H, H, 0), "k_gain": IN},
    "cosine_attention": {**ATTENTION, "temperature": FIN},
    "pooled_by_a_learned_query": {"query": (H, H, 0)},
    "torch_transformer": {
        "0.weight": IN,
        "0.bias": IN,
        "in_proj_weight": HID,
        "in_proj_bias": IN,
        "out_proj.weight": HID,
        "out_proj.bias": IN,
        "linear1.weight": HID,
        "linear1.bias": IN,
        "linear2.weight": HID,
        "linear2.bias": IN,
        "norm1.weight": IN,
        "norm1.bias": IN,
        "norm2.weight": IN,
        "norm2.bias": IN,
        "2.weight": OUT,
        "2.bias": FIN,
    },
    "dot_product_of_two_towers": {"a.weight": ("3/2", 2, 2), "a.bias": (1, 1, 1), "b.weight": HID, "b.bias": IN},
    "cosine_of_two_towers": {"a.weight": HID, "a.bias": IN, "b.weight": HID, "b.bias": IN, "temperature": FIN},
    "lstm": {
        "weight_ih_l0": IN,
        "weight_hh_l0": HID,
        "weight_ih_l1": HID,
        "weight_hh_l1": HID,
        **{f"bias_{x}h_l{layer}": IN for x in "ih" for layer in (0, 1)},
    },
    "gru": {"weight_ih_l0": IN, "weight_hh_l0": HID, "bias_ih_l0": IN, "bias_hh_l0": IN},
    "unrolled_rnn": {},
    "mean_pooled": {},
    "depthwise": {
        "0.weight": IN,
        "0.bias": IN,
        "2.weight": IN,
        "2.bias": IN,
        "4.weight": HID,
        "4.bias": IN,
        "8.weight": OUT,
        "8.bias": FIN,
    },
    "grouped_convolutions": {
        "0.weight": IN,
        "0.bias": IN,
        "2.weight": HID,
        "2.bias": IN,
        "4.weight": IN,
        "4.bias": IN,
        "8.weight": OUT,
        "8.bias": FIN,
    },
    "transposed_convolutions": {
        "0.weight": IN,
        "0.bias": IN,
        "2.weight": HID,
        "2.bias": IN,
        "4.weight": OUT,
        "4.bias": FIN,
    },
    "squeeze_and_excite": {
        "c.weight": IN,
        "c.bias": IN,
        "down.weight": OUT,
        "down.bias": FIN,
        "up.weight": IN,
        "up.bias": IN,
    },
    "patches": {"patch.weight": IN, "patch.bias": IN, "token": IN, "position": IN},
}
#: Checked by tests of their own.
APART = {"weight_normalised"}


def expected(name: str, weight: str) -> tuple[Fraction, Fraction, Fraction]:
    table = {**USUAL, **GOLDEN[name]}
    fitting = [end for end in table if weight == end or weight.endswith(f".{end}")]
    return tuple(map(Fraction, table[max(fitting, key=len)]))


def test_every_model_has_golden_rules():
    assert set(GOLDEN) | APART == set(MODELS)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_rules(name):
    adam, sgd = derived(name, "adam"), derived(name, "sgd")
    found = {weight: (rule.b, rule.c, sgd[weight].c) for weight, rule in adam.items()}
    assert found == {weight: expected(name, weight) for weight in found}
    assert all(rule.a == 0 for rule in adam.values())


def test_tied_weights_share_a_rule():
    rules = derived("gpt_tied", "adam")
    assert rules["head.weight"] is rules["token.weight"] and rules["token.weight"].aliases == ("head.weight",)


def test_weight_norm_updates_directions_relative_to_their_size():
    """W = g v/|v|: v's size is free (b = 0 here), its update may be n^-1/2 of it in a hidden layer (muP's C - A), and
    O(1) of it at the ends.
    """
    rules = derived("weight_normalised", "adam")
    v = [rules[f"{layer}.parametrizations.weight.original1"] for layer in (0, 2, 4)]
    assert [rule.C - rule.A for rule in v] == [0, Fraction(1, 2), 0]
    g = [rules[f"{layer}.parametrizations.weight.original0"] for layer in (0, 2, 4)]
    assert [rule.b for rule in g] == [0, 0, Fraction(1, 2)]


# --- invariances ---


def exponents(rules: Parametrization) -> list[tuple]:
    return sorted((str(r.shape_text), r.b, r.c, r.weight_decay, r.eps, r.role) for r in rules.values())


@pytest.mark.parametrize("name", ["mlp", "gpt_tied", "gpt_growing_heads", "stacked_experts", "weight_normalised"])
def test_names_do_not_matter(name):
    """Nor does the order in which the parameters are listed."""
    plain = program(MODELS[name])
    weights = tuple(
        replace(w, name=f"p{i}", aliases=tuple(f"p{i}_{j}" for j in range(len(w.aliases))), module_type="")
        for i, w in enumerate(reversed(plain.weights))
    )
    values = {vid: replace(v, name="") if v.kind == "weight" else v for vid, v in plain.values.items()}
    renamed = replace(plain, weights=weights, values=values)
    for law in (ADAM, SGD):
        assert exponents(parametrize(solve(renamed), law)) == exponents(parametrize(solve(plain), law))


@pytest.mark.parametrize("name", ["mlp", "gpt_mqa", "gpt_growing_heads", "gated", "lstm"])
def test_the_order_of_independent_ops_does_not_matter(name):
    """Any topological order of the forward ops gives the same rules (here: the one that always takes the latest)."""
    plain = program(MODELS[name])
    waiting = [node for node in plain.nodes if node.phase == "forward"]
    defined = {vid for vid, value in plain.values.items() if value.kind != "op"}
    ordered = []
    while waiting:
        node = next(node for node in reversed(waiting) if all(ref in defined for ref in node.refs))
        waiting.remove(node)
        defined.update(out for out in node.outputs if out is not None)
        ordered.append(node)
    ordered += [node for node in plain.nodes if node.phase != "forward"]
    permuted = replace(plain, nodes=tuple(replace(node, index=i) for i, node in enumerate(ordered)))
    assert permuted.nodes != plain.nodes
    assert exponents(parametrize(solve(permuted), ADAM)) == exponents(derived(name, "adam"))


@pytest.mark.parametrize("name", ["mlp", "gpt_growing_heads"])
def test_the_widths_do_not_matter(name):
    other = tpcalc.derive(tpcalc.trace(MODELS[name], (32, 64, 96, 160)), "adam")
    assert exponents(other) == exponents(derived(name, "adam"))
