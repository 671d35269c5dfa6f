"""The global gradient norm, measured: its order, the weights that make it, and what a threshold must do.

Slopes are of log norm over log width, at widths 64 to 512, each the mean over a few steps of training.  A norm is a
root of a sum of squares of several powers of the width; at these widths its own slope lies between their orders, so the
order is measured on the weights that are said to make it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tpcalc
from tests.support.models import MODELS, program
from tests.support.once import once
from tests.support.quick import quick
from tests.support.sampled import kept
from tpcalc.algebra.order import MINUS_INFINITY
from tpcalc.derive.clipping import clipping
from tpcalc.derive.result import Parametrization
from tpcalc.report.table.rows import clipping_text

WIDTHS, STEPS = (64, 128, 256, 512), 3
RATES = {"sgd": 0.1, "adamw": 3e-3}
#: Off its order by finite width and one draw of the data.
NEAR = 0.15
RUNS = [
    (name, optimizer, gauge)
    for name in ("mlp", "gpt", "gpt_tied", "gpt_growing_heads")
    for optimizer, gauge in (("sgd", "init"), ("adamw", "init"), ("adamw", "mup"))
]
#: In every run the plain models under all, and each variant of the GPT once.
OFTEN = kept(RUNS, lambda case: case[0] in ("mlp", "gpt") or case[1:] == ("adamw", "mup"))
#: Their gradients are smaller than their orders, which are those of trained and aligned queries and keys (law 4), and
#: of a bias whose gradient is a mean over tokens of both signs.
AT_MOST = {"q.weight", "k.weight", "norm.bias"}


@pytest.fixture(scope="module", autouse=True)
def quickly():
    with quick():
        yield


def slope(points: Iterable[float]) -> float:
    """Least-squares slope of log over log width."""
    xs, ys = [math.log(w) for w in WIDTHS], [math.log(v) for v in points]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def rules_of(name: str, optimizer: str, gauge: str) -> Parametrization:
    return tpcalc.derive(program(MODELS[name]), optimizer, gauge=gauge)


def loss_of(model, data: tuple[Tensor, Tensor]) -> Tensor:
    x, y = data
    return F.cross_entropy(model(x).flatten(0, -2), y.flatten())


def data_of(name: str) -> tuple[Tensor, Tensor]:
    if name == "mlp":
        return torch.randn(64, 24), torch.randint(10, (64,))
    tokens = torch.randint(96, (4, 17))
    return tokens[:, :-1], tokens[:, 1:]


@once
def scaling(name: str, optimizer: str, gauge: str, width: int) -> tpcalc.Scaling:
    return tpcalc.scale(MODELS[name], WIDTHS[0], width, optimizer, gauge=gauge)


def trained(name: str, optimizer: str, gauge: str, width: int, clip=None):
    """A model in training: yields it with its scaling after each backward pass (and ``clip(model, scaling)``)."""
    how = scaling(name, optimizer, gauge, width)
    torch.manual_seed(0)
    model = MODELS[name](width)[0]
    how.init_(model)
    how.forward_(model)
    kind = torch.optim.SGD if optimizer == "sgd" else torch.optim.AdamW
    opt = kind(how.param_groups(model, lr=RATES[optimizer]), lr=RATES[optimizer])
    torch.manual_seed(1)
    data = data_of(name)
    for _ in range(STEPS):
        opt.zero_grad()
        loss_of(model, data).backward()
        yield model, how
        opt.step()


@once
def norms(name: str, optimizer: str, gauge: str) -> dict[str, list[float]]:
    """Weight -> norm of its gradient at each width, the root mean square over the steps."""
    found: dict[str, list[float]] = {}
    for width in WIDTHS:
        squares: dict[str, float] = {}
        for model, how in trained(name, optimizer, gauge, width):
            for full, p, _ in how.match(model):
                squares[full] = squares.get(full, 0.0) + p.grad.square().sum().item() / STEPS
        for full, square in squares.items():
            found.setdefault(full, []).append(math.sqrt(square))
    return found


def together(each: dict[str, list[float]], names: Iterable[str]) -> float:
    """The slope of the norm of several gradients."""
    chosen = [each[name] for name in names]
    return slope(math.sqrt(sum(x**2 for x in column)) for column in zip(*chosen, strict=True))


# -- the order ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, optimizer, gauge", OFTEN)
def test_the_norm_of_each_gradient_has_its_order(name, optimizer, gauge):
    rules, each = rules_of(name, optimizer, gauge), norms(name, optimizer, gauge)
    for full, measured in each.items():
        order = float(rules[full].gradient + sum(size.growth for size in rules[full].shape) / 2)
        assert slope(measured) <= order + NEAR, full
        bound = name in ("gpt_growing_heads", "gpt_tied") and full.endswith(tuple(AT_MOST))
        assert bound or slope(measured) >= order - NEAR, full


@pytest.mark.parametrize("name, optimizer, gauge", OFTEN)
def test_the_dominating_weights_make_the_norm(name, optimizer, gauge):
    rules, each = rules_of(name, optimizer, gauge), norms(name, optimizer, gauge)
    norm, dominating = rules.clipping.norm, rules.clipping.dominated_by
    assert together(each, dominating) == pytest.approx(float(norm), abs=0.1)
    rest = [full for full in each if full not in dominating]
    assert together(each, rest) < float(norm) - 0.2, "the others fall behind"
    assert together(each, each) < float(norm) + 0.05


EXPECTED = {
    ("mlp", "init"): ("1/2", {"output.weight"}),
    ("mlp", "mup"): ("0", {"hidden.weight", "output.bias"}),
    ("gpt", "init"): ("1/2", {"head.weight"}),
    ("gpt_tied", "init"): ("1/2", {"norm.weight", "norm.bias"}),
    ("gpt_growing_heads", "init"): ("1/2", {"head.weight", "blocks.0.attn.q.weight", "blocks.1.attn.q.weight"}),
    ("gpt_mqa", "init"): ("1/2", {"head.weight", *(f"blocks.{i}.attn.{x}.weight" for i in (0, 1) for x in "kv")}),
    ("gpt", "ntk"): ("-1/2", None),
    ("gpt", "symmetric"): ("0", None),
}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("name, gauge", EXPECTED)
def test_what_is_said_of_it(name, gauge, optimizer):
    """Gradients do not depend on the optimizer.  A multiplier n^-1/2 on hidden matrices (ntk) shrinks theirs."""
    found = rules_of(name, optimizer, gauge).clipping
    norm, names = EXPECTED[name, gauge]
    assert str(found.norm) == norm
    assert names is None or set(found.dominated_by) == names
    assert bool(clipping_text(found, "n")) == (norm != "0")


def test_frozen_weights_do_not_count():
    """A frozen matrix has no gradient; without any trained weight there is no norm."""
    rules = rules_of("lora", "adamw", "mup")
    assert not any(name.startswith("base") for name in rules.clipping.dominated_by)
    empty = clipping([])
    assert (empty.norm, empty.dominated_by) == (MINUS_INFINITY, ()) and clipping_text(empty, "n") == ()


# -- the threshold --------------------------------------------------------------------------------------------------


def coefficients(name: str, optimizer: str, gauge: str, threshold) -> list[float]:
    """How much clipping leaves of the gradients at each width, the mean over the steps.  ``threshold(width)``."""
    found = []
    for width in WIDTHS:
        kept = []
        for model, _ in trained(name, optimizer, gauge, width):
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), threshold(width))
            kept.append(threshold(width) / norm.item())
        assert max(kept) < 1, "the threshold should bite"
        found.append(sum(kept) / len(kept))
    return found


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_plain_threshold_scaled_by_the_norm_clips_alike(optimizer):
    """In the gauge init; a constant one bites more and more."""
    norm = float(rules_of("gpt", optimizer, "init").clipping.norm)
    scaled = coefficients("gpt", optimizer, "init", lambda width: 0.3 * (width / WIDTHS[0]) ** norm)
    constant = coefficients("gpt", optimizer, "init", lambda width: 0.3)
    assert slope(scaled) == pytest.approx(0, abs=0.1)
    assert slope(constant) == pytest.approx(-norm, abs=0.1)


def test_a_constant_threshold_is_right_in_the_gauge_mup():
    """Where the hidden matrices make the norm at these widths, too."""
    assert rules_of("gpt_tied", "adamw", "mup").clipping.norm == 0
    assert slope(coefficients("gpt_tied", "adamw", "mup", lambda width: 0.05)) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("gauge", ["init", "symmetric", "ntk"])
def test_multipliers_clip_by_one_norm_in_every_gauge(gauge):
    """clip_grad_norm_ gives the norm of the gauge mup; there it is torch's own."""
    reference = [how.clip_grad_norm_(model, 1e9).item() for model, how in trained("gpt_tied", "adamw", "mup", 256)]
    for (model, how), wanted in zip(trained("gpt_tied", "adamw", "mup", 256), reference, strict=True):
        assert {weight.clip for weight in how.values()} == {1.0}
        assert torch.nn.utils.get_total_norm([p.grad for p in model.parameters()]).item() == wanted
    found = [how.clip_grad_norm_(model, 1e9).item() for model, how in trained("gpt_tied", "adamw", gauge, 256)]
    assert found == pytest.approx(reference, rel=1e-4)


