"""Whether a rule for the length helps a recipe that was found in a short run (docs/horizon.md).

    python -m benchmarks.length_measured [-o docs/horizon/length.json] [--width 64] [--steps 200 800] [--seeds 3]

``tpcalc tune`` of the character-level GPT at width 32, by its defaults but for the share of a short target, of which 7%
pay for no search; each seed is a search.  What is found is trained at the target for ``--steps`` steps: as it is, under
the rule from the length of the run in which it was found, under that without its factor of 1 - beta, and, as a
yardstick, at halves of the rate.  About twenty minutes on one core.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from pathlib import Path
from typing import Any, Optional

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples" / "transfer"))

import language  # noqa: E402

import tpcalc  # noqa: E402
from tpcalc.horizon import assume_run  # noqa: E402
from tpcalc.optimizers import LAWS  # noqa: E402
from tpcalc.scaling.compute import parameters  # noqa: E402
from tpcalc.transfer.training import Context, Diverged  # noqa: E402
from tpcalc.tune.result import AVERAGES, Tuned  # noqa: E402

BASE, SHARE = 32, {200: 0.15, 800: 0.07}
#: Name in the file -> p of completed-p, or a factor of the learning rate alone.
RULES = {"completed-p, p = 1/2": "1/2", "completed-p, p = 1/3": "1/3"}
FACTORS = (1.0, 0.5, 0.25)
#: Of the models and the data at the target: no search has it.
SEED = 1000


def trained(scaling: tpcalc.Scaling, tuned: Tuned, width: int, steps: int, factor: float, seed: int) -> Optional[float]:
    """The loss at the target; None where the run diverged."""
    torch.manual_seed(seed)
    model, inputs = language.gpt(width)
    scaling.init_(model)
    given = {**vars(tuned.base), **AVERAGES["adamw"]}
    given["lr"] *= factor
    optimizer = torch.optim.AdamW(scaling.param_groups(model, **given))
    try:
        return round(language.train(model, optimizer, Context({"width": width}, steps, seed, inputs, scaling)), 4)
    except Diverged:
        return None


def measured(width: int, steps: int, seed: int) -> dict[str, Any]:
    tuned = tpcalc.tune(language.gpt, BASE, width, language.train, target_steps=steps, share=SHARE[steps], seed=seed)
    found = tuned.best.steps
    losses: dict[str, Optional[float]] = {
        f"lr x {factor:g}": trained(tuned.scaling, tuned, width, steps, factor, SEED + seed) for factor in FACTORS
    }
    factors = {}
    for name, p in RULES.items():
        horizon = assume_run("completed-p", None, None, p, found, steps)
        assert horizon is not None
        scaling = tuned.scaling.under(horizon.at(*(parameters(language.gpt, end) for end in (BASE, width))), LAWS)
        losses[name] = trained(scaling, tuned, width, steps, 1.0, SEED + seed)
        if p == "1/2":  # none of the rules that are published; which of its factors does what
            document = copy.deepcopy(scaling.document)
            document["assumed"]["laws"]["adamw"]["one_minus_beta"]["factor"] = 1.0
            kept = tpcalc.Scaling(document)
            losses[f"{name}, betas kept"] = trained(kept, tuned, width, steps, 1.0, SEED + seed)
        assert scaling.assumed is not None
        factors[name] = {key: own["factor"] for key, own in scaling.assumed["laws"]["adamw"].items()}
    return {"seed": seed, "found_in": found, "lr": tuned.base.lr, "losses": losses, "factors": factors}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "horizon" / "length.json")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--steps", type=int, nargs="+", default=sorted(SHARE), choices=sorted(SHARE))
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    rows = []
    for steps in given.steps:
        for seed in range(given.seeds):
            rows.append({"steps": steps, **measured(given.width, steps, seed)})
            print(rows[-1], file=sys.stderr, flush=True)
            text = json.dumps({"base": BASE, "width": given.width, "runs": rows}, indent=1)
            given.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
