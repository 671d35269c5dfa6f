"""Results made by hand, for reports of them."""

from __future__ import annotations

import math
from fractions import Fraction

from tests.support.models import example
from tests.support.once import once
from tpcalc.algebra.order import MINUS_INFINITY, ZERO
from tpcalc.algebra.size import Scalar, Size
from tpcalc.check.result import Entry, Result
from tpcalc.check.slopes import Slope
from tpcalc.derive.result import Parametrization, Rule, Site, SliceRule
from tpcalc.optimizers import recipe
from tpcalc.program.ir import InitLaw, Node, Program, Ref, Value, Weight
from tpcalc.transfer.cost import Cost
from tpcalc.transfer.jobs import Here, Job, Memory, work
from tpcalc.transfer.result import Advice, Curve, Transfer
from tpcalc.transfer.sizes import Sizes
from tpcalc.transfer.training import Outcome
from tpcalc.tune.plan import Schedule, Search
from tpcalc.tune.result import Tuned
from tpcalc.tune.space import Space
from tpcalc.verify.findings import Checked, Finding, Fix, Report

N, VOCABULARY = Size.linear(), Size.constant(96)


SCALE = Scalar(2.0, Fraction(-1, 2))


def make_rule(name, shape, role, b, c, a=0, eps=0, gradient=ZERO, **more) -> Rule:
    a, b, c = Fraction(a), Fraction(b), Fraction(c)
    eps = None if eps is None else Fraction(eps)
    return Rule(name, shape, role, a, b, c, weight_decay=c, eps=eps, A=a + b, C=a + c, gradient=gradient, **more)


def make(*rules: Rule, **more) -> Parametrization:
    """As a derivation builds it: a tied weight's Rule stands under each of its names."""
    by_name = {name: rule for rule in rules for name in (rule.name, *rule.aliases)}
    return Parametrization(by_name, "adamw", (128, 256, 512), **more)


def small_gpt() -> Parametrization:
    """Tied embeddings, two equal blocks, a third that differs, packed weights, a site and notes."""
    rules = [make_rule("wte.weight", (VOCABULARY, N), "input", 0, 0, eps=-1, aliases=("head.weight",), reason="lookup")]
    for block in range(3):
        where = f"gives h{block + 7} (blocks.{block}.q, gpt.py:41)"
        rules.append(make_rule(f"blocks.{block}.attn.q.weight", (N, N), "hidden", "1/2", 1, reason=where))
        slices = (
            SliceRule(0, Size.constant(0), N, Fraction(1, 2), Fraction(1), "hidden", Fraction(1, 2), Fraction(1)),
            SliceRule(0, N, Size.constant(32), Fraction(1), Fraction(1), "output"),
        )
        rules.append(
            make_rule(
                f"blocks.{block}.attn.kv.weight",
                (Size.linear(1, 32), N),
                *("hidden", 1, 1),
                reason="packed",
                slices=slices if block == 2 else (),
            )
        )
    rules.append(make_rule("old.bias", (N,), "frozen", 0, 0, trainable=False, gradient=MINUS_INFINITY, reason="frozen"))
    return make(
        *rules,
        sites=tuple(
            Site("bmm", f"blocks.{block}.attn", "gpt.py:44", Fraction(1, 2), ZERO, f"divide blocks.{block}.attn by d")
            for block in range(2)
        ),
        assumptions=("tokens are uniform & independent",),
        notes=("a_b|c*d is 50% <odd>",),
        conventions=("Weight decay is decoupled.",),
    )


def small_program() -> Program:
    values = {
        0: Value(0, (VOCABULARY, N), "float32", "weight", 'odd "name"\\w'),
        1: Value(1, (N, Size.constant(4)), "float32", "input", "x", Scalar.of(2.0)),
        2: Value(2, (VOCABULARY, Size.constant(4)), "float32"),
        3: Value(3, (VOCABULARY, Size.constant(4)), "float32"),
        4: Value(4, (VOCABULARY, N), "float32"),
    }
    nodes = (
        Node(0, "aten.mm.default", (Ref(0), Ref(1)), (), (2,), "head", "gpt.py:41"),
        Node(1, "aten.mul.Scalar", (Ref(2), SCALE), (("x", float("-inf")),), (3,), "", "gpt.py:42"),
        Node(2, "aten.expand.default", (Ref(3), (N, 4, True, None)), (), (4, None), phase="backward"),
    )
    init = tuple((width, InitLaw("random", 0.02, 0.0, "normal_(std=0.02)")) for width in (128, 256, 512))
    weight = Weight('odd "name"\\w', 0, (VOCABULARY, N), grad=4, aliases=("tied",), module_type="Linear", init=init)
    return Program((128, 256, 512), nodes, values, (weight,), (1,), (("logits", 3),), grads={0: 4}, assumptions=("x",))


def entry(subject: str, verdict: str, quantity: str = "init", slope: float = 0.1, **more) -> Entry:
    measured = None if verdict == "skipped" else Slope(slope, 0.02, 4)
    given = {"module": "", "where": "", "predicted": ZERO, "wanted": ZERO, "sizes": (1.0, float("nan"), 0.1234567)}
    return Entry(quantity, subject, slope=measured, verdict=verdict, **{**given, **more})


