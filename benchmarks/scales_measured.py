"""Training by exported multipliers along the depth, the width and both at once, in plain PyTorch with hooks.

    python -m benchmarks.scales_measured [--models mlp gpt] [--optimizers adamw sgd muon+adamw] [--seeds 2] [--steps 3]

Residual MLPs and GPTs (pre-norm) of 2 to 32 blocks at width 64, of widths 64 to 512 with 4 blocks, and of (64, 2),
(128, 8) and (256, 32).  Rules are those for alpha = 1 and 1/2, and those of the width alone; under these what enters
the stack is small and is not trained, so that the stream and its change are made by branches from the start.  For each
a row of slopes, over the depth (where it stays, over the width), with the predicted ones in brackets:

- *stream*, *output*: the change of the stream behind the last block, and of the model's output;
- *inner*, *last*: the own effect ``(W - W_0) x`` of the first and of the last matrix of the middle block's feed-forward
  branch: what an update of the weight does, for its trained input.

And readouts of 4 n classes, of which cross-entropy reads one: the change of the entry that is read through the initial
readout, by the derived rules and with the init of a hidden matrix.  It knows no calculus but the predicted slopes.
Exit code 1 if any is off by more than ``--tolerance``, of which the width alone has twice: its powers come on slowly.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Optional

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

import tpcalc  # noqa: E402
from benchmarks.coordinates import rms  # noqa: E402
from tests.support import stacks  # noqa: E402
from tpcalc.check.optimizers import built  # noqa: E402
from tpcalc.optimizers import recipe  # noqa: E402
from tpcalc.scaling.several import many_scales, numbers_alone  # noqa: E402

Place = dict[str, int]
Slopes = tuple[Optional[float], ...]
#: Rates at the smallest place, small enough for updates to act to first order there.
RATES = {"adamw": 2e-3, "sgd": 0.05, "muon": 5e-3}
#: Where rules are those of the width alone: what enters the stack is smaller by this, rates by that.
SMALL, SLOW = 0.1, 1 / 32
PATHS: dict[str, list[Place]] = {
    "depth": [{"width": 64, "depth": depth} for depth in (2, 4, 8, 16, 32)],
    "width": [{"width": width, "depth": 4} for width in (64, 128, 256, 512)],
    "both": [{"width": width, "depth": depth} for width, depth in ((64, 2), (128, 8), (256, 32))],
}
#: alpha (None: the width alone), the paths of interest, and slopes of NAMES over the depth, the second under SGD.
RULES: dict[str, tuple[Any, tuple[str, ...], Slopes, Slopes]] = {
    "alpha = 1": (1, ("depth", "width", "both"), (0, 0, 0, -1), (0, 0, 0, -1)),
    "alpha = 1/2": ("1/2", ("depth", "both"), (0, 0, -0.5, -1), (0, 0, -0.5, -1)),
    # a stream that grows as L^1/2 at init, whose norm divides all gradients by as much; blocks that are as large as it
    # enlarge a change that enters them by a power of the depth that no law gives, and under SGD that is most of it
    "width alone": (None, ("depth", "both"), (1, 0.5, 0, 0), (None, None, -0.5, -0.5)),
}
NAMES = ("stream", "output", "inner", "last")


def mlp(width: int, depth: int) -> tuple[nn.Module, Any]:
    return stacks.pre(width, depth)


def gpt(width: int, depth: int) -> tuple[nn.Module, Any]:
    model, ids = stacks.gpt(width, depth)
    return model.eval(), ids  # no dropout


#: Factory, and the two matrices of a block.
MODELS: dict[str, tuple[Callable[..., Any], str, str]] = {
    "mlp": (mlp, "blocks.{}.one", "blocks.{}.two"),
    "gpt": (gpt, "layers.{}.up", "layers.{}.down"),
}


def data(name: str, seed: int) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    if name == "mlp":
        return torch.randn(16, stacks.FEATURES, generator=source), torch.randint(
            stacks.CLASSES, (16,), generator=source
        )
    shape = 8, 6
    return tuple(torch.randint(stacks.VOCABULARY, shape, generator=source) for _ in range(2))  # type: ignore[return-value]


class Multiplied:
    """The multipliers of a model by one optimizer, from the first place of a path to each."""

    def __init__(self, factory: Callable[..., Any], optimizer: str, alpha: Any) -> None:
        self.how, self.alpha = recipe(optimizer), alpha
        scales = {"width": (64, 128, 256), "depth": (2, 3)}
        self.model = many_scales(factory, scales, self.how, "init", 1 if alpha is None else alpha, None)

    def at(self, base: Place, place: Place) -> Any:
        start = base if self.alpha is not None else {**base, "depth": place["depth"]}
        return numbers_alone(self.model, start, place)

    def optimizers(self, scaling: Any, model: nn.Module) -> list[torch.optim.Optimizer]:
        found, slower = [], SLOW if self.alpha is None else 1
        for law in self.how.by_name:
            groups = scaling.param_groups(model, slower * RATES[law], 0.0, 1e-12, optimizer=law)
            found += [built(law).make(groups, model)] if groups else []
        return found


def run(name: str, rules: Multiplied, base: Place, place: Place, steps: int, seed: int) -> tuple[float, ...]:
    factory, *ends = MODELS[name]
    torch.manual_seed(seed)
    model, _ = factory(**place)
    inputs, classes = data(name, seed)
    scaling = rules.at(base, place)
    scaling.init_(model)
    if rules.alpha is None:
        for entry in ("entry.weight", "entry.bias", "embed.weight", "pos"):
            if entry in (entering := dict(model.named_parameters())):
                entering[entry].data *= SMALL
                entering[entry].requires_grad_(False)
    middle = [model.get_submodule(end.format(place["depth"] // 2)) for end in ends]
    first = [layer.weight.detach().clone() for layer in middle]
    seen: dict[nn.Module, Tensor] = {}
    for module in (*middle, model.norm):
        module.register_forward_pre_hook(lambda module, args: seen.__setitem__(module, args[0].detach()))

    def look() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            output = model(inputs)
        return seen[model.norm], output

    stream, output = look()
    optimizers = rules.optimizers(scaling, model)
    for _ in range(steps):
        model.zero_grad()
        F.cross_entropy(model(inputs).flatten(0, -2), classes.flatten()).backward()
        for optimizer in optimizers:
            optimizer.step()
    last_stream, last_output = look()
    own = [rms(F.linear(seen[layer], layer.weight.detach() - w)) for layer, w in zip(middle, first)]
    return rms(last_stream - stream), rms(last_output - output), *own


def slopes(name: str, rules: Multiplied, path: str, steps: int, seeds: int) -> list[float]:
    places = PATHS[path]
    over = "width" if path == "width" else "depth"
    sizes = [[run(name, rules, places[0], place, steps, seed) for seed in range(seeds)] for place in places]
    means = numpy.log(numpy.array(sizes)).mean(1)
    return list(numpy.polyfit(numpy.log([place[over] for place in places]), means, 1)[0])


class Classes(nn.Module):
    """A readout of 4 n classes."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.entry, self.hidden, self.out = nn.Linear(8, n), nn.Linear(n, n), nn.Linear(n, 4 * n, bias=False)

    def features(self, x: Tensor) -> Tensor:
        return torch.tanh(self.hidden(torch.tanh(self.entry(x))))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.features(x))


