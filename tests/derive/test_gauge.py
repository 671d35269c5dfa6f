"""Gauges: the forms of one parametrization, against the papers, one another, and programs that hold the multipliers."""

from __future__ import annotations

from fractions import Fraction

import pytest
from torch import Tensor, nn
from torch.nn.utils import parametrize as torch_parametrize

import tpcalc
from tests.scaling.test_scaling_slices import factory as packed
from tests.support.models import MODELS, WIDTHS, program, solution
from tpcalc.derive.gauge import GAUGES
from tpcalc.derive.parametrize import parametrize
from tpcalc.derive.result import Parametrization, Rule
from tpcalc.derive.solve import solve
from tpcalc.dynamics.regime import MAXIMAL, regime
from tpcalc.dynamics.training import Given, analyse
from tpcalc.errors import DeriveError
from tpcalc.optimizers import LAWS, WeightView, finite, recipe

H = Fraction(1, 2)
PACKED = packed("split")
#: What the gauges must carry: absorbed excess, ties, blocks, a constant sqrt(n) in the code, gains, routers.
FACTORIES = {
    **{
        name: MODELS[name]
        for name in (
            "mlp", "gpt", "gpt_tied", "gpt_growing_heads", "gpt_mqa", "gpt_moe", "gemma", "gemma_tied", "rms_norms",
            "t5_tied", "torch_transformer", "square_root_bottleneck", "lora",
        )
    },
    "packed": PACKED,
}  # fmt: skip


def rules_of(name: str, optimizer: str, gauge: str) -> Parametrization:
    return parametrize(solution(FACTORIES[name]), optimizer, gauge)


# -- the papers -----------------------------------------------------------------------------------------------------

#: (gauge, optimizer) -> role -> (multiplier, init std, learning rate, epsilon), each x in "quantity ~ n^x", typed from
#: TP5 (Yang et al. 2022, arXiv 2203.03466): Table 8 (mup), Table 9 (symmetric, in TP4's form).  Its epsilon (Appendix
#: B.3) and the gauge ntk (Jacot, Gabriel & Hongler 2018: standard normal entries) follow by the shift symmetry.
TABLES = {
    ("mup", "sgd"): {"input": (0, 0, 1), "hidden": (0, -H, 0), "output": (-1, 0, 1)},
    ("mup", "adam"): {"input": (0, 0, 0, -1), "hidden": (0, -H, -1, -1), "output": (-1, 0, 0, -1)},
    ("symmetric", "sgd"): {"input": (H, -H, 0), "hidden": (0, -H, 0), "output": (-H, -H, 0)},
    ("symmetric", "adam"): {"input": (H, -H, -H, -H), "hidden": (0, -H, -1, -1), "output": (-H, -H, -H, -H)},
    ("ntk", "sgd"): {"input": (0, 0, 1), "hidden": (-H, 0, 1), "output": (-1, 0, 1)},
    ("ntk", "adam"): {"input": (0, 0, 0, -1), "hidden": (-H, 0, -H, -3 * H), "output": (-1, 0, 0, -1)},
    ("init", "sgd"): {"input": (0, 0, 1), "hidden": (0, -H, 0), "output": (0, -1, -1)},
    ("init", "adam"): {"input": (0, 0, 0, -1), "hidden": (0, -H, -1, -1), "output": (0, -1, -1, 0)},
}


def exponents(rule: Rule) -> tuple:
    return (-rule.a, -rule.b, -rule.c, *(() if rule.eps is None else (rule.eps,)))


