"""Multipliers in training: bit-identical at the base width, equal to the hand-edited model at four times it."""

from __future__ import annotations

import importlib.util
import math
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import tpcalc
from tpcalc.scaling.codegen import codegen

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from gpt import GPT, Config  # noqa: E402

BASE, TARGET = 32, 128
RATIO = TARGET / BASE
VARIANTS = [(tied, growing) for tied in (False, True) for growing in (False, True)]


def config(width: int, tied: bool, growing: bool, **more) -> Config:
    heads = 4 if growing else width // 16
    return Config(width, heads=heads, kv_heads=heads, vocabulary=48, tied=tied, **more)


def factory(tied: bool, growing: bool):
    def build(width: int):
        model_config = config(width, tied, growing)
        return GPT(model_config), (torch.arange(16).reshape(2, 8) % model_config.vocabulary,)

    return build


@pytest.fixture(scope="module")
def scalings():
    made = {}

    def get(tied: bool, growing: bool, target: int = TARGET) -> tpcalc.Scaling:
        key = tied, growing, target
        if key not in made:
            made[key] = tpcalc.scale(factory(tied, growing), BASE, target)
        return made[key]

    return get


def generated(scaling: tpcalc.Scaling, folder: Path):
    """The generated module, imported as a user would."""
    path = folder / "generated_scaling.py"
    path.write_text(codegen(scaling), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def batches(count: int, vocabulary: int = 48):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(vocabulary, (4, 9), generator=generator) for _ in range(count)]


def loss_of(model, tokens, scale: float = 1.0):
    logits = model(tokens[:, :-1]) * scale
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def fresh(width: int, tied: bool, growing: bool, seed: int = 0) -> GPT:
    torch.manual_seed(seed)
    return GPT(config(width, tied, growing))


# -- at the base width ------------------------------------------------------------------------------


@pytest.mark.parametrize("tied, growing", VARIANTS)
def test_at_base_width_every_multiplier_is_one(scalings, tied, growing):
    scaling = scalings(tied, growing, BASE)
    for name in scaling:
        weight = scaling[name]
        assert [weight.init, weight.lr, weight.weight_decay, weight.eps, weight.clip] == [1.0] * 5, name


@pytest.mark.parametrize("tied, growing", VARIANTS)
def test_at_base_width_training_is_bit_identical(scalings, tied, growing, tmp_path):
    code = generated(scalings(tied, growing, BASE), tmp_path)
    plain, scaled = fresh(BASE, tied, growing), fresh(BASE, tied, growing)
    code.init_(scaled)
    options = {"lr": 3e-3, "weight_decay": 0.1, "eps": 1e-8}
    groups = code.param_groups(scaled, **options)
    assert len(groups) == 1
    optimizers = torch.optim.AdamW(plain.parameters(), **options), torch.optim.AdamW(groups)
    clips = torch.nn.utils.clip_grad_norm_, code.clip_grad_norm_
    for tokens in batches(20):
        for model, optimizer, clip in zip((plain, scaled), optimizers, clips, strict=True):
            optimizer.zero_grad()
            loss_of(model, tokens).backward()
            clip(model.parameters() if model is plain else model, 0.5)
            optimizer.step()
    for (name, p), (_, q) in zip(plain.named_parameters(), scaled.named_parameters(), strict=True):
        assert torch.equal(p, q), name


# -- at four times the base width -------------------------------------------------------------------


class HandEdited(torch.nn.Module):
    """The same GPT as someone would edit it for muP: a readout multiplier, and 1/d attention equal to the base's."""

    def __init__(self, tied: bool, growing: bool):
        super().__init__()
        self.gpt = GPT(config(TARGET, tied, growing))
        if growing:
            base_head_dim = BASE // 4
            for block in self.gpt.blocks:
                block.attn.scale = math.sqrt(base_head_dim) / block.attn.head_dim
        self.multiplier = 1 / RATIO

    def forward(self, tokens):
        return self.gpt(tokens) * self.multiplier

    def init_(self):
        """Every std as at base width, but n^-1/2 in the hidden matrices, which the code gives by itself."""
        with torch.no_grad():
            for name, parameter in self.gpt.named_parameters():
                if name.endswith(("mlp.fc.bias", "mlp.proj.bias")) or name == "head.weight":
                    parameter.mul_(math.sqrt(RATIO))  # the code draws these at 1/sqrt(fan_in)

    def param_groups(self, lr, weight_decay, eps):
        """Adam in the gauge of TP5's Table 8: all gradients and epsilons shrink as 1/n; only matrices slow down."""
        hidden = [p for p in self.gpt.blocks.parameters() if p.dim() == 2]
        others = [p for p in self.gpt.parameters() if all(p is not h for h in hidden)]
        return [
            {"params": hidden, "lr": lr / RATIO, "weight_decay": weight_decay * RATIO, "eps": eps / RATIO},
            {"params": others, "lr": lr, "weight_decay": weight_decay, "eps": eps / RATIO},
        ]


