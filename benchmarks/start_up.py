"""How long does a user wait for the first answer?  Whole processes, side by side with what they can't do without.

    python benchmarks/start_up.py [--rounds 5]

Each row is a process of its own; rows alternate, so that a busy machine slows all of them.  Small models are compared
with ``import torch``, a Hugging Face one with the import of its class.  What needs no torch is given in seconds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
LLAMA = "from transformers.models.llama.modeling_llama import LlamaForCausalLM"
TPCALC = ("-m", "tpcalc")
GPT = "examples/gpt.py:gpt"


def rows(multipliers: str) -> dict[str, tuple[tuple[str, ...], str]]:
    """What is run -> its arguments to Python, and the row that it is a multiple of (empty: none)."""
    return {
        "python": (("-c", ""), ""),
        "import torch": (("-c", "import torch"), ""),
        "import of the class": (("-c", LLAMA), ""),
        "--help": ((*TPCALC, "--help"), ""),
        "table --help": ((*TPCALC, "table", "--help"), ""),
        "bad arguments": ((*TPCALC, "table", GPT, "--widht", "3"), ""),
        "codegen": ((*TPCALC, "codegen", multipliers), ""),
        "table of an MLP": ((*TPCALC, "table", "examples/mlp.py:mlp"), "import torch"),
        "table of a GPT": ((*TPCALC, "table", GPT), "import torch"),
        "table hf:llama": ((*TPCALC, "table", "hf:llama"), "import of the class"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    known = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        made = f"{folder}/multipliers.json"
        export = (*TPCALC, "export", GPT, "--base", "64", "--target", "256", "-o", made)
        subprocess.run([sys.executable, *export], check=True, cwd=ROOT, env=known)
        runs = rows(made)
        taken: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(rounds + 1):  # the first one reads files into memory
            for name, (arguments, _) in runs.items():
                start = time.perf_counter()
                subprocess.run([sys.executable, *arguments], capture_output=True, cwd=ROOT, env=known)
                taken[name].append(time.perf_counter() - start)
    seconds = {name: statistics.median(each[1:]) for name, each in taken.items()}
    for name, (_, beside) in runs.items():
        than = f"  {seconds[name] / seconds[beside]:.2f} x {beside}" if beside else ""
        print(f"{name:20} {seconds[name]:6.2f} s{than}")


if __name__ == "__main__":
    main()
