"""The slopes of docs/gallery.md: each mistake and its mended twin trained in plain PyTorch, one number measured.

    python -m benchmarks.gallery          # writes docs/figures/gallery.json (about two minutes)

No calculus: set-ups of examples/gallery are trained for a few steps against random classes, at widths 64 to 512 (or
depths 2 to 32) and three seeds; ``slope`` is that of log(number) over log(size), through the mean over seeds.
"""

from __future__ import annotations

import copy
import importlib
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
SETUPS, DATA = ROOT / "examples" / "gallery", ROOT / "docs" / "figures" / "gallery.json"
WIDTHS, SEEDS, STEPS = (64, 128, 256, 512), (0, 1, 2), 5


@dataclass
class Run:
    """A set-up as it was made, as it is after its steps, and what the measured number needs beside it."""

    before: nn.Module
    model: nn.Module
    optimizers: list[torch.optim.Optimizer]
    inputs: tuple[Tensor, ...]
    recent: nn.Module  # five steps before the end
    norm: float  # of the gradient, at the last step


def rms(x: Tensor) -> float:
    return float(x.detach().double().pow(2).mean().sqrt())


def train(made: tuple, seed: int, steps: int = STEPS) -> Run:
    model, optimizer, *rest = made
    inputs = next(x for x in rest if isinstance(x, tuple))
    schedules = [x for x in rest if not isinstance(x, tuple)]
    optimizers = optimizer if isinstance(optimizer, list) else [optimizer]
    before = recent = copy.deepcopy(model)
    classes, norm = None, 0.0
    for step in range(steps):
        if step == steps - STEPS:
            recent = copy.deepcopy(model)
        for each in optimizers:
            each.zero_grad()
        output = model(*inputs).flatten(0, -2)
        if classes is None:
            classes = torch.randint(output.shape[-1], output.shape[:1], generator=torch.Generator().manual_seed(seed))
        F.cross_entropy(output, classes).backward()
        norm = math.sqrt(sum(float(p.grad.pow(2).sum()) for p in model.parameters() if p.grad is not None))
        for each in [*optimizers, *schedules]:
            each.step()
    return Run(before, model, optimizers, inputs, recent, norm)


def seen(model: nn.Module, inputs: tuple[Tensor, ...], module: str) -> tuple[Tensor, Tensor]:
    """What enters a module and what leaves it."""
    found: list[tuple[Tensor, Tensor]] = []
    hook = model.get_submodule(module).register_forward_hook(lambda _, x, y: found.append((x[0].detach(), y.detach())))
    with torch.no_grad():
        model(*inputs)
    hook.remove()
    return found[0]


def own_effect(module: str, since: str = "before") -> Callable[[Run], float]:
    """rms of (W - W_since) x: what the updates of a weight do to what it makes."""

    def measured(run: Run) -> float:
        x, _ = seen(run.model, run.inputs, module)
        now, then = (m.get_submodule(module).weight for m in (run.model, getattr(run, since)))
        return rms(x @ (now - then).T)

    return measured


def moved(name: str) -> Callable[[Run], float]:
    return lambda run: rms(run.model.get_parameter(name) - run.before.get_parameter(name))


def through_initial_readout(run: Run) -> float:
    """What the features' change makes of the logits by the readout as it started."""
    (now, _), (then, _) = (seen(m, run.inputs, "output") for m in (run.model, run.before))
    return rms((now - then) @ run.before.output.weight.T)


def attention(run: Run) -> float:
    """The change of the attention logits."""

    def logits(model: nn.Module) -> Tensor:
        q, k = (seen(model, run.inputs, name)[1].unflatten(-1, (2, -1)).transpose(-2, -3) for name in "qk")
        return q @ k.transpose(-1, -2) * model.logits

    return rms(logits(run.model) - logits(run.before))


def look_up(run: Run) -> float:
    """Embeddings over the positions that they are added to."""
    return rms(run.model.token.weight) / rms(run.model.position.weight)


def of_group(number: str, over: Callable[[Tensor], float]) -> Callable[[Run], float]:
    """A number of the hidden matrix's group over what it is to be in proportion to."""

    def measured(run: Run) -> float:
        weight = run.model.hidden.weight
        (group,) = (g for o in run.optimizers for g in o.param_groups if any(p is weight for p in g["params"]))
        return group[number] / over(weight)

    return measured


def adapter(run: Run) -> float:
    """rms of B (A - A_0) x."""
    x, _ = seen(run.model, run.inputs, "hidden")
    return rms(x @ (run.model.down - run.before.down).T @ run.model.up.T)


