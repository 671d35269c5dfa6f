"""Where the best learning rate goes with the batch size, under no rule and under each stated one (docs/horizon.md).

    python -m benchmarks.batch_measured [-o docs/horizon] [--width 32] [--batches 8 16 32 64 128] [--seeds 3]

The character-level GPT of examples/transfer at one width, AdamW, warm-up, cosine and clipping as there.
Hyperparameters are those of ``--base-batch``, and a rule carries them to the others; at fixed tokens (``--examples``
sequences, so that a larger batch takes fewer steps) and at fixed steps (``--steps``, so that it sees more tokens).  A
rate is always that of the base, so under a rule that holds the optimum stays.  What is handed to the optimizer is what
``tpcalc.Scaling.param_groups`` makes of it.

Every run is noted in ``runs.jsonl``, and the same command goes on after a kill; rules that come to the same numbers
share a run.  Writes ``batch.json``, ``batch.txt`` and ``batch.png``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "examples" / "transfer")]

import language  # noqa: E402
from loop import descend, held_out  # noqa: E402
from text import batches, held_out_batches  # noqa: E402

import tpcalc  # noqa: E402
from tpcalc.errors import TpcalcError  # noqa: E402
from tpcalc.files import write_atomic  # noqa: E402
from tpcalc.horizon import RULES, assume  # noqa: E402
from tpcalc.optimizers import LAWS  # noqa: E402
from tpcalc.report.grid import ruled  # noqa: E402
from tpcalc.report.plots import load_pyplot  # noqa: E402
from tpcalc.transfer.optimum import optimum_of  # noqa: E402

OPTIMIZER, EPS, BETAS = "adamw", 1e-8, (0.9, 0.99)
#: What stays while the batch grows.
FIXED = ("tokens", "steps")


@dataclass(frozen=True)
class Run:
    """One training run, by all that its loss depends on."""

    width: int
    batch: int
    steps: int
    lr: float
    weight_decay: float
    eps: float
    betas: tuple[float, ...]
    seed: int

    @property
    def key(self) -> str:
        return json.dumps([f"{x:.9g}" if isinstance(x, float) else x for x in asdict(self).values()])

    def loss(self) -> float:
        """On text held out, in nats a character; infinite where it diverged."""
        torch.manual_seed(self.seed)
        model, _ = language.gpt(self.width)
        groups = [{"params": list(model.parameters())}]
        options = {"lr": self.lr, "weight_decay": self.weight_decay, "eps": self.eps, "betas": self.betas}
        optimizer = torch.optim.AdamW(groups, **options)
        source = batches(torch.Generator().manual_seed(1_000_003 * (self.seed + 1)), self.batch, language.CONTEXT)
        descend(model, optimizer, _Context(self.steps), source, language.loss_of, language.MAX_NORM)
        unseen = held_out_batches(language.HELD_OUT, language.BATCH, language.CONTEXT)
        found = held_out(model, unseen, language.loss_of)
        return found if math.isfinite(found) else math.inf


@dataclass(frozen=True)
class _Context:
    """What the loop asks for.  At one width all weights of the norm are 1, so torch's clipping is ours."""

    steps: int

    def report(self, step: int, loss: Any) -> None:
        """Nobody looks."""

    def clip_grad_norm_(self, model: torch.nn.Module, max_norm: float) -> Any:
        return torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)


class Notes:
    """Losses of runs, in a file that a kill leaves whole but for its last line."""

    def __init__(self, path: Path) -> None:
        self.path, self.losses = path, {}
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                found = json.loads(line)
                self.losses[found["run"]] = math.inf if found["loss"] is None else float(found["loss"])
            except (ValueError, KeyError, TypeError):
                continue
        path.parent.mkdir(parents=True, exist_ok=True)

    def loss(self, run: Run) -> float:
        if run.key not in self.losses:
            found = run.loss()
            line = json.dumps({"run": run.key, "loss": found if math.isfinite(found) else None})
            with self.path.open("a") as file:  # a line that a kill has cut is ended, and left
                file.write(f"\n{line}\n")
            self.losses[run.key] = found
        return self.losses[run.key]


