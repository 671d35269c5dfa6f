"""The one run at the target, with a recipe of ``tpcalc tune``: on one process, or sharded over several (FSDP2).

    tpcalc tune examples/transfer/language.py:gpt --train examples/transfer/language.py:train \\
        --base 64 --target 512 -o recipe
    torchrun --nproc-per-node 2 examples/transfer/target.py recipe

Of the recipe it reads ``recipe.json`` and ``scaling.py``, which need torch and no tpcalc.  The loop, the data and the
schedule are those that the recipe was found with (language.py); each process takes its share of every batch.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import fully_shard

sys.path.insert(0, str(Path(__file__).parent))

import language  # noqa: E402
from loop import descend, held_out  # noqa: E402
from text import batches, held_out_batches  # noqa: E402

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Context:
    """What the loop is told, of the target.  ``device``: of this process, which is number ``rank`` of ``ranks``."""

    steps: int
    clip_grad_norm_: Callable[..., Any]
    device: torch.device
    rank: int
    ranks: int

    def mean(self, loss: Any) -> float:
        """Over the processes, whose shares of a batch are of one size."""
        total = torch.as_tensor(loss, dtype=torch.float32, device=self.device).clone()
        if self.ranks > 1:
            dist.all_reduce(total)
        return float(total) / self.ranks

    def report(self, step: int, loss: Any) -> None:
        mean = self.mean(loss)
        if self.rank == 0:
            print(f"step {step}: loss {mean:.6f}", flush=True)

    def shares(self, source: Iterable[Batch]) -> Iterator[Batch]:
        """What this process takes of each batch."""
        for batch in source:
            tokens, following = (part.chunk(self.ranks)[self.rank].to(self.device) for part in batch)
            yield tokens, following


def scaling_of(folder: Path) -> Any:
    """``scaling.py`` of a recipe, as a module."""
    spec = importlib.util.spec_from_file_location("scaling", folder / "scaling.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(folder: Path, device: torch.device, rank: int, ranks: int) -> None:
    """Train at the target of the recipe in ``folder``, and print the loss on text held out."""
    file = folder / "recipe.json"
    if not file.is_file():
        sys.exit(f"{folder} holds no recipe.json; give a directory that tpcalc tune wrote")
    recipe = json.loads(file.read_text())
    factory = getattr(language, recipe["name"], None)
    if factory is None or recipe["optimizer"] != "adamw":
        sys.exit(f"{folder} is of {recipe['name']} with {recipe['optimizer']}; give one of language.py with adamw")
    if language.BATCH % ranks:
        sys.exit(f"{ranks} processes can't share batches of {language.BATCH}; start a number that divides it")
    scaling = scaling_of(folder)
    context = Context(recipe["target"]["steps"], scaling.clip_grad_norm_, device, rank, ranks)

    torch.manual_seed(recipe["search"]["seed"])  # the same on every process
    model, _ = factory(**recipe["target"]["scales"])
    scaling.init_(model)
    model.to(device)
    if ranks > 1:
        for block in model.blocks:
            fully_shard(block)
        fully_shard(model)
    optimizer = torch.optim.AdamW(scaling.param_groups(model, **scaling.BASE))

    shape = language.BATCH, language.CONTEXT
    # the same batches as in the search, so that the loss can be held against a run there
    source = batches(torch.Generator().manual_seed(1_000_003 * (recipe["search"]["seed"] + 1)), *shape)
    descend(model, optimizer, context, context.shares(source), language.loss_of, language.MAX_NORM)
    unseen = context.shares(held_out_batches(language.HELD_OUT, *shape))
    loss = context.mean(held_out(model, unseen, language.loss_of))
    if rank == 0:
        print(f"held out: loss {loss:.6f}", flush=True)


def main(folder: str) -> None:
    """Find the other processes, where torchrun started several, and train."""
    rank, ranks = (int(os.environ.get(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1")))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if ranks == 1:
        return run(Path(folder), device, 0, 1)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        run(Path(folder), device, rank, ranks)
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: [torchrun --nproc-per-node N] target.py RECIPE_DIR")
    main(sys.argv[1])