@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize("tied, growing", VARIANTS)
def test_absorbed_rules_train_as_the_hand_edited_model(scalings, tied, growing, clipped):
    scaling = scalings(tied, growing)
    unedited = fresh(TARGET, tied, growing).double()
    scaling.init_(unedited)
    torch.manual_seed(0)
    edited = HandEdited(tied, growing).double()
    edited.init_()
    options = {"lr": 3e-3, "weight_decay": 0.1, "eps": 1e-6}  # an epsilon large enough to be felt
    groups = scaling.param_groups(unedited, **options)
    assert len(groups) == (4 if growing else 3)  # the q that absorbs 1/sqrt(d) stands alone
    optimizers = torch.optim.AdamW(edited.param_groups(**options)), torch.optim.AdamW(groups)
    max_norm, bites = 0.3, 0
    for step, tokens in enumerate(batches(8)):
        losses, norms = [], []
        for model, optimizer in zip((edited, unedited), optimizers, strict=True):
            optimizer.zero_grad()
            loss = loss_of(model, tokens)
            loss.backward()
            if not clipped:
                pass
            elif model is edited:
                norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm))
            else:
                norms.append(scaling.clip_grad_norm_(model, max_norm))
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(losses[1], rel=1e-10), step
        if clipped:
            assert norms[0].item() == pytest.approx(norms[1].item(), rel=1e-10)
            bites += norms[0] > max_norm
    assert bites >= 6 or not clipped, "the threshold should bite"
    tokens = batches(9)[-1]
    torch.testing.assert_close(unedited(tokens), edited(tokens), rtol=1e-9, atol=1e-9)


def test_plain_clipping_is_not_the_same(scalings):
    """The case for the helper: torch's own norm of the unedited model is another one."""
    scaling = scalings(True, False)
    model = fresh(TARGET, True, False).double()
    scaling.init_(model)
    loss_of(model, batches(1)[0]).backward()
    ours = scaling.clip_grad_norm_(model, 1e9)
    plain = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
    assert plain > 1.3 * ours


@pytest.mark.parametrize("tied, growing", VARIANTS)
def test_init_gives_the_wanted_std(scalings, tied, growing):
    scaling = scalings(tied, growing)
    models = {width: fresh(width, tied, growing) for width in (BASE, TARGET)}
    scaling.init_(models[TARGET])
    parameters = {width: dict(model.named_parameters()) for width, model in models.items()}
    entries = {entry["name"]: entry for entry in scaling.document["weights"]}
    exponents = {"attn": 0.5, "mlp": 0.5, "head": 1.0, "token": 0.0, "position": 0.0}
    for name, parameter in parameters[TARGET].items():
        wanted = entries[name]["init_std"]["target"]
        if wanted == 0:
            factor = 1 / RATIO if tied and name == "norm.weight" else 1.0
            assert torch.equal(parameter, parameters[BASE][name].mean() * factor + torch.zeros_like(parameter))
            continue
        noise = 6 / math.sqrt(2 * parameter.numel())
        assert parameter.std().item() == pytest.approx(wanted, rel=noise), name
        kind = next(kind for kind in exponents if kind in name.split("."))
        exponent = 0.0 if name.endswith("bias") else exponents[kind]
        if growing and ".q." in name:
            exponent = 1.0
        base_std = entries[name]["init_std"]["base"]
        assert wanted == pytest.approx(base_std * RATIO**-exponent, rel=1e-12), name


def test_sgd_with_momentum_trains_as_the_hand_edited_model():
    """Under SGD the shift symmetry is (a+t, b-t, c-2t): a readout multiplier m takes a learning rate 1/m^2."""
    scaling = tpcalc.scale(factory(False, False), BASE, TARGET, optimizer="sgd")
    unedited = fresh(TARGET, False, False).double()
    scaling.init_(unedited)
    torch.manual_seed(0)
    edited = HandEdited(False, False).double()
    edited.init_()
    lr = 0.02
    growing = [p for _, p in edited.gpt.named_parameters() if p.dim() == 2 and min(p.shape) >= TARGET]
    others = [p for p in edited.gpt.parameters() if all(p is not g for g in growing)]
    # TP5 Table 8 for SGD: vector-like weights take lr * n, matrices lr
    edited_groups = [{"params": growing, "lr": lr}, {"params": others, "lr": lr * RATIO}]
    optimizers = [
        torch.optim.SGD(edited_groups, lr=lr, momentum=0.9),
        torch.optim.SGD(scaling.param_groups(unedited, lr=lr), lr=lr, momentum=0.9),
    ]
    for tokens in batches(6):
        losses = []
        for model, optimizer in zip((edited, unedited), optimizers, strict=True):
            optimizer.zero_grad()
            loss = loss_of(model, tokens)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(losses[1], rel=1e-9)


def test_the_fewest_groups_and_the_cost_of_a_step(scalings):
    """Same number of groups, same time: the groups hold nothing that a step would trip over."""
    scaling = scalings(False, False)
    model = fresh(TARGET, False, False)
    groups = scaling.param_groups(model, lr=1e-3, weight_decay=0.1)
    assert len(groups) == 3
    keys = {(group["lr"], group["weight_decay"], group["eps"]) for group in groups}
    assert len(keys) == len(groups), "no two groups are alike"
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    other = fresh(TARGET, False, False)
    parameters = list(other.parameters())
    sizes = [len(group["params"]) for group in groups]
    chunks = [parameters[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(len(sizes))]
    plain = [{"params": chunk, "lr": 1e-3 * i, "weight_decay": 0.1} for i, chunk in enumerate(chunks, 1)]
    optimizers = [torch.optim.AdamW(groups), torch.optim.AdamW(plain)]
    for each in (model, other):
        for parameter in each.parameters():
            parameter.grad = torch.randn_like(parameter)
    times: list[list[float]] = [[], []]
    for _ in range(30):
        for optimizer, measured in zip(optimizers, times, strict=True):
            start = time.perf_counter()
            optimizer.step()
            measured.append(time.perf_counter() - start)
    ours, theirs = (sorted(measured)[len(measured) // 4] for measured in times)
    print(f"step: {1e3 * ours:.2f} ms with the groups, {1e3 * theirs:.2f} ms plain, ratio {ours / theirs:.3f}")
    assert ours < 1.5 * theirs
