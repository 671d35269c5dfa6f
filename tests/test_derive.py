"""Derived rules: a golden table over very different models, certificates, and that the rules do what they promise.

The rules of a class at a = 0 by the papers (TP4 Table 1, TP5 Table 3, TP4b for epsilon), as (b, c under Adam, c under SGD):
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

import pytest
from models import MODELS, program, solution

import tpcalc
from tpcalc.certificate import certify
from tpcalc.derive import parametrize, solve
from tpcalc.given import Given, analyse
from tpcalc.lowering import lower
from tpcalc.optimizers import ADAM, ADAMW, SGD
from tpcalc.order import MINUS_INFINITY
from tpcalc.parametrization import Parametrization
from tpcalc.regime import MAXIMAL, UNSTABLE, regime

H = "1/2"
CLASSES = {
    "input": (0, 0, -1),  # also biases and gains
    "hidden": (H, 1, 0),
    "output": (1, 1, 1),
    "finite": (0, 0, 0),
}
I, HID, OUT, FIN = CLASSES["input"], CLASSES["hidden"], CLASSES["output"], CLASSES["finite"]

#: Names end in these unless a model's own entry says otherwise.
USUAL = {"i.weight": I, "i.bias": I, "o.weight": OUT, "o.bias": FIN, "h.weight": HID, "h.bias": I, "e.weight": I, "norm.gain": I}

BLOCK = {
    "ln1.weight": I, "ln1.bias": I, "ln2.weight": I, "ln2.bias": I, "attn.q.weight": HID, "attn.k.weight": HID, "attn.v.weight": HID,
    "attn.proj.weight": HID, "fc.weight": HID, "fc.bias": I, "mlp.proj.weight": HID, "mlp.proj.bias": I,
}
GPT = {**BLOCK, "token.weight": I, "position.weight": I, "norm.weight": I, "norm.bias": I, "head.weight": OUT}
ATTENTION = {"q.weight": HID, "k.weight": HID, "v.weight": HID, "p.weight": HID}

#: Model -> end of a parameter's name -> rules; the longest end that fits counts.
GOLDEN: dict[str, dict[str, tuple]] = {
    "mlp": {"input.weight": I, "input.bias": I, "hidden.weight": HID, "hidden.bias": I, "output.weight": OUT, "output.bias": FIN},
    "resnet": {
        "stem.weight": I, "conv1.weight": HID, "conv2.weight": HID, "shortcut.weight": HID, "head.weight": OUT, "head.bias": FIN,
        **{f"{norm}.{part}": I for norm in ("norm", "bn1", "bn2") for part in ("weight", "bias")},
    },
    "gpt": GPT,
    "gpt_growing_heads": {**GPT, "attn.q.weight": (1, "3/2", 1)},
    "gpt_growing_heads_mup": GPT,
    "gpt_mqa": {**GPT, "attn.k.weight": OUT, "attn.v.weight": OUT},
    "gpt_moe": {**GPT, "router.weight": OUT, "proj.weight": HID, "proj.bias": I},
    # the token embedding is looked up and read out: the final norm makes up for it
    "gpt_tied": {**GPT, "head.weight": I, "norm.weight": (1, 1, 1), "norm.bias": (1, 1, 1), "ln1.weight": I, "ln1.bias": I},
    "multiplier_after_readout": {"o.weight": (0, 0, -1)},
    "multiplier_before_readout": {"o.weight": (0, 0, -1), "gain": I, "bias": I},
    "ntk": {"0.w": I, "2.w": (0, H, -1), "4.w": (H, H, 0), "b": I, "4.b": FIN},
    "bottleneck": {"0.weight": I, "0.bias": I, "2.weight": OUT, "2.bias": FIN, "4.weight": I, "4.bias": I, "6.weight": OUT, "6.bias": FIN},
    "unused_and_frozen": {"unused.weight": FIN, "unused.bias": FIN, "h.weight": (H, 1, 1), "h.bias": FIN},
    "gated": {"up.weight": HID, "up.bias": I, "down.weight": HID, "down.bias": I},
    "learned_slope": {"0.weight": I, "0.bias": I, "1.weight": I, "2.weight": HID, "2.bias": I, "3.weight": FIN, "4.weight": OUT, "4.bias": FIN},
    "residual_gains": {"gain": I, "gate": FIN, "u.weight": HID, "d.weight": HID, "v.weight": HID, "u.bias": I, "d.bias": I, "v.bias": I},
    # features that never move meet the readout as the independent values they are at init: law 1
    "random_features": {"basis": FIN, "o.weight": (H, 1, 1)},
    "hf_conv1d": {"0.w": I, "2.w": HID, "4.w": HID, "6.w": OUT, "b": I, "6.b": FIN},
    # the contraction runs over n^2 entries
    "bilinear": {"j.weight": I, "j.bias": I, "b.weight": ("3/2", 2, 1), "b.bias": I, "last.weight": (2, 2, 2), "last.bias": FIN},
    "lora": {"A": OUT, "B": I, "base.weight": (H, 1, 1), "base.bias": FIN},
    "stacked_experts": {"router.weight": OUT, "router.bias": FIN, "up": HID, "down": HID},
    "picked_experts": {"router.weight": OUT, "router.bias": FIN, "experts": HID},
    # the size of a normalised weight is free; its update is n^-1/2 of it in a hidden layer
    "unit_vectors": {"up": (0, H, -1), "down": (0, H, -1), "out": I, "step": I, "temperature": FIN},
    # value x value: the first of the two, here the features, absorbs the n
    "hypernetwork": {"i.weight": (1, 1, 1), "i.bias": (1, 1, 1), "j.weight": FIN, "j.bias": FIN, "make.weight": I, "make.bias": I},
    "shared_layer": {},
    # the operator norm: fan-in n and fan-out sqrt(n) give max(1/2, 1 - 1/4)
    "square_root_bottleneck": {
        "0.weight": I, "0.bias": I, "2.weight": ("3/4", 1, H), "2.bias": (0, 0, "-1/2"), "4.weight": ("1/4", H, "-1/2"), "4.bias": I,
        "6.weight": OUT, "6.bias": FIN,
    },
    "mean_over_width": {},
    "tied_autoencoder": {"w1.weight": I, "w1.bias": I, "w2": HID},
    "rms_norms": {"0.weight": I, "2.weight": HID, "4.weight": HID, "6.weight": OUT, "bias": I, "6.bias": FIN, "gain": I},
    "group_norms": {"0.weight": I, "0.bias": I, "1.weight": I, "1.bias": I, "3.weight": HID, "3.bias": I, "4.weight": I, "4.bias": I, "8.weight": OUT, "8.bias": FIN},
    "gemma": {"e.weight": (H, H, 0)},
    "gemma_tied": {"e.weight": (H, H, 0), "norm.gain": (H, H, 0)},
    "t5_tied": {"norm.gain": (H, H, 0)},
    "tied_without_gain": {},
    "tied_with_gain_plus_one": {},
    "qk_norm_without_gain": ATTENTION,
    "qk_norm_without_gain_mup": ATTENTION,
    "qk_norm_with_gain": {**ATTENTION, "q_gain": (H, H, 0), "k_gain": I},
    "cosine_attention": {**ATTENTION, "temperature": FIN},
    "pooled_by_a_learned_query": {"query": (H, H, 0)},
    "torch_transformer": {
        "0.weight": I, "0.bias": I, "in_proj_weight": HID, "in_proj_bias": I, "out_proj.weight": HID, "out_proj.bias": I, "linear1.weight": HID,
        "linear1.bias": I, "linear2.weight": HID, "linear2.bias": I, "norm1.weight": I, "norm1.bias": I, "norm2.weight": I, "norm2.bias": I,
        "2.weight": OUT, "2.bias": FIN,
    },
    "dot_product_of_two_towers": {"a.weight": ("3/2", 2, 2), "a.bias": (1, 1, 1), "b.weight": HID, "b.bias": I},
    "cosine_of_two_towers": {"a.weight": HID, "a.bias": I, "b.weight": HID, "b.bias": I, "temperature": FIN},
    "lstm": {
        "weight_ih_l0": I, "weight_hh_l0": HID, "weight_ih_l1": HID, "weight_hh_l1": HID,
        **{f"bias_{x}h_l{layer}": I for x in "ih" for layer in (0, 1)},
    },
    "gru": {"weight_ih_l0": I, "weight_hh_l0": HID, "bias_ih_l0": I, "bias_hh_l0": I},
    "unrolled_rnn": {},
    "mean_pooled": {},
    "depthwise": {"0.weight": I, "0.bias": I, "2.weight": I, "2.bias": I, "4.weight": HID, "4.bias": I, "8.weight": OUT, "8.bias": FIN},
    "grouped_convolutions": {"0.weight": I, "0.bias": I, "2.weight": HID, "2.bias": I, "4.weight": I, "4.bias": I, "8.weight": OUT, "8.bias": FIN},
    "transposed_convolutions": {"0.weight": I, "0.bias": I, "2.weight": HID, "2.bias": I, "4.weight": OUT, "4.bias": FIN},
    "squeeze_and_excite": {"c.weight": I, "c.bias": I, "down.weight": OUT, "down.bias": FIN, "up.weight": I, "up.bias": I},
    "patches": {"patch.weight": I, "patch.bias": I, "token": I, "position": I},
}
#: Models that need a multiplier in their forward pass: (op, exponent found, exponent needed).
SITES = {
    "tied_without_gain": [("mm", 1, 0)],
    "tied_with_gain_plus_one": [("mm", 1, 0)],
    "tied_autoencoder": [("mm", 1, 0)],
    "qk_norm_without_gain": [("bmm", 1, Fraction(1, 2))],
}
#: Checked by tests of their own.
APART = {"weight_normalised"}
OPTIMIZERS = {"adam": ADAM, "adamw": ADAMW, "sgd": SGD}


@lru_cache(maxsize=None)
def derived(name: str, optimizer: str) -> Parametrization:
    return parametrize(solution(MODELS[name]), OPTIMIZERS[optimizer])


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


@pytest.mark.parametrize("name", MODELS)
def test_sites(name):
    found = [(site.op.split(".")[1], site.found, site.needed) for site in derived(name, "adam").sites]
    assert found == SITES.get(name, [])


@pytest.mark.parametrize("name", MODELS)
def test_epsilon_and_decay(name):
    """eps ~ n^g; decay ~ n^c keeps lr * decay where it is decoupled or the update linear; under Adam's own decay ~ n^(g + b)."""
    adam, adamw, sgd = (derived(name, optimizer) for optimizer in ("adam", "adamw", "sgd"))
    for weight, rule in sgd.items():
        g = Fraction(0) if rule.gradient is MINUS_INFINITY else rule.gradient
        if rule.role == "unused":
            continue
        assert (rule.b, rule.A, rule.C) == (adam[weight].b, adam[weight].A, adam[weight].C) == (adamw[weight].b, rule.A, rule.C)
        assert rule.c == rule.C + g and adam[weight].c == adamw[weight].c == rule.C
        assert rule.eps is None and adam[weight].eps == adamw[weight].eps == g
        assert rule.weight_decay == rule.c and adamw[weight].weight_decay == adamw[weight].c
        assert adam[weight].weight_decay == g + rule.b


