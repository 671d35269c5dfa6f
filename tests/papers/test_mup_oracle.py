"""mup 1.0.0, the muTransfer authors' package, as an independent oracle.

mup is told which axes are widths by a base and a delta model, and which layer is the readout by its class (MuReadout).
tpcalc is told neither.  For every parameter the exponents in force under mup (the init's std after its rescaling,
MuReadout's multiplier in the forward pass, the learning rates of MuSGD and MuAdam) must be ours, modulo the shift
symmetry.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tpcalc
from tests.papers.test_papers import same_orbit
from tests.support.models import example, images, points, tokens
from tests.support.once import once
from tpcalc.dynamics.regime import MAXIMAL, UNSTABLE, regime
from tpcalc.dynamics.training import Given, analyse
from tpcalc.lower.flatten import lower
from tpcalc.optimizers import LAWS
from tpcalc.program.ir import Program

mup = pytest.importorskip("mup")

BASE, DELTA = 32, 48
WIDTHS = (64, 128, 256)
LR, DECAY = 1.0, 0.5


class MLP(nn.Module):
    def __init__(self, width: int, readout: type = nn.Linear):
        super().__init__()
        self.first, self.second = nn.Linear(8, width), nn.Linear(width, 2 * width)
        self.third, self.readout = nn.Linear(2 * width, width, bias=False), readout(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(F.relu(self.third(F.relu(self.second(F.relu(self.first(x)))))))


class CNN(nn.Module):
    def __init__(self, width: int, readout: type = nn.Linear):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width)
        self.body, self.readout = nn.Conv2d(width, 2 * width, 3, stride=2), readout(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        return self.readout(F.relu(self.body(x)).mean(dim=(2, 3)))


def gpt(name: str) -> Callable:
    def build(width: int, readout: type = nn.Linear) -> nn.Module:
        model, _ = example("gpt.py", name)(width)
        if readout is not nn.Linear:
            model.head = readout(model.head.in_features, model.head.out_features, bias=False)
        return model

    return build


MODELS = {
    "mlp": (MLP, points),
    "cnn": (CNN, images),
    "gpt, fixed heads": (gpt("gpt"), tokens),
    "gpt, growing heads and 1/d": (gpt("gpt_growing_heads_mup"), tokens),
    "gpt, growing heads and 1/sqrt(d)": (gpt("gpt_growing_heads"), tokens),
}
OPTIMIZERS = {"sgd": mup.MuSGD, "adam": mup.MuAdam, "adamw": mup.MuAdamW}


def with_base_shapes(build: Callable, width: int) -> nn.Module:
    return mup.set_base_shapes(
        build(width, mup.MuReadout), build(BASE, mup.MuReadout), delta=build(DELTA, mup.MuReadout)
    )


def slope(numbers: dict[int, float]) -> Fraction:
    """The exact exponent of a power of the width."""
    first, last = WIDTHS[0], WIDTHS[-1]
    found = math.log(numbers[last] / numbers[first]) / math.log(last / first)
    exact = Fraction(found).limit_denominator(4)
    assert abs(found - exact) < 1e-5
    return exact


def rescaling(build: Callable, width: int) -> dict[str, float]:
    """The factor that mup puts on each parameter after its own init: 1 or sqrt(width / base)."""
    torch.manual_seed(0)
    before = {name: p.detach().clone() for name, p in build(width, mup.MuReadout).named_parameters()}
    torch.manual_seed(0)
    model = build(width, mup.MuReadout)
    bases = build(BASE, mup.MuReadout), build(DELTA, mup.MuReadout)
    mup.set_base_shapes(model, bases[0], delta=bases[1])
    factors = {}
    for name, p in model.named_parameters():
        alive = before[name] != 0
        ratio = (p.detach()[alive] / before[name][alive]) if alive.any() else torch.ones(1)
        assert torch.allclose(ratio, ratio[:1].expand_as(ratio))
        factors[name] = ratio.flatten()[0].item()
    return factors


@once
def plain(model: str) -> Program:
    """The model without mup in it, as tpcalc sees it."""
    build, inputs = MODELS[model]
    return tpcalc.trace(lambda width: (build(width), inputs()), WIDTHS)


@once
def with_readout(model: str) -> Program:
    """The model with MuReadout in it."""
    build, inputs = MODELS[model]
    return tpcalc.trace(lambda width: (with_base_shapes(build, width), inputs()), WIDTHS)


@once
def initialised(model: str) -> dict[str, Fraction]:
    """Parameter -> b in force after mup's rescaling (of what starts constant: the exponent of the constant)."""
    build, _ = MODELS[model]
    scale = {width: rescaling(build, width) for width in WIDTHS}
    result = {}
    for weight in plain(model).weights:
        size = {width: law.std or law.mean or 1.0 for width, law in weight.init}
        result[weight.name] = -slope({width: size[width] * scale[width][weight.name] for width in WIDTHS})
    return result


