"""Random networks, derived and trained at four widths: does any slope exceed its prediction?

    python -m benchmarks.random_programs --number 500 [--seed 1] [--shrink]

Prints each program that fails, then how many were drawn, held, failed and were refused; exit code 1 if any failed.
What it finds belongs into ``REGRESSIONS`` of tests/check/test_random_programs.py.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import torch
from hypothesis import HealthCheck, Phase, find, settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.networks import PROGRAMS, Program, Tally, campaign  # noqa: E402


def smallest(optimizer: str) -> Program:
    """The smallest program that hypothesis finds to fail under ``optimizer``."""

    def fails(steps: tuple) -> bool:
        return not Tally().run(steps, optimizer)

    options = settings(
        max_examples=1000,
        phases=[Phase.generate, Phase.shrink],
        database=None,
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )
    return find(PROGRAMS, fails, settings=options), optimizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--number", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--shrink", action="store_true", help="look for a smallest program, too, under each optimizer that fails"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start = time.monotonic()

    def heard(tally: Tally, program: Program) -> None:
        if program in tally.failed:
            print(f"FAILED {program}", *tally.failed[program][:5], sep="\n    ", flush=True)
        if tally.drawn % 50 == 0:
            print(f"{tally} after {time.monotonic() - start:.0f} s", flush=True)

    tally = campaign(arguments.number, arguments.seed, heard)
    if arguments.shrink:
        for optimizer in sorted({optimizer for _, optimizer in tally.failed}):
            print(f"SMALLEST {smallest(optimizer)}", flush=True)
    for reason, count in Counter(tally.refused.values()).most_common():
        print(f"refused {count}: {reason}")
    print(f"{tally} (seed {arguments.seed}, {time.monotonic() - start:.0f} s)")
    sys.exit(1 if tally.failed else 0)


if __name__ == "__main__":
    main()
