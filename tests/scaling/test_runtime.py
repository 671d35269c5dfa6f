"""Multipliers are keyed by name: copies, reloads, wrappers and real training loops make no difference."""

from __future__ import annotations

import copy
import math
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

import tpcalc
from tpcalc.scaling import ScalingError

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from gpt import GPT, Block, Config  # noqa: E402

BASE, TARGET = 32, 64
LR = 3e-3


def config(width: int) -> Config:
    return Config(width, heads=2, kv_heads=2, vocabulary=32, tied=True)


def build(width: int):
    return GPT(config(width)), (torch.arange(16).reshape(2, 8),)


@pytest.fixture(scope="module")
def scaling() -> tpcalc.Scaling:
    return tpcalc.scale(build, BASE, TARGET)


def fresh() -> GPT:
    torch.manual_seed(0)
    return GPT(config(TARGET))


def data(count: int = 4):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(32, (4, 9), generator=generator) for _ in range(count)]


def loss_of(model, tokens):
    return F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


def train(model, scaling, steps=3, max_norm=0.5, accumulate=1, **options):
    optimizer = torch.optim.AdamW(scaling.param_groups(model, lr=options.pop("lr", LR), weight_decay=0.1), **options)
    for tokens in data(steps):
        optimizer.zero_grad()
        for part in tokens.chunk(accumulate):
            (loss_of(model, part) / accumulate).backward()
        scaling.clip_grad_norm_(model, max_norm)
        optimizer.step()
    return optimizer


def plain_values(model) -> dict[str, torch.Tensor]:
    """Values by plain name, for comparison."""
    wrappers = ("_orig_mod", "_checkpoint_wrapped_module")
    return {
        ".".join(part for part in name.split(".") if part not in wrappers): value.detach()
        for name, value in model.named_parameters()
    }


@pytest.fixture(scope="module")
def reference(scaling):
    model = fresh()
    scaling.init_(model)
    train(model, scaling)
    return plain_values(model)


def assert_same(model, reference, **tolerance):
    values = plain_values(model)
    assert values.keys() == reference.keys()
    for name, value in values.items():
        if tolerance:
            torch.testing.assert_close(value, reference[name], **tolerance)
        else:
            assert torch.equal(value, reference[name]), name


def test_deepcopy(scaling, reference):
    model = fresh()
    scaling.init_(model)
    twin = copy.deepcopy(model)
    train(twin, scaling)
    assert_same(twin, reference)
    apart = copy.deepcopy(fresh())
    scaling.init_(apart)
    assert_same(apart, plain_values(model))


def test_state_dict_reload(scaling, reference):
    model = fresh()
    scaling.init_(model)
    other = GPT(config(TARGET))
    other.load_state_dict(model.state_dict())
    train(other, scaling)
    assert_same(other, reference)


def test_optimizer_state_reload(scaling):
    """Groups survive a checkpoint of the optimizer in the middle of training."""
    model = fresh()
    scaling.init_(model)
    optimizer = train(model, scaling)
    resumed = torch.optim.AdamW(scaling.param_groups(model, lr=1.0, weight_decay=0.0))
    resumed.load_state_dict(optimizer.state_dict())
    for before, after in zip(optimizer.param_groups, resumed.param_groups, strict=True):
        assert before["lr"] == after["lr"] and before["lr_multiplier"] == after["lr_multiplier"]
        assert before["weight_decay"] == after["weight_decay"] and before["eps"] == after["eps"]


def test_safetensors(scaling, reference, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    model = fresh()
    scaling.init_(model)
    safetensors.save_model(model, str(tmp_path / "model.safetensors"))
    other = GPT(config(TARGET))
    safetensors.load_model(other, str(tmp_path / "model.safetensors"))
    train(other, scaling)
    assert_same(other, reference)


def test_meta_device_to_empty_then_own_init(scaling, reference):
    with torch.device("meta"):
        model = GPT(config(TARGET))
    with pytest.raises(ScalingError, match="meta device; call model.to_empty"):
        scaling.init_(model)
    model.to_empty(device="cpu")
    with pytest.raises(ScalingError, match="tie them again"):
        scaling.init_(model)  # to_empty unties
    model.head.weight = model.token.weight
    torch.manual_seed(0)
    for module in model.modules():  # in the order of construction, the tied head last, as in fresh()
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    with pytest.warns(UserWarning, match="'token.weight' is not as the code"):
        scaling.init_(model)
    wanted = {entry["name"]: entry["init_std"]["target"] for entry in scaling.document["weights"]}
    for name, value in plain_values(model).items():
        if name != "token.weight":  # the tied weight is drawn by the head's reset here
            noise = 6 / math.sqrt(2 * value.numel())
            assert value.std().item() == pytest.approx(wanted[name], rel=noise, abs=1e-12), name


def test_meta_device_to_empty_from_scratch(scaling):
    with torch.device("meta"):
        model = GPT(config(TARGET))
    model.to_empty(device="cpu")
    model.head.weight = model.token.weight
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))  # whatever to_empty left there
    scaling.init_(model, from_scratch=True, generator=torch.Generator().manual_seed(0))
    reference = fresh()
    scaling.init_(reference)
    for (name, value), like in zip(model.named_parameters(), reference.parameters(), strict=True):
        noise = 8 / math.sqrt(2 * value.numel())
        assert value.std().item() == pytest.approx(like.std().item(), rel=noise, abs=1e-12), name
        assert value.abs().max().item() == pytest.approx(like.abs().max().item(), rel=0.5, abs=1e-12), name
    assert torch.equal(model.norm.weight, torch.full((TARGET,), 0.5))
    train(model, scaling)


