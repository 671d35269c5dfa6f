"""A recipe of ``tpcalc tune`` at its target, beside standard parametrization and beside its own twin without powers.

    python -m benchmarks.recipe_at_target examples/transfer/language.py:gpt_deep \\
        --train examples/transfer/language.py:train --recipe docs/transfer/gpt_deep/recipe \\
        --rates 5e-4,1e-3,2e-3,4e-3 --seeds 3 -o docs/transfer/gpt_deep/target

``tpcalc transfer --recipe`` sweeps all of them over one grid, which is dear where runs at the target are.  Here the
recipe runs once a seed, with the rate that it has, and the others at ``--rates``, where their optima at the target are.
Runs are noted in runs.log of ``-o``: what was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

from tpcalc.document.recipe import read
from tpcalc.trace.target import factory_of
from tpcalc.transfer.jobs import Here, Job, work
from tpcalc.transfer.result import STANDARD, TUNED, UNSCALED, mean_error
from tpcalc.transfer.run import trainer
from tpcalc.transfer.sizes import Sizes
from tpcalc.transfer.stored import stored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    for name in ("--recipe", "--train", "--rates"):
        parser.add_argument(name, required=True)
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    rates = [float(rate) for rate in given.rates.split(",")]

    recipe = read(Path(given.recipe) / "recipe.json")
    base, place, steps = dict(recipe.base.scales), dict(recipe.target.scales), recipe.cost.steps
    numbers = recipe.base.hyperparameters
    constants = {f"{module}.{kind}": x for module, own in recipe.constants.items() for kind, x in own.items()}
    how = trainer(factory_of(given.target), given.optimizer, factory_of(given.train))
    sizes = Sizes(how.factory, base, [place], how.how)

    def job(name: str, rate: float, seed: int) -> Job:
        own = {} if name == STANDARD else constants
        return Job.of(name, place, {**vars(numbers), "lr": rate, **own}, steps, seed)

    curves = {(TUNED, numbers.lr): [], **{(name, rate): [] for name in (STANDARD, UNSCALED) for rate in rates}}
    rows = {(name, rate): [job(name, rate, seed) for seed in range(given.seeds)] for name, rate in curves}
    jobs = [row[seed] for seed in range(given.seeds) for row in rows.values()]
    ledger = stored(str(given.output / "runs.log"), {**how.asked, "target": place, "steps": steps}, {})
    done = work(lambda _: jobs, ledger, Here(sizes.runner(how)), partial(print, end="\r", flush=True))

    found = []
    for (name, rate), row in rows.items():
        losses = [done[one].loss for one in row]
        mean, error = mean_error(losses)
        found.append({"parametrization": name, "lr": rate, "loss": mean, "error": error, "losses": losses})
        print(f"{name:10} lr {rate:<10.4g} loss {mean:.3f} +-{error:.1g}")
    for other in (STANDARD, UNSCALED):
        best = min((one for one in found if one["parametrization"] == other), key=lambda one: one["loss"])
        difference = [ours - theirs for ours, theirs in zip(found[0]["losses"], best["losses"], strict=True)]
        mean, error = mean_error(difference)
        print(f"tuned against {other} at its best rate, {best['lr']:g}: {mean:+.4f} +-{error:.1g}")
    document = {"target": place, "base": base, "steps": steps, "share": recipe.cost.share, "runs": found}
    (given.output / "target.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
