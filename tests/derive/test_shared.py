"""What many share: rows of a table that many samples read, a gain of all heads, experts that an index picks."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tpcalc
from tests.support.models import Net, entry, readout

H = Fraction(1, 2)

# --- rows of a table --------------------------------------------------------------------------------------------------

LOOK_UPS = {
    "embedding": F.embedding,
    "index": lambda x, table: table[x],
    "index_select": lambda x, table: table.index_select(0, x),
    "gather": lambda x, table: table.gather(0, x[:, None].expand(-1, table.shape[1])),
}
#: Rows and samples, the order of the table's gradient, and the slope measured of entries that are read (n = 64 to 512,
#: random targets, whose signs cancel: -1.41 instead of -1 where a row collects n of them).
TABLES = {
    "rows do not grow": (lambda n: 16, lambda n: 8 * n, -1),
    "both grow alike": (lambda n: n, lambda n: 8 * n, -2),  # measured -2.00
    "samples grow more": (lambda n: n, lambda n: n * n // 8, -2),
    "samples do not grow": (lambda n: n, lambda n: 64, -1),  # measured -1.08
}


@pytest.mark.parametrize(
    "look_up, case", [(k, "rows do not grow") for k in LOOK_UPS] + [("embedding", k) for k in TABLES]
)
def test_a_row_collects_the_gradients_of_the_samples_that_read_it(look_up, case):
    """Each sample's is n^-1 over their number, as the loss is an average."""
    rows, samples, expected = TABLES[case]

    def factory(n: int):
        def run(s, x, t):
            return F.cross_entropy(s.o(torch.tanh(s.h(torch.relu(LOOK_UPS[look_up](x, s.e.weight))))), t)

        inputs = torch.zeros(samples(n), dtype=torch.long)
        return Net(run, e=nn.Embedding(rows(n), n), h=nn.Linear(n, n), o=readout(n)), (inputs, inputs)

    rules = tpcalc.derive(tpcalc.trace(factory, (32, 64, 128)))
    found = [(rules[f"{w}.weight"].b, rules[f"{w}.weight"].c, rules[f"{w}.weight"].gradient) for w in "eho"]
    assert found == [(0, 0, expected), (H, 1, -1), (1, 1, 0)]


# --- a gain of all heads ----------------------------------------------------------------------------------------------


def by_hand(z, norm):
    return z * torch.rsqrt(z.pow(2).mean(-1, keepdim=True) + 1e-6) * norm.weight


#: heads and their size; the order of the gradient of the gain that they share, by measurement trained (at init).
HEADS = {
    "heads grow": (lambda n: (n // 16, 16), 0),  # 0.00 (-0.57); effect of a change of the gain on the logits -0.03
    "head_dim grows": (lambda n: (4, n // 4), -1),  # -0.96 (-1.49); -0.08
}


@pytest.mark.parametrize("norm", ["hand", "rms", "layer"])
@pytest.mark.parametrize("case", HEADS)
def test_the_gain_of_a_query_norm_is_shared_by_the_heads(case, norm):
    sizes, expected = HEADS[case]

    def factory(n: int):
        heads, size = sizes(n)

        def run(s, x):
            e = torch.tanh(s.i(x))
            q, k, v = (part(e).view(2, 5, heads, size).transpose(1, 2) for part in (s.q, s.k, s.v))
            q, k = (by_hand(z, g) if norm == "hand" else g(z) for z, g in ((q, s.gq), (k, s.gk)))
            mixed = (q @ k.transpose(-1, -2) / size).softmax(-1) @ v
            return s.o(e + s.p(mixed.transpose(1, 2).reshape(2, 5, n)))

        gains = {name: nn.LayerNorm(size) if norm == "layer" else nn.RMSNorm(size) for name in ("gq", "gk")}
        parts = {name: nn.Linear(n, n, bias=False) for name in "qkvp"}
        return Net(run, i=entry(n), o=readout(n), **gains, **parts), (torch.randn(2, 5, 8),)

    rules = tpcalc.derive(tpcalc.trace(factory, (64, 128, 256)))
    for gain in (rules["gq.weight"], rules["gk.weight"]):
        assert (gain.b, gain.c, gain.gradient, gain.eps) == (0, 0, expected, expected)
    assert [(rules[f"{w}.weight"].b, rules[f"{w}.weight"].c) for w in "qkvp"] == [(H, 1)] * 4
    assert not rules.sites


# --- experts ----------------------------------------------------------------------------------------------------------


def of_each(h, w):
    """``h[batch, expert, n]`` through the matrices of each."""
    return torch.bmm(h.flatten(0, 1)[:, None], w.flatten(0, 1))[:, 0].view(*w.shape[:2], -1)


def picked(h, s, which):
    u = torch.relu(torch.einsum("bn,bknm->bkm", h, s.up[which]))
    return torch.einsum("bkm,bkmn->bkn", u, s.down[which])


def selected(h, s, which):
    up, down = (w.index_select(0, which.flatten()).view(*which.shape, *w.shape[1:]) for w in (s.up, s.down))
    return of_each(torch.relu(of_each(h[:, None].expand(-1, 2, -1), up)), down)


def multiplied(h, s, which):
    u = torch.relu((h[:, None, None] @ s.up[which])[:, :, 0])
    return (u[:, :, None] @ s.down[which])[:, :, 0]


def grouped(h, s, which):
    order = which.flatten().argsort()
    ends = F.one_hot(which.flatten(), s.up.shape[0]).sum(0).cumsum(0).to(torch.int32)
    u = torch.relu(torch._grouped_mm(h.repeat_interleave(2, 0)[order], s.up, offs=ends))
    y = torch._grouped_mm(u, s.down, offs=ends)
    return torch.zeros_like(y).index_copy(0, order, y).view(*which.shape, -1)


EXPERTS = {"einsum": picked, "index_select": selected, "matmul": multiplied}
if hasattr(torch, "_grouped_mm"):
    EXPERTS["grouped"] = grouped


@pytest.mark.parametrize("count", [lambda n: 4, lambda n: n // 8], ids=["4", "n/8"])
@pytest.mark.parametrize("name", EXPERTS)
def test_each_expert_is_a_hidden_layer_however_it_is_picked(name, count):
    def factory(n: int):
        def run(s, x):
            h = torch.tanh(s.i(x))
            gate, which = s.r(h).topk(2)
            return s.o(h + (gate.softmax(-1)[..., None] * EXPERTS[name](h, s, which)).sum(1))

        experts = count(n)
        up, down = nn.Parameter(torch.randn(experts, n, 2 * n)), nn.Parameter(torch.randn(experts, 2 * n, n))
        return Net(run, i=entry(n), r=nn.Linear(n, experts), up=up, down=down, o=readout(n)), (torch.randn(3, 8),)

    rules = tpcalc.derive(tpcalc.trace(factory, (32, 64, 128)))
    assert not rules.sites
    assert [(rules[w].b, rules[w].c) for w in ("r.weight", "up", "down")] == [(1, 1), (H, 1), (H, 1)]
    assert rules["up"].gradient == rules["down"].gradient == -1