def handed(scaling: tpcalc.Scaling, model: torch.nn.Module, lr: float, weight_decay: float) -> dict[str, Any]:
    """What one optimizer group gets under a rule; at one width there is one group."""
    (group,) = scaling.param_groups(model, lr, weight_decay, EPS, betas=BETAS)
    return {key: group[key] for key in ("lr", "weight_decay", "eps", "betas")}


def steps_of(given: argparse.Namespace, fixed: str, batch: int) -> int:
    return given.examples // batch if fixed == "tokens" else given.steps


def curves(given: argparse.Namespace, notes: Notes) -> Iterator[dict[str, Any]]:
    """Losses against the rate of the base: what is fixed, a rule, a batch size each.  A rule that has no law for what
    is fixed is left out."""
    plain = tpcalc.scale(language.gpt, given.width, given.width)
    model, _ = language.gpt(given.width)
    size = sum(parameter.numel() for parameter in model.parameters())
    for fixed, name in product(FIXED, RULES):
        steps = {batch: steps_of(given, fixed, batch) for batch in given.batches}
        tokens = {batch: batch * steps[batch] for batch in given.batches}
        base = given.base_batch
        try:
            ways = {batch: assume(name, (base, batch), (tokens[base], tokens[batch])) for batch in given.batches}
        except TpcalcError:  # malladi is at fixed tokens alone
            continue
        for batch, way in ways.items():
            assert way is not None
            scaling = plain.under(way.at(size, size), LAWS)
            own = [handed(scaling, model, lr, given.weight_decay) for lr in given.rates]
            losses = [
                [notes.loss(Run(given.width, batch, steps[batch], **options, seed=seed)) for options in own]
                for seed in range(given.seeds)
            ]
            best = optimum_of(given.rates, losses)
            print(f"fixed {fixed}, {name}, batch {batch}: best rate {best.rate:.3g}", file=sys.stderr, flush=True)
            yield {
                "fixed": fixed,
                "rule": name,
                "batch": batch,
                "steps": steps[batch],
                "losses": [[x if math.isfinite(x) else None for x in row] for row in losses],
                "optimum": {"rate": best.rate, "error": best.error, "edge": best.edge},
            }


def means(curve: dict[str, Any]) -> list[float]:
    """Over seeds; infinite where one diverged."""
    table = [[math.inf if x is None else x for x in row] for row in curve["losses"]]
    return [float(x) for x in np.mean(table, axis=0)]


def of(found: Sequence[dict[str, Any]], fixed: str, rule: str) -> list[dict[str, Any]]:
    """The curves of one rule, by batch size."""
    return [curve for curve in found if (curve["fixed"], curve["rule"]) == (fixed, rule)]


def drift(found: Sequence[dict[str, Any]], given: argparse.Namespace) -> dict[str, Any]:
    """Of one rule: how far the optimum goes from the smallest batch to the largest, and its slope in the batch, both in
    log2 with a standard error over seeds; what the base's best rate costs at the ends."""
    at = np.array([math.log2(curve["optimum"]["rate"]) for curve in found])
    errors = [curve["optimum"]["error"] for curve in found]
    x = np.log2([curve["batch"] for curve in found])
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    known = None not in errors
    base = next(curve for curve in found if curve["batch"] == given.base_batch)
    carried = int(np.argmin(means(base)))
    return {
        "fixed": found[0]["fixed"],
        "rule": found[0]["rule"],
        "drift": float(at[-1] - at[0]),
        "drift_error": float(math.hypot(errors[0], errors[-1])) if known else None,
        "slope": float(weights @ at),
        "slope_error": float(np.sqrt((weights**2) @ np.square(errors))) if known else None,
        "carried_rate": given.rates[carried],
        "lost": {str(curve["batch"]): means(curve)[carried] - min(means(curve)) for curve in found},
    }