def branches(run: Run) -> float:
    """What updates of the last matrices of all branches make of the stream, in sum."""
    parts = []
    for block, layer in enumerate(run.model.down):
        x, _ = seen(run.model, run.inputs, f"down.{block}")
        parts.append(x @ (layer.weight - run.before.down[block].weight).T)
    return rms(torch.stack(parts).sum(0))


def weighed(run: Run) -> float:
    """The norm that ``clip_grad_norm_`` of the multipliers takes, after the last step's gradient."""
    return float(setup("clipping:weighed")(run.model, run.model.hidden.weight.shape[0]))


@dataclass(frozen=True)
class Mistake:
    """What is measured of a set-up, the exponent that tpcalc predicts with the mistake, and where the mended one is."""

    what: str
    measured: Callable[[Run], float]
    predicted: str
    right: str
    of_right: Callable[[Run], float] | None = None
    steps: int = STEPS
    sizes: tuple[int, ...] = WIDTHS


MISTAKES = {
    "one_rate": Mistake("own effect of the hidden matrix", own_effect("2"), "1", "right:mlp", own_effect("hidden")),
    "readout_init": Mistake("logits, by the features' change", through_initial_readout, "1/2", "right:mlp"),
    "attention": Mistake("change of the attention logits", attention, "1/2", "right:transformer"),
    "tied": Mistake("embeddings over positions", look_up, "-1", "tied:right"),
    "coupled_decay": Mistake(
        "decay over gradient of the hidden matrix",
        of_group("weight_decay", lambda w: rms(w.grad) / rms(w)),
        "3/2",
        "coupled_decay:right",
    ),
    "eps": Mistake(
        "epsilon over gradient of the hidden matrix", of_group("eps", lambda w: rms(w.grad)), "1", "right:mlp"
    ),
    "muon": Mistake("own effect of the hidden matrix", own_effect("hidden"), "1/2", "muon:right"),
    "bias": Mistake("change of the hidden bias", moved("hidden.bias"), "-1", "right:mlp"),
    "positions": Mistake("change of the positions", moved("position.weight"), "-1", "right:transformer"),
    "lora": Mistake("what updates of A do behind B", adapter, "1", "lora:right"),
    "one_cycle": Mistake("own effect of the hidden matrix", own_effect("hidden"), "1", "right:mlp"),
    "eta_min": Mistake(
        "own effect of the hidden matrix, last five of 100 steps",
        own_effect("hidden", "recent"),
        "1",
        "eta_min:right",
        steps=100,
    ),
    "depth": Mistake(
        "own effects of the last matrices of branches, in sum", branches, "1", "depth:right", sizes=(2, 4, 8, 16, 32)
    ),
    "clipping": Mistake(
        "global norm of the gradient",
        lambda run: run.norm,
        "1/2",
        "clipping:right",
        weighed,
        sizes=(256, 512, 1024, 2048),
    ),
}


def setup(name: str) -> Callable[..., tuple]:
    file, _, function = name.partition(":")
    return getattr(importlib.import_module(file), function)


def slope(sizes: tuple[int, ...], values: list[float]) -> float:
    x, y = (torch.tensor(v, dtype=torch.float64).log() for v in (sizes, values))
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).pow(2).sum())


def measure(name: str, mistake: Mistake) -> dict[str, Any]:
    sizes = mistake.sizes
    found: dict[str, Any] = {"what": mistake.what, "predicted": mistake.predicted, "sizes": sizes}
    for kind, made in (("wrong", f"{name}:wrong"), ("right", mistake.right)):
        number = mistake.of_right or mistake.measured if kind == "right" else mistake.measured
        values = []
        for size in sizes:
            each = []
            for seed in SEEDS:
                torch.manual_seed(seed)
                run = train(setup(made)(*((64, size) if name == "depth" else (size,))), seed, mistake.steps)
                each.append(number(run))
            values.append(sum(each) / len(each))
        found[kind] = {"values": [float(f"{v:.4g}") for v in values], "slope": round(slope(sizes, values), 2)}
    return found


def main() -> None:
    sys.path[:0] = [str(SETUPS)]
    torch.set_num_threads(1)
    names = sys.argv[1:] or list(MISTAKES)
    data = json.loads(DATA.read_text()) if DATA.exists() else {}
    for name in names:
        data[name] = measure(name, MISTAKES[name])
        print(f"{name:14} predicted {MISTAKES[name].predicted:>4}  wrong {data[name]['wrong']['slope']:+.2f}  "
              f"right {data[name]['right']['slope']:+.2f}", flush=True)  # fmt: skip
    DATA.parent.mkdir(exist_ok=True)
    DATA.write_text(json.dumps({name: data[name] for name in MISTAKES if name in data}, indent=1) + "\n")


if __name__ == "__main__":
    main()
