"""Verify reads multipliers in the forward pass, by hand or by forward_: a gauge is maximal, a mixture of two is not."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

import tpcalc
from tests.support.models import example
from tests.support.once import once
from tests.support.quick import quick
from tests.support.sampled import kept
from tpcalc.derive.gauge import GAUGES
from tpcalc.verify import Report

H = Fraction(1, 2)
BASE, WIDTHS = 64, (128, 256, 512)
LR = 0.01
FACTORIES = {name: example("gpt.py", name) for name in ("gpt", "gpt_tied", "gpt_growing_heads", "gpt_moe")}
GPT, Config = (FACTORIES["gpt"].__globals__[name] for name in ("GPT", "Config"))


@pytest.fixture(scope="module", autouse=True)
def quickly():
    with quick():
        yield


@once
def scalings(name: str, gauge: str, optimizer: str) -> dict[int, tpcalc.Scaling]:
    return {width: tpcalc.scale(FACTORIES[name], BASE, width, optimizer, gauge=gauge) for width in WIDTHS}


def optimizer_of(kind: str, groups):
    return torch.optim.SGD(groups, lr=LR, momentum=0.9) if kind == "sgd" else torch.optim.AdamW(groups, lr=LR)


def mixed(name: str, optimizer: str, init: str, forward: str, groups: str) -> Report:
    """The init of one gauge, the multipliers of another, the optimizer groups of a third."""
    each = {gauge: scalings(name, gauge, optimizer) for gauge in {init, forward, groups}}

    def setup(width):
        model, inputs = FACTORIES[name](width)
        each[init][width].init_(model)
        each[forward][width].forward_(model)
        return model, optimizer_of(optimizer, each[groups][width].param_groups(model, LR, 0.1)), inputs

    return tpcalc.verify(setup, WIDTHS)


def told(report: Report) -> list[tuple]:
    """(kind, quantity, found, needed, weights) of every finding, weights without torch's parametrizations."""
    found = []
    for f in report.findings:
        names = {name.replace(".parametrizations", "").removesuffix(".original") for name in f.weights}
        found.append((f.kind, f.quantity, f.found, f.needed, names))
    return found


# -- right ----------------------------------------------------------------------------------------------------------


ONE_GAUGE = [(name, gauge) for name in ("gpt", "gpt_tied", "gpt_growing_heads") for gauge in GAUGES if gauge != "init"]


#: The GPT under both optimizers in every gauge; the others in turn, so that each meets both optimizers.
KEPT = (
    ("gpt_tied", "mup", "adamw"), ("gpt_tied", "symmetric", "sgd"), ("gpt_growing_heads", "ntk", "adamw"),
    ("gpt_growing_heads", "mup", "sgd"), ("gpt_moe", "mup", "sgd"),
)  # fmt: skip
RIGHT = kept(
    [(*case, optimizer) for case in (*ONE_GAUGE, ("gpt_moe", "mup")) for optimizer in ("adamw", "sgd")],
    lambda case: case[0] == "gpt" or case in KEPT,
)


@pytest.mark.parametrize("name, gauge, optimizer", RIGHT)
def test_any_one_gauge_is_maximal(name, gauge, optimizer):
    report = mixed(name, optimizer, gauge, gauge, gauge)
    assert report.findings == () and report.regime == "maximal" and report.how == "fake tensors", report


