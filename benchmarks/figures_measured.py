"""What docs/why.md and docs/laws.md draw, measured in plain PyTorch: coordinates of a GPT, and the laws one by one.

    python -m benchmarks.figures_measured      # writes docs/figures/coordinates.json and laws.json (two minutes)

``coordinates``: the GPT of examples/gpt.py under torch's own init and one AdamW rate (*standard*), and with the
multipliers of ``tpcalc.scale`` from width 64 (*derived*); rms of the change of what modules give, after some steps.
``laws``: rms of single sums over n terms, of random numbers that meet as the laws say.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tpcalc
from benchmarks.gallery import rms, slope

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs" / "figures"
WIDTHS, SEEDS, STEPS, LR = (64, 128, 256, 512, 1024), (0, 1, 2), (1, 2, 4, 8), 2e-3
SEEN = {
    "blocks.1.attn.q": "queries",
    "blocks.1.mlp.fc": "feed-forward layer",
    "blocks.1": "residual stream",
    "head": "logits",
}
SIZES, DRAWS = (64, 128, 256, 512, 1024, 2048), 6


def outputs(model: nn.Module, tokens: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    hooks = [
        model.get_submodule(name).register_forward_hook(lambda _, __, y, name=name: found.update({name: y.detach()}))
        for name in SEEN
    ]
    with torch.no_grad():
        model(tokens)
    for hook in hooks:
        hook.remove()
    return found


def coordinates() -> dict:
    sys.path[:0] = [str(ROOT / "examples")]
    from gpt import gpt

    found: dict = {"widths": WIDTHS, "steps": STEPS, "names": SEEN, "lr": LR}
    for kind in ("standard", "derived"):
        changes = {name: {step: [] for step in STEPS} for name in SEEN}
        for width in WIDTHS:
            each = {name: {step: [] for step in STEPS} for name in SEEN}
            for seed in SEEDS:
                torch.manual_seed(seed)
                model, _ = gpt(width)
                generator = torch.Generator().manual_seed(seed)
                tokens = torch.randint(96, (4, 16), generator=generator)
                targets = torch.randint(96, (4, 16), generator=generator)
                if kind == "derived":
                    scaling = tpcalc.scale(gpt, base=WIDTHS[0], target=width)
                    scaling.init_(model)
                    optimizer = torch.optim.AdamW(scaling.param_groups(model, lr=LR, weight_decay=0.0), lr=LR)
                else:
                    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0)
                before = outputs(copy.deepcopy(model), tokens)
                for step in range(1, max(STEPS) + 1):
                    optimizer.zero_grad()
                    F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten()).backward()
                    optimizer.step()
                    if step in STEPS:
                        for name, now in outputs(model, tokens).items():
                            each[name][step].append(rms(now - before[name]))
            for name in SEEN:
                for step in STEPS:
                    changes[name][step].append(sum(each[name][step]) / len(SEEDS))
        found[kind] = {
            name: {
                str(step): {"values": [float(f"{v:.4g}") for v in values], "slope": round(slope(WIDTHS, values), 2)}
                for step, values in steps.items()
            }
            for name, steps in changes.items()
        }
    return found


def by_its_own_change(rows: Callable[[int], int]) -> Callable[[int], float]:
    """W x', where the change x' of the value is what the gradient made of W: W^T g, of entries 1."""

    def measured(n: int) -> float:
        weight, gradient = torch.randn(rows(n), n), torch.randn(rows(n))
        change = weight.T @ gradient
        return rms(weight @ (change / rms(change)))

    return measured


def sign_update(n: int) -> float:
    """dW x, with the update sign(g x^T) of entries 1."""
    x, gradient = torch.randn(n), torch.randn(n)
    return rms(torch.outer(gradient, x).sign() @ x)


def stack(branch: Callable[[Tensor], Tensor]) -> Callable[[int], float]:
    """What ``depth`` branches add to a stream of width 256, each behind a norm."""

    def measured(depth: int) -> float:
        x = start = torch.randn(256)
        for _ in range(depth):
            x = x + branch((torch.randn(256, 256) / 16) @ (x / rms(x)))
        return rms(x - start)

    return measured


#: Law -> (what, predicted exponent, the number measured at a size).
LAWS: dict[str, list[tuple[str, str, Callable[[int], float]]]] = {
    "1": [("weight, independent value", "1/2", lambda n: rms(torch.randn(n, n) @ torch.randn(n)))],
    "2": [
        ("to n outputs", "1/2", by_its_own_change(lambda n: n)),
        ("to sqrt(n) outputs", "3/4", by_its_own_change(lambda n: round(n**0.5))),
        ("to one output", "1", by_its_own_change(lambda n: 1)),
    ],
    "3": [("sign update, value", "1", sign_update)],
    "4": [
        ("independent, as at init", "1/2", lambda n: rms((torch.randn(64, n) * torch.randn(64, n)).sum(-1))),
        ("aligned, as trained", "1", lambda n: rms(torch.randn(64, n).pow(2).sum(-1))),
    ],
    "depth": [
        ("branches without a mean", "1/2", stack(lambda y: y)),
        ("branches with a mean (relu)", "1", stack(torch.relu)),
    ],
}


def laws() -> dict:
    torch.manual_seed(0)
    found: dict = {"sizes": SIZES, "depths": [4, 8, 16, 32, 64, 128, 256]}
    for law, cases in LAWS.items():
        sizes = found["depths"] if law == "depth" else SIZES
        found[law] = []
        for what, predicted, measured in cases:
            values = [sum(measured(size) for _ in range(DRAWS)) / DRAWS for size in sizes]
            row = {"what": what, "predicted": predicted, "slope": round(slope(sizes, values), 2)}
            found[law].append(row | {"values": [float(f"{v:.4g}") for v in values]})
    return found


def main() -> None:
    torch.set_num_threads(1)
    FIGURES.mkdir(exist_ok=True)
    for name, data in (("laws", laws), ("coordinates", coordinates)):
        (FIGURES / f"{name}.json").write_text(json.dumps(data(), indent=1) + "\n")


if __name__ == "__main__":
    main()