@pytest.mark.parametrize("role, eps", [("input", -1), ("hidden", -1), ("output", 0), ("scalar", 0)])
def test_epsilon_of_the_four_classes(role, eps):
    """TP4b: the gradients of W at a = 0 are n^-1 but at the readout, where they are O(1)."""
    for name in ("mlp", "resnet", "gpt"):
        assert {rule.eps for rule in derived(name, "adam").values() if rule.role == role} <= {eps}
    assert [r.eps for r in derived("mlp", "adam").values() if r.role == role]


@pytest.mark.parametrize("name", MODELS)
def test_certificates_hold(name):
    """Every exponent is the smallest: 1/8 less breaks the budget of the value that binds it."""
    found = [c for weight in program(MODELS[name]).weights for c in certify(solution(MODELS[name]), weight)]
    assert found and all(c.holds for c in found), [c for c in found if not c.holds]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("name", sorted(set(MODELS) - set(SITES)))
def test_the_rules_are_maximal_when_followed(name, optimizer):
    """What derive asks for and what training under it does (tpcalc.given) are worked out apart and must agree."""
    lowered, rules = lower(program(MODELS[name])), derived(name, optimizer)
    analysis = analyse(lowered, {weight: Given(r.a, r.b, r.c) for weight, r in rules.items()}, OPTIMIZERS[optimizer])
    found = regime(analysis)
    assert analysis.settled and found.name == MAXIMAL, found


