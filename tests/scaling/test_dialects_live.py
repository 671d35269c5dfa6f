"""Files for other people's trainers, read by these trainers themselves, on the CPU.

Each test makes the trainer's own optimizer, through its own API, from the file that ``tpcalc codegen --for`` writes.
Its live groups are ``scaling.param_groups``, parameter by parameter, and ten steps are plain torch's with our
multipliers.
A trainer that is not installed is skipped; ``pip install --no-deps`` of its package and a few small ones are enough.
"""

from __future__ import annotations

import ast
import collections
import copy
import dataclasses
import functools
import importlib
import importlib.util
import logging
import math
import os
import re
import socket
import sys
import typing
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from torch import nn

from tests.scaling.test_dialects import DECAY, EPS, LR, STAY, examples, scaling_of, text_for
from tests.support.forked import forked, ranks
from tpcalc.scaling.dialects import write

STEPS = 10
pytestmark = pytest.mark.filterwarnings("ignore")


def needs(module: str) -> Any:
    """The module of a trainer, or a skip that says why."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        pytest.skip(f"{module} can't be imported: {error}")


def fresh() -> nn.Module:
    torch.manual_seed(0)
    model, _ = examples.gpt(128)
    scaling_of("gpt").init_(model)
    return model.double()  # rounding apart, so that sums in another order are not seen


def generated(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(compile(text, "generated.py", "exec"), found)
    return found


def plain(no_decay: Callable[..., bool] | None = None) -> tuple[nn.Module, torch.optim.Optimizer]:
    """What is to come out: torch's own AdamW with groups of our multipliers."""
    model = fresh()
    groups = scaling_of("gpt").param_groups(model, lr=LR, weight_decay=DECAY, eps=EPS, no_decay=no_decay)
    return model, torch.optim.AdamW(groups, lr=LR)