def classes(width: int) -> tuple[nn.Module, Any, Callable[..., Any]]:
    return Classes(width), torch.linspace(-1, 1, 32).reshape(4, 8)


def read(optimizer: str, wrong: bool, steps: int, seeds: int) -> float:
    """The slope, over the width, of what the change of the features does to the entry of the target's class."""
    widths, means = (64, 128, 256, 512), []
    law = next(iter(recipe(optimizer).by_name))
    for width in widths:
        scaling = tpcalc.scale(classes, 64, width, optimizer)
        found = []
        for seed in range(seeds):
            torch.manual_seed(seed)
            model, _ = classes(width)
            x, targets = torch.randn(4, 8), torch.arange(4)
            scaling.init_(model)
            if wrong:
                model.out.weight.data *= (width / 64) ** 0.5
            start, rows = model.features(x).detach(), model.out.weight.detach()[targets].clone()
            groups = scaling.param_groups(model, RATES[law], 0.0, 1e-12)
            step = built(law).make(groups, model)
            for _ in range(steps):
                step.zero_grad()
                F.cross_entropy(model(x), targets).backward()
                step.step()
            found.append(math.log(rms(((model.features(x).detach() - start) * rows).sum(-1))))
        means.append(sum(found) / seeds)
    return float(numpy.polyfit(numpy.log(widths), means, 1)[0])


def shown(found: Mapping[str, float], wanted: Mapping[str, Optional[float]], tolerance: float) -> tuple[str, bool]:
    cells, off = [], False
    for name, slope in found.items():
        want = wanted[name]
        bad = want is not None and abs(slope - want) > tolerance
        off |= bad
        cells.append(f"{slope:+.2f} ({'-' if want is None else f'{want or 0:g}'}){'!' if bad else ''}".ljust(14))
    return " ".join(cells), off


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--optimizers", nargs="*", default=["adamw", "sgd", "muon+adamw"])
    parser.add_argument("--rules", nargs="*", choices=RULES, default=list(RULES))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--tolerance", type=float, default=0.15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    failed = False
    print(f"{'model':6}{'optimizer':12}{'rules':13}{'along':7}" + " ".join(name.ljust(14) for name in NAMES))
    for name in options.models:
        for optimizer in options.optimizers:
            for words in options.rules:
                alpha, paths, usual, under_sgd = RULES[words]
                rules = Multiplied(MODELS[name][0], optimizer, alpha)
                for path in paths:
                    along = (
                        dict.fromkeys(NAMES, 0.0)
                        if path == "width"
                        else dict(zip(NAMES, under_sgd if optimizer == "sgd" else usual))
                    )
                    found = dict(zip(NAMES, slopes(name, rules, path, options.steps, options.seeds)))
                    text, off = shown(found, along, options.tolerance * (2 if alpha is None else 1))
                    failed |= off
                    print(f"{name:6}{optimizer:12}{words:13}{path:7}{text}", flush=True)
    for optimizer, excess in (("adamw", 0.5), ("sgd", 1.0)):  # under SGD the features' own change has it once more
        for words, wrong, want in (("derived", False, 0.0), ("n^-1/2", True, excess)):
            found = {"read": read(optimizer, wrong, 1, 4 * options.seeds)}
            text, off = shown(found, {"read": want}, options.tolerance)
            failed |= off
            print(f"{'4n':6}{optimizer:12}{words:13}{'width':7}{text}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