@pytest.mark.parametrize("name", SITES)
def test_a_model_with_a_site_is_unstable_as_it_stands(name):
    rules = derived(name, "adam")
    found = regime(analyse(lower(program(MODELS[name])), {w: Given(r.a, r.b, r.c) for w, r in rules.items()}, ADAM))
    assert found.name == UNSTABLE


def test_standard_parametrization_of_every_model_with_a_readout_is_unstable_under_adam():
    """lr ~ 1 and the code's own n^-1/2: what muP is for."""
    for name in ("mlp", "resnet", "gpt", "lstm", "depthwise"):
        weights = program(MODELS[name]).weights
        fan = {w.name: any(size.growth for size in w.shape[1:]) for w in weights}
        given = {w.name: Given.of(0, "1/2" if fan[w.name] else 0, 0) for w in weights}
        assert regime(analyse(lower(program(MODELS[name])), given, ADAM)).name == UNSTABLE


def test_growing_heads_are_explained():
    rule = derived("gpt_growing_heads", "adam")["blocks.0.attn.q.weight"]
    assert "absorbs n^(-1/2)" in rule.reason and "gpt.py" in rule.reason
    assert "absorbs" not in derived("gpt_growing_heads", "adam")["blocks.0.attn.k.weight"].reason


def test_tied_weights_share_a_rule():
    rules = derived("gpt_tied", "adam")
    assert rules["head.weight"] is rules["token.weight"] and rules["token.weight"].aliases == ("head.weight",)


def test_weight_norm_updates_directions_relative_to_their_size():
    """W = g v/|v|: v's size is free (b = 0 here), its update may be n^-1/2 of it in a hidden layer (muP's C - A), and O(1) of it at the ends."""
    rules = derived("weight_normalised", "adam")
    v = [rules[f"{layer}.parametrizations.weight.original1"] for layer in (0, 2, 4)]
    assert [rule.C - rule.A for rule in v] == [0, Fraction(1, 2), 0]
    g = [rules[f"{layer}.parametrizations.weight.original0"] for layer in (0, 2, 4)]
    assert [rule.b for rule in g] == [0, 0, Fraction(1, 2)]


# --- invariances --------------------------------------------------------------------------------------------------------


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
