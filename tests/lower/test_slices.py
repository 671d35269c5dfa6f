"""Packed weights: the rule of each slice, in the derivation, the table and the JSON."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tpcalc
from tests.support.models import FEATURES, WIDTHS, Net, entry, normal, points, readout, sequences
from tpcalc.document.table import table_json
from tpcalc.trace.hf import hf_factory

H = Fraction(1, 2)
HEAD = 16


def rules_of(factory, optimizer="adamw", widths=WIDTHS):
    return tpcalc.derive(tpcalc.trace(factory, widths), optimizer)


def slices(rule):
    """(dim, start, length, b, c) of each slice, sizes as text."""
    return [(s.dim, str(s.start), str(s.length), s.b, s.c) for s in rule.slices]


def attend(s, x, q, k, v):
    """Queries in heads of a fixed dimension, one head of keys and values."""
    batch, length, n = x.shape
    q = q.view(batch, length, -1, HEAD).transpose(1, 2)
    k, v = (t.reshape(batch, length, 1, HEAD).transpose(1, 2) for t in (k, v))
    y = (q @ k.transpose(-1, -2) * HEAD**-0.5).softmax(dim=-1) @ v
    return s.o(x + s.p(y.transpose(1, 2).reshape(batch, length, n)))


def packed(cut, n):
    def run(s, x):
        x = s.i(x)
        return attend(s, x, *cut(s.qkv(x), n))

    return Net(run, i=entry(n), qkv=nn.Linear(n, n + 2 * HEAD), p=nn.Linear(n, n), o=readout(n)), sequences()


def by_heads(y, n):
    heads = y.view(*y.shape[:-1], n // HEAD + 2, HEAD)
    return heads[..., :-2, :].flatten(-2), heads[..., -2, :], heads[..., -1, :]


def joined(none, q, k, v):
    return torch.cat([none.tanh(), q, none], dim=-1), k, v


def nested(q, none, kv):
    return q, *kv.split([0, HEAD, 0, HEAD], dim=-1)[1::2]


#: Ways to take q, k and v out of one packed result.
CUTS = {
    "split": lambda y, n: y.split([n, HEAD, HEAD], dim=-1),
    "tensor_split": lambda y, n: y.tensor_split([n, n + HEAD], dim=-1),
    "slices": lambda y, n: (y[..., :n], y[..., n : n + HEAD], y[..., n + HEAD :]),
    "slices from the right": lambda y, n: (y[..., : -2 * HEAD], y[..., -2 * HEAD : -HEAD], y[..., -HEAD:]),
    "narrow": lambda y, n: (y.narrow(-1, 0, n), y.narrow(-1, n, HEAD), y.narrow(-1, n + HEAD, HEAD)),
    "nested": lambda y, n: (y[..., :n], *y[..., n:].chunk(2, dim=-1)),
    "after a transpose": lambda y, n: tuple(t.transpose(1, 2) for t in y.transpose(1, 2).split([n, HEAD, HEAD], dim=1)),
    "by heads": by_heads,
    "pieces without entries": lambda y, n: y.split([0, 0, n, HEAD, HEAD], dim=-1)[2:],
    "pieces without entries, joined": lambda y, n: joined(*y.split([0, n, HEAD, HEAD], dim=-1)),
    "pieces without entries, nested": lambda y, n: nested(*y.split([n, 0, 2 * HEAD], dim=-1)),
}
QKV = [(0, "0", "n", H, 1), (0, "n", "16", 1, 1), (0, "n + 16", "16", 1, 1)]


@pytest.mark.parametrize("cut", CUTS)
def test_queries_are_hidden_and_fixed_keys_and_values_are_outputs(cut):
    rules = rules_of(lambda n: packed(CUTS[cut], n))
    assert slices(rules["qkv.weight"]) == QKV
    assert (rules["qkv.weight"].b, rules["qkv.weight"].c) == (1, 1), "the safe, largest common exponents"
    assert rules["i.weight"].eps == rules["p.weight"].eps == -1 and not rules.notes and not rules.sites
    assert [s.role for s in rules["qkv.weight"].slices] == ["hidden", "output", "output"]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_slices_have_the_rules_of_separate_weights(optimizer):
    def separate(n):
        def run(s, x):
            x = s.i(x)
            return attend(s, x, s.q(x), s.k(x), s.v(x))

        parts = {"q": nn.Linear(n, n), "k": nn.Linear(n, HEAD), "v": nn.Linear(n, HEAD)}
        return Net(run, i=entry(n), p=nn.Linear(n, n), o=readout(n), **parts), sequences()

    apart = rules_of(separate, optimizer)
    together = rules_of(lambda n: packed(CUTS["slices"], n), optimizer)
    for kind in ("weight", "bias"):
        alone = [(apart[f"{x}.{kind}"].b, apart[f"{x}.{kind}"].c) for x in "qkv"]
        joined = together[f"qkv.{kind}"]
        assert [(s.b, s.c) for s in joined.slices] == (alone if len(set(alone)) > 1 else [])


def test_slices_in_json_and_table():
    rules = rules_of(lambda n: packed(CUTS["slices"], n))
    weight = next(w for w in table_json(rules)["weights"] if w["name"] == "qkv.weight")
    found = [[s[key] for key in ("dim", "start", "length", "b", "c")] for s in weight["slices"]]
    assert found == [[dim, start, length, str(b), str(c)] for dim, start, length, b, c in QKV]
    assert "n + 16" in str(rules)


def test_a_slice_of_the_weight_itself():
    """As attention in some codes: one matrix, F.linear with a part of its rows."""

    def factory(n):
        def run(s, x):
            x = s.i(x)
            return attend(s, x, *(F.linear(x, s.w[a:b]) for a, b in ((0, n), (n, n + HEAD), (n + HEAD, n + 2 * HEAD))))

        return Net(
            run, i=entry(n), w=normal(n + 2 * HEAD, n, std=n**-0.5), p=nn.Linear(n, n), o=readout(n)
        ), sequences()

    assert slices(rules_of(factory)["w"]) == QKV


def test_the_query_block_alone_absorbs_growing_heads():
    """One head of dimension n behind 1/sqrt(n): the n^-1/2 goes to the query's rows."""

    def factory(n):
        def run(s, x):
            x = s.i(x)
            y = s.qkv(x)
            q, k, v = y[..., :n], y[..., n : 2 * n], y[..., 2 * n :]
            return s.o(x + s.p((q @ k.transpose(-1, -2) * n**-0.5).softmax(dim=-1) @ v))

        return Net(run, i=entry(n), qkv=nn.Linear(n, 3 * n), p=nn.Linear(n, n), o=readout(n)), sequences()

    rules = rules_of(factory)
    three_halves = Fraction(3, 2)
    assert slices(rules["qkv.weight"]) == [(0, "0", "n", 1, three_halves), (0, "n", "n", H, 1), (0, "2*n", "n", H, 1)]
    assert not rules.sites