def test_a_readout_under_weight_norm_counts_too():
    """Its gain is a parameter of fixed size, and yet its gradient grows like sqrt(n): it is weighed like a readout."""
    rules = rules_of("weight_normalised", "adamw", "init")
    gain = "4.parametrizations.weight.original0"
    assert [size.growth for size in rules[gain].shape] == [0, 0] and str(rules[gain].gradient) == "1/2"
    assert gain in rules.clipping.dominated_by
    found = tpcalc.scale(MODELS["weight_normalised"], 64, 256, gauge="init")
    assert found[gain].clip == 0.5 and found["4.bias"].clip == 1.0


def test_a_net_without_hidden_layers_has_a_norm_that_shrinks():
    """All its gradients do, as n^-1/2 together; one threshold clips alike once that is divided out."""
    assert str(rules_of("multiplier_after_readout", "sgd", "mup").clipping.norm) == "-1/2"
    for gauge in ("init", "mup"):
        found = tpcalc.scale(MODELS["multiplier_after_readout"], 64, 256, "sgd", gauge=gauge)
        assert {weight.clip for weight in found.values()} == {2.0}


class Packed(nn.Module):
    """A packed weight [n + 8, n] whose last 8 rows are a readout."""

    def __init__(self, n: int):
        super().__init__()
        self.inp, self.pack = nn.Linear(24, n), nn.Linear(n, n + 8, bias=False)
        self.low, self.out = nn.Linear(8, n, bias=False), nn.Linear(n, 10, bias=False)

    def forward(self, x):
        a, b = self.pack(F.relu(self.inp(x))).tanh().split([self.out.in_features, 8], -1)
        return self.out(a + self.low(b))