def live(model: nn.Module, optimizer: Any) -> dict[str, tuple[float, float, float]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [
        (names[id(parameter)], (group["lr"], group["weight_decay"], group["eps"]))
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    assert len(found) == len(dict(found)) == len(names)
    return dict(found)


def loss_of(model: nn.Module, step: int) -> torch.Tensor:
    tokens = torch.randint(0, 96, (4, 16), generator=torch.Generator().manual_seed(step))
    logits = model(tokens[:, :-1])
    return nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def trained(model: nn.Module, optimizers: list[Any], after: Callable[[], Any] = lambda: None) -> dict[str, Any]:
    for step in range(STEPS):
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss_of(model, step).backward()
        for optimizer in optimizers:
            optimizer.step()
        after()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def check_alike(model: nn.Module, optimizer: Any, **options: Any) -> dict[str, torch.Tensor]:
    """Live groups are those of param_groups; what ten steps of plain torch come to."""
    right_model, right = plain(**options)
    found, wanted = live(model, optimizer), live(right_model, right)
    assert found == {name: pytest.approx(numbers, rel=1e-12) for name, numbers in wanted.items()}
    return trained(right_model, [right])


def check_trained(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert torch.allclose(found[name], value, rtol=1e-9, atol=1e-12), name


def test_torchtitan():
    needs("torchtitan.components.optimizer")
    from torchtitan.components.optimizer import LRSchedulersContainer, OptimizersContainer

    config = generated(text_for("torchtitan", "gpt"))["optimizer"](
        lr=LR, weight_decay=DECAY, eps=EPS, implementation="foreach"
    )
    model = fresh()
    container = OptimizersContainer(config, model_parts=[model])
    (optimizer,) = container.optimizers
    assert type(optimizer) is torch.optim.AdamW and len(optimizer.param_groups) == 3
    wanted = check_alike(model, optimizer)
    check_trained(trained(model, [container]), wanted)

    # its schedule keeps the ratios, floor and warm-up included; a checkpoint gives the same groups
    schedule = LRSchedulersContainer.Config(warmup_steps=3, min_lr_factor=0.1).build(
        optimizers=container, training_steps=STEPS
    )
    multipliers = [group["lr"] / group["initial_lr"] for group in optimizer.param_groups]
    assert max(multipliers) == pytest.approx(min(multipliers)) and max(multipliers) < 1
    for _ in range(STEPS):
        schedule.step()
    rates = {group["lr"] / group["initial_lr"] for group in optimizer.param_groups}
    assert max(rates) == pytest.approx(min(rates)) and max(rates) < 1
    again_model = copy.deepcopy(model)
    again = OptimizersContainer(config, model_parts=[again_model])
    again.load_state_dict(container.state_dict())
    assert live(again_model, again.optimizers[0]) == live(model, optimizer)


def test_torchtitan_names_what_it_can_not_group():
    needs("torchtitan.components.optimizer")
    from torchtitan.components.optimizer import OptimizersContainer

    config = generated(text_for("torchtitan", "gpt"))["optimizer"](lr=LR, implementation="for-loop")
    model = fresh()
    model.extra = nn.Linear(2, 2)
    with pytest.raises(AssertionError, match="Parameter mismatch"):
        OptimizersContainer(config, model_parts=[model])


@contextmanager
def one_gloo_rank() -> Iterator[None]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def test_megatron():
    needs("megatron.core.optimizer")
    result = forked(of_megatron, Path(__file__).parent).wait()
    assert result.returncode == 0, result.stderr


def megatrons_rule(name: str, parameter: torch.Tensor) -> bool:
    """Who has no weight decay by Megatron's own rule."""
    return parameter.dim() == 1 or name.endswith(".bias")


def megatrons_groups(model: nn.Module) -> list[dict[str, Any]]:
    from megatron.core.optimizer import OptimizerConfig, _get_param_groups

    config = OptimizerConfig(optimizer="adam", lr=LR, min_lr=LR / 10, weight_decay=DECAY, adam_eps=EPS, clip_grad=0.0)
    overrides = generated(write(scaling_of("gpt"), "megatron", STAY).text)["config_overrides"](config)
    return _get_param_groups([model], config, overrides)


def of_megatron() -> None:
    from megatron.core.optimizer.optimizer import MegatronOptimizer
    from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

    model = fresh()
    with one_gloo_rank():
        optimizer = torch.optim.AdamW(megatrons_groups(model), lr=LR, weight_decay=DECAY, eps=EPS)

    def schedule(style: str, warmup: int) -> OptimizerParamScheduler:
        return OptimizerParamScheduler(
            optimizer,
            init_lr=0.0,
            max_lr=LR,
            min_lr=LR / 10,
            lr_warmup_steps=warmup,
            lr_decay_steps=100,
            lr_decay_style=style,
            start_wd=DECAY,
            end_wd=DECAY,
            wd_incr_steps=100,
            wd_incr_style="constant",
        )

    constant = schedule("constant", 0)
    wanted = check_alike(model, optimizer, no_decay=megatrons_rule)
    check_trained(trained(model, [optimizer], lambda: constant.step(1)), wanted)
    multipliers = [group["max_lr"] / LR for group in optimizer.param_groups]
    for warmup, steps in ((10, 3), (10, 40), (0, 200)):  # in the warm-up, on the way down, on the floor
        schedule("cosine", warmup).step(steps)
        rates = [group["lr"] / one for group, one in zip(optimizer.param_groups, multipliers)]
        assert max(rates) - min(rates) < 1e-12 * max(rates), "the ratios are kept"
    # what it does when a checkpoint is loaded: groups are found again by a few of their numbers
    saved = copy.deepcopy(optimizer.state_dict()["param_groups"])
    shuffled = [{**group, "params": params["params"]} for group, params in zip(reversed(saved), saved)]
    ordered = MegatronOptimizer._filter_and_reorder_param_groups(optimizer.param_groups, shuffled)
    for group, found in zip(optimizer.param_groups, ordered):
        assert all(found[key] == group[key] for key in ("max_lr", "min_lr", "wd_mult", "eps"))


def megatrons_optimizer(model: nn.Module) -> tuple[Any, Any]:
    """Megatron's own, and its scheduler, on the CPU: it keeps its loss scale, which fp32 has no use for, on a GPU."""
    from megatron.core.optimizer import OptimizerConfig
    from megatron.core.optimizer.optimizer import FP32Optimizer
    from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

    adamw = torch.optim.AdamW(megatrons_groups(model), lr=LR, weight_decay=DECAY, eps=EPS)

    def init_state(optimizer: torch.optim.Optimizer, config: Any = None) -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                zeros = {key: torch.zeros_like(p) for key in ("exp_avg", "exp_avg_sq")}
                optimizer.state[p].update({"step": torch.zeros(()), **zeros})

    tensor = torch.tensor
    with mock.patch.object(torch, "tensor", lambda *args, device=None, **options: tensor(*args, **options)):
        optimizer = FP32Optimizer(adamw, OptimizerConfig(optimizer="adam", clip_grad=0.0), init_state)
    decay = {"start_wd": DECAY, "end_wd": DECAY, "wd_incr_steps": 100, "wd_incr_style": "constant"}
    rates = {"init_lr": 0.0, "max_lr": LR, "min_lr": LR / 10, "lr_decay_style": "constant"}
    return optimizer, OptimizerParamScheduler(optimizer, lr_warmup_steps=0, lr_decay_steps=100, **rates, **decay)


def by_megatron(model: nn.Module, optimizer: Any, scheduler: Any, steps: range) -> None:
    """Each rank takes its part of the rows."""
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    for step in steps:
        optimizer.zero_grad()
        tokens = torch.randint(0, 96, (4, 16), generator=torch.Generator().manual_seed(step)).chunk(world)[rank]
        nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
        for parameter in model.parameters():
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= world
        optimizer.step()
        scheduler.step(1)


def sharded(model: nn.Module, optimizer: Any, loading: bool = False) -> dict[str, Any]:
    from megatron.core.dist_checkpointing import ShardedTensor

    rank = torch.distributed.get_rank()
    weights = {name: ShardedTensor.from_rank_offsets(name, p, replica_id=rank) for name, p in model.named_parameters()}
    return {"weights": weights, "optimizer": optimizer.sharded_state_dict(weights, is_loading=loading)}


@contextmanager
def a_rank_of_megatron() -> Iterator[None]:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    with mock.patch.multiple(torch.cuda, synchronize=lambda: None, current_device=lambda: torch.device("cpu")):
        yield
    torch.distributed.destroy_process_group()


def several_ranks(folder: Path) -> None:
    from megatron.core import dist_checkpointing

    with a_rank_of_megatron():
        model = fresh()
        optimizer, scheduler = megatrons_optimizer(model)
        by_megatron(model, optimizer, scheduler, range(STEPS // 2))
        dist_checkpointing.save(sharded(model, optimizer), str(folder))
        # stages of a pipeline, which count their blocks from 0: the same groups on both, some of them empty
        first = torch.distributed.get_rank() == 0
        for name in ("norm", "head") if first else ("token", "position"):
            delattr(model, name)
        del model.blocks[1 if first else 0]
        groups = megatrons_groups(model)
        said = [[group[key] for key in ("max_lr", "wd_mult", "eps")] for group in groups]
        theirs: list[Any] = [None, None]
        torch.distributed.all_gather_object(theirs, said)
        assert theirs[0] == theirs[1] and len(said) == 4
        assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def one_rank(folder: Path) -> None:
    from megatron.core import dist_checkpointing

    with a_rank_of_megatron():
        model = fresh()
        optimizer, scheduler = megatrons_optimizer(model)
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        found = dist_checkpointing.load(sharded(model, optimizer, loading=True), str(folder))
        model.load_state_dict(found["weights"])
        optimizer.load_state_dict(found["optimizer"])
        wanted = check_alike(model, optimizer.optimizer, no_decay=megatrons_rule)
        by_megatron(model, optimizer, scheduler, range(STEPS // 2, STEPS))
        check_trained({name: parameter.detach() for name, parameter in model.named_parameters()}, wanted)


def test_megatron_on_two_ranks_then_one(tmp_path):
    """Saved by two ranks and resumed by one, through its own checkpoints: the same groups, the same ten steps."""
    needs("megatron.core.optimizer")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for task, count in ((several_ranks, 2), (one_rank, 1)):
        for result in ranks(functools.partial(task, folder), count, tmp_path):
            assert result.returncode == 0, result.stderr


def of_automodel(model: nn.Module, monkeypatch: pytest.MonkeyPatch | None = None) -> tuple[Any, Callable[[], Any]]:
    optim = needs("nemo_automodel.components.optim.optimizer")
    section = yaml.safe_load(text_for("automodel", "gpt"))["optimizer"]
    config = optim.AdamWConfig(lr=LR, weight_decay=DECAY, eps=EPS, betas=(0.9, 0.999), **section)
    (optimizer,) = config.build(model)
    steps = SimpleNamespace(epoch_len=None, max_steps=100)
    schedule = optim.LRSchedulerConfig(lr_decay_style="constant", lr_warmup_steps=0, init_lr=0.0)
    (scheduler,) = schedule.build(optimizer, steps)
    return optimizer, lambda: scheduler.step(1)


def test_automodel():
    model = fresh()
    optimizer, after = of_automodel(model)
    right_model, right = plain()
    for group in right.param_groups:
        group["eps"] = EPS  # which it can't carry
    assert live(model, optimizer) == {
        name: pytest.approx(numbers, rel=1e-12) for name, numbers in live(right_model, right).items()
    }
    check_trained(trained(model, [optimizer], after), trained(right_model, [right]))


def test_olmo_core():
    optim = needs("olmo_core.optim")
    names = generated(text_for("olmo-core", "gpt"))
    overrides = names["group_overrides"](lr=LR, weight_decay=DECAY, eps=EPS)
    model = fresh()
    names["check_"](model)
    optimizer = optim.AdamWConfig(lr=LR, group_overrides=overrides).build(model)
    wanted = check_alike(model, optimizer)
    check_trained(trained(model, [optimizer]), wanted)


def test_axolotl():
    mixin = needs("axolotl.core.trainers.mixins.optimizer")
    needs("axolotl.integrations.base")
    result = forked(lambda: of_axolotl(mixin.OptimizerMixin), Path(__file__).parent).wait()
    assert result.returncode == 0, result.stderr


def of_axolotl(mixin: type) -> None:
    plugin = generated(text_for("axolotl", "gpt"))["Plugin"]()
    model = fresh()
    trainer = mixin.__new__(mixin)
    trainer.model, trainer.optimizer, trainer.optimizer_cls_and_kwargs = model, None, None
    trainer.args = SimpleNamespace(
        lr_groups=None, embedding_lr=None, embedding_lr_scale=None, loraplus_lr_ratio=None, weight_decay=DECAY
    )
    kwargs = {"lr": LR, "eps": EPS, "betas": (0.9, 0.999)}
    trainer.get_optimizer_cls_and_kwargs = lambda args, model: (torch.optim.AdamW, kwargs)
    plugin.post_trainer_create({}, trainer)
    optimizer = trainer.create_optimizer()
    decayed = set(trainer.get_decay_parameter_names(model))
    assert 0 < len(decayed) < len(list(model.parameters()))
    wanted = check_alike(model, optimizer, no_decay=lambda name, p: name not in decayed)
    check_trained(trained(model, [optimizer]), wanted)


def taken(package: str, file: str, names: list[str], module: ModuleType) -> None:
    """Put functions and classes of a trainer into a module, out of its source: importing it needs what is compiled."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed")
    (root,) = spec.submodule_search_locations or ()
    tree = ast.parse((Path(root) / file).read_text(encoding="utf-8"))
    found = [node for node in tree.body if getattr(node, "name", None) in names]
    assert len(found) == len(names)
    future = ast.parse("from __future__ import annotations").body
    exec(compile(ast.Module([*future, *found], []), file, "exec"), vars(module))


def stocked(monkeypatch: pytest.MonkeyPatch, **names: Any) -> ModuleType:
    """A module that what is taken finds its names in."""
    module = ModuleType("taken_out_of_a_trainer")
    vars(module).update(vars(typing), torch=torch, re=re, **names)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def of_llm_foundry(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Callable[[], Any]]:
    made = stocked(
        monkeypatch,
        AdamW=torch.optim.AdamW,
        OrderedDict=collections.OrderedDict,
        functools=functools,
        log=logging.getLogger(__name__),
        math=math,
    )
    taken("llmfoundry", "utils/builders.py", ["_extract_param_groups"], made)
    taken("composer", "optim/decoupled_weight_decay.py", ["DecoupledAdamW"], made)
    config = yaml.safe_load(text_for("llm-foundry", "gpt"))["optimizer"]
    assert config.pop("name") == "decoupled_adamw"
    groups = made._extract_param_groups(model, config)
    return made.DecoupledAdamW(groups, **config, betas=(0.9, 0.999)), lambda: None


def test_llm_foundry(monkeypatch):
    """Its DecoupledAdamW does not multiply decay by the rate; ten steps of it are AdamW's."""
    model = fresh()
    optimizer, _ = of_llm_foundry(model, monkeypatch)
    right_model, right = plain()
    check_trained(trained(model, [optimizer]), trained(right_model, [right]))


def of_fairseq2(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Callable[[], Any]]:
    made = stocked(
        monkeypatch,
        AdamW=torch.optim.AdamW,
        Module=nn.Module,
        RecipeModel=type("RecipeModel", (), {}),
        Sequence=collections.abc.Sequence,
        Tensor=torch.Tensor,
        dataclass=dataclasses.dataclass,
        default="default",
        field=dataclasses.field,
        fields=dataclasses.fields,
        final=lambda cls: cls,
        log=SimpleNamespace(warning=lambda *args: None, is_enabled_for_info=lambda: False),
    )
    taken("fairseq2", "recipe/config.py", ["ParameterGroupConfig", "AdamWGroupConfig", "AdamWConfig"], made)
    taken("fairseq2", "recipe/optim.py", ["prepare_parameter_groups", "_ParameterGroup"], made)
    taken("fairseq2", "recipe/internal/optim.py", ["_AdamWFactory"], made)
    config = yaml.safe_load(text_for("fairseq2", "gpt"))["optimizer"]["config"]
    config["groups"] = [made.AdamWGroupConfig(**group) for group in config["groups"]]
    return made._AdamWFactory(model).create(made.AdamWConfig(**config, betas=(0.9, 0.999))), lambda: None


def test_fairseq2(monkeypatch):
    model = fresh()
    optimizer, _ = of_fairseq2(model, monkeypatch)
    wanted = check_alike(model, optimizer)
    check_trained(trained(model, [optimizer]), wanted)


@pytest.mark.parametrize("made", [of_automodel, of_llm_foundry, of_fairseq2])
def test_what_no_pattern_matches_makes_the_loss_nan(made, monkeypatch):
    """None of these trainers stops for it by itself: after one step the loss says it."""
    model = fresh()
    model.head.bias = nn.Parameter(torch.zeros(96, dtype=torch.double))
    optimizer, after = made(model, monkeypatch)
    loss = loss_of(model, 0)
    assert math.isfinite(loss)
    loss.backward()
    optimizer.step()
    after()
    assert math.isnan(loss_of(model, 1))


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1])
def test_deepspeed(stage):
    if importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    result = forked(lambda: of_deepspeed(stage), Path(__file__).parent).wait()
    assert result.returncode == 0, result.stderr


def of_deepspeed(stage: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    os.environ.update(
        DS_ACCELERATOR="cpu", RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=port
    )
    import deepspeed

    deepspeed.init_distributed("gloo", auto_mpi_discovery=False)
    model = fresh().float()
    groups = generated(text_for("deepspeed", "gpt"))["param_groups"](model, lr=LR, weight_decay=DECAY, eps=EPS)
    config = {
        "train_micro_batch_size_per_gpu": 4,
        "gradient_clipping": 0.0,  # 1.0 where it is left out
        "optimizer": {"type": "AdamW", "params": {"lr": LR, "torch_adam": True}},
        "scheduler": {"type": "WarmupCosineLR", "params": {"total_num_steps": 100, "warmup_num_steps": 2}},
        "zero_optimization": {"stage": stage},
    }
    engine, optimizer, *_ = deepspeed.initialize(model=model, model_parameters=groups, config=config)
    right_model, right = plain()
    right_model.float()
    # ZeRO flattens the parameters of a group into one, and keeps the groups
    numbers = [(group["weight_decay"], group["eps"]) for group in right.param_groups]
    assert [(group["weight_decay"], group["eps"]) for group in optimizer.param_groups] == numbers
    if stage == 0:
        wanted = {name: found[1:] for name, found in live(right_model, right).items()}
        assert {name: found[1:] for name, found in live(model, optimizer).items()} == wanted
    multipliers = [group["lr"] / LR for group in right.param_groups]
    rates = set()
    for step in range(STEPS):
        now = [group["lr"] / one for group, one in zip(optimizer.param_groups, multipliers)]
        assert now == pytest.approx([now[0]] * len(now)), "its schedule keeps the ratios"
        rates.add(now[0])
        for group, one in zip(right.param_groups, multipliers):
            group["lr"] = now[0] * one
        engine.backward(loss_of(engine, step))
        engine.step()
        right.zero_grad()
        loss_of(right_model, step).backward()
        right.step()
    assert len(rates) > 5
    found = dict(model.named_parameters())
    for name, parameter in right_model.named_parameters():
        assert torch.allclose(found[name], parameter, rtol=1e-5, atol=1e-7), name
