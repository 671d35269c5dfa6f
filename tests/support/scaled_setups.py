"""Set-ups of several scales, as people write them by hand, right and wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from tests.support.scaled import TOKENS, FeedForward
from tpcalc.verify import Report

LR, EPS, DECAY = 1e-2, 1e-10, 0.1


def adamw(rates: Mapping[nn.Parameter, tuple[float, float]]) -> torch.optim.AdamW:
    """Parameter -> lr over LR and epsilon over EPS; lr times decay is constant."""
    return torch.optim.AdamW(
        {"params": [p], "lr": LR * lr, "eps": EPS * eps, "weight_decay": DECAY / lr} for p, (lr, eps) in rates.items()
    )


def residual(
    model: Callable[..., tuple[nn.Module, Any]], last: str, alpha: float = 1, *, init: float = 1, rate: float = 1,
    inner: float = 1,
) -> Callable[[int, int], tuple]:  # fmt: skip
    """CompleteP of a stack of blocks (Depth-muP at ``alpha`` 1/2).  ``last``: pattern of the last layer of a branch.

    ``init``, ``rate``: 0 leaves out the depth in the init and in the rate of the last layers, ``inner`` in the rate of
    the others; all zero is muP, which knows the width alone.
    """

    def setup(width: int, depth: int):
        net, inputs = model(width, depth)
        n, L = width / 64, depth / 2
        rates = {}
        for name, p in net.named_parameters():
            block = re.search(r"\.\d+\.", name) is not None
            ends = re.search(last, name) is not None
            out = name.startswith(("out.", "head."))
            matrix = p.dim() == 2 and (block or out)
            if p.dim() == 2:
                nn.init.normal_(p, std=1 / width if out else width**-0.5 if block else 1.0)
            with torch.no_grad():
                p.mul_(L ** (-alpha * init * ends))
            lr = L**-rate if ends else L ** (inner * (alpha - 1)) if block else 1.0
            fades = out and (matrix or p.shape[0] < 16)
            eps = 1.0 if fades else (L**-alpha if block and not ends else 1.0) / n
            rates[p] = (lr / n if matrix else lr), eps
        return net, adamw(rates), inputs

    return setup


def feed_forward(down: str = "ffn") -> Callable[[int, int], tuple]:
    """Width and inner size apart; ``down``: the scale over which the rate of that weight is taken."""

    def setup(width: int, ffn: int):
        model = FeedForward(width, ffn)
        n, f = width / 64, ffn / 256
        numbers = {
            "embed": (1.0, 1 / n), "norm": (1.0, 1 / n), "up": (1 / n, 1 / f),
            "down": (1 / {"width": n, "ffn": f}[down], 1 / n), "readout": (1 / n, 1.0),
        }  # fmt: skip
        stds = {"embed": 1.0, "up": width**-0.5, "down": ffn**-0.5, "readout": 1 / width}
        rates = {}
        for name, p in model.named_parameters():
            layer = name.partition(".")[0]
            if p.dim() == 2:
                nn.init.normal_(p, std=stds[layer])
            elif layer != "norm":
                nn.init.zeros_(p)
            lr, eps = numbers[layer]
            rates[p] = (lr if p.dim() == 2 else 1.0), eps
        return model, adamw(rates), (TOKENS,)

    return setup


def mended(setup: Callable[..., tuple], report: Report, base: Mapping[str, float]) -> Callable[..., tuple]:
    """``setup`` with all fixes of a report applied; ``base``: symbol of a scale -> where its power is 1."""
    changes = [fix for finding in report.findings for fix in finding.fixes]
    symbols = {"width": "n", "depth": "L", "ffn": "f"}

    def target_of(name: str, names: set[str]) -> str:
        """Blocks deeper than those verified are changed as the last of these."""
        return name if name in names else re.sub(r"\.\d+\.", ".1.", name)

    def again(**place: int):
        model, optimizer, inputs = setup(**place)
        at = {symbols[name]: value for name, value in place.items()}
        names = {fix.target for fix in changes}
        for name, p in model.named_parameters():
            group = next(g for g in optimizer.param_groups if g["params"][0] is p)
            for fix in changes:
                if fix.target == target_of(name, names):
                    factor = 1.0
                    for symbol, power in fix.by.items():
                        factor *= (at[symbol] / base[symbol]) ** float(power)
                    if fix.quantity == "init std":
                        with torch.no_grad():
                            p.mul_(factor)
                    else:
                        group[fix.quantity] *= factor
        return model, optimizer, inputs

    return again