class ByHand(nn.Module):
    """TP5, Table 8, for a GPT as one writes it: the readout times base / n, attention with 1/d for growing heads."""

    def __init__(self, width: int, multiplier: float):
        super().__init__()
        self.gpt = GPT(Config(width, heads=4, kv_heads=4, inverse_head_dim=True))
        self.multiplier = multiplier
        for name, p in self.gpt.named_parameters():
            if name.endswith(("fc.bias", "proj.bias")):
                nn.init.zeros_(p)
            elif p.dim() == 2:
                hidden = name.startswith("blocks")
                nn.init.normal_(p, std=p.shape[1] ** -0.5 if hidden else 0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.gpt(tokens) * self.multiplier


def by_hand(optimizer: str, power: float = 1.0, readout_power: float | None = None):
    """Its groups: Adam slows down matrices and epsilon as 1/n, SGD speeds up all but matrices as n."""

    def setup(width):
        r = width / BASE
        model = ByHand(width, r**-power)
        matrices = [p for p in model.gpt.blocks.parameters() if p.dim() == 2]
        readout = [model.gpt.head.weight]
        rest = [p for p in model.parameters() if all(p is not q for q in (*matrices, *readout))]
        rates = (1, r, r) if optimizer == "sgd" else (1 / r, 1, 1)
        if readout_power is not None:
            rates = (*rates[:2], r**readout_power)
        groups = [
            {"params": params, "lr": LR * rate} for params, rate in zip((matrices, rest, readout), rates, strict=True)
        ]
        if optimizer == "adamw":
            for group in groups:
                group.update(eps=1e-8 / r, weight_decay=0.1 * LR / group["lr"])
        return model, optimizer_of(optimizer, groups), (torch.arange(16).reshape(2, 8),)

    return tpcalc.verify(setup, WIDTHS)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_table_8_written_by_hand(optimizer):
    report = by_hand(optimizer)
    assert report.findings == () and report.regime == "maximal", report


def test_the_numbers_of_a_scaling_written_by_hand():
    """forward multipliers read from the scaling and written into the model, without forward_."""

    class Edited(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.gpt, self.numbers = FACTORIES["gpt"](width)[0], scalings("gpt", "mup", "adamw")[width]

        def forward(self, tokens):
            return self.gpt(tokens) * self.numbers["head.weight"].forward

    def setup(width):
        model = Edited(width)
        numbers = model.numbers
        assert {name for name in numbers if numbers[name].forward != 1} == {"head.weight"}
        numbers.init_(model.gpt)
        return model, torch.optim.AdamW(numbers.param_groups(model.gpt, LR, 0.1)), (torch.arange(16).reshape(2, 8),)

    report = tpcalc.verify(setup, WIDTHS)
    assert report.findings == () and report.regime == "maximal", report


# -- wrong ----------------------------------------------------------------------------------------------------------

BLOCKS = {f"blocks.{i}.{name}" for i in range(2) for name in ("attn.q.weight",)}
GAINS = {f"blocks.{i}.{norm}.weight" for i in range(2) for norm in ("ln1", "ln2")}
BIASES = {f"blocks.{i}.{name}.bias" for i in range(2) for name in ("ln1", "ln2", "mlp.fc", "mlp.proj")}
EMBEDDINGS = {"token.weight", "position.weight"}
HEAD, FINAL = {"head.weight"}, {"norm.weight", "norm.bias"}

#: (model, optimizer, init, forward multipliers, groups) -> findings that must be there, in this order.
MIXTURES = {
    ("gpt", "adamw", "mup", "init", "mup"): [
        ("explodes", "init std", 0, -1, HEAD), ("explodes", "lr", 0, -1, HEAD),
    ],
    ("gpt", "sgd", "mup", "init", "mup"): [
        ("explodes", "init std", 0, -1, HEAD), ("explodes", "lr", 1, -1, HEAD),
    ],
    ("gpt", "adamw", "mup", "mup", "init"): [("frozen", "lr", -1, 0, HEAD), ("eps drift", "eps", 0, -1, HEAD)],
    ("gpt", "sgd", "mup", "mup", "init"): [("frozen", "lr", -1, 1, HEAD)],
    ("gpt", "adamw", "init", "init", "mup"): [("explodes", "lr", 0, -1, HEAD)],
    ("gpt", "sgd", "init", "mup", "init"): [("vanishes", "lr", -1, 1, HEAD)],
    # with gains as they should be, what is added to the streams is too slow, and tokens fade in them
    ("gpt", "adamw", "symmetric", "init", "symmetric"): [
        ("vanishes", "lr", -H, 0, GAINS),
        ("not maximal", "lr", -H, 0, EMBEDDINGS), ("not maximal", "lr", -H, 0, BIASES),
    ],
    ("gpt", "sgd", "symmetric", "init", "symmetric"): [
        ("vanishes", "lr", 0, 1, GAINS), ("not maximal", "lr", 0, 1, EMBEDDINGS), ("not maximal", "lr", 0, 1, BIASES),
    ],
    ("gpt_tied", "adamw", "mup", "init", "mup"): [("explodes", "multiplier", 0, -1, {"token.weight"})],
    ("gpt_tied", "adamw", "mup", "mup", "init"): [("frozen", "lr", -1, 0, FINAL), ("eps drift", "eps", 0, -1, FINAL)],
    ("gpt_growing_heads", "adamw", "mup", "init", "mup"): [
        ("explodes", "init std", 0, -1, HEAD), ("explodes", "lr", 0, -1, HEAD),
        ("attention scale", "multiplier", -H, -1, set()),
    ],
    ("gpt_growing_heads", "adamw", "mup", "mup", "init"): [
        ("frozen", "lr", -1, 0, HEAD), ("not maximal", "lr", -3 * H, -1, BLOCKS),
        ("eps drift", "eps", -H, -1, BLOCKS), ("eps drift", "eps", 0, -1, HEAD),
    ],
}  # fmt: skip


@pytest.mark.parametrize("mixture", MIXTURES, ids=lambda m: f"{m[0]}-{m[1]}: {' '.join(m[2:])}")
def test_a_mixture_of_gauges_names_its_weights(mixture):
    report = mixed(*mixture)
    assert told(report) == MIXTURES[mixture] and not report.ok, report


def test_symmetric_multipliers_under_plain_groups():
    """Every vector and every embedding moves too much: its multiplier grows like sqrt(n)."""
    (kind, quantity, found, needed, names), *_ = told(mixed("gpt", "adamw", "symmetric", "symmetric", "init"))
    assert (kind, quantity, found, needed) == ("explodes", "lr", 0, -H)
    assert {"token.weight", "position.weight", *GAINS} <= names and not HEAD & names


def test_a_small_readout_is_no_fault():
    """The init of the gauge init behind the multiplier of mup: n^-2 is as good as zero, and trains all the same."""
    report = mixed("gpt", "adamw", "init", "mup", "mup")
    assert report.findings == () and report.regime == "maximal"


def test_a_wrong_power_by_hand():
    """A multiplier n^-1/2 where 1/n belongs; and the rate of SGD's readout left as it was under a right one."""
    (finding, *_) = by_hand("adamw", power=0.5).findings
    assert finding.kind == "explodes" and finding.weights == ("gpt.head.weight",)
    (finding,) = by_hand("sgd", readout_power=0).findings
    assert (finding.kind, finding.quantity, finding.weights) == ("frozen", "lr", ("gpt.head.weight",))
    assert (finding.found, finding.needed) == (0, 1)