def test_interleaved_heads_that_grow_are_one_site():
    """q, k and v within each head (GPT-NeoX): no contiguous rows absorb the n^-1/2, a multiplier must."""

    def factory(n):
        def run(s, x):
            x = s.i(x)
            batch, length, _ = x.shape
            q, k, v = s.qkv(x).view(batch, length, 4, 3 * n // 4).transpose(1, 2).chunk(3, dim=-1)
            y = (q @ k.transpose(-1, -2) * (n // 4) ** -0.5).softmax(dim=-1) @ v
            return s.o(x + s.p(y.transpose(1, 2).reshape(batch, length, n)))

        return Net(run, i=entry(n), qkv=nn.Linear(n, 3 * n), p=nn.Linear(n, n), o=readout(n)), sequences()

    rules = rules_of(factory)
    assert [(s.op, s.found, s.needed) for s in rules.sites] == [("aten.bmm.default", 1, H)]
    assert (rules["qkv.weight"].b, rules["qkv.weight"].c, rules["qkv.weight"].slices) == (H, 1, ())


@pytest.mark.parametrize("activation", [F.silu, F.gelu])
def test_a_fused_gate_has_one_rule(activation):
    def factory(n):
        def run(s, x):
            y = s.up(s.i(x))
            return s.o(s.down(activation(y[..., : 4 * n]) * y[..., 4 * n :]))

        return Net(run, i=entry(n), up=nn.Linear(n, 8 * n), down=nn.Linear(4 * n, n), o=readout(n)), points()

    rules = rules_of(factory)
    assert (rules["up.weight"].b, rules["up.weight"].c, rules["up.weight"].slices) == (H, 1, ())


# --- columns: a concatenation of parts that grow differently ----------------------------------------------------------


COLUMNS = [(1, "0", "n", H, 1), (1, "n", "8", 0, 0)]


@pytest.mark.parametrize("bias", [True, False])
def test_columns_that_meet_features_of_fixed_size(bias):
    def factory(n):
        def run(s, x):
            return s.o(F.relu(s.h(torch.cat([F.relu(s.i(x)), x], dim=-1))))

        return Net(run, i=entry(n), h=nn.Linear(n + FEATURES, n, bias=bias), o=readout(n)), points()

    rules = rules_of(factory)
    assert slices(rules["h.weight"]) == COLUMNS and (rules["h.weight"].b, rules["h.weight"].c) == (H, 1)
    assert rules["h.weight"].eps == rules["i.weight"].eps == -1
    (note,) = rules.notes
    assert note.startswith("h.weight: ") and "so that [:, n:n + 8] learns slower than maximal" in note


def test_columns_of_a_readout():
    def factory(n):
        return Net(
            lambda s, x: s.o(torch.cat([F.relu(s.i(x)), x], dim=-1)), i=entry(n), o=readout(n + FEATURES)
        ), points()

    assert slices(rules_of(factory)["o.weight"]) == [(1, "0", "n", 1, 1), (1, "n", "8", 0, 0)]


def test_channels_of_a_convolution():
    """An image beside its features."""

    def factory(n):
        def run(s, x):
            x = torch.cat([x, F.relu(s.c(x))], dim=1)
            return s.o(F.relu(s.d(x)).mean(dim=(2, 3)))

        parts = {"c": nn.Conv2d(3, n, 3, padding=1), "d": nn.Conv2d(n + 3, n, 3, padding=1)}
        return Net(run, o=readout(n), **parts), (torch.randn(2, 3, 8, 8),)

    rules = rules_of(factory)
    assert slices(rules["d.weight"]) == [(1, "0", "3", 0, 0), (1, "3", "n", H, 1)]


def test_a_residual_stream_of_n_plus_8():
    """Rows added to the fixed part contract n values into finitely many, and need the init of a readout."""

    def factory(n):
        def run(s, x):
            x = torch.cat([F.relu(s.i(x)), x], dim=-1)
            return s.o(x + s.d(F.relu(s.u(x))))

        parts = {"u": nn.Linear(n + FEATURES, 4 * n), "d": nn.Linear(4 * n, n + FEATURES)}
        return Net(run, i=entry(n), o=readout(n + FEATURES), **parts), points()

    rules = rules_of(factory)
    assert slices(rules["u.weight"]) == COLUMNS
    assert slices(rules["d.weight"]) == [(0, "0", "n", H, 1), (0, "n", "8", 1, 1)]
    assert len(rules.notes) == 1 and "[:, n:n + 8] learns slower" in rules.notes[0]


def test_blocks_that_can_not_be_told_apart_are_said():
    """A gather by index across the packed axis."""

    def factory(n):
        def run(s, x):
            y = s.h(s.i(x))
            return s.o(y[:, torch.arange(n)] + y[:, torch.arange(n) + 16])

        return Net(run, i=entry(n), h=nn.Linear(n, n + 16), o=readout(n)), points()

    assert any("h.weight has a packed axis" in note for note in rules_of(factory).notes)


def test_gradients_of_few_rows_nobody_knows_which_leave_those_of_most():
    """Keys and values picked by an index in a list, whose content is not followed."""

    def cut(y, n):
        heads = y.view(*y.shape[:-1], n // HEAD + 2, HEAD)
        return heads[..., :-2, :].flatten(-2), heads[..., [-2], :].squeeze(-2), heads[..., [-1], :].squeeze(-2)

    rules = rules_of(lambda n: packed(cut, n))
    assert slices(rules["qkv.weight"]) == [(0, "0", "n", H, 1), (0, "n", "32", 1, 1)]
    assert rules["i.weight"].eps == rules["qkv.weight"].eps == -1 and rules["qkv.weight"].gradient == 0


# --- Hugging Face -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model_type, layers, weight, expected",
    [
        ("mamba", "num_hidden_layers", "backbone.layers.0.mixer.x_proj.weight",
         [("0", "n/16", H), ("n/16", "16", 1), ("n/16 + 16", "16", 1)]),
        ("mamba2", "num_hidden_layers", "backbone.layers.0.mixer.in_proj.weight",
         [("0", "2*n", H), ("2*n", "2*n", H), ("4*n", "1024", 1), ("4*n + 1024", "1024", 1), ("4*n + 2048", "n/8", H)]),
        ("gpt_bigcode", "n_layer", "transformer.h.0.attn.c_attn.weight",
         [("0", "n", H), ("n", "64", 1), ("n + 64", "64", 1)]),
        ("falcon", "num_hidden_layers", "transformer.h.0.self_attention.query_key_value.weight",
         [("0", "n", H), ("n", "128", 1)]),
        ("minicpm3", "num_hidden_layers", "model.layers.0.self_attn.kv_a_proj_with_mqa.weight",
         [("0", "3*n/32", H), ("3*n/32", "32", 1)]),
    ],
)  # fmt: skip
def test_packed_weights_of_hugging_face(model_type, layers, weight, expected):
    pytest.importorskip("transformers")
    rule = rules_of(hf_factory(model_type, overrides={layers: "1"}), widths=(128, 256, 512))[weight]
    assert [(str(s.start), str(s.length), s.b) for s in rule.slices] == expected
    assert {s.dim for s in rule.slices} == {0} and {s.c for s in rule.slices} == {1}


@pytest.mark.parametrize("model_type, ends", [("phi3", ("qkv_proj.weight", "gate_up_proj.weight"))])
def test_packed_weights_that_need_no_slices(model_type, ends):
    """Keys and values whose heads grow, a gate beside its values."""
    pytest.importorskip("transformers")
    rules = rules_of(hf_factory(model_type, overrides={"num_hidden_layers": "1"}), widths=(128, 256, 512))
    found = [rule for name, rule in rules.items() if name.endswith(ends)]
    assert len(found) == len(ends) and all((rule.b, rule.c, rule.slices) == (H, 1, ()) for rule in found)


class Taken(nn.Module):
    """Some of what ``m`` makes of n features, and a layer for six of them."""

    def __init__(self, n, of, more=0):
        super().__init__()
        self.i, self.m = nn.Linear(FEATURES, n), nn.Linear(n, n + more)
        self.l, self.e, self.o, self.of = nn.Linear(n, n), nn.Linear(6, n), nn.Linear(n, 5), of

    def forward(self, x):
        return self.of(self, self.m(torch.relu(self.i(x))))


def taken(of, more=0):
    return rules_of(lambda n: (Taken(n, of, more), points()))["m.weight"]


@pytest.mark.parametrize("few", [lambda s, y: y[:, :5], lambda s, y: y[:, 0], lambda s, y: y.narrow(1, 2, 3)])
def test_a_slice_that_is_an_output_is_a_readout(few):
    """With b = 1/2 the output of a net of which only the first layer is trained moved by n^(+0.48)."""
    rule = taken(few)
    assert (rule.role, rule.b, rule.c) == ("output", 1, 1)


def test_an_output_and_features_in_one_weight():
    rule = taken(lambda s, y: (y[:, :6], s.o(y[:, 6:])), more=6)
    assert slices(rule) == [(0, "0", "6", 1, 1), (0, "6", "n", H, 1)]


def behind(few):
    return lambda s, y: s.o(torch.relu(s.l(y) + s.e(few(y))))


@pytest.mark.parametrize(
    "few",
    [
        lambda y: y.index_select(-1, torch.arange(6)),
        lambda y: y[:, torch.tensor([0, 2, 4, 6, 8, 10])],
        lambda y: y.gather(-1, torch.arange(6).expand(len(y), 6)),
        lambda y: y.relu().index_select(-1, torch.arange(6)),
    ],
)
def test_few_entries_picked_by_an_index_rule_over_all(few):
    """With b = 1/2 what was picked moved by n^(+0.39), where only the first layer is trained."""
    rule = taken(behind(few))
    assert (rule.b, rule.c) == (1, 1)


@pytest.mark.parametrize(
    "all_of",
    [
        lambda y: y.index_select(-1, torch.arange(y.shape[-1]).flip(0)),
        lambda y: y.gather(-1, y.argsort(-1)),
        lambda y: y[torch.tensor([0, 0])].repeat(len(y) // 2 + 1, 1)[: len(y)],
    ],
)
def test_all_entries_picked_by_an_index_keep_their_rule(all_of):
    rule = taken(lambda s, y: s.o(torch.relu(s.l(all_of(y)))))
    assert (rule.b, rule.c) == (H, 1)
