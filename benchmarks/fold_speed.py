"""How long `tpcalc table` takes for a deep model, side by side with a shallow one; imports excluded.

    python benchmarks/fold_speed.py --rounds 3

A llama of the 405B shape (126 blocks, hidden size up to 16384, vocabulary 128256) against the same with 2 blocks, and
width with depth against width alone.  Each run is a process of its own; CPU seconds are medians, memory is the peak.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any

WIDTHS = "4096,8192,16384"
SETS = ["vocab_size=128256"]
RUNS: dict[str, tuple[list[str], list[str] | None]] = {
    "2 blocks": (["num_hidden_layers=2"], None),
    "126 blocks": (["num_hidden_layers=126"], None),
    "width and depth": ([], [f"width={WIDTHS}", "depth=2,3"]),
}


def once(name: str) -> None:
    """One run in this process, its figures as JSON on standard output."""
    import resource
    import time

    import transformers
    from transformers import LlamaForCausalLM

    import tpcalc.trace.hf  # noqa: F401
    from tpcalc.cli.given import traced
    from tpcalc.derive import derive
    from tpcalc.report import render

    assert transformers and LlamaForCausalLM
    sets, scales = RUNS[name]
    start = time.process_time()
    widths = None if scales else WIDTHS
    program = traced("hf:llama", widths, [*SETS, *sets], scales, None, fold=True)
    text = render("table" if program.compass is None else "scales", "text", derive(program))
    spent = time.process_time() - start
    assert "lm_head.weight" in text
    print(json.dumps({"seconds": spent, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--once", choices=RUNS)
    options = parser.parse_args()
    if options.once:
        return once(options.once)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in RUNS}
    for _ in range(options.rounds):
        for name, runs in found.items():
            done = subprocess.run(
                [sys.executable, __file__, "--once", name], check=True, capture_output=True, text=True
            )
            runs.append(json.loads(done.stdout))
    base = statistics.median(run["seconds"] for run in found["2 blocks"])
    for name, runs in found.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        peak = max(run["peak"] for run in runs)
        print(f"{name:16} {seconds:6.2f} s  {seconds / base:5.2f}x  peak {peak:4.0f} MiB")


if __name__ == "__main__":
    main()