def text_of(found: Sequence[dict[str, Any]], given: argparse.Namespace) -> str:
    """A table, for the page."""
    head = (
        "fixed",
        "rule",
        "slope",
        "drift in log2",
        *(f"best rate at {b}" for b in given.batches),
        "loss at the ends",
    )

    def number(value: float, error: Optional[float]) -> str:
        return f"{value:+.2f}" + ("" if error is None else f" +-{error:.2f}")

    rows = []
    for fixed in FIXED:
        for name in RULES:
            own = of(found, fixed, name)
            if not own:
                continue
            told = drift(own, given)
            ends = (number(told["slope"], told["slope_error"]), number(told["drift"], told["drift_error"]))
            rates = (f"{c['optimum']['rate']:.3g}{'*' if c['optimum']['edge'] else ''}" for c in own)
            lost = " ".join(f"{told['lost'][str(batch)]:+.4f}" for batch in (given.batches[0], given.batches[-1]))
            rows.append((fixed, name, *ends, *rates, lost))
    note = f"""\
GPT of width {given.width}, {given.seeds} seeds; fixed tokens: {given.examples} sequences of {language.CONTEXT} \
characters, fixed steps: {given.steps}; weight decay {given.weight_decay:g}, betas {BETAS};
hyperparameters as at batch {given.base_batch}.
slope: of log2(best rate) in log2(batch), 0 where the rule holds; drift: from the smallest batch to the largest;
*: an end of the grid, so that both are bounds; loss at the ends: of the base's best rate over the best rate there."""
    return "\n".join((*ruled(head, rows), "", note)) + "\n"


def plot(found: Sequence[dict[str, Any]], given: argparse.Namespace, path: Path) -> None:
    """A panel for what is fixed and each rule, a curve a batch size, a dot at its optimum."""
    pyplot = load_pyplot()
    names = [name for name in RULES if any(curve["rule"] == name for curve in found)]
    size = (2.6 * len(names), 2.6 * len(FIXED))
    figure, axes = pyplot.subplots(len(FIXED), len(names), figsize=size, sharex=True, sharey=True, layout="constrained")
    colours = pyplot.get_cmap("viridis")(np.linspace(0.0, 0.9, len(given.batches)))
    least = [min(means(curve)) for curve in found]
    for row, fixed in zip(axes, FIXED):
        for panel, name in zip(row, names):
            panel.set_title(f"{name}, fixed {fixed}", fontsize=8)
            panel.set_xscale("log", base=2)
            for curve, colour in zip(of(found, fixed, name), colours):
                panel.plot(given.rates, means(curve), color=colour, lw=1.2, label=f"batch {curve['batch']}")
                edge = "none" if curve["optimum"]["edge"] else colour
                panel.plot(curve["optimum"]["rate"], min(means(curve)), "o", mec=colour, mfc=edge, ms=4)
            if not panel.lines:
                panel.text(0.5, 0.5, "no law", transform=panel.transAxes, ha="center")
    axes[0][0].set_ylim(min(least) - 0.05, max(least) + 0.6)
    axes[0][0].legend(fontsize=6)
    figure.supxlabel("learning rate, as at the base batch", fontsize=8)
    figure.supylabel("held-out loss, nats a character", fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "horizon")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 16, 32, 64, 128])
    parser.add_argument("--base-batch", type=int, default=32)
    parser.add_argument("--examples", type=int, default=4096, help="sequences of a run at fixed tokens")
    parser.add_argument("--steps", type=int, default=128, help="of a run at fixed steps")
    parser.add_argument("--rates", type=float, nargs="+", default=[4e-3 * 2**k for k in range(6)])
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args(arguments)
    if given.base_batch not in given.batches or given.examples % math.lcm(*given.batches):
        parser.error("--base-batch must be one of --batches, and --examples a multiple of each")
    torch.set_num_threads(1)
    notes = Notes(given.output / "runs.jsonl")
    found = list(curves(given, notes))
    drifts = [drift(own, given) for fixed, name in product(FIXED, RULES) if (own := of(found, fixed, name))]
    settings = {key: value for key, value in vars(given).items() if key != "output"}
    document = {"settings": settings, "curves": found, "drifts": drifts}
    text = text_of(found, given)
    write_atomic(given.output / "batch.json", json.dumps(document, indent=1, allow_nan=False) + "\n")
    write_atomic(given.output / "batch.txt", text)
    plot(found, given, given.output / "batch.png")
    print(text, end="")


if __name__ == "__main__":
    main()
