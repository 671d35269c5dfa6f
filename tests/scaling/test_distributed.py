"""DistributedDataParallel and FSDP2 on two gloo processes train as one process does.

The processes are forks of this one, which find each other as those of torchrun do.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]
from gpt import GPT, Config  # noqa: E402

from tests.support.forked import ranks  # noqa: E402
from tpcalc.scaling import Scaling  # noqa: E402

BASE, TARGET = 32, 64
STEPS, MAX_NORM = 3, 0.2
CASES = ("ddp", "ddp compiled", "fsdp", "fsdp by block", "fsdp foreach", "hybrid", "replicated")
#: With multipliers in the forward pass: the gauge symmetric, in which every weight but a square matrix has one.
IN_A_GAUGE = ("ddp", "ddp compiled", "fsdp", "fsdp by block")


def config(width: int) -> Config:
    return Config(width, heads=2, kv_heads=2, vocabulary=32, tied=True)


def build(width: int):
    return GPT(config(width)), (torch.arange(16).reshape(2, 8),)


def fresh() -> GPT:
    torch.manual_seed(0)
    return GPT(config(TARGET)).double()


def train(model, multipliers, rank: int, ranks: int, **options) -> dict:
    """Each rank takes its share of every batch; returns the losses (of rank 0's share), norms and parameters."""
    groups = multipliers.param_groups(model, lr=3e-3, weight_decay=0.1)
    optimizer = torch.optim.AdamW(groups, **options)
    generator = torch.Generator().manual_seed(1)
    norms = []
    for _ in range(STEPS):
        tokens = torch.randint(32, (4, 9), generator=generator).chunk(ranks)[rank]
        optimizer.zero_grad()
        F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
        norms.append(multipliers.clip_grad_norm_(model, MAX_NORM).item())
        optimizer.step()
    values = {name: whole(p) for name, p in model.named_parameters()}
    return {"norms": norms, "groups": len(groups), "values": values}


def whole(p) -> torch.Tensor:
    return (p.full_tensor() if hasattr(p, "full_tensor") else p).detach().clone()


def effective(model, multipliers) -> dict:
    """The weights as the forward pass sees them, under the names of the plain model."""
    return {name: whole(p) * weight.forward for name, p, weight in multipliers.match(model)}


def load_generated(folder: Path):
    spec = importlib.util.spec_from_file_location("generated_scaling", folder / "generated_scaling.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def worker(folder: Path) -> None:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    scaling, generated = Scaling.load(folder / "multipliers.json"), load_generated(folder)
    results = {}
    for case in CASES:
        model = fresh()
        options = {"foreach": True} if case == "fsdp foreach" else {}
        multipliers = scaling if case == "fsdp" else generated
        if case.startswith("ddp"):
            multipliers.init_(model)
            model = torch.compile(model, backend="eager") if case == "ddp compiled" else model
            model = DistributedDataParallel(model)
        else:
            shape = {"hybrid": (1, 2), "replicated": (2, 1)}.get(case, (2,))
            mesh = init_device_mesh("cpu", shape, mesh_dim_names=("replicas", "shards")[-len(shape) :])
            if case != "fsdp":
                for block in model.blocks:
                    fully_shard(block, mesh=mesh)
            fully_shard(model, mesh=mesh)
            multipliers.init_(model)  # on shards
        results[case] = train(model, multipliers, rank, ranks, **options)
    mesh = init_device_mesh("cpu", (2,))
    results["from scratch"] = from_scratch(scaling, fully_shard, mesh)
    symmetric = Scaling.load(folder / "symmetric.json")
    for case in IN_A_GAUGE:
        model = fresh()
        symmetric.forward_(model)
        if case.startswith("ddp"):
            model = torch.compile(model, backend="eager") if case == "ddp compiled" else model
            model = DistributedDataParallel(model)
        if case == "fsdp by block":
            for block in model.blocks:
                fully_shard(block, mesh=mesh)
        if case.startswith("fsdp"):
            fully_shard(model, mesh=mesh)
        symmetric.init_(model)
        results[f"{case} in a gauge"] = train(model, symmetric, rank, ranks) | {"values": effective(model, symmetric)}
    results["from scratch in a gauge"] = from_scratch(symmetric, fully_shard, mesh)
    late = {"ddp": DistributedDataParallel(fresh()), "fsdp": fully_shard(fresh(), mesh=mesh)}
    for case, model in late.items():
        try:
            symmetric.forward_(model)
        except ValueError as error:
            results[f"{case} first"] = str(error)
    if rank == 0:
        torch.save(results, folder / "results.pt")
    dist.barrier()
    time.sleep(0.5)  # the other process leaves the barrier too


def from_scratch(scaling, fully_shard, mesh) -> dict:
    """Meta device, shard, to_empty, init_: the order in which large models are made."""
    with torch.device("meta"):
        model = GPT(config(TARGET))
    scaling.forward_(model)
    fully_shard(model, mesh=mesh)
    model.to_empty(device="cpu")
    if scaling.gauge == "init":
        model.head.weight = model.token.weight
    else:  # where torch keeps the parameters of multiplied weights
        model.head.parametrizations.weight.original = model.token.parametrizations.weight.original
    scaling.init_(model, from_scratch=True)
    return {"values": {name: whole(p) for name, p, _ in scaling.match(model)}}


# -- the tests --------------------------------------------------------------------------------------


def run_workers(folder: Path) -> dict:
    import tpcalc
    from tpcalc.scaling.codegen import codegen

    scaling = tpcalc.scale(build, BASE, TARGET)
    scaling.save(folder / "multipliers.json")
    tpcalc.scale(build, BASE, TARGET, gauge="symmetric").save(folder / "symmetric.json")
    (folder / "generated_scaling.py").write_text(codegen(scaling))
    for result in ranks(lambda: worker(folder), 2, folder):
        assert result.returncode == 0, result.stderr[-6000:]
    return torch.load(folder / "results.pt")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    results = run_workers(folder)
    scaling = Scaling.load(folder / "multipliers.json")
    model = fresh()
    scaling.init_(model)
    return results, train(model, scaling, 0, 1), folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one(outcome, case):
    results, single, _ = outcome
    assert results[case]["groups"] == single["groups"]
    assert results[case]["norms"] == pytest.approx(single["norms"], rel=1e-9)
    assert min(single["norms"]) > MAX_NORM, "the threshold should bite"
    names = [name.removeprefix("module.").removeprefix("_orig_mod.") for name in results[case]["values"]]
    assert names == list(single["values"])
    for name, value in zip(names, results[case]["values"].values(), strict=True):
        torch.testing.assert_close(value, single["values"][name], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("case", IN_A_GAUGE)
def test_multipliers_in_the_forward_pass_train_as_one(outcome, case):
    results, single, _ = outcome
    found = results[f"{case} in a gauge"]
    assert found["norms"] == pytest.approx(single["norms"], rel=1e-9)
    assert list(found["values"]) == list(single["values"])
    for name, value in found["values"].items():
        torch.testing.assert_close(value, single["values"][name], rtol=1e-8, atol=1e-10)


def test_multipliers_come_first(outcome):
    results, _, _ = outcome
    assert results["ddp first"] == "call forward_ before the model is wrapped in DDP"
    assert results["fsdp first"] == "token.weight is sharded already; call forward_ before fully_shard"


@pytest.mark.parametrize("gauge", ["init", "symmetric"])
def test_from_scratch_on_shards(outcome, gauge):
    results, _, folder = outcome
    scaling = Scaling.load(folder / ("multipliers.json" if gauge == "init" else "symmetric.json"))
    case = "from scratch" if gauge == "init" else "from scratch in a gauge"
    assert list(results[case]["values"]) == [name for name in scaling if name != "head.weight"]
    for name, value in results[case]["values"].items():
        law, mean, std = scaling[name].draw
        noise = 8 * std / value.numel() ** 0.5
        noise += 1e-6 * abs(mean)  # a constant and its mean are rounded to float32
        assert value.mean().item() == pytest.approx(mean, abs=noise + 1e-12), name
        assert value.std().item() == pytest.approx(std, abs=noise + 1e-12), name
        rows = value[: len(value) // 2], value[len(value) // 2 :]
        assert law == "constant" or not torch.equal(*rows), f"the shards of {name} hold the same draw"


def test_the_document_is_json(outcome):
    assert json.dumps(Scaling.load(outcome[2] / "multipliers.json").document)
