"""A coordinate check that knows no calculus: does each weight's own update move its module alike at all widths?

    python -m benchmarks.coordinates examples/gpt.py:gpt hf:llama ... [--widths 64,128,256,512] [--steps 4] [--seeds 2]

Trains with the exported multipliers, in plain PyTorch with hooks on modules.  For every module with parameters of its
own it takes the slope, in log n, of its output at init, of the output's change, and of each parameter's own effect
(output with all parameters as trained, less the output with this one as at init, for the trained input), the last two
over the size of the trained output.  Rules that are right give slopes of 0 for both, and of 0 or less at init.  Exit
code 1 if any is off by more than ``--tolerance``.  ``tpcalc check`` compares with predictions; this does not, so that
it can contradict them.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

import tpcalc
from tpcalc.trace.hf import hf_factory
from tpcalc.trace.target import load_target

SMALLEST = 1e-9  # what is smaller than this part of the whole is rounding


@dataclass(frozen=True)
class Off:
    """A slope that is not what it should be: the quantity, of which module or parameter, and the slope."""

    quantity: str
    name: str
    slope: float


def rms(x: Tensor) -> float:
    return float(x.detach().double().pow(2).mean().sqrt())


def floats(output: Any) -> list[Tensor]:
    leaves = tree_leaves(dict(output) if hasattr(output, "keys") else output)
    return [x for x in leaves if isinstance(x, Tensor) and x.is_floating_point() and x.numel()]


def loss_of(output: Any, finite: set[int], seed: int) -> Tensor:
    """The output itself if it is a loss; else classes on last axes of the same length at all widths, and distances."""
    found = floats(output)
    if found and found[0].dim() == 0:
        return found[0]
    generator, total = torch.Generator().manual_seed(seed), torch.zeros(())
    for index, x in enumerate(found):
        if index in finite and x.dim() > 1 and x.shape[-1] > 1:
            total = total + F.cross_entropy(
                x.flatten(0, -2), torch.randint(x.shape[-1], (x[..., 0].numel(),), generator=generator)
            )
        else:
            total = total + F.mse_loss(x, torch.randn(x.shape, generator=generator))
    return total


class Coordinates:
    """Trains one model at several widths and keeps the sizes that it saw."""

    def __init__(
        self, factory: Callable[[int], Any], widths: list[int], steps: int = 4, lr: float = 2**-8, scaled: bool = True
    ) -> None:
        self.factory, self.widths, self.steps, self.lr = factory, widths, steps, lr
        self.scalings = {width: tpcalc.scale(factory, widths[0], width) for width in widths[1:] if scaled}
        self.finite = self.same_ends()
        self.inputs: Any = None

    def same_ends(self) -> set[int]:
        """Outputs whose last axis does not grow."""
        ends = []
        for width in self.widths[:2]:
            model, inputs = self.factory(width)
            with torch.no_grad():
                ends.append([x.shape[-1:] for x in floats(call(model, inputs))])
        return {index for index, (a, b) in enumerate(zip(*ends)) if a == b}

    def run(self, width: int, seed: int) -> Iterator[tuple[str, str, float]]:
        """``(quantity, name, size)`` of one training."""
        torch.manual_seed(seed)
        model, inputs = self.factory(width)
        if self.inputs is None:
            self.inputs = inputs
        inputs = self.inputs if shapes(self.inputs) == shapes(inputs) else inputs
        model.train()
        for module in model.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.p = 0.0
        groups: Any = [{"params": list(model.parameters()), "lr": self.lr}]
        if width in self.scalings:
            scaling = self.scalings[width]
            scaling.init_(model)
            groups = scaling.param_groups(model, lr=self.lr, eps=1e-12)
        optimizer = torch.optim.AdamW(groups, lr=self.lr, eps=1e-12, weight_decay=0.0)
        start = {name: p.detach().clone() for name, p in model.named_parameters(remove_duplicate=False)}
        first = self.seen(model, inputs)
        for _ in range(self.steps):
            optimizer.zero_grad()
            loss_of(call(model, inputs), self.finite, seed).backward()
            optimizer.step()
        last = self.seen(model, inputs)
        for name, module in model.named_modules():
            if name not in first or name not in last:
                continue
            (_, _, before), (args, kwargs, after) = first[name], last[name]
            size = rms(after)
            if not size or before.shape != after.shape:
                continue
            yield "init", name, rms(before)
            yield "change", name, rms(after - before) / size
            for own, p in module.named_parameters(recurse=False):
                path = f"{name}.{own}".lstrip(".")
                if torch.equal(p, start[path]):
                    continue
                with torch.no_grad():
                    without = floats(functional_call(module, {own: start[path]}, args, kwargs))[0]
                yield "effect", path, rms(after - without) / size

    @staticmethod
    def seen(model: nn.Module, inputs: Any) -> dict[str, tuple]:
        """By module with parameters of its own that is called once: its arguments and its (first floating) output."""
        found: dict[str, tuple] = {}
        twice: set[str] = set()

        def hook(name: str) -> Callable:
            def see(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
                if name in found:
                    twice.add(name)
                if floats(output):
                    found[name] = (args, kwargs, floats(output)[0].clone())

            return see

        handles = [
            module.register_forward_hook(hook(name), with_kwargs=True)
            for name, module in model.named_modules()
            if any(True for _ in module.parameters(recurse=False))
        ]
        with torch.no_grad():
            call(model, inputs)
        for handle in handles:
            handle.remove()
        return {name: seen for name, seen in found.items() if name not in twice}


def call(model: nn.Module, inputs: Any) -> Any:
    return model(**inputs) if isinstance(inputs, dict) else model(*inputs)


def shapes(inputs: Any) -> list:
    return [tuple(x.shape) if isinstance(x, Tensor) else x for x in tree_leaves(inputs)]


def slopes(coordinates: Coordinates, seeds: int) -> dict[tuple[str, str], float]:
    """The slope of the geometric mean over seeds, of everything that is not zero."""
    logs: dict = defaultdict(lambda: defaultdict(list))
    for width in coordinates.widths:
        for seed in range(seeds):
            for quantity, name, size in coordinates.run(width, seed):
                logs[quantity, name][width].append(math.log(size) if size > SMALLEST else -math.inf)
    found = {}
    for key, by_width in logs.items():
        means = [sum(by_width[width]) / seeds for width in coordinates.widths if len(by_width[width]) == seeds]
        if len(means) == len(coordinates.widths) and all(map(math.isfinite, means)):
            found[key] = float(numpy.polyfit(numpy.log(coordinates.widths), means, 1)[0])
    return found


def judged(found: dict[tuple[str, str], float], tolerance: float = 0.3) -> list[Off]:
    return [
        Off(quantity, name, slope)
        for (quantity, name), slope in found.items()
        if slope > tolerance or (quantity == "effect" and slope < -tolerance)
    ]


def factory_of(target: str, widths: list[int]) -> Callable[[int], Any]:
    return hf_factory(target[3:], widths=widths) if target.startswith("hf:") else load_target(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--widths", default="64,128,256,512")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--lr", type=float, default=2**-8)
    parser.add_argument("--tolerance", type=float, default=0.3)
    parser.add_argument("--unscaled", action="store_true", help="train as if nothing had to be scaled")
    parser.add_argument("--all", action="store_true", help="print every slope")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    widths, failed = [int(width) for width in arguments.widths.split(",")], 0
    for target in arguments.targets:
        try:
            factory = factory_of(target, widths)
            coordinates = Coordinates(factory, widths, arguments.steps, arguments.lr, not arguments.unscaled)
        except tpcalc.TpcalcError as error:
            print(f"{target}: refused: {error}")
            continue
        found = slopes(coordinates, arguments.seeds)
        off = judged(found, arguments.tolerance)
        failed += bool(off)
        print(f"{target}: {len(found)} slopes, {len(off)} off", flush=True)
        for (quantity, name), slope in found.items():
            if arguments.all or Off(quantity, name, slope) in off:
                print(f"    {quantity:6} {slope:+.2f}  {name}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
