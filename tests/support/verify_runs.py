"""Real training at small widths: the slopes that a report predicts, measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.models import CLASSES
from tests.support.verify_setups import Llama
from tpcalc.check import reference

WIDTHS = (64, 128, 256, 512)
SEEDS = 2


def slope(points: dict[int, float]) -> float:
    """Least-squares slope of log value over log width."""
    xs, ys = [math.log(w) for w in points], [math.log(v) for v in points.values()]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def loss_of(output: Tensor) -> Tensor:
    flat = output.flatten(0, -2)
    return F.cross_entropy(flat, torch.arange(len(flat)) * 5 % min(flat.shape[-1], CLASSES))


def quick(optimizer):
    """torch's Muon works in bfloat16, which many processors do a hundred times slower."""
    return reference.Muon(optimizer.param_groups) if type(optimizer).__name__ == "Muon" else optimizer


def train(model: nn.Module, optimizer, inputs: Tensor, steps: int) -> None:
    optimizers = [quick(each) for each in (optimizer if isinstance(optimizer, list) else [optimizer])]
    for _ in range(steps):
        for each in optimizers:
            each.zero_grad()
        loss_of(model(inputs)).backward()
        for each in optimizers:
            each.step()


def rms(x: Tensor) -> float:
    return float(x.detach().pow(2).mean().sqrt())


def measured(setup: Callable, measure: Callable[..., float], widths: Sequence[int] = WIDTHS) -> float:
    """Slope of ``measure(model, optimizer, inputs)`` over the widths, averaged over seeds."""
    points = {}
    for width in widths:
        values = []
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            model, optimizer, *rest = setup(width)
            for scheduler in rest[:-1]:
                scheduler.step()
            values.append(measure(model, optimizer, rest[-1]))
        points[width] = math.exp(sum(map(math.log, values)) / SEEDS)
    return slope(points)


def input_of(model: nn.Module, module: str, inputs: Tensor) -> Tensor:
    seen = []
    handle = model.get_submodule(module).register_forward_hook(lambda _, args, out: seen.append(args[0].detach()))
    with torch.no_grad():
        model(inputs)
    handle.remove()
    return seen[0]


def own_effect(module: str, steps: int = 1) -> Callable[..., float]:
    """How much the updates of a module's weight move its result, on the inputs it has at init."""

    def measure(model: nn.Module, optimizer, inputs: Tensor) -> float:
        x = input_of(model, module, inputs)
        before = model.get_submodule(module)(x).detach()
        train(model, optimizer, inputs, steps)
        return rms(model.get_submodule(module)(x) - before)

    return measure


def at_init(module: str) -> Callable[..., float]:
    def measure(model: nn.Module, optimizer, inputs: Tensor) -> float:
        return rms(model.get_submodule(module)(input_of(model, module, inputs)))

    return measure


def logits_change(steps: int, layer: int = 0) -> Callable[..., float]:
    """How much training moves the attention logits."""

    def logits(model: Llama, inputs: Tensor) -> Tensor:
        attention = model.layers[layer]["attention"]
        x = input_of(model, f"layers.{layer}.attention", inputs)
        q, k = (w(x).unflatten(-1, (attention.heads, -1)).transpose(1, 2) for w in (attention.wq, attention.wk))
        return (q @ k.transpose(-1, -2) * attention.scale).detach()

    def measure(model: nn.Module, optimizer, inputs: Tensor) -> float:
        before = logits(model, inputs)
        train(model, optimizer, inputs, steps)
        return rms(logits(model, inputs) - before)

    return measure


def gradient(parameter: str) -> Callable[..., float]:
    def measure(model: nn.Module, optimizer, inputs: Tensor) -> float:
        loss_of(model(inputs)).backward()
        return rms(model.get_parameter(parameter).grad)

    return measure


def features_change(module: str, steps: int) -> Callable[..., float]:
    """How much training moves the result of a module, its inputs trained too."""

    def measure(model: nn.Module, optimizer, inputs: Tensor) -> float:
        before = model.get_submodule(module)(input_of(model, module, inputs)).detach()
        train(model, optimizer, inputs, steps)
        return rms(model.get_submodule(module)(input_of(model, module, inputs)) - before)

    return measure
