"""What a check costs beside ``mup.coord_check`` on the same model, widths, seeds and steps.

    python benchmarks/check_cost.py [--repeats 3]          CPU seconds, so that a busy machine does not matter

``mup.coord_check`` logs the outputs of modules at every step; ``tpcalc.check`` traces, derives, trains, and measures
every
traced value, its change, every gradient and every weight's own effect.  Both train the example GPT with AdamW.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

import tpcalc  # noqa: E402

WIDTHS, SEEDS, STEPS = (64, 128, 256, 512), 3, 5


def ours() -> float:
    import gpt

    start = time.process_time()
    result = tpcalc.check(gpt.gpt, WIDTHS, "adamw", seeds=SEEDS, steps=STEPS)
    seconds = time.process_time() - start
    print(f"tpcalc.check       {seconds:6.2f} s   {len(result.entries)} slopes, {'clean' if result.ok else 'failed'}")
    return seconds


def theirs() -> float:
    import gpt
    from mup.coord_check import get_coord_data

    def build(width):
        return lambda: gpt.gpt(width)[0]

    tokens = gpt.gpt(WIDTHS[0])[1][0]
    targets = torch.randint(96, (tokens.numel(),), generator=torch.Generator().manual_seed(0))

    start = time.process_time()
    rows = get_coord_data(
        {width: build(width) for width in WIDTHS},
        [(tokens, targets)],
        mup=False,
        optimizer="adamw",
        lr=1e-3,
        nsteps=STEPS,
        nseeds=SEEDS,
        cuda=False,
        flatten_output=True,
        show_progress=False,
    )
    seconds = time.process_time() - start
    print(f"mup.coord_check    {seconds:6.2f} s   {len(rows)} rows")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pairs = [(ours(), theirs()) for _ in range(arguments.repeats)]
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"ratio (median of {len(pairs)})  {ratio:.2f}   limit 1.50")
    sys.exit(0 if ratio <= 1.5 else 1)


if __name__ == "__main__":
    main()
