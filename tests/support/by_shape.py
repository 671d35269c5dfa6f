"""Architectures written as people write them, parametrized by the shapes of their weights alone.

The rules are Table 8 of Yang et al. 2022 (TP5), told by which axes of a weight grow, as mup tells them: they know
nothing of the calculus, and so judge it.  A *slip* is one change to them, as people make it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BASE = 32
FEATURES, CLASSES, VOCABULARY, LENGTH = 6, 5, 11, 4


def features() -> Tensor:
    return torch.linspace(-1, 1, 4 * FEATURES).reshape(4, FEATURES).sin()


def sequence() -> Tensor:
    return torch.linspace(-2, 2, 2 * LENGTH * FEATURES).reshape(2, LENGTH, FEATURES).sin()


def tokens() -> Tensor:
    return torch.arange(2 * LENGTH).reshape(2, LENGTH) * 3 % VOCABULARY


def images() -> Tensor:
    return torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8).mul(7).sin()


# -- models: (width, power of the head size in front of the logits) ----------------------------------------


class NormedMLP(nn.Module):
    """Layer norms with gains and biases in front of every matrix."""

    inputs = staticmethod(features)

    def __init__(self, n: int, power: float = -1):
        super().__init__()
        self.first = nn.Linear(FEATURES, n)
        self.norms = nn.ModuleList(nn.LayerNorm(n) for _ in range(2))
        self.layers = nn.ModuleList(nn.Linear(n, n) for _ in range(2))
        self.readout = nn.Linear(n, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            h = h + F.silu(layer(norm(h)))
        return self.readout(h)


class Convolutions(nn.Module):
    """A residual network of two blocks with batch norms, pooled over positions."""

    inputs = staticmethod(images)

    def __init__(self, n: int, power: float = -1):
        super().__init__()
        self.stem = nn.Conv2d(3, n, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) for _ in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(n, n, 3, padding=1, bias=False) for _ in range(2))
        self.readout = nn.Linear(n, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norms[0](self.stem(x)))
        for norm, conv in zip(self.norms[1:], self.convs, strict=True):
            h = F.relu(h + norm(conv(h)))
        return self.readout(h.mean((2, 3)))


class Attention(nn.Module):
    """Packed q, k, v in two heads that grow; ``qk_norm``: both normalised in each head."""

    def __init__(self, n: int, power: float, causal: bool = True, qk_norm: bool = False):
        super().__init__()
        self.size, self.power, self.causal = n // 2, power, causal
        self.qkv, self.proj = nn.Linear(n, 3 * n, bias=False), nn.Linear(n, n)
        self.norms = nn.ModuleList(nn.RMSNorm(self.size) for _ in range(2)) if qk_norm else None

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (2, self.size)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        if self.norms is not None:
            q, k = self.norms[0](q), self.norms[1](k)
        logits = q @ k.mT * (BASE / 2) ** -0.5 * (self.size / (BASE / 2)) ** self.power
        if self.causal:
            logits = logits.masked_fill(torch.ones(x.shape[1], x.shape[1]).triu(1).bool(), -torch.inf)
        return self.proj((logits.softmax(-1) @ v).transpose(1, 2).flatten(2))


class GPT(nn.Module):
    inputs = staticmethod(tokens)

    def __init__(self, n: int, power: float = -1, qk_norm: bool = False):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY, n), nn.Embedding(LENGTH, n)
        self.blocks = nn.ModuleList()
        for _ in range(2):
            mlp = nn.Sequential(nn.LayerNorm(n), nn.Linear(n, 4 * n), nn.GELU(), nn.Linear(4 * n, n))
            self.blocks.append(
                nn.ModuleDict({"norm": nn.LayerNorm(n), "attention": Attention(n, power, qk_norm=qk_norm), "mlp": mlp})
            )
        self.norm, self.readout = nn.LayerNorm(n), nn.Linear(n, VOCABULARY, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        for block in self.blocks:
            h = h + block["attention"](block["norm"](h))
            h = h + block["mlp"](h)
        return self.readout(self.norm(h))


class NormedQueries(GPT):
    def __init__(self, n: int, power: float = -1):
        super().__init__(n, power, qk_norm=True)


class ViT(nn.Module):
    inputs = staticmethod(images)

    def __init__(self, n: int, power: float = -1):
        super().__init__()
        self.patch = nn.Conv2d(3, n, 4, 4)
        self.cls, self.positions = nn.Parameter(torch.empty(1, 1, n)), nn.Parameter(torch.empty(1, 5, n))
        self.norm1, self.attention = nn.LayerNorm(n), Attention(n, power, causal=False)
        self.norm2, self.up, self.down = nn.LayerNorm(n), nn.Linear(n, 2 * n), nn.Linear(2 * n, n)
        self.norm, self.readout = nn.LayerNorm(n), nn.Linear(n, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch(x).flatten(2).mT
        h = torch.cat([self.cls.expand(len(x), -1, -1), patches], 1) + self.positions
        h = h + self.attention(self.norm1(h))
        h = h + self.down(F.gelu(self.up(self.norm2(h))))
        return self.readout(self.norm(h)[:, 0])


class Recurrent(nn.Module):
    """A GRU."""

    inputs = staticmethod(sequence)

    def __init__(self, n: int, power: float = -1):
        super().__init__()
        self.cell, self.readout = nn.GRU(FEATURES, n, batch_first=True), nn.Linear(n, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.cell(x)[0][:, -1])


class Mixer(nn.Module):
    """Tokens are mixed by weights of fixed size, channels by matrices."""

    inputs = staticmethod(sequence)

    def __init__(self, n: int, power: float = -1):
        super().__init__()
        self.first, self.tokens = nn.Linear(FEATURES, n), nn.Linear(LENGTH, LENGTH)
        self.norm1, self.norm2 = nn.LayerNorm(n), nn.LayerNorm(n)
        self.up, self.down, self.readout = nn.Linear(n, 2 * n), nn.Linear(2 * n, n), nn.Linear(n, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        h = h + F.gelu(self.tokens(self.norm1(h).mT)).mT
        h = h + self.down(F.gelu(self.up(self.norm2(h))))
        return self.readout(h.mean(1))


class Experts(nn.Module):
    """Three dense experts, mixed by a softmax router."""

    inputs = staticmethod(features)

    def __init__(self, n: int, power: float = -1):
        super().__init__()
        self.first, self.router = nn.Linear(FEATURES, n), nn.Linear(n, 3, bias=False)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(n, n), nn.ReLU(), nn.Linear(n, n)) for _ in range(3))
        self.readout = nn.Linear(n, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.first(x))
        gates = self.router(h).softmax(-1)
        mixed = sum(gates[:, i, None] * expert(h) for i, expert in enumerate(self.experts))
        return self.readout(F.relu(h + mixed))


class Gated(nn.Module):
    """A gated depthwise convolution between two pointwise ones (a conformer's)."""

    inputs = staticmethod(sequence)

    def __init__(self, n: int, power: float = -1):
        super().__init__()
        self.first, self.norm, self.point1 = nn.Linear(FEATURES, n), nn.LayerNorm(n), nn.Linear(n, 2 * n)
        self.depthwise, self.point2 = nn.Conv1d(n, n, 3, padding=1, groups=n), nn.Linear(n, n)
        self.readout = nn.Linear(n, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        g = F.glu(self.point1(self.norm(h)))
        return self.readout((h + self.point2(F.silu(self.depthwise(g.mT).mT))).mean(1))


class Messages(nn.Module):
    """Message passing over a fixed graph, gathered and summed by index."""

    inputs = staticmethod(features)

    def __init__(self, n: int, power: float = -1):
        super().__init__()
        self.first, self.message, self.update = nn.Linear(FEATURES, n), nn.Linear(2 * n, n), nn.Linear(2 * n, n)
        self.readout = nn.Linear(n, CLASSES)
        self.register_buffer("source", torch.tensor([0, 1, 2, 3, 0]))
        self.register_buffer("target", torch.tensor([1, 2, 3, 0, 2]))

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.first(x))
        m = F.relu(self.message(torch.cat([h[self.source], h[self.target]], -1)))
        gathered = torch.zeros_like(h).index_add(0, self.target, m)
        return self.readout(F.relu(self.update(torch.cat([h, gathered], -1))))


class CrossAttention(nn.Module):
    """A decoder's queries look at an encoder's keys and values (:class:`torch.nn.functional`'s attention)."""

    inputs = staticmethod(sequence)

    def __init__(self, n: int, power: float = -1):
        super().__init__()
        self.encoder, self.queries, self.power = nn.Linear(FEATURES, n), nn.Parameter(torch.empty(3, n)), power
        self.q, self.kv, self.o = nn.Linear(n, n), nn.Linear(n, 2 * n), nn.Linear(n, n)
        self.norm, self.readout = nn.LayerNorm(n), nn.Linear(n, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        memory, h = F.gelu(self.encoder(x)), self.queries.expand(len(x), -1, -1)
        q, (k, v) = self.q(self.norm(h)), self.kv(memory).chunk(2, -1)
        scale = BASE**-0.5 * (q.shape[-1] / BASE) ** self.power
        return self.readout(h + self.o(F.scaled_dot_product_attention(q, k, v, scale=scale)))


class Modulated(nn.Module):
    """A condition makes gains and shifts of a hidden layer (FiLM)."""

    inputs = staticmethod(features)

    def __init__(self, n: int, power: float = -1):
        super().__init__()
        self.first, self.condition = nn.Linear(FEATURES, n), nn.Linear(2, n)
        self.film, self.hidden, self.readout = nn.Linear(n, 2 * n), nn.Linear(n, n), nn.Linear(n, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        gain, shift = self.film(F.silu(self.condition(x[:, :2]))).chunk(2, -1)
        return self.readout(F.silu(self.hidden(F.silu(self.first(x) * (1 + gain) + shift))))


MODELS = (
    NormedMLP,
    Convolutions,
    GPT,
    NormedQueries,
    ViT,
    Recurrent,
    Mixer,
    Experts,
    Gated,
    Messages,
    CrossAttention,
    Modulated,
)


# -- rules by shape -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """std, lr, decay and eps ~ n to these powers; ``std`` None: as torch starts it (a gain's ones)."""

    std: Optional[float]
    lr: float
    decay: float = 0.0
    eps: float = -1.0


@dataclass(frozen=True)
class Slip:
    """``rules``: part of a name -> what is changed of its rule; ``power``: that of the head size."""

    rules: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    power: float = -1.0


def kind_of(owner: nn.Module, small: Tensor, large: Tensor) -> str:
    """``fixed``, ``vector``, ``matrix`` or ``readout`` by the axes that grow between two widths.

    An axis of inputs that does not grow (a depthwise convolution has one channel) leaves nothing to sum over, and only
    what multiplies has one (a table of embeddings has the axes of a readout, and is looked up).
    """
    grows = [a != b for a, b in zip(small.shape, large.shape, strict=True)]
    if not any(grows):
        return "fixed"
    multiplies = small.dim() > 1 and not isinstance(owner, nn.Embedding) and not hasattr(owner, "inputs")
    return "vector" if not multiplies or not grows[1] else "matrix" if grows[0] else "readout"


#: Table 8: powers of the learning rate for each kind of weight.
RATES = {
    "adam": {"matrix": -1.0, "readout": -1.0, "vector": 0.0, "fixed": 0.0},
    "sgd": {"matrix": 0.0, "readout": -1.0, "vector": 1.0, "fixed": 0.0},
    "muon": {"matrix": 0.0, "readout": -1.0, "vector": 0.0, "fixed": 0.0},
    "relative": {"matrix": -0.5, "readout": 0.0, "vector": 0.0, "fixed": 0.0},
}
SIZES = {"matrix": -0.5, "readout": -1.0, "vector": 0.0, "fixed": 0.0}


def by_shape(model: type, family: str, make: Callable, slip: Slip) -> Callable:
    """``setup``: ``make(groups)`` gives the optimizer of groups that each hold lr, weight_decay and eps."""

    def setup(n: int):
        net, m = model(n, slip.power), n / BASE
        small, large = (dict(model(width).named_parameters()) for width in (BASE, 2 * BASE))
        groups = []
        for name, p in net.named_parameters():
            kind = kind_of(net.get_submodule(name.rpartition(".")[0]), small[name], large[name])
            gain = p.dim() < 2 and "bias" not in name
            rate = RATES["adam" if family == "muon" and p.dim() > 2 else family][kind]
            decay = -SIZES[kind] if family == "relative" else -rate
            changes = {k: v for part, own in slip.rules.items() if part in name for k, v in own.items()}
            rule = Rule(**{"std": None if gain else SIZES[kind], "lr": rate, "decay": decay, **changes})
            if rule.std is not None:
                base = 1 / math.sqrt(math.prod(small[name].shape[1:])) if kind in ("matrix", "readout") else 0.5
                nn.init.normal_(p, std=base * m**rule.std)
            groups.append(
                {
                    "params": [p],
                    "lr": 0.01 * m**rule.lr,
                    "weight_decay": 0.01 * m**rule.decay,
                    "eps": 1e-8 * m**rule.eps,
                    "matrix": kind == "matrix" and p.dim() == 2,
                }
            )
        return net, make(groups), model.inputs()

    setup.__name__ = f"{model.__name__.lower()}_{family}"
    return setup