def test_few_rows_with_large_gradients_count_as_the_few_that_they_are():
    """Measured for these rules at widths 64 to 1024: total +0.4, pack.weight +0.1, out.weight +0.4."""
    rules = tpcalc.derive(tpcalc.trace(lambda n: (Packed(n), (torch.randn(4, 24),)), (64, 128, 256)), "adamw")
    assert rules["pack.weight"].gradient == 0
    assert (str(rules.clipping.norm), rules.clipping.dominated_by) == ("1/2", ("pack.weight", "out.weight"))


class Winners(nn.Module):
    """A layer of whose n outputs two are left, or the largest is added to what a wide layer gives."""

    def __init__(self, n: int, largest: bool):
        super().__init__()
        self.inp, self.won, self.out, self.largest = nn.Linear(24, n), nn.Linear(n, n), nn.Linear(n, 10), largest
        self.wide = nn.Linear(n, n, bias=False)

    def forward(self, x):
        x = torch.tanh(self.inp(x))
        z = self.won(x)
        if self.largest:
            return self.out(torch.tanh(self.wide(x))) + z.amax(-1, keepdim=True) * torch.arange(10).cos()
        top, where = z.topk(2, -1)
        return self.out(torch.tanh(self.wide(torch.zeros_like(z).scatter(-1, where, top))))


@pytest.mark.parametrize("largest, wide", [(False, "-1/2"), (True, "0")])
def test_rows_without_a_gradient_do_not_count(largest, wide):
    """Of ``won`` few rows have a gradient, of order 0: a norm of n^1/2.  Counted as n rows it would be n."""
    x, y = torch.randn(4, 24, generator=torch.Generator().manual_seed(0)), torch.arange(4)
    rules = tpcalc.derive(tpcalc.trace(lambda n: (Winners(n, largest), (x,)), (64, 128, 256)), "adamw")
    assert rules["won.weight"].gradient == 0
    assert (str(rules.clipping.norm), rules.clipping.dominated_by) == ("1/2", ("won.weight", "out.weight"))
    each: dict[str, list[float]] = {}
    for width in WIDTHS:
        how = tpcalc.scale(lambda n: (Winners(n, largest), (x,)), WIDTHS[0], width)
        squares: dict[str, float] = {}
        for seed in range(3):
            torch.manual_seed(seed)
            model = Winners(width, largest)
            how.init_(model)
            opt = torch.optim.AdamW(how.param_groups(model, lr=3e-3), lr=3e-3)
            for _ in range(STEPS):
                opt.zero_grad()
                F.cross_entropy(model(x), y).backward()
                opt.step()
            for name, p in model.named_parameters():
                squares[name] = squares.get(name, 0.0) + p.grad.square().sum().item()
        for name, square in squares.items():
            each.setdefault(name, []).append(square**0.5)
    assert slope(each["won.weight"]) == pytest.approx(0.5, abs=0.2)
    assert slope(each["wide.weight"]) == pytest.approx(float(Fraction(wide)), abs=0.2)
    assert together(each, rules.clipping.dominated_by) < 0.5 + NEAR