@once
def mup_models(model: str) -> dict[int, nn.Module]:
    return {width: with_base_shapes(MODELS[model][0], width) for width in WIDTHS}


def in_force(model: str, optimizer: str) -> dict[str, tuple]:
    """Parameter -> (a, b, c, weight decay) under mup; a from MuReadout's own division."""
    a, lr, decay = {}, {}, {}
    for width, built in mup_models(model).items():
        names = {id(p): name for name, p in built.named_parameters()}
        for module in built.modules():
            if isinstance(module, mup.MuReadout):
                a.setdefault(names[id(module.weight)], {})[width] = module.width_mult()
        for group in OPTIMIZERS[optimizer](built.parameters(), lr=LR, weight_decay=DECAY).param_groups:
            for p in group["params"]:
                lr.setdefault(names[id(p)], {})[width] = group["lr"]
                decay.setdefault(names[id(p)], {})[width] = group["weight_decay"]
    return {
        name: (
            slope(a[name]) if name in a else Fraction(0),
            initialised(model)[name],
            -slope(lr[name]),
            slope(decay[name]),
        )
        for name in lr
    }


NAMED = [name for name in MODELS if name != "gpt, growing heads and 1/sqrt(d)"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", NAMED)
def test_every_parameter_has_mups_exponents(model, optimizer):
    rules = tpcalc.derive(plain(model), optimizer)
    theirs = in_force(model, optimizer)
    assert set(rules) == set(theirs)
    law = LAWS[optimizer]
    for name, rule in rules.items():
        a, b, c, decay = theirs[name]
        assert same_orbit((rule.a, rule.b, rule.c), (a, b, c), law), (name, rule, theirs[name])
        if optimizer != "adam":  # coupled decay under Adam: mup scales it as decoupled
            assert rule.weight_decay - rule.c == decay - c == 0, name  # lr * decay does not scale
    given = {name: Given(*abc[:3]) for name, abc in theirs.items()}
    assert regime(analyse(lower(plain(model)), given, law)).name == MAXIMAL


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("model", NAMED)
def test_a_mup_model_is_read_as_it_stands(model, optimizer):
    """With MuReadout in the program its division is seen, and the rules are mup's own numbers, no symmetry needed."""
    rules = tpcalc.derive(with_readout(model), optimizer)
    for name, (_, b, c, _) in in_force(model, optimizer).items():
        assert (rules[name].a, rules[name].b, rules[name].c) == (0, b, c), name
    assert not rules.sites


def test_the_comparison_can_fail():
    """mup leaves heads that grow under 1/sqrt(d) to the user; tpcalc moves the missing n^-1/2 into q."""
    model = "gpt, growing heads and 1/sqrt(d)"
    rules, theirs, law = tpcalc.derive(plain(model), "adam"), in_force(model, "adam"), LAWS["adam"]
    differing = {name for name, r in rules.items() if not same_orbit((r.a, r.b, r.c), theirs[name][:3], law)}
    assert differing == {"blocks.0.attn.q.weight", "blocks.1.attn.q.weight"}
    found = regime(analyse(lower(plain(model)), {name: Given(*abc[:3]) for name, abc in theirs.items()}, law))
    assert found.name == UNSTABLE and {excess.order for excess in found.excesses} == {Fraction(1, 2)}