def test_from_scratch_refuses_what_it_cannot_draw():
    class Uneven(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.layer = nn.Linear(8, width)
            self.out = nn.Linear(width, 4)
            with torch.no_grad():
                self.layer.weight[: width // 2].normal_(std=0.1)
                self.layer.weight[width // 2 :].fill_(0.3)

        def forward(self, x):
            return self.out(self.layer(x).relu())

    scaling = tpcalc.scale(lambda width: (Uneven(width), (torch.randn(2, 8),)), 32, 64)
    with pytest.raises(ScalingError, match="layer.weight.*own initialisation"):
        scaling.init_(Uneven(64), from_scratch=True)
    scaling.init_(Uneven(64))


def test_torch_compile(scaling, reference):
    model = fresh()
    compiled = torch.compile(model, backend="eager")
    scaling.init_(compiled)
    train(compiled, scaling)
    assert any(name.startswith("_orig_mod.") for name, _ in compiled.named_parameters())
    assert_same(model, reference, rtol=1e-5, atol=1e-6)


def test_torch_compile_of_the_blocks(scaling, reference):
    model = fresh()
    for index, block in enumerate(model.blocks):
        model.blocks[index] = torch.compile(block, backend="eager")
    scaling.init_(model)
    train(model, scaling)
    assert_same(model, reference, rtol=1e-5, atol=1e-6)


def test_activation_checkpointing(scaling, reference):
    model = fresh()
    apply_activation_checkpointing(model, check_fn=lambda module: isinstance(module, Block))
    assert any("_checkpoint_wrapped_module" in name for name, _ in model.named_parameters())
    scaling.init_(model)
    train(model, scaling)
    assert_same(model, reference)


def test_gradient_accumulation(scaling, reference):
    model = fresh()
    scaling.init_(model)
    train(model, scaling, accumulate=2)
    assert_same(model, reference, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}, {"foreach": False}])
def test_implementations_of_adamw(scaling, reference, options):
    model = fresh()
    scaling.init_(model)
    train(model, scaling, **options)
    assert_same(model, reference, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": False}])
def test_lr_as_a_tensor(scaling, reference, options):
    model = fresh()
    scaling.init_(model)
    lr = torch.tensor(LR)
    optimizer = train(model, scaling, lr=lr, **options)
    assert_same(model, reference, rtol=1e-4, atol=2e-6)
    groups = optimizer.param_groups
    assert all(isinstance(group["lr"], torch.Tensor) for group in groups)
    groups[0]["lr"].fill_(0.0)  # as a scheduler does: in place
    assert lr.item() == pytest.approx(LR) and groups[1]["lr"].item() > 0


def test_module_prefix_of_data_parallel(scaling):
    wrapped = nn.Module()
    wrapped.module = fresh()
    scaling.init_(wrapped)
    reference = fresh()
    scaling.init_(reference)
    for p, q in zip(wrapped.parameters(), reference.parameters(), strict=True):
        assert torch.equal(p, q)


def test_frozen_parameters_are_in_no_group(scaling):
    model = fresh()
    model.token.weight.requires_grad_(False)
    groups = scaling.param_groups(model, lr=LR)
    members = [p for group in groups for p in group["params"]]
    assert all(p is not model.token.weight for p in members)
    assert len(members) == len(list(model.parameters())) - 1


def test_no_decay_and_options(scaling):
    model = fresh()
    groups = scaling.param_groups(
        model, lr=LR, weight_decay=0.1, eps=1e-7, no_decay=lambda name, p: p.dim() < 2, betas=(0.9, 0.95)
    )
    for group in groups:
        assert group["betas"] == (0.9, 0.95)
        if group["weight_decay"]:
            assert group["lr"] * group["weight_decay"] == pytest.approx(LR * 0.1)
        assert all((p.dim() < 2) == (group["weight_decay"] == 0) for p in group["params"])
    assert {group["eps"] for group in groups} == {1e-7, 1e-7 * 2**-0.5, 1e-7 / 2}


def test_a_model_that_is_not_fresh_is_warned_of(scaling, recwarn):
    model = fresh()
    scaling.init_(model)
    assert not recwarn.list
    with pytest.warns(UserWarning, match="'blocks.0.mlp.fc.bias'?.* call init_ once|norm.weight.* call init_ once"):
        for _ in range(3):
            scaling.init_(model)
    loaded = fresh()
    with torch.no_grad():
        loaded.blocks[0].attn.k.weight.mul_(3)  # as if trained
    with pytest.warns(UserWarning, match="'blocks.0.attn.k.weight' is not as the code"):
        scaling.init_(loaded)


# -- refusals, by name ------------------------------------------------------------------------------


def refuse(model, scaling, match):
    for call in (scaling.init_, lambda m: scaling.param_groups(m, lr=LR), lambda m: scaling.clip_grad_norm_(m, 1.0)):
        before = [p.detach().clone() for p in model.parameters()]
        with pytest.raises(ScalingError, match=match):
            call(model)
        assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True)), "nothing was touched"