@pytest.mark.parametrize("name", ["mlp", "gpt"])
@pytest.mark.parametrize("gauge, optimizer", TABLES)
def test_the_tables_of_tp5(gauge, optimizer, name):
    """Every bias and gain of growing size stands with the input weights, as in the papers; one of fixed size stays."""
    rules = rules_of(name, optimizer, gauge)
    table = TABLES[gauge, optimizer]
    roles = {"q": "hidden", "k": "hidden", "v": "hidden", "proj": "hidden", "fc": "hidden", "hidden": "hidden"}
    for full, rule in rules.items():
        *_, module, kind = full.split(".")
        if full == "output.bias":
            assert exponents(rule) == (0, 0, 0, 0)[: len(exponents(rule))]
            continue
        role = "output" if module in ("output", "head") else roles.get(module, "input") if kind == "weight" else "input"
        assert rule.role == role and exponents(rule) == table[role], full
    assert {rule.gradient - rule.eps for rule in rules.values() if rule.eps is not None} <= {0}


def test_attention_of_growing_heads():
    """TP5's 1/d for 1/sqrt(d): a multiplier on the queries where there are any."""
    q = {gauge: rules_of("gpt_growing_heads", "adam", gauge)["blocks.0.attn.q.weight"] for gauge in GAUGES}
    assert {gauge: exponents(rule) for gauge, rule in q.items()} == {
        "init": (0, -1, -3 * H, -H), "mup": (-H, -H, -1, -1), "symmetric": (-H, -H, -1, -1), "ntk": (-1, 0, -H, -3 * H),
    }  # fmt: skip


@pytest.mark.parametrize("name", [name for name in FACTORIES if name not in ("square_root_bottleneck", "lora")])
def test_no_gradient_outgrows_another_in_the_gauge_mup(name):
    """All entries of growing weights have gradients of order -1, and the global norm does not scale."""
    rules = rules_of(name, "adam", "mup")
    orders = {rule.gradient for rule in rules.values() if any(size.growth > 0 for size in rule.shape)}
    assert orders == {-1} and rules.clipping.norm == 0


def test_a_gauge_has_a_name():
    with pytest.raises(DeriveError, match="'mupp' is unknown; choose one of init, mup, symmetric, ntk, completep"):
        tpcalc.derive(program(FACTORIES["mlp"]), gauge="mupp")


# -- one another ----------------------------------------------------------------------------------------------------

#: Of each kind of law one.
OPTIMIZERS = ("sgd", "adam", "adamw", "lamb", "adafactor_transformers", "muon+adamw", "shampoo", "adadelta", "kfac")


def at(rule: Rule, a: Fraction) -> tuple:
    """(a, b, c, decay, eps, gradient) of a rule moved along its orbit to the multiplier ``n^-a``."""
    law = LAWS[rule.optimizer]
    axes = tuple(size.growth for size in rule.shape)
    here = WeightView(rule.gradient, rule.b, axes)
    there = here.at(a - rule.a)
    c = rule.c + law.c(rule.C, there, a) - law.c(rule.C, here, rule.a)
    decay = rule.weight_decay + law.decay.exponent(there, c) - law.decay.exponent(here, rule.c)
    eps = None if law.eps is None else rule.eps + finite(law.eps.exponent(there)) - finite(law.eps.exponent(here))
    return a, there.size, c, decay, eps, there.gradient


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", FACTORIES)
def test_conversion_from_gauge_to_gauge(name, optimizer):
    """init -> mup -> symmetric -> ntk -> init along the orbit of every weight: each stop is what is derived there."""
    rules = {gauge: rules_of(name, optimizer, gauge) for gauge in GAUGES}
    stops = [*GAUGES, GAUGES[0]]
    for full in rules["init"]:
        each = {gauge: rules[gauge][full] for gauge in GAUGES}
        for here, there in zip(stops, stops[1:], strict=False):
            rule = each[there]
            found = (rule.a, rule.b, rule.c, rule.weight_decay, rule.eps, rule.gradient)
            assert at(each[here], rule.a) == found, (full, here, there)


