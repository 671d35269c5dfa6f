"""The two small models of the gallery.  Each takes what a mistake may turn; else they are plain."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BASE = 64
VOCABULARY = 16


class MLP(nn.Module):
    """24 features, two hidden layers, 10 classes."""

    def __init__(self, width: int):
        super().__init__()
        self.input = nn.Linear(24, width)
        self.hidden = nn.Linear(width, width)
        self.output = nn.Linear(width, 10)
        ratio = width / BASE
        nn.init.normal_(self.input.weight, std=0.2)
        nn.init.normal_(self.hidden.weight, std=0.12 * ratio**-0.5)
        nn.init.normal_(self.output.weight, std=0.12 / ratio)
        for bias in (self.input.bias, self.hidden.bias, self.output.bias):
            nn.init.zeros_(bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(F.relu(self.hidden(F.relu(self.input(x)))))


def features() -> tuple[Tensor]:
    return (torch.linspace(-1, 1, 8 * 24).sin().mul(3).reshape(8, 24),)


class Transformer(nn.Module):
    """One block of attention with two heads, whose size grows with the width, and a feed-forward layer."""

    def __init__(self, width: int, logits: float = 1.0, tied: bool = False):
        super().__init__()
        self.logits = logits  # what attention logits are multiplied by
        self.token = nn.Embedding(VOCABULARY, width)
        self.position = nn.Embedding(8, width)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.head = nn.Linear(width, VOCABULARY, bias=False)
        ratio = width / BASE
        for layer in (self.q, self.k, self.v, self.o, self.up, self.down):
            nn.init.normal_(layer.weight, std=0.12 * ratio**-0.5)
        for embedding in (self.token, self.position):
            nn.init.normal_(embedding.weight, std=1.0)
        for bias in (self.up.bias, self.down.bias):
            nn.init.zeros_(bias)
        nn.init.normal_(self.head.weight, std=0.12 / ratio)
        if tied:
            self.head.weight = self.token.weight

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (2, -1)).transpose(-2, -3) for layer in (self.q, self.k, self.v))
        shares = (q @ k.transpose(-1, -2) * self.logits).softmax(-1)
        return self.o((shares @ v).transpose(-2, -3).flatten(-2))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens) + self.position(torch.arange(tokens.shape[1], device=tokens.device))
        x = x + self.attend(self.norm1(x))
        x = x + self.down(F.relu(self.up(self.norm2(x))))
        return self.head(self.norm3(x))


def sentences() -> tuple[Tensor]:
    return ((torch.arange(32) ** 2 % VOCABULARY).reshape(4, 8),)


#: AdamW's rules for both models (Yang et al. 2022, Table 3): matrices between growing axes, the readout, all else.
def groups(model: nn.Module, width: int, lr: float = 1e-3, eps: float = 1e-8, decay: float = 0.1) -> list[dict]:
    """Param groups by which either model is right; a mistake of the gallery changes one number of them."""
    ratio = width / BASE
    hidden = [p for name, p in model.named_parameters() if p.dim() == 2 and min(p.shape) >= BASE]
    readout = [model.output.weight if isinstance(model, MLP) else model.head.weight]
    last = [model.output.bias] if isinstance(model, MLP) else []
    apart = {id(p) for p in [*hidden, *readout, *last]}
    rest = [p for p in model.parameters() if id(p) not in apart]
    return [
        {"params": hidden, "lr": lr / ratio, "weight_decay": decay * ratio, "eps": eps / ratio},
        {"params": readout, "lr": lr / ratio, "weight_decay": decay * ratio, "eps": eps},
        {"params": rest, "lr": lr, "weight_decay": decay, "eps": eps / ratio},
        *({"params": [p], "lr": lr, "weight_decay": decay, "eps": eps} for p in last),
    ]