def checked() -> Result:
    """Two failures, one slope that passes, one skipped."""
    entries = (
        entry("h3", "above", slope=0.5, module="fc", where="fc, net.py:4", predicted=Fraction(1, 2), op="mm"),
        entry("fc.weight", "ok", "effect", module="fc", floor=ZERO),
        entry("w", "below", "effect", slope=-0.6, floor=Fraction(-1, 4)),
        entry("h4", "skipped", reason="zero", wanted=MINUS_INFINITY),
    )
    losses = {64: (2.5, float("inf")), 128: (2.5, 1.23456789)}
    return Result(entries, "derived", "adamw", (64, 128, 256), (0, 1), 5, 0.15, 1.0, losses, ("one note",))


def verified() -> Report:
    """An error in both blocks, a warning elsewhere; one block is packed."""
    half, one = Fraction(1, 2), Fraction(1)
    names = ("l.0.w", "l.1.w")
    exponents = {"b": half, "c": ZERO, "weight_decay": one, "eps": -one, "A": half, "C": ZERO}
    checked = {
        name: Checked(
            *(name, "[n, n]", "hidden", "adamw"),
            **exponents,
            gradient=-one,
            needed=(half, one),
            kinds=("explodes",),
            blocks=(("l.1.w[0 : n]", half), ("l.1.w[n : 2*n]", None)) if name == "l.1.w" else (),
        )
        for name in names
    }
    zero = {"b": None, "c": one, "weight_decay": ZERO, "eps": ZERO, "A": None, "C": one}
    checked["b"] = Checked("b", "[n]", "input", "", **zero, gradient=MINUS_INFINITY, needed=None)
    findings = (
        Finding(
            *("explodes", "error", "l.{0,1}.w", "lr", ZERO, -one, "l.0, net.py:4", "too large, at 100%"),
            weights=names,
            effect=one,
            fixes=(Fix("l.0.w", "lr", -one),),
        ),
        Finding("eps drift", "warning", "b", "eps", None, ZERO, "", "too small", ("b",)),
    )
    more = {"r": half, "notes": ("a note",), "assumptions": ("an assumption",), "why": "it reads numbers"}
    return Report(findings, checked, "kernel", (64, 128, 256), "fake tensors", **more)


RATES = tuple(10**-4 * 10 ** (x / 2) for x in range(7))  # 1e-4 to 1e-1


def curve(parametrization: str, width: int, vertex: float, least: float, wall: float = 1.0) -> Curve:
    """A parabola in the logarithm of the rate, of three seeds that differ; infinite from ``wall`` on."""
    losses = tuple(
        tuple(
            float("inf") if rate >= wall else least + 0.01 * seed + 0.08 * math.log2(rate / vertex / 1.1**seed) ** 2
            for rate in RATES
        )
        for seed in (-1, 0, 1)
    )
    return Curve(parametrization, {"width": width}, RATES, losses)


def transferred() -> Transfer:
    """Derived rules keep the optimum and lose at the largest size; standard ones diverge there at large rates."""
    curves = (
        curve("standard", 64, 0.003, 2.4),
        curve("derived", 64, 0.003, 2.4),
        curve("standard", 256, 0.0015, 2.18, wall=0.03),
        curve("derived", 256, 0.0031, 2.37),
    )
    advice = (Advice("readout", "lr", 0.25, 2.2, 2.4, 0.03), Advice("hidden", "init", 2.0, 2.35, 2.4))
    cost = Cost.of(base=10**9, target=13 * 10**9, taken=21 * 150, steps=3000)
    return Transfer("gpt", "adamw", curves, 150, 3, cost, advice, ("one note",))


TUNED_SPACE = {
    "lr": (1e-3, 1.0),
    "embedding.lr": (1 / 8, 8.0),
    "readout.init": (1 / 32, 4.0),
    "weight_decay": (0.1, 0.1),
}


def made_outcome(job: Job) -> Outcome:
    """Least at a rate of 0.02 and the lower end of readout's init; large rates diverge, longer runs are better."""
    numbers = dict(job.numbers)
    if numbers["lr"] > 0.05:
        return Outcome(math.inf)
    off = math.log2(numbers["lr"] / 0.02) ** 2 + math.log2(numbers["embedding.lr"]) ** 2
    return Outcome(1 + 10 / job.steps + 0.05 * off + 0.1 * math.log2(32 * numbers["readout.init"]))


@once
def tuned() -> Tuned:
    """A search with a made loss, carried from width 64 to 256 of the example MLP."""
    sizes = Sizes(example("mlp.py", "mlp"), {"width": 64}, [{"width": 256}], recipe("adamw"))
    search = Search({"width": 64}, Space(TUNED_SPACE), Schedule(16, 25, 4, 100), sampler="random")
    done = work(search.jobs, Memory(), Here(made_outcome))
    best = search.best(done)
    scaling = sizes.multipliers(best.parametrization, {"width": 256}, best.constants)
    cost = Cost.of(base=10**6, target=15 * 10**6, taken=search.runs.taken, steps=1000)
    return Tuned("mlp", "adamw", search, done, best, scaling, cost, ("one note",))
