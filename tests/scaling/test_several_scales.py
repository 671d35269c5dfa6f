"""Multipliers over several scales: width and depth at once, independent widths, names at the target's depth."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tpcalc
from tests.scaling.test_training import batches, generated, loss_of
from tests.support import stacks
from tests.support.command import tpcalc_command as run
from tests.support.once import once
from tests.support.sampled import kept
from tests.support.scaled import packed
from tpcalc.errors import AlignError, DeriveError, ScalingError, TpcalcError

from gpt import GPT, Config  # isort: skip  (on the path since test_training)

pytestmark = pytest.mark.usefixtures("recorded_once")

BASE, TARGET = {"width": 32, "depth": 2}, {"width": 128, "depth": 8}
N, L = 4.0, 4.0
VARIANTS = [(tied, growing) for tied in (False, True) for growing in (False, True)]
FIELDS = ("init", "lr", "weight_decay", "eps", "clip", "forward")


def config(width: int, depth: int, tied: bool, growing: bool) -> Config:
    heads = 4 if growing else width // 16
    return Config(width, heads=heads, kv_heads=heads, vocabulary=48, tied=tied, layers=depth)


@once
def factory(tied: bool, growing: bool) -> Callable[..., Any]:
    def build(width: int, depth: int) -> Any:
        return GPT(config(width, depth, tied, growing)), (torch.arange(16).reshape(2, 8) % 48,)

    return build


@once
def scaled(tied: bool, growing: bool, target: tuple[int, int] = (128, 8)) -> tpcalc.Scaling:
    return tpcalc.scale(factory(tied, growing), BASE, dict(zip(BASE, target)))


def fresh(tied: bool, growing: bool, width: int = 128, depth: int = 8) -> GPT:
    torch.manual_seed(0)
    return GPT(config(width, depth, tied, growing))


def ones(found: Mapping[str, Any]) -> bool:
    return all(getattr(weight, field) in (1.0, None) for weight in found.values() for field in FIELDS)


class HandEdited(nn.Module):
    """The same GPT edited for CompleteP: branches times 1/L, attention 1/d, readout 1/n, each 1 at the base."""

    def __init__(self, tied: bool, growing: bool):
        super().__init__()
        self.gpt = fresh(tied, growing)
        for block in self.gpt.blocks:
            if growing:
                block.attn.scale = math.sqrt(32 // 4) / block.attn.head_dim
            for branch in (block.attn, block.mlp):
                branch.register_forward_hook(lambda module, inputs, output: output / L)

    def forward(self, tokens):
        return self.gpt(tokens) / N

    def init_(self):
        with torch.no_grad():
            for name, parameter in self.gpt.named_parameters():
                if name.endswith(("mlp.fc.bias", "mlp.proj.bias")) or name == "head.weight":
                    parameter.mul_(math.sqrt(N))  # the code draws these at 1/sqrt(fan_in)

    def param_groups(self, lr, weight_decay, eps):
        """CompleteP, table 1, at alpha = 1: no rate follows the depth; epsilon falls as 1/L inside of blocks."""
        inside = {id(p) for p in self.gpt.blocks.parameters()}
        groups = []
        for parameter in self.gpt.parameters():
            hidden = parameter.dim() == 2 and id(parameter) in inside
            own = (
                {"lr": lr / N, "weight_decay": weight_decay * N} if hidden else {"lr": lr, "weight_decay": weight_decay}
            )
            depth = L if id(parameter) in inside else 1.0
            groups.append({"params": [parameter], **own, "eps": eps / N / depth})
        return groups


@pytest.mark.parametrize("tied, growing", kept(VARIANTS, lambda variant: variant[0] == variant[1]))
def test_the_unedited_model_trains_as_the_hand_edited_one(tied, growing, tmp_path):
    scaling = scaled(tied, growing)
    code = generated(scaling, tmp_path)
    unedited = fresh(tied, growing).double()
    code.init_(unedited)
    edited = HandEdited(tied, growing).double()
    edited.init_()
    options = {"lr": 3e-3, "weight_decay": 0.1, "eps": 1e-6}  # an epsilon large enough to be felt
    groups = code.param_groups(unedited, **options)
    assert len(groups) < 12
    optimizers = torch.optim.AdamW(edited.param_groups(**options)), torch.optim.AdamW(groups)
    max_norm, bites = 0.3, 0
    for step, tokens in enumerate(batches(8)):
        losses, norms = [], []
        for model, optimizer in zip((edited, unedited), optimizers):
            optimizer.zero_grad()
            loss = loss_of(model, tokens)
            loss.backward()
            if model is edited:
                norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm))
            else:
                norms.append(code.clip_grad_norm_(model, max_norm))
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(losses[1], rel=1e-10), step
        assert norms[0].item() == pytest.approx(norms[1].item(), rel=1e-10)
        bites += norms[0] > max_norm
    assert bites >= 6, "the threshold should bite"


@pytest.mark.parametrize("tied, growing", VARIANTS)
def test_at_the_base_every_multiplier_is_one(tied, growing):
    assert ones(scaled(tied, growing, (32, 2)))


def test_at_the_depth_of_the_base_it_is_the_width_alone():
    """Names, numbers: as of the factory of one scale at that depth."""
    alone = tpcalc.scale(lambda width: factory(True, False)(width, 2), 32, 128)
    both = scaled(True, False, (128, 2))
    assert list(alone) == list(both)
    for name in alone:
        for field in (*FIELDS, "shape", "draw", "aliases"):
            assert getattr(alone[name], field) == getattr(both[name], field), (name, field)


def test_it_is_saved_loaded_and_printed(tmp_path):
    scaling = scaled(True, False)
    path = tmp_path / "multipliers.json"
    scaling.save(path)
    loaded = tpcalc.Scaling.load(path)
    assert loaded.document == scaling.document
    assert (loaded.base, loaded.target) == (BASE, TARGET)
    assert "width=32, depth=2 -> width=128, depth=8" in str(loaded)
    assert "blocks.*.attn.proj.weight" in str(loaded)
    assert len([name for name in loaded if name.endswith("attn.proj.weight")]) == 8


GAUGES = ("mup", "completep", "ntk")


@pytest.mark.parametrize("gauge", GAUGES)
def test_all_gauges_train_alike(gauge):
    """The effective init and update are those of the gauge init."""
    plain = tpcalc.scale(stacks.pre, {"width": 16, "depth": 2}, {"width": 64, "depth": 6})
    other = tpcalc.scale(stacks.pre, {"width": 16, "depth": 2}, {"width": 64, "depth": 6}, gauge=gauge)
    assert any(weight.forward != 1 for weight in other.values())
    for name, weight in other.items():
        assert weight.forward * weight.init == pytest.approx(plain[name].init, rel=1e-12), name
        assert weight.forward * weight.lr == pytest.approx(plain[name].lr, rel=1e-12), name
        assert weight.eps == pytest.approx(plain[name].eps * weight.forward, rel=1e-12), name
        assert weight.clip * weight.forward == pytest.approx(plain[name].clip, rel=1e-12), name


# -- independent widths ------------------------------------------------------------------------------


def feed_forward(width: int, ffn: int) -> Any:
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.entry = nn.Linear(8, width, bias=False)
            self.one, self.two = nn.Linear(width, ffn, bias=False), nn.Linear(ffn, width, bias=False)
            self.out = nn.Linear(width, 4, bias=False)
            for linear, std in ((self.one, 0.02), (self.two, 0.02)):
                nn.init.normal_(linear.weight, std=std)

        def forward(self, x):
            x = self.entry(x)
            x = x + self.two(F.relu(self.one(F.rms_norm(x, (width,)))))
            return self.out(F.rms_norm(x, (width,)))

    return Net(), (torch.linspace(-1, 1, 24).reshape(3, 8),)


def inits(base: tuple[int, int], target: tuple[int, int]) -> tuple[float, float]:
    scaling = tpcalc.scale(feed_forward, dict(zip(("width", "ffn"), base)), dict(zip(("width", "ffn"), target)))
    return scaling["one.weight"].init, scaling["two.weight"].init


def feed_in(n: float, f: float) -> float:
    """n^-1/2 Min(1, sqrt(f/n)): law 1, or where f is smaller the operator norm of law 2."""
    return n**-0.5 * min(1, math.sqrt(f / n))


@pytest.mark.parametrize(
    "base, target",
    [((64, 256), (64, 1024)), ((64, 256), (256, 1024)), ((64, 32), (256, 32)), ((64, 256), (1024, 256))],
)
def test_a_formula_with_a_kink_is_that_of_the_cone_at_each_end(base, target):
    """Also where the way from base to target crosses the wall f = n."""
    one, two = inits(base, target)
    assert one == pytest.approx(feed_in(*target) / feed_in(*base), rel=1e-12)
    assert two == pytest.approx(feed_in(*target[::-1]) / feed_in(*base[::-1]), rel=1e-12)


def test_there_and_onward_is_the_whole_way():
    ways = [inits(base, target) for base, target in [((64, 256), (512, 256)), ((512, 256), (512, 64))]]
    whole = inits((64, 256), (512, 64))
    for index in (0, 1):
        assert ways[0][index] * ways[1][index] == pytest.approx(whole[index], rel=1e-12)


def test_blocks_of_a_packed_weight():
    """q takes what 1/sqrt(d) in the code lacks: h^-1/2 d^-1; k and v (h d)^-1/2, which the code gives by itself."""
    scaling = tpcalc.scale(packed, {"heads": 2, "head_dim": 8}, {"heads": 4, "head_dim": 32})
    qkv = scaling["qkv.weight"]
    assert qkv.shape == (384, 128)
    assert [piece[:3] for piece in qkv.slices] == [(0, 0, 128), (0, 128, 128), (0, 256, 128)]
    assert [piece[3] for piece in qkv.slices] == pytest.approx([1 / 2, 1, 1])


def test_the_clipping_norm_of_a_readout_whose_vocabulary_is_a_scale():
    """Its outputs are picked one by one: a readout times 1/n is clipped as such, however large the vocabulary."""

    def readout(width: int, vocab: int):
        layers = nn.Embedding(vocab, width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, vocab, bias=False)
        return nn.Sequential(*layers), (torch.arange(6).reshape(2, 3),)

    both = tpcalc.scale(readout, {"width": 64, "vocab": 32}, {"width": 256, "vocab": 32})
    alone = tpcalc.scale(lambda width: readout(width, 32), 64, 256)
    assert both["3.weight"].clip == alone["3.weight"].clip == 1 / 4
    assert [weight.clip for weight in both.values()] == [weight.clip for weight in alone.values()]


# -- names at another depth --------------------------------------------------------------------------


def test_alternating_blocks_keep_their_turn():
    """Every second block is another one: the names at the target say which."""

    class Narrow(nn.Module):
        def __init__(self, n: int):
            super().__init__()
            self.only = nn.Linear(n, n)

        def forward(self, x):
            return x + torch.tanh(F.layer_norm(x, x.shape[-1:])) * self.only(F.layer_norm(x, x.shape[-1:]))

    def factory(width: int, depth: int):
        return stacks.Stack(
            width, [Narrow(width) if i % 2 else stacks.Block(width) for i in range(depth)]
        ), stacks.points()

    scaling = tpcalc.scale(factory, {"width": 16, "depth": 2}, {"width": 64, "depth": 6})
    for index in range(6):
        own = {name.split(".", 2)[2] for name in scaling if name.startswith(f"blocks.{index}.")}
        assert own >= ({"only.weight"} if index % 2 else {"one.weight", "two.weight"})
        last = "only" if index % 2 else "two"
        assert scaling[f"blocks.{index}.{last}.bias"].lr == pytest.approx(1 / 3)
    with pytest.raises(AlignError, match="depth=5 is no whole number of periods.*choose depth=4 or 6"):
        tpcalc.scale(factory, {"width": 16, "depth": 2}, {"width": 64, "depth": 5})


def test_two_stacks_each_by_its_own_depth():
    base = {"width": 16, "encoder": 2, "decoder": 2}
    target = {"width": 32, "encoder": 6, "decoder": 3}
    scaling = tpcalc.scale(stacks.two_depths, base, target)
    lasts = {name: weight for name, weight in scaling.items() if name.endswith(("down.weight", ".o.weight"))}
    assert len(lasts) == 6 * 2 + 3 * 3
    for name, weight in lasts.items():
        assert weight.init == pytest.approx(1 / 3 if name.startswith("encoder") else 2 / 3), name


def test_blocks_named_by_digits_without_a_dot():
    class Named(nn.Module):
        def __init__(self, n: int, depth: int):
            super().__init__()
            self.entry, self.out, self.depth = nn.Linear(8, n), nn.Linear(n, 4), depth
            for i in range(depth):
                setattr(self, f"block{i}", stacks.Block(n))

        def forward(self, x):
            x = self.entry(x)
            for i in range(self.depth):
                x = getattr(self, f"block{i}")(x)
            return self.out(F.layer_norm(x, x.shape[-1:]))

    scaling = tpcalc.scale(lambda width, depth: (Named(width, depth), stacks.points()), BASE, TARGET)
    assert scaling["block7.two.weight"].init == scaling["block0.two.weight"].init == pytest.approx(1 / 4)


def test_an_init_that_follows_the_depth_is_accounted_for():
    """GPT-2 divides the last weights of a branch by sqrt(2 L): what is left for the multiplier is L^-1/2."""

    def factory(width: int, depth: int):
        model, inputs = stacks.pre(width, depth)
        for block in model.blocks:
            nn.init.normal_(block.two.weight, std=0.02 / math.sqrt(2 * depth))
        return model, inputs

    scaling = tpcalc.scale(factory, {"width": 16, "depth": 2}, {"width": 16, "depth": 8})
    assert scaling["blocks.5.two.weight"].init == pytest.approx(1 / 2)
    assert scaling["blocks.5.two.weight"].draw[2] == pytest.approx(0.02 / math.sqrt(4) / 4)


def test_an_init_that_follows_the_index_of_a_block_is_refused():
    def factory(width: int, depth: int):
        model, inputs = stacks.pre(width, depth)
        for index, block in enumerate(model.blocks):
            nn.init.normal_(block.two.weight, std=0.02 / math.sqrt(2 * (index + 1)))
        return model, inputs

    with pytest.raises(ScalingError, match="init of blocks.0.two.weight and of blocks.1.two.weight.*make it the same"):
        tpcalc.scale(factory, {"width": 16, "depth": 2}, {"width": 16, "depth": 8})


def test_a_block_that_goes_by_its_index_is_refused():
    """Its names are those of the others, and it is first met beyond the depths that were traced."""

    def factory(width: int, depth: int):
        model, inputs = stacks.pre(width, depth)
        for i, block in enumerate(model.blocks):
            by = float(width) if i % 8 == 7 else 1.0
            block.two.register_forward_hook(lambda module, args, output, by=by: output / by)
        return model, inputs

    base = {"width": 16, "depth": 2}
    assert tpcalc.scale(factory, base, {"width": 32, "depth": 7})
    with pytest.raises(AlignError, match=r"at width=16, depth=9 is not that at .* more of the same blocks: aten.div"):
        tpcalc.scale(factory, base, {"width": 16, "depth": 9})


# -- what is wrong -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "base, target, message",
    [
        ({"width": 16, "depth": 2}, 64, "target 64 is one number; give each scale by name"),
        ({"width": 16}, {"width": 16, "depth": 2}, "the target has depth and the base has not; give both"),
        ({"width": 16, "depth": 0}, {"width": 16, "depth": 2}, "base depth=0 is not a positive whole number"),
        ({"width": 16, "depth": 2.0}, {"width": 16, "depth": 2}, "base depth=2.0 is not a positive whole number"),
        ({"depth": 2}, {"depth": 4}, "depth=2 gives no width, along which the model is traced too; give width there"),
    ],
)
def test_places_that_are_none(base, target, message):
    with pytest.raises(TpcalcError, match=message):
        tpcalc.scale(stacks.pre, base, target)


def test_the_symmetric_gauge_is_one_of_the_width():
    with pytest.raises(DeriveError, match="symmetric is written in powers of one width; choose init, mup"):
        tpcalc.scale(stacks.pre, BASE, TARGET, gauge="symmetric")


@pytest.mark.parametrize("key, value", [("base", {"width": 16}), ("schema", "tpcalc/2"), ("target", None)])
def test_files_that_are_none(tmp_path, key, value):
    document = json.loads(json.dumps(scaled(True, False).document))
    document[key] = value
    if key == "schema":
        del document["target"]
    path = tmp_path / "multipliers.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ScalingError, match="other scales than it has|holds no multipliers|target"):
        tpcalc.Scaling.load(path)


# -- the command line --------------------------------------------------------------------------------


def test_the_command_writes_what_the_function_gives(tmp_path):
    (tmp_path / "net.py").write_text("from tests.support.stacks import pre\n")
    done = run("export", f"{tmp_path}/net.py:pre", "--base", "width=16,depth=2", "--target", "width=64, depth=6")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads(
        json.dumps(tpcalc.scale(stacks.pre, {"width": 16, "depth": 2}, {"width": 64, "depth": 6}).document)
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--base", "width=16,depth=2", "--target", "64"), "target 64 is one number"),
        (("--base", "width=16;depth=2", "--target", "64"), "--base width=16;depth=2 is no place; write a width"),
        (("--base", "width=16,width=2", "--target", "64"), "--base gives width twice"),
        (("--base", "", "--target", "64"), "--base is empty"),
        (("--base", "width=16,depth=2", "--target", "width=16,depth=x"), "is no place"),
    ],
)
def test_places_on_the_command_line(arguments, message):
    done = run("export", "tests/support/stacks.py:pre", *arguments)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and not done.stdout
