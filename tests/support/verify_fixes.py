"""Set-ups whose advice is easily wrong: before norms, used twice, low rank, unrolled, packed.

Each is a ``setup(width) -> (model, optimizer, inputs)``.  Exponents are powers of ``r = width / 64``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LR = 1e-3
Powers = tuple[float, float]


def x_inputs() -> Tensor:
    return torch.linspace(-1, 1, 48).reshape(4, 12).sin()


def trained(model: nn.Module, width: int, powers: dict[str, Powers], zero: tuple[str, ...] = ()):
    """AdamW; ``powers``: the end of a name -> exponents of std and lr.  Hidden ones have -1/2 and -1, finite fan-ins 0
    and 0, finite fan-outs -1 and -1, gains 0 and 0, where nothing is said.
    """
    r, groups = width / 64, []
    for name, p in model.named_parameters():
        grows = tuple(size >= 64 for size in p.shape)  # what is finite here is smaller
        std, lr = (-0.5, -1.0) if grows == (True, True) else (-1.0, -1.0) if grows == (False, True) else (0.0, 0.0)
        if name.startswith(("emb", "tok", "pos", "seg")):
            std, lr = 0.0, 0.0
        std, lr = next((own for end, own in powers.items() if f".{name}".endswith(f".{end}")), (std, lr))
        if p.dim() > 1:
            nn.init.normal_(p, std=0.2 * r**std)
        if name.endswith(zero):
            nn.init.zeros_(p)
        groups.append({"params": [p], "lr": LR * r**lr, "eps": 1e-30})
    return model, torch.optim.AdamW(groups, weight_decay=0.0)


# -- before a norm -------------------------------------------------------------------------------------

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer": lambda n: nn.LayerNorm(n, elementwise_affine=False),
    "layer with a gain": lambda n: nn.LayerNorm(n),
    "rms": lambda n: nn.RMSNorm(n),
    "batch": lambda n: nn.BatchNorm1d(n),
    "group": lambda n: nn.GroupNorm(4, n),
}


class Normed(nn.Module):
    def __init__(self, n: int, norm: str, bias: bool):
        super().__init__()
        self.inp, self.hid = nn.Linear(12, n, bias=bias), nn.Linear(n, n, bias=bias)
        self.n1, self.n2 = NORMS[norm](n), NORMS[norm](n)
        self.out = nn.Linear(n, 7, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.gelu(self.n2(self.hid(F.gelu(self.n1(self.inp(x)))))))


def before_a_norm(width: int, norm: str = "layer", bias: bool = False, **powers: Powers):
    model = Normed(width, norm, bias)
    return *trained(model, width, {f"{name}.weight": own for name, own in powers.items()}), x_inputs()


class QueriesNormed(nn.Module):
    """One head that grows, queries and keys normed, 1/d."""

    def __init__(self, n: int):
        super().__init__()
        self.inp, self.out = nn.Linear(12, n, bias=False), nn.Linear(n, 7, bias=False)
        self.q, self.k, self.v = (nn.Linear(n, n, bias=False) for _ in range(3))
        self.qn, self.kn = nn.RMSNorm(n), nn.RMSNorm(n)

    def forward(self, x: Tensor) -> Tensor:
        h = F.gelu(self.inp(x))
        q, k = self.qn(self.q(h)), self.kn(self.k(h))
        return self.out(h + (q @ k.mT / h.shape[-1]).softmax(-1) @ self.v(h))


def queries_normed(width: int, q: Powers = (-0.5, -1)):
    return *trained(QueriesNormed(width), width, {"q.weight": q}), x_inputs()


class Reparametrised(nn.Module):
    """Two hidden layers whose weights are a gain times a direction, or have norm 1."""

    def __init__(self, n: int, spectral: bool):
        super().__init__()
        self.inp, self.out = nn.Linear(12, n, bias=False), nn.Linear(n, 7, bias=False)
        norm = nn.utils.parametrizations.spectral_norm if spectral else nn.utils.parametrizations.weight_norm
        self.h1, self.h2 = (norm(nn.Linear(n, n, bias=False)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.gelu(self.h2(F.gelu(self.h1(F.gelu(self.inp(x)))))))


def reparametrised(width: int, spectral: bool = False, v: Powers = (-0.5, -1), g: float = 0):
    model, powers = Reparametrised(width, spectral), {"original1": v, "original": v, "original0": (0.0, g)}
    model, optimizer = trained(model, width, powers)
    for name, p in model.named_parameters():
        if name.endswith("original0"):
            nn.init.ones_(p)
    return model, optimizer, x_inputs()


# -- one parameter, two uses ---------------------------------------------------------------------------


class Autoencoder(nn.Module):
    def __init__(self, n: int, how: str, scale: float):
        super().__init__()
        self.W, self.h, self.how, self.scale = nn.Parameter(torch.empty(n, 12)), nn.Linear(n, n, bias=False), how, scale
        self.bias = nn.Parameter(torch.zeros(12))

    def forward(self, x: Tensor) -> Tensor:
        h = F.gelu(self.h(F.gelu(F.linear(x, self.W)))) * self.scale
        if self.how == "linear":
            return F.linear(h, self.W.t())
        if self.how == "bias":
            return F.linear(h, self.W.t(), self.bias)
        return h @ self.W if self.how == "matmul" else torch.einsum("bn,nd->bd", h, self.W)


def autoencoder(width: int, how: str = "linear", scale: float = 0, W: Powers = (0, 0)):
    return *trained(Autoencoder(width, how, (width / 64) ** scale), width, {"W": W}), x_inputs()


class Tied(nn.Module):
    """Token and position embeddings, the former read out by the same weight."""

    def __init__(self, n: int, norm: bool, by_name: bool, scale: float):
        super().__init__()
        self.tok, self.pos, self.hid = nn.Embedding(50, n), nn.Embedding(8, n), nn.Linear(n, n, bias=False)
        self.n1 = nn.RMSNorm(n) if norm else nn.Identity()
        self.out, self.scale = nn.Linear(n, 50, bias=False) if by_name else None, scale
        if by_name:
            self.out.weight = self.tok.weight

    def forward(self, i: Tensor) -> Tensor:
        h = self.tok(i) + self.pos(torch.arange(i.shape[1]))
        h = (h + self.hid(F.gelu(self.n1(h)))) * self.scale
        return self.out(h) if self.out is not None else F.linear(h, self.tok.weight)


def tied(
    width: int, norm: bool = True, by_name: bool = True, scale: float = 0, tok: Powers = (0, 0), pos: Powers = (0, 0)
):
    model = Tied(width, norm, by_name, (width / 64) ** scale)
    return *trained(model, width, {"tok.weight": tok, "pos.weight": pos}), torch.arange(16).reshape(2, 8)


class TwoEmbeddings(nn.Module):
    """Tokens and segments, no tie: the tokens may fade."""

    def __init__(self, n: int):
        super().__init__()
        self.tok, self.seg = nn.Embedding(50, n), nn.Embedding(3, n)
        self.norm, self.hid, self.out = nn.LayerNorm(n), nn.Linear(n, n, bias=False), nn.Linear(n, 50, bias=False)

    def forward(self, i: Tensor) -> Tensor:
        return self.out(F.gelu(self.hid(self.norm(self.tok(i) + self.seg(i % 3)))))


def two_embeddings(width: int, tok: Powers = (0, 0), seg: Powers = (0, 0)):
    model = TwoEmbeddings(width)
    return *trained(model, width, {"tok.weight": tok, "seg.weight": seg}), torch.arange(16).reshape(2, 8)


# -- low rank ------------------------------------------------------------------------------------------


class Adapted(nn.Module):
    """LoRA; ``dora``: the rows of the sum normed, with a gain; ``scale``: alpha over rank."""

    def __init__(self, n: int, rank: int = 4, dora: bool = False, fan_out: int = 0):
        super().__init__()
        self.W = nn.Linear(n, fan_out or n, bias=False)
        self.W.weight.requires_grad_(False)
        self.A, self.B = nn.Parameter(torch.empty(rank, n)), nn.Parameter(torch.zeros(fan_out or n, rank))
        self.m = nn.Parameter(torch.ones(fan_out or n, 1)) if dora else None

    def forward(self, x: Tensor) -> Tensor:
        if self.m is not None:
            W = self.W.weight + self.B @ self.A
            return F.linear(x, self.m * W / W.norm(dim=1, keepdim=True))
        return self.W(x) + 2.0 * F.linear(F.linear(x, self.A), self.B)


class LowRank(nn.Module):
    def __init__(self, n: int, residual: bool, dora: bool):
        super().__init__()
        self.inp, self.out, self.residual = nn.Linear(12, n, bias=False), nn.Linear(n, 7, bias=False), residual
        self.l1, self.l2 = Adapted(n, dora=dora), Adapted(n, dora=dora)
        for layer in (self.inp, self.out):
            layer.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        h = F.gelu(self.inp(x))
        for layer in (self.l1, self.l2):
            h = h + F.gelu(layer(h)) if self.residual else F.gelu(layer(h))
        return self.out(h)


def low_rank(
    width: int, residual: bool = False, dora: bool = False, A: Powers = (-1, -1), B: Powers = (0, 0), m: Powers = (0, 0)
):
    model = LowRank(width, residual, dora)
    return *trained(model, width, {"A": A, "B": B, "m": m}, ("B",)), x_inputs()


class LowRankAttention(nn.Module):
    """LoRA on queries and values, heads of 16."""

    def __init__(self, n: int):
        super().__init__()
        self.inp, self.out = nn.Linear(12, n, bias=False), nn.Linear(n, 7, bias=False)
        self.q, self.k, self.v = Adapted(n), nn.Linear(n, n, bias=False), Adapted(n)
        self.k.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        h = F.gelu(self.inp(x))
        q, k, v = (y.unflatten(-1, (-1, 16)).transpose(0, 1) for y in (self.q(h), self.k(h), self.v(h)))
        return self.out(h + ((q @ k.mT / 4).softmax(-1) @ v).transpose(0, 1).flatten(1))


def low_rank_attention(width: int, A: Powers = (-1, -1), B: Powers = (0, 0)):
    return *trained(LowRankAttention(width), width, {"A": A, "B": B}, ("B",)), x_inputs()


# -- unrolled ------------------------------------------------------------------------------------------


class Scan(nn.Module):
    """A state space of four states, unrolled over the sequence; ``gated``: what stays of it is learned too."""

    def __init__(self, n: int, packed: bool, gated: bool):
        super().__init__()
        self.emb, self.pre, self.out = nn.Embedding(50, n), nn.Linear(n, n, bias=False), nn.Linear(n, 50, bias=False)
        self.bc = nn.Linear(n, 8, bias=False) if packed else None
        self.b, self.c = (None, None) if packed else (nn.Linear(n, 4, bias=False), nn.Linear(n, 4, bias=False))
        self.gate = nn.Linear(n, n, bias=False) if gated else None

    def forward(self, i: Tensor) -> Tensor:
        x = F.silu(self.pre(self.emb(i)))
        b, c = self.bc(x).chunk(2, -1) if self.bc is not None else (self.b(x), self.c(x))
        stays = torch.sigmoid(self.gate(x))[..., None] if self.gate is not None else torch.full((*i.shape, 1, 1), 0.9)
        h, ys = 0, []
        for t in range(i.shape[1]):
            h = stays[:, t] * h + b[:, t, None, :] * x[:, t, :, None]
            ys.append((h * c[:, t, None, :]).sum(-1))
        return self.out(x + torch.stack(ys, 1))


def scan(width: int, T: int = 4, packed: bool = True, gated: bool = False, bc: Powers = (-1, -1)):
    powers = dict.fromkeys(("bc.weight", "b.weight", "c.weight"), bc)
    return *trained(Scan(width, packed, gated), width, powers), torch.arange(T).reshape(1, T)


class LinearAttention(nn.Module):
    """``S += k v``, read by ``q S``; ``gated``: S decays by a learned gate; ``heads`` of 16 or one that grows."""

    def __init__(self, n: int, gated: bool, grows: bool, scale: float):
        super().__init__()
        self.emb, self.out, self.size = nn.Embedding(50, n), nn.Linear(n, 50, bias=False), n if grows else 16
        self.q, self.k, self.v = (nn.Linear(n, n, bias=False) for _ in range(3))
        self.gate, self.scale = (nn.Linear(n, n, bias=False) if gated else None), scale

    def forward(self, i: Tensor) -> Tensor:
        x = F.silu(self.emb(i))
        q, k, v = (y.unflatten(-1, (-1, self.size)) for y in (self.q(x), self.k(x), self.v(x)))
        gate = torch.sigmoid(self.gate(x)).unflatten(-1, (-1, self.size)) if self.gate is not None else None
        state, ys = 0, []
        for t in range(i.shape[1]):
            if gate is not None:
                state = gate[:, t, :, :, None] * state
            state = state + k[:, t, :, :, None] * v[:, t, :, None, :]
            ys.append((q[:, t, :, None, :] @ state).squeeze(-2) * self.scale)
        return self.out(x + torch.stack(ys, 1).flatten(2))


def linear_attention(
    width: int, T: int = 4, gated: bool = False, grows: bool = False, scale: float = 0, v: Powers = (-0.5, -1)
):
    model = LinearAttention(width, gated, grows, (width / 64) ** scale)
    return *trained(model, width, {"v.weight": v}), torch.arange(T).reshape(1, T)


# -- packed --------------------------------------------------------------------------------------------


class Packed(nn.Module):
    """``n`` rows and 8 more in one projection, a depthwise convolution over all of them, as in Mamba 2."""

    def __init__(self, n: int, conv: bool):
        super().__init__()
        self.emb, self.pack, self.low = (
            nn.Embedding(50, n),
            nn.Linear(n, n + 8, bias=False),
            nn.Linear(8, n, bias=False),
        )
        self.conv = nn.Conv1d(n + 8, n + 8, 3, padding=2, groups=n + 8, bias=False) if conv else None
        self.out = nn.Linear(n, 50, bias=False)

    def forward(self, i: Tensor) -> Tensor:
        x = self.emb(i)
        y = self.pack(F.silu(x))
        if self.conv is not None:
            y = self.conv(y.mT)[..., : i.shape[1]].mT
        a, b = F.silu(y).split([self.out.in_features, 8], -1)
        return self.out(x + a + self.low(b))


def packed(width: int, conv: bool = False, rows: float = 0, twice: float = 1, pack: Powers = (-0.5, -1)):
    model, optimizer = trained(
        Packed(width, conv), width, {"pack.weight": pack, "conv.weight": (0, 0), "low.weight": (0, 0)}
    )
    with torch.no_grad():
        model.pack.weight[width:].mul_((width / 64) ** rows)
        if twice != 1:
            model.pack.weight[width:].mul_(twice)
            model.pack.weight.mul_(twice)
    return model, optimizer, torch.arange(8).reshape(2, 4)


def _named(setup: Callable, **options) -> Callable:
    made = partial(setup, **options)
    made.__name__ = f"{setup.__name__}({', '.join(f'{k}={v}' for k, v in options.items())})"
    return made


H = 0.5
RIGHT = [
    *(_named(before_a_norm, norm=norm, bias=norm == "layer") for norm in NORMS),
    *(_named(before_a_norm, norm=norm, hid=(-1, -1.5)) for norm in ("layer", "batch")),
    *(_named(before_a_norm, norm=norm, hid=(0, -H)) for norm in ("rms", "group")),
    _named(queries_normed, q=(-H, -1)),
    _named(queries_normed, q=(-1, -1.5)),
    *(_named(autoencoder, how=how, scale=-1) for how in ("linear", "bias", "matmul", "einsum")),
    *(_named(tied, norm=norm, by_name=by_name, scale=-1) for norm in (False, True) for by_name in (False, True)),
    *(_named(reparametrised, spectral=spectral) for spectral in (False, True)),
    _named(reparametrised, v=(-1, -1.5)),
    _named(two_embeddings, tok=(0, 0)),
    *(_named(low_rank, residual=residual) for residual in (False, True)),
    _named(low_rank, dora=True),
    _named(low_rank_attention, A=(-1, -1)),
    *(_named(scan, T=T, packed=packed, gated=gated) for T, packed, gated in ((3, True, True), (6, False, False))),
    *(_named(linear_attention, gated=gated) for gated in (False, True)),
    _named(linear_attention, gated=True, grows=True, scale=-1),
    _named(packed, rows=-H),
    _named(packed, rows=-H, twice=2.0),
    _named(packed, conv=True, rows=-H),
]

#: Set-up -> its fixes, as (target, quantity, by); drifts of decay and epsilon left out.  ``*``: whatever the site.
WRONG: dict[Callable, set[tuple[str, str, float]]] = {
    # an update that swamps what enters the norm, or is no part of it
    **{_named(before_a_norm, norm=norm, hid=(-1, -1)): {("hid.weight", "init std", H)} for norm in NORMS},
    **{_named(before_a_norm, norm=norm, hid=(0, -1)): {("hid.weight", "init std", -H)} for norm in NORMS},
    **{_named(before_a_norm, norm=norm, inp=(-1, 0)): {("inp.weight", "init std", 1)} for norm in ("layer", "rms")},
    **{_named(before_a_norm, norm=norm, inp=(0, -1)): {("inp.weight", "lr", 1)} for norm in ("batch", "group")},
    _named(before_a_norm, norm="rms", hid=(-1, 0)): {("hid.weight", "lr", -1.5)},
    _named(before_a_norm, norm="layer", bias=True, hid=(-1, -1)): {("hid.weight", "init std", H)},
    _named(before_a_norm, norm="layer", bias=True, hid=(0, -1)): {("hid.weight", "init std", -H)},
    _named(before_a_norm, norm="layer", bias=True, hid=(0, -H)): {("hid.bias", "lr", H)},
    _named(queries_normed, q=(-1, -1)): {("q.weight", "init std", H)},
    _named(queries_normed, q=(0, -1)): {("q.weight", "init std", -H)},
    # a weight under a norm of its own
    _named(reparametrised, g=-H): {(f"h{i}.parametrizations.weight.original0", "lr", H) for i in (1, 2)},
    _named(reparametrised, v=(-H, 0)): {(f"h{i}.parametrizations.weight.original1", "lr", -1) for i in (1, 2)},
    _named(reparametrised, v=(0, -1)): {(f"h{i}.parametrizations.weight.original1", "lr", H) for i in (1, 2)},
    _named(reparametrised, spectral=True, v=(-1, -1)): {
        (f"h{i}.parametrizations.weight.original", "lr", -H) for i in (1, 2)
    },
    # one parameter used twice
    **{_named(autoencoder, how=how): {("*", "multiplier", -1)} for how in ("linear", "bias", "matmul", "einsum")},
    _named(autoencoder, how="linear", W=(-1, -1)): {("*", "multiplier", -1), ("W", "lr", 1), ("W", "init std", 1)},
    _named(autoencoder, how="linear", W=(0, -1)): {("*", "multiplier", -1), ("W", "lr", 1)},
    _named(autoencoder, how="matmul", W=(1, 0)): {("*", "multiplier", -1), ("W", "init std", -1)},
    **{_named(tied, by_name=by_name): {("*", "multiplier", -1)} for by_name in (False, True)},
    _named(tied, norm=False, tok=(-1, 0)): {("*", "multiplier", -1)},
    # a look-up that fades against positions
    **{
        _named(tied, norm=norm, tok=(-1, -1)): {("*", "multiplier", -1), ("tok.weight", "lr", 1)}
        for norm in (False, True)
    },
    _named(tied, scale=-1, tok=(-1, -1)): {("tok.weight", "lr", 1), ("tok.weight", "init std", 1)},
    _named(tied, scale=-1, tok=(-H, 0), pos=(-H, 0)): {("tok.weight", "init std", H), ("pos.weight", "init std", H)},
    _named(two_embeddings, tok=(-1, -1)): {("tok.weight", "lr", 1), ("tok.weight", "init std", 1)},
    _named(two_embeddings, seg=(-H, -H)): {("seg.weight", "lr", H), ("seg.weight", "init std", H)},
    # low rank: A alone
    **{
        _named(low_rank, residual=residual, A=(-H, 0)): {
            ("l1.A", "lr", -1),
            ("l2.A", "lr", -1),
            ("l2.A", "init std", -H),
        }
        for residual in (False, True)
    },
    _named(low_rank, A=(-H, -1)): {("l2.A", "init std", -H)},
    _named(low_rank, B=(0, -1)): {("l1.B", "lr", 1), ("l2.B", "lr", 1)},
    _named(low_rank, residual=True, B=(0, 1)): {("l1.B", "lr", -1), ("l2.B", "lr", -1)},
    _named(low_rank_attention, A=(-H, -1)): {("q.A", "init std", -H), ("v.A", "init std", -H)},
    _named(low_rank_attention, A=(-1, 0)): {("q.A", "lr", -1), ("v.A", "lr", -1)},
    # unrolled: the same at any length
    **{_named(scan, T=T, bc=(-H, -1)): {("bc.weight", "init std", -H)} for T in (2, 5, 9)},
    _named(scan, T=4, gated=True, bc=(0, 0)): {("bc.weight", "init std", -1), ("bc.weight", "lr", -1)},
    **{
        _named(scan, T=T, packed=False, bc=(-H, -1)): {("b.weight", "init std", -H), ("c.weight", "init std", -H)}
        for T in (3, 6)
    },
    _named(linear_attention, T=5, v=(-H, 0)): {("v.weight", "lr", -1)},
    _named(linear_attention, gated=True, v=(0, -1)): {("v.weight", "init std", -H)},
    _named(linear_attention, T=3, grows=True, scale=-H): {("*", "multiplier", -H)},
    _named(linear_attention, T=3, gated=True, grows=True): {("*", "multiplier", -1)},
    # packed: the rows that are at fault
    **{_named(packed, conv=conv): {("pack.weight[n:n + 8]", "init std", -H)} for conv in (False, True)},
    _named(packed, pack=(-1, -1)): {("pack.weight[0:n]", "init std", H)},
    _named(packed, conv=True, rows=-H, twice=2.0, pack=(-H, 0)): {("pack.weight", "lr", -1)},
}
