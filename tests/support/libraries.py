"""Optimizers of libraries, as they are used: what is made of the groups of :mod:`tests.support.by_shape`.

Each is ``name -> (package, family of rates, make)``.  ``family`` is what its authors say that it is: one of the updates
of Table 8, or of those relative to the weight.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support import by_shape as shapes
from tests.support.by_shape import FEATURES, LENGTH, VOCABULARY

Groups = Sequence[Mapping[str, Any]]
Made = tuple[str, str, Callable[[Groups], Any]]


# -- models beside those of by_shape ------------------------------------------------------------------------


class Tied(nn.Module):
    """A GPT of one block whose embedding is its readout too, behind ``1/n``."""

    inputs = staticmethod(shapes.tokens)

    def __init__(self, n: int, power: float = -1):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY, n), nn.Embedding(LENGTH, n)
        self.norm1, self.attention = nn.RMSNorm(n), shapes.Attention(n, power)
        self.norm2, self.up, self.gate = nn.RMSNorm(n), nn.Linear(n, 2 * n, bias=False), nn.Linear(n, 2 * n, bias=False)
        self.down, self.norm = nn.Linear(2 * n, n, bias=False), nn.RMSNorm(n)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        h = h + self.attention(self.norm1(h))
        x = self.norm2(h)
        h = h + self.down(F.silu(self.gate(x)) * self.up(x))
        return F.linear(self.norm(h) / h.shape[-1], self.wte.weight)


class LongShort(nn.Module):
    """An LSTM between two linear layers."""

    inputs = staticmethod(shapes.sequence)

    def __init__(self, n: int, power: float = -1):
        super().__init__()
        self.first, self.cell, self.readout = nn.Linear(FEATURES, n), nn.LSTM(n, n, batch_first=True), nn.Linear(n, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.cell(torch.tanh(self.first(x)))[0].mean(1))


class TopOne(nn.Module):
    """Each position is sent to the best of four experts, kept in stacked weights (no wider than the rest)."""

    inputs = staticmethod(shapes.sequence)

    def __init__(self, n: int, power: float = -1):
        super().__init__()
        self.first, self.router = nn.Linear(FEATURES, n), nn.Linear(n, 4, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(n, 2 * n), nn.GELU(), nn.Linear(2 * n, n)) for _ in range(4)
        )
        self.norm, self.readout = nn.LayerNorm(n), nn.Linear(n, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        z = self.norm(h)
        gates = self.router(z).softmax(-1)
        best, index = gates.max(-1, keepdim=True)
        made = torch.stack([expert(z) for expert in self.experts], -2)
        chosen = made.gather(-2, index[..., None].expand(*index.shape, made.shape[-1])).squeeze(-2)
        return self.readout(h + best * chosen)


# -- optimizers -----------------------------------------------------------------------------------------------


def of(package: str, name: str, family: str = "adam", keys: str = "lr weight_decay eps", **options: Any) -> Made:
    """The class of a package, in groups of the ``keys``."""

    def make(groups: Groups) -> Any:
        cls = getattr(importlib.import_module(package), name)
        return cls([{key: group[key] for key in ("params", *keys.split())} for group in groups], **options)

    return package, family, make


def squared(made: Made) -> Made:
    """Of one whose epsilon stands beside squares of gradients."""
    package, family, make = made
    return package, family, lambda groups: make([{**group, "eps": group["eps"] ** 2} for group in groups])


def decoupled(made: Made) -> Made:
    """Of one with relative updates and decoupled decay."""
    package, family, make = made
    return package, family, lambda groups: make([{**group, "weight_decay": 1e-4 / group["lr"]} for group in groups])


def beside_muon(muon: Made, rest: Made) -> Made:
    """Matrices by one, the rest by another, as all that orthogonalise are used."""

    def make(groups: Groups) -> list[Any]:
        matrices = [{**group, "use_muon": True} for group in groups if group["matrix"]]
        return [*([muon[2](matrices)] if matrices else []), rest[2]([group for group in groups if not group["matrix"]])]

    return muon[0], "muon", make


ADAMW = of("torch.optim", "AdamW")
LIBRARIES: dict[str, Made] = {
    "lion": of("lion_pytorch", "Lion", keys="lr weight_decay"),
    "lion absolute": of("lion_pytorch", "Lion", keys="lr weight_decay", lr=1e-3, decoupled_weight_decay=False),
    "schedulefree adamw": of("schedulefree", "AdamWScheduleFree"),
    "schedulefree radam": of("schedulefree", "RAdamScheduleFree"),
    "schedulefree sgd": of("schedulefree", "SGDScheduleFree", "sgd", "lr weight_decay"),
    "optimi adamw": of("optimi", "AdamW", lr=1e-3),
    "optimi lion": of("optimi", "Lion", keys="lr weight_decay", lr=1e-3),
    "optimi stable": of("optimi", "StableAdamW", lr=1e-3),
    "optimi adan": of("optimi", "Adan", lr=1e-3),
    "optimi sgd": of("optimi", "SGD", "sgd", "lr weight_decay", lr=1e-3, momentum=0.9, decouple_wd=True),
    "heavyball adamw": of("heavyball", "AdamW", compile_step=False),
    "heavyball laprop": of("heavyball", "LaProp", compile_step=False),
    "heavyball soap": of("heavyball", "SOAP", compile_step=False),
    "bnb adamw": of("bitsandbytes.optim", "AdamW"),
    "bnb adamw8bit": of("bitsandbytes.optim", "AdamW8bit"),
    "bnb lion": of("bitsandbytes.optim", "Lion", keys="lr weight_decay"),
    "came": of("came_pytorch", "CAME", keys="lr weight_decay", lr=1e-3),
    "adabelief": squared(of("adabelief_pytorch", "AdaBelief", rectify=False, print_change_log=False)),
    "po adopt": of("pytorch_optimizer", "ADOPT", weight_decouple=True),
    "po adan": of("pytorch_optimizer", "Adan", weight_decouple=True),
    "po lamb": decoupled(of("pytorch_optimizer", "Lamb", "relative")),
    "po tiger": of("pytorch_optimizer", "Tiger", keys="lr weight_decay", weight_decouple=True),
    "po stable": of("pytorch_optimizer", "StableAdamW", weight_decouple=True),
    "po soap": of("pytorch_optimizer", "SOAP"),
    "po ademamix": of("pytorch_optimizer", "AdEMAMix", weight_decouple=True),
    "po sgdw": of("pytorch_optimizer", "SGDW", "sgd", "lr weight_decay", weight_decouple=True),
    "po muon": beside_muon(
        of("pytorch_optimizer", "Muon", keys="lr weight_decay use_muon", use_adjusted_lr=False), ADAMW
    ),
    "po qhadam": of("pytorch_optimizer", "QHAdam", weight_decouple=True),
    "timm nadamw": of("timm.optim", "NAdamW"),
    "timm lion": of("timm.optim", "Lion", keys="lr weight_decay"),
    "timm lamb": of("timm.optim", "Lamb", "relative"),
    "timm lamb decoupled": decoupled(of("timm.optim", "Lamb", "relative", decoupled_decay=True)),
    "timm adopt": of("timm.optim", "Adopt", decoupled=True),
    "timm sgdw": of("timm.optim", "SGDW", "sgd", "lr weight_decay", momentum=0.9, lr=1e-3),
    "timm rmsprop": squared(of("timm.optim", "RMSpropTF", decoupled_decay=True)),
    "timm bigvision": of("timm.optim", "AdafactorBigVision", keys="lr weight_decay", lr=1e-3),
    "bnb sgd": of("bitsandbytes.optim", "SGD8bit", "sgd", "lr weight_decay", lr=1e-3, momentum=0.9),
    "torchao adamw8bit": of("torchao.optim", "AdamW8bit"),
    "torch_optimizer radam": of("torch_optimizer", "RAdam"),
    "adv adamw": of("adv_optm", "AdamW_adv"),
    "adamp": of("adamp", "AdamP"),
}