@pytest.mark.parametrize("name", FACTORIES)
def test_the_effective_orders_are_the_same_in_every_gauge(name):
    """Of every weight and every block, and one multiplier for all blocks of a parameter."""
    rules = {gauge: rules_of(name, "adamw", gauge) for gauge in GAUGES}
    for full, plain in rules["init"].items():
        for gauge in GAUGES:
            rule = rules[gauge][full]
            assert (rule.A, rule.C, rule.role) == (plain.A, plain.C, plain.role) and rule.a + rule.b == rule.A
            blocks = [(s.dim, s.start, s.length, s.A, s.C, s.role) for s in rule.slices]
            assert blocks == [(s.dim, s.start, s.length, s.A, s.C, s.role) for s in plain.slices]
            assert all(s.b == s.A - rule.a for s in rule.slices)
    if name == "packed":
        assert len(rules["mup"]["layers.0.qkv.weight"].slices) == 3


def test_a_tied_weight_has_one_multiplier():
    for gauge in GAUGES:
        rules = rules_of("gpt_tied", "adam", gauge)
        assert rules["token.weight"] is rules["head.weight"] and rules["head.weight"].aliases == ("head.weight",)
    assert rules_of("gpt_tied", "adam", "mup")["norm.weight"].a == 1, "the gain carries the readout's 1/n"
    assert rules_of("gemma_tied", "adam", "mup")["e.weight"].a == H, "against the sqrt(n) of the code"


# -- programs that hold the multipliers -----------------------------------------------------------------------------


class Times(nn.Module):
    def __init__(self, multiplier: float):
        super().__init__()
        self.multiplier = multiplier

    def forward(self, w: Tensor) -> Tensor:
        return w * self.multiplier


def multiplied(factory, rules: Parametrization):
    """The same model with ``n^-a`` in front of each weight, traced like any other."""

    def build(width: int):
        model, inputs = factory(width)
        for module_name, module in list(model.named_modules()):
            for name in list(module._parameters):
                rule = rules.get(f"{module_name}.{name}".lstrip("."))
                if rule is not None and rule.a != 0:
                    times = Times(width ** -float(rule.a))
                    torch_parametrize.register_parametrization(module, name, times)
        return model, inputs

    return build


def before(name: str) -> str:
    """The name of a parameter without its parametrization."""
    return name.removesuffix(".original").replace("parametrizations.", "")


@pytest.mark.parametrize("gauge, name", [("mup", name) for name in FACTORIES] + [("ntk", "gpt_moe"), ("ntk", "packed")])
def test_the_multipliers_in_the_model_give_the_same_rules(gauge, name):
    """Written into the forward pass and derived without a gauge: init, rate, epsilon and decay are the gauge's."""
    factory = FACTORIES[name]
    there = solve(tpcalc.trace(multiplied(factory, rules_of(name, "adamw", gauge)), WIDTHS))
    for optimizer in ("adam", "sgd", "lamb", "muon+adamw"):
        rules, found = rules_of(name, optimizer, gauge), parametrize(there, optimizer)
        assert {before(full) for full in found} == set(rules)
        for full, rule in found.items():
            wanted = rules[before(full)]
            for key in ("b", "c", "weight_decay", "eps", "gradient"):
                assert getattr(rule, key) == getattr(wanted, key), (full, key, optimizer)
            assert [s.b for s in rule.slices] == [s.b for s in wanted.slices]
        assert found.clipping.norm == rules.clipping.norm
        assert {before(full) for full in found.clipping.dominated_by} == set(rules.clipping.dominated_by)


@pytest.mark.parametrize("name", ["mlp", "gpt_tied", "gpt_growing_heads", "gemma"])
def test_the_symmetric_gauge_trains_maximally(name):
    """Its multipliers may shift what two weights share (q and k), so the model is followed in training instead."""
    rules = rules_of(name, "adam", "symmetric")
    lowered = solve(tpcalc.trace(multiplied(FACTORIES[name], rules), WIDTHS)).lowered
    given = {
        weight.name: Given(Fraction(0), rule.b, rule.c, rule.eps)
        for weight in lowered.program.weights
        for rule in [rules[before(weight.name)]]
    }
    analysis = analyse(lowered, given, recipe("adam").rest)
    assert regime(analysis).name == MAXIMAL
    for weight, C in analysis.C.items():
        rule = rules[before(weight)]
        assert C == rule.C - rule.a, weight
