"""No exponent depends on how many layers are traced, whatever stands between a packed weight and its split."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tpcalc
from tests.support import zoo
from tests.support.models import WIDTHS
from tests.support.sampled import kept
from tpcalc.trace.hf import hf_factory

H = Fraction(1, 2)
FEW = 8
HEAD = 16

Op = Callable[[Tensor, int], Tensor]


def swapped(y: Tensor) -> Tensor:
    half = y.shape[-1] // 2
    return torch.cat([y[..., half:], y[..., :half]], -1)


#: Ops that entries can be followed through, and the rows of the packed weight that feed the few.
FOLLOWED: dict[str, tuple[Op, list[tuple[str, str]]]] = {
    "nothing": (lambda y, n: y, [("n", "8")]),
    "a constant vector": (lambda y, n: y * torch.ones(n + FEW), [("n", "8")]),
    "a norm": (lambda y, n: F.layer_norm(y, (n + FEW,)), [("n", "8")]),
    "a norm by hand": (lambda y, n: y * (y.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt(), [("n", "8")]),
    "less the mean": (lambda y, n: y - y.mean(-1, keepdim=True), [("n", "8")]),
    "added to itself reversed": (lambda y, n: y + y.flip(-1), [("0", "8"), ("n", "8")]),
    # the last eight come first, apart from those that they join: as few rows they are kept smaller than they need be
    "rolled": (lambda y, n: y.roll(FEW, -1), [("n - 8", "8"), ("n", "8")]),
    "halves swapped": (lambda y, n: swapped(y), [("n/2 - 4", "8")]),
    "differences, padded": (lambda y, n: F.pad(y.diff(dim=-1), (1, 0)), [("n - 1", "1"), ("n", "7"), ("n + 7", "1")]),
    "padded, and cut off": (lambda y, n: F.pad(y, (4, 4))[..., 4:-4], [("n", "8")]),
}
#: ... and those after which nobody knows which row is which.
MIXED: dict[str, Op] = {
    "picked by an index": lambda y, n: y[..., torch.arange(n + FEW).flip(0)],
    "sorted": lambda y, n: y.sort(-1).values,
    "running means": lambda y, n: y.cumsum(-1) / n,
    "gathered": lambda y, n: y.gather(-1, torch.arange(n + FEW).flip(0).expand(y.shape)),
    "neighbours summed": lambda y, n: F.conv1d(y.flatten(0, -2)[:, None], torch.ones(1, 1, 3), padding=1).view(y.shape),
    "odd and even interleaved": lambda y, n: torch.stack([-y[..., 1::2], y[..., ::2]], -1).flatten(-2),
}


class Block(nn.Module):
    def __init__(self, n: int, op: Op):
        super().__init__()
        self.norm, self.pack, self.op = nn.LayerNorm(n), nn.Linear(n, n + FEW, bias=False), op
        self.up, self.low = nn.Linear(n, n, bias=False), nn.Linear(FEW, n, bias=False)

    def forward(self, x):
        a, b = self.op(self.pack(self.norm(x)), x.shape[-1]).split([x.shape[-1], FEW], -1)
        return x + self.up(a.tanh()) + self.low(b.tanh())


class Stack(nn.Module):
    def __init__(self, n: int, op: Op, layers: int):
        super().__init__()
        self.embed, self.blocks = nn.Embedding(32, n), nn.Sequential(*(Block(n, op) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(n), nn.Linear(n, 32, bias=False)

    def forward(self, t):
        return self.head(self.norm(self.blocks(self.embed(t))))


def rules_of(op: Op, layers: int) -> tpcalc.Parametrization:
    return tpcalc.derive(
        tpcalc.trace(lambda n: (Stack(n, op, layers), (torch.arange(16).reshape(2, 8),)), WIDTHS), "adamw"
    )


def exponents(rules: tpcalc.Parametrization) -> dict[str, object]:
    """Of the weights that every depth has."""
    names = [name for name in rules if not name.startswith("blocks") or name.startswith("blocks.0.")]
    return {
        name: (r.A, r.C, r.eps, r.gradient, r.weight_decay, r.slices) for name in names for r in [rules[name]]
    }  # fmt: skip


@pytest.mark.parametrize("name", FOLLOWED)
def test_no_exponent_depends_on_the_depth(name):
    op, few = FOLLOWED[name]
    one, three = rules_of(op, 1), rules_of(op, 3)
    assert exponents(one) == exponents(three) and str(one.clipping.norm) == str(three.clipping.norm) == "1/2"
    assert one["embed.weight"].eps == one["blocks.0.pack.weight"].eps == -1 and not one.sites
    slices = one["blocks.0.pack.weight"].slices
    assert [(str(s.start), str(s.length)) for s in slices if s.A == 1] == few
    assert {(s.A, s.C) for s in slices} == {(1, 1), (H, 1)}


@pytest.mark.parametrize("name", MIXED)
def test_rows_that_can_not_be_told_apart_are_all_kept_stable(name):
    """A row that feeds few entries needs n^-1: of a row with n^-1/2 the change is n^1/2, and compounds by layers."""
    one, three = rules_of(MIXED[name], 1), rules_of(MIXED[name], 3)
    assert exponents(one) == exponents(three)
    pack = one["blocks.0.pack.weight"]
    assert (pack.A, pack.C, pack.eps, pack.slices, one["embed.weight"].eps) == (1, 1, -1, (), -1)
    assert any("blocks.0.pack.weight has a packed axis whose blocks could not be told apart" in x for x in one.notes)


def test_rows_that_nobody_takes_apart_stay_hidden():
    class Wide(nn.Module):
        def __init__(self, n: int):
            super().__init__()
            self.i, self.h, self.o = nn.Linear(4, n), nn.Linear(n, n + FEW), nn.Linear(n + FEW, 3)

        def forward(self, x):
            return self.o(torch.relu(self.h(self.i(x))).flip(-1))

    rules = tpcalc.derive(tpcalc.trace(lambda n: (Wide(n), (torch.randn(5, 4),)), WIDTHS), "adamw")
    assert (rules["h.weight"].A, rules["h.weight"].C, rules["o.weight"].A) == (H, 1, 1)


class Packed(nn.Module):
    """A linear map to ``sizes(n)`` entries in all, split into these; ``use`` makes ``n`` entries of the parts."""

    def __init__(self, n: int, sizes: Callable[[int], list[int]], use: Callable[..., Tensor], **parts: nn.Module):
        super().__init__()
        self.sizes, self.use, self.parts = sizes(n), use, nn.ModuleDict(parts)
        self.pack, self.back = nn.Linear(n, sum(self.sizes)), nn.Linear(n, n)

    def forward(self, x):
        return self.back(self.use(self.parts, *self.pack(x).split(self.sizes, -1)))


def heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (-1, HEAD)).transpose(-2, -3)


def attention(_, q, k, v):
    q, k, v = (heads(part) for part in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(-2, -3).flatten(-2)


def modulated(parts, shift, scale, gate):
    return gate * (parts["norm"](parts["inner"](shift)) * (1 + scale) + shift)


def state(parts, z, x, b, c, dt):
    """A state space of few states with a step for each entry, in one step of time."""
    step = F.softplus(parts["step"](dt))
    return F.silu(z) * (x * step * (b * c).sum(-1, keepdim=True) + x)


def experts(parts, x, score):
    return sum(p[..., None] * e(x) for p, e in zip(score.softmax(-1).unbind(-1), parts.values()))


class Recurrent(nn.Module):
    def __init__(self, kind: type, n: int):
        super().__init__()
        self.cell = kind(n, n, batch_first=True)

    def forward(self, x):
        return self.cell(x)[0]


#: Blocks from n entries to n with packed weights of all kinds.
BLOCKS: dict[str, Callable[[int], nn.Module]] = {
    "queries, keys, values": lambda n: Packed(n, lambda n: [n, n, n], attention),
    "one head of keys and values": lambda n: Packed(n, lambda n: [n, HEAD, HEAD], attention),
    "torch's layer": lambda n: nn.TransformerEncoderLayer(n, n // HEAD, 2 * n, 0.0, batch_first=True, norm_first=True),
    "the zoo's block": zoo.Block,
    "gate and values": lambda n: Packed(n, lambda n: [n, n], lambda _, gate, y: F.silu(gate) * y),
    "modulation": lambda n: Packed(
        n, lambda n: [n, n, n], modulated, norm=nn.LayerNorm(n, elementwise_affine=False), inner=nn.Linear(n, n)
    ),
    "a state space": lambda n: Packed(n, lambda n: [n, n, FEW, FEW, n // 16], state, step=nn.Linear(n // 16, n)),
    "values and a router": lambda n: Packed(
        n, lambda n: [n, 4], experts, **{str(i): nn.Linear(n, n) for i in range(4)}
    ),
    "few gates": lambda n: Packed(
        n, lambda n: [n, FEW], lambda p, y, g: y * p["up"](g.sigmoid()), up=nn.Linear(FEW, n)
    ),
    "a compressed key, normed": lambda n: Packed(
        n, lambda n: [n, FEW], lambda p, y, k: y + p["up"](p["norm"](k)), up=nn.Linear(FEW, n), norm=nn.LayerNorm(FEW)
    ),
    "gru": lambda n: Recurrent(nn.GRU, n),
    "lstm": lambda n: Recurrent(nn.LSTM, n),
}


def stacked(block: Callable[[int], nn.Module], layers: int, residual: bool) -> Callable:
    class Deep(nn.Module):
        def __init__(self, n: int):
            super().__init__()
            self.embed, self.blocks = nn.Embedding(32, n), nn.ModuleList(block(n) for _ in range(layers))
            self.norms = nn.ModuleList(nn.LayerNorm(n) for _ in range(layers))
            self.norm, self.head = nn.LayerNorm(n), nn.Linear(n, 32)

        def forward(self, t):
            x = self.embed(t)
            for norm, block in zip(self.norms, self.blocks, strict=True):
                x = x * residual + block(norm(x))
            return self.head(self.norm(x))

    return lambda n: (Deep(n), (torch.arange(8).reshape(2, 4),))


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("name", BLOCKS)
def test_packed_blocks_in_any_number(name, residual):
    """Every weight of a deeper stack has the exponents that it has in the first layer of a flat one."""
    one, three = (
        tpcalc.derive(tpcalc.trace(stacked(BLOCKS[name], layers, residual), WIDTHS), "adamw") for layers in (1, 3)
    )
    assert folded(one) == folded(three)
    assert not one.sites and not three.sites and one.clipping.norm == three.clipping.norm


def folded(rules: tpcalc.Parametrization) -> dict[str, set[object]]:
    """Name without its layer -> the exponents that it has in some layer, none of which has compounded."""
    found: dict[str, set[object]] = {}
    for name, rule in rules.items():
        orders = (rule.A, rule.C, rule.b, rule.c, rule.eps, rule.gradient, rule.weight_decay)
        assert all(abs(order) <= 2 for order in orders if order is not None), (name, orders)
        found.setdefault(re.sub(r"\.\d+\.", ".*.", name), set()).add((rule.role, *orders, rule.slices))
    return found


def several(layers: int) -> dict[str, str]:
    return {"num_hidden_layers": str(layers)}


def kinds(field: str, *names: str) -> Callable[[int], dict[str, str]]:
    return lambda layers: {field: str([*names] * (layers // len(names)))}


alternating = kinds("layer_types", "linear_attention", "full_attention")

#: Hugging Face types whose layers are packed, the fields of so many layers, and two depths.
HYBRIDS: dict[str, tuple[Callable[[int], dict[str, str]], int, int]] = {
    "mamba2": (several, 2, 4),
    "granitemoehybrid": (lambda layers: {**several(layers), **alternating(layers)}, 2, 4),
    "nemotron_h": (kinds("layers_block_type", "linear_attention", "moe", "full_attention", "mlp"), 4, 8),
    "qwen3_next": (lambda layers: {**several(layers), **alternating(layers)}, 2, 4),
    "bamba": (lambda layers: {**several(layers), "attn_layer_indices": str([*range(1, layers, 2)])}, 2, 4),
    "falcon_h1": (several, 1, 2),
}


#: A state space beside attention, and gated deltas, in every run; the other mixtures by make slow.
@pytest.mark.parametrize("model_type", kept(HYBRIDS, lambda name: name in ("granitemoehybrid", "qwen3_next")))
def test_hugging_face_types_in_any_depth(model_type):
    pytest.importorskip("transformers")
    options, flat, deep = HYBRIDS[model_type]
    few, many = (
        tpcalc.derive(tpcalc.trace(hf_factory(model_type, overrides=options(layers)), (128, 256, 512)), "adamw")
        for layers in (flat, deep)
    )
    assert folded(few) == folded(many)
    assert not few.sites and not many.sites and few.clipping.norm == many.clipping.norm
