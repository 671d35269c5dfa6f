"""Probed update laws of other people's optimizers, beside what they do to a small net at widths 64 to 512.

    python -W ignore -m benchmarks.probe_optimizers [NAME...]

Needs pytorch-optimizer.  The net is trained by the optimizer for as many steps as the probe looks at; the slope of the
aligned entry of the last update (of a hidden matrix, and of a vector) is compared with what the law says for the
gradients and weights that were met.  It knows nothing of how the probe makes its gradients.
"""

from __future__ import annotations

import argparse
import importlib
import math
import time
from typing import Any

import torch
from torch import nn

from tpcalc.algebra.order import Order
from tpcalc.probe import Kind, Measured, Subject, Unprobable, law_of_measured, probe

WIDTHS = (64, 128, 256, 512)
KINDS = {"hidden.weight": Kind((Order(1), Order(1)), (64, 64)), "norm.bias": Kind((Order(1),), (64,))}
#: Rates so small that the net stays where it is: what is measured is one update.
RATE = 1e-6
NAMES = (
    "ADOPT", "A2Grad", "AccSGD", "AdEMAMix", "AdaBelief", "AdaBound", "AdaDelta", "AdaGC", "AdaMax", "AdaMod",
    "AdaNorm", "AdaPNM", "AdamC", "AdamP", "AdamW", "Adan", "AggMo", "Aida", "Amos", "CAME", "DAdaptSGD", "DiffGrad",
    "EXAdam", "FOCUS", "LARS", "LaProp", "Lamb", "Lion", "MARS", "Muon", "NAdam", "NovoGrad", "PAdam", "PID", "Prodigy",
    "QHAdam", "QHM", "RMSprop", "SCION", "SGDP", "SGDW", "SM3", "SOAP", "ScheduleFreeAdamW", "Shampoo", "SignSGD",
    "StableAdamW", "Tiger", "Yogi",
)  # fmt: skip


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.input, self.hidden = nn.Linear(12, width, bias=False), nn.Linear(width, width, bias=False)
        self.norm, self.output = nn.LayerNorm(width), nn.Linear(width, 7, bias=False)
        for weight, std in (
            (self.input.weight, 0.3),
            (self.hidden.weight, width**-0.5),
            (self.output.weight, 6 / width),
        ):
            nn.init.normal_(weight, std=std)
        nn.init.normal_(self.norm.bias, std=0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(torch.tanh(self.norm(self.hidden(torch.tanh(self.input(x))))))


def make(cls: type, parameter: nn.Parameter) -> Any:
    name = cls.__name__
    group = {"params": [parameter], "use_muon": parameter.ndim == 2} if "Muon" in name else {"params": [parameter]}
    return cls([group], lr=RATE)


def aligned(cls: type, name: str, width: int, steps: int, seed: int) -> tuple[float, float, float]:
    """The aligned entry of the last update of a parameter, the rms of its gradient and its own."""
    torch.manual_seed(seed)
    model = Net(width).double()
    parameter = model.get_parameter(name)
    optimizer = make(cls, parameter)
    if callable(getattr(optimizer, "train", None)):
        optimizer.train()
    for _ in range(steps):
        model.zero_grad()
        x, y = torch.randn(4, 12, dtype=torch.float64), torch.randint(0, 7, (4,))
        nn.functional.cross_entropy(model(x), y).backward()
        gradient, before = parameter.grad.clone(), parameter.detach().clone()
        optimizer.step(lambda: torch.ones(()))
    moved = parameter.detach() - before
    size = float((moved * gradient).sum().abs() / gradient.norm()) / math.sqrt(gradient.numel())
    return size, float(gradient.square().mean().sqrt()), float(before.square().mean().sqrt())


def slope(values: list[float]) -> float:
    xs, ys = [math.log(width) for width in WIDTHS], [math.log(max(value, 1e-300)) for value in values]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys)) / sum((a - x) ** 2 for a in xs)


def measured(cls: type, name: str, seen: Measured) -> tuple[float, float]:
    """The slope of the update, and that which the law says."""
    steps = 2 if seen.first is None else 8
    rows = [[aligned(cls, name, width, steps, seed) for width in WIDTHS] for seed in range(2)]
    update, gradient, size = (slope([sum(row[i][k] for row in rows) for i in range(len(WIDTHS))]) for k in range(3))
    u = seen.update
    says = float(u.gradient) * gradient + float(u.size) * size + float(u.ray)
    if seen.eps is not None:  # u is meant with epsilon in its place; here it stands still
        place = seen.eps.place
        at = float(place.gradient) * gradient + float(place.size) * size + float(place.ray)
        says -= float(seen.eps.below) * at
    return update, says


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES)
    package = importlib.import_module("pytorch_optimizer")
    print("| optimizer | weight | probed update | law | says | measured | seconds |\n|---|---|---|---|---|---|---|")
    for optimizer in parser.parse_args().names:
        cls = getattr(package, optimizer)
        for name, kind in KINDS.items():
            start = time.perf_counter()
            try:
                parameter = nn.Parameter(torch.zeros(kind.lengths))
                seen = probe(Subject(make(cls, parameter), 0, parameter), kind)
            except Unprobable as why:
                print(
                    f"| {optimizer} | {name} | refused: {why} | | | | {time.perf_counter() - start:.2f} |", flush=True
                )
                continue
            seconds = time.perf_counter() - start
            found = law_of_measured(seen, kind.growths, None, optimizer, False)
            update, says = measured(cls, name, seen)
            off = "" if abs(update - says) <= 0.15 else " (!)"
            row = (optimizer, name, f"`{found.said}`", found.law.name, f"{says:+.2f}", f"{update:+.2f}{off}")
            print("| " + " | ".join(row) + f" | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
