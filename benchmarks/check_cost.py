"""What a check costs beside ``mup.coord_check`` on the same model, widths, seeds and steps.

    python benchmarks/check_cost.py [--repeats 7]          CPU seconds, so that a busy machine matters less

``mup.coord_check`` logs the outputs of modules at every step; ``tpcalc.check`` traces, derives, trains, and measures
every traced value, its change, every gradient and every weight's own effect.  Both train the example GPT with AdamW,
each as it does for its users.  Before the clock starts each runs once on a small model, so that neither pays for what
torch imports only once.  Needs mup 1.0.0 and pandas (``make`` installs both).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

import gpt  # noqa: E402

import tpcalc  # noqa: E402

WIDTHS, SEEDS, STEPS = (64, 128, 256, 512), 3, 5
LIMIT = 1.5


def ours(widths: Sequence[int], seeds: int, steps: int) -> str:
    result = tpcalc.check(gpt.gpt, widths, "adamw", seeds=seeds, steps=steps)
    return f"{len(result.entries)} slopes, {'clean' if result.ok else 'failed'}"


def theirs(widths: Sequence[int], seeds: int, steps: int) -> str:
    from mup.coord_check import get_coord_data

    tokens = gpt.gpt(widths[0])[1][0]
    targets = torch.randint(96, (tokens.numel(),), generator=torch.Generator().manual_seed(0))
    rows = get_coord_data(
        {width: lambda width=width: gpt.gpt(width)[0] for width in widths},
        [(tokens, targets)],
        mup=False,
        optimizer="adamw",
        lr=1e-3,
        nsteps=steps,
        nseeds=seeds,
        cuda=False,
        flatten_output=True,
        show_progress=False,
    )
    return f"{len(rows)} rows"


def seconds(run: Callable[..., str], name: str) -> float:
    start = time.process_time()
    found = run(WIDTHS, SEEDS, STEPS)
    spent = time.process_time() - start
    print(f"{name:<17} {spent:6.2f} s   {found}")
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        import mup.coord_check  # noqa: F401
    except ImportError as error:
        sys.exit(f"error: {error}; run make, which installs mup and pandas")
    for run in (ours, theirs):
        run((32, 64, 128), 1, 1)
    pairs = [(seconds(ours, "tpcalc.check"), seconds(theirs, "mup.coord_check")) for _ in range(arguments.repeats)]
    ratios = sorted(a / b for a, b in pairs)
    ratio = statistics.median(ratios)
    print(f"ratio {ratio:.2f}   median of {len(pairs)}, from {ratios[0]:.2f} to {ratios[-1]:.2f}   limit {LIMIT:.2f}")
    sys.exit(0 if ratio <= LIMIT else 1)


if __name__ == "__main__":
    main()