def test_refuses_a_missing_parameter(scaling):
    model = fresh()
    model.blocks[1].mlp.fc.bias = None
    refuse(model, scaling, "lacks 'blocks.1.mlp.fc.bias'")


def test_refuses_an_extra_parameter(scaling):
    model = fresh()
    model.blocks[0].attn.adapter = nn.Linear(4, 4, bias=False)
    refuse(model, scaling, "also has 'blocks.0.attn.adapter.weight'")


def held(model, *path):
    for name in reversed(path):
        outer = nn.Module()
        setattr(outer, name, model)
        model = outer
    return model


@pytest.mark.parametrize("path", [("net",), ("module",), ("base_model", "model"), ("_orig_mod", "module", "net")])
def test_names_are_found_below_what_all_begin_with(scaling, path):
    model = fresh()
    names = [name for name, _, _ in scaling.match(held(model, *path))]
    assert names == [name for name, _, _ in scaling.match(model)]
    forward = tpcalc.scale(build, BASE, TARGET, gauge="symmetric") if path == ("net",) else scaling
    forward.forward_(model)
    assert [name for name, _, _ in forward.match(held(model, *path))] == names


def test_what_stands_beside_a_held_model_is_named(scaling):
    model = held(fresh(), "base_model", "model")
    model.base_model.model.blocks[0].attn.q.lora_A = nn.Linear(4, 4, bias=False)
    refuse(model, scaling, "made for: it also has 'blocks.0.attn.q.lora_A.weight'; make them from this model")
    adapted = held(fresh(), "base_model", "model")
    q = adapted.base_model.model.blocks[0].attn.q
    q.base_layer = nn.Linear(4, 4, bias=False)
    q.base_layer.weight, q.weight = q.weight, None
    refuse(
        adapted, scaling, "it lacks 'blocks.0.attn.q.weight' and it also has 'blocks.0.attn.q.base_layer.weight'; make"
    )
    beside = held(fresh(), "net")
    beside.metric = nn.Linear(4, 4)
    refuse(beside, scaling, "made for: it also has 'metric.weight', 'metric.bias'; make")
    beside.head = beside.net.head  # not split between two places by guess
    del beside.net.head, beside.metric
    refuse(beside, scaling, "it lacks 'token.weight'.* it also has 'net.token.weight'")


def test_refuses_another_depth(scaling):
    model = GPT(Config(TARGET, heads=2, kv_heads=2, vocabulary=32, tied=True, layers=3))
    refuse(model, scaling, "also has 'blocks.2.ln1.weight'.* more")


def test_refuses_another_width(scaling):
    refuse(GPT(config(128)), scaling, r"token.weight has shape \[32, 128\].*\[32, 64\]; build the model at the target")


def test_refuses_an_untied_model(scaling):
    model = fresh()
    model.head.weight = nn.Parameter(model.token.weight.detach().clone())
    refuse(model, scaling, "two parameters in this model but tied")


def test_refuses_an_unexpected_tie(scaling):
    model = fresh()
    model.blocks[1].ln1.weight = model.blocks[0].ln1.weight
    refuse(model, scaling, "one tied parameter in this model but two")


def test_refuses_an_unknown_optimizer_name(scaling):
    with pytest.raises(ScalingError, match="choose one of 'adamw'"):
        scaling.param_groups(fresh(), lr=LR, optimizer="muon")


# -- clipping ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_type", [2.0, 1.0, float("inf")])
def test_clip_is_the_norm_of_the_weighed_gradients(scaling, norm_type):
    model = fresh().double()
    loss_of(model, data()[0]).backward()
    weighed = [p.grad * scaling[name].clip for name, p in model.named_parameters()]
    wanted = torch.linalg.vector_norm(torch.cat([g.flatten() for g in weighed]), norm_type)
    before = {name: p.grad.clone() for name, p in model.named_parameters()}
    total = scaling.clip_grad_norm_(model, 0.1, norm_type)
    torch.testing.assert_close(total, wanted)
    factor = min(1.0, 0.1 / (total.item() + 1e-6))
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, before[name] * factor)


def test_clip_without_gradients(scaling):
    assert scaling.clip_grad_norm_(fresh(), 1.0) == 0


def test_clip_refuses_nonfinite_norms_on_demand(scaling):
    model = fresh()
    loss_of(model, data()[0]).backward()
    model.norm.bias.grad[0] = float("nan")
    with pytest.raises(RuntimeError, match="not finite"):
        scaling.clip_grad_norm_(model, 1.0, error_if_nonfinite=True)
    assert scaling.clip_grad_norm_(model, 1.0).isnan()
