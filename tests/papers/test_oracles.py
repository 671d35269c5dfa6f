"""Every row of the published tables, walked: matched by the calculator on a traced net, or a documented discrepancy.

``tests/papers/papers.json`` holds the rows as collected from papers and public code (each with its source): every
``*_exp``
is x in "quantity ~ n^x", so ``-a``, ``-b``, ``-c``.  The tests take the rows one by one; a row that no check claims,
or two claim, fails.  Discrepancies carry the number under which ``docs/theory.md`` argues them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Optional

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tpcalc
from tests.support.models import example, program
from tests.support.once import once
from tests.support.published import of_stack
from tests.support.unusual import single
from tpcalc.calculus.alignment import ALIGNMENTS, FULL, NONE
from tpcalc.calculus.facts import WeightOrders
from tpcalc.calculus.weights import weight_view
from tpcalc.derive.gauge import GAUGES
from tpcalc.derive.largest import largest_updates
from tpcalc.derive.parametrizations import named_solution
from tpcalc.derive.solve import solve
from tpcalc.dynamics.regime import KERNEL, UNSTABLE, excesses, regime
from tpcalc.dynamics.training import Given, analyse, view_of
from tpcalc.errors import DeriveError
from tpcalc.lower.flatten import lower
from tpcalc.optimizers import ADAM, DECOUPLED, UpdateLaw, WeightView, update_law
from tpcalc.optimizers.law import BESIDE_GRADIENT

ROOT = Path(__file__).parents[2]
TABLE: list[dict[str, Any]] = json.loads((ROOT / "tests" / "papers" / "papers.json").read_text(encoding="utf-8"))
THEORY = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
ONE, H, ZERO = Fraction(1), Fraction(1, 2), Fraction(0)


def fraction(text: Optional[str]) -> Optional[Fraction]:
    return None if text is None else Fraction(text)


@dataclass(frozen=True)
class Row:
    """One row, with its place in the file."""

    index: int
    of: dict[str, Any]

    def __getattr__(self, key: str) -> Any:
        return self.of[key]

    def exp(self, key: str) -> Optional[Fraction]:
        return fraction(self.of[f"{key}_exp"])

    @property
    def a(self) -> Fraction:
        return -(self.exp("multiplier") or ZERO)

    @property
    def A(self) -> Optional[Fraction]:
        std = self.exp("init_std")
        return None if std is None else self.a - std

    @property
    def depth(self) -> bool:
        return any(self.of[key] is not None for key in self.of if key.startswith("depth_"))

    def __str__(self) -> str:
        return f"{self.index} {self.paper} {self.table} {self.parametrization} {self.optimizer} {self.param_class}"


ROWS = [Row(index, entry) for index, entry in enumerate(TABLE) if entry["kind"] == "row"]


# --- the nets ---------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Two hidden layers with biases and a readout; its output is multiplied by ``n^-power``."""

    def __init__(self, width: int, depth: int = 2, power: float = 0.0) -> None:
        super().__init__()
        self.input = nn.Linear(8, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.output = nn.Linear(width, 4, bias=not power)
        self.scale = nn.Parameter(torch.ones(()))
        self.multiplier = width**-power if power else None

    def forward(self, x):
        x = F.relu(self.input(x))
        for layer in self.hidden:
            x = F.relu(layer(x))
        x = self.output(x)
        x = x if self.multiplier is None else x * self.multiplier
        return x * self.scale


def points():
    return (torch.linspace(-1, 1, 24).reshape(3, 8),)


@once
def net(depth: int = 2, power: float = 0.0) -> tpcalc.Program:
    return tpcalc.trace(lambda n: (Net(n, depth, power), points()), (64, 128, 256))


#: Class of the table -> parameter of the net.
PARAMETER = {
    "input": "input.weight",
    "embedding": "input.weight",
    "vector": "input.weight",
    "hidden": "hidden.0.weight",
    "hidden(residual branch)": "hidden.0.weight",
    "matrix": "hidden.0.weight",
    "output": "output.weight",
    "readout": "output.weight",
    "unembedding": "output.weight",
    "bias": "input.bias",
    "hidden_bias": "hidden.0.bias",
    "output_bias": "output.bias",
    "scalar": "scale",
}
#: What is walked with other nets: gains of norms and residual branches.
WITH_NORMS = {"pre_ln(gain,bias)": "blocks.0.ln1.weight", "final_ln": "norm.weight"}

NORMALISED = UpdateLaw(
    "normalised", lambda w: -w.entries / 2, DECOUPLED, BESIDE_GRADIENT, "TP4b Section 2: Q / ||Q||_F, clipped or not"
)
OVER_WEIGHT = UpdateLaw(
    "over_weight", lambda w: w.size - w.entries / 2, DECOUPLED, BESIDE_GRADIENT, "TP4b Eq 2.54: Q / ||w||_F"
)
#: Optimizer as printed -> law.
OPTIMIZERS = {
    "SGD": update_law("sgd"),
    "Adam": ADAM,
    "AdamW": update_law("adamw"),
    "Adam/AdamW(coupled lr*wd)": update_law("adamw"),
    "Adam-like (entrywise Q)": ADAM,
    "Adam-like + update normalisation/clip": NORMALISED,
    "entrywise Q divided by current ||w||_F (c_eff=c+e-b)": OVER_WEIGHT,
    "Frobenius-normalised (LARS, LAMB, Adafactor w/ param scaling, Layca, Fromage, Nero)": update_law("lamb"),
    "Adafactor": update_law("adafactor"),
    "Adagrad": update_law("adagrad"),
    "RMSProp": update_law("rmsprop"),
    "K-FAC": update_law("kfac"),
    "FOOF": update_law("foof"),
    "Shampoo": update_law("shampoo"),
}


def law_of(row: Row) -> UpdateLaw:
    return OPTIMIZERS[row.optimizer]


# --- what a row must be -----------------------------------------------------------------------------------------------


def in_gauge(row: Row, law: UpdateLaw, A: Fraction, C: Fraction, view: WeightView, eps: bool = True) -> None:
    """The row's init, learning rate, epsilon and decay are those of effective orders (A, C), in the row's own gauge."""
    a, there = row.a, view.at(row.a)
    if row.A is not None:
        assert row.A == A, f"init: {row}"
    c = law.c(C, there, a)
    if row.exp("lr") is not None:
        assert -row.exp("lr") == c, f"lr: {row}"
    if eps and row.exp("eps") is not None:
        assert row.exp("eps") == law.eps.exponent(there), f"eps: {row}"
    if row.exp("wd") is not None:
        assert row.exp("wd") == law.decay.exponent(there, c), f"decay: {row}"


@once
def derived(alignment: str = "full"):
    return solve(net(), alignment)


def view(solution, name: str) -> WeightView:
    leaf = next(leaf for leaf in solution.lowered.leaves if leaf.name == name)
    return weight_view(solution.lowered, leaf, solution.facts, solution.orders[name].A)


def is_derived(row: Row) -> None:
    """muP: the row is one representative of what is derived."""
    solution, name = derived(), PARAMETER[row.param_class]
    orders = solution.orders[name]
    in_gauge(row, law_of(row), orders.A, orders.C, view(solution, name))


def named(row: Row, name: str, alignment: str = "full", eps: bool = True) -> None:
    """The row has the largest stable learning rate of a named parametrization."""
    solution, weight = named_solution(net(), name, alignment), PARAMETER[row.param_class]
    orders, law = solution.orders[weight], law_of(row)
    C = max(orders.C, orders.A) if law.relative else orders.C
    in_gauge(row, law, orders.A, C, view(solution, weight), eps)


NAMES = {"SP": "sp", "NTP": "ntp", "NTK": "ntp", "MFP": "mfp", "muP": "mup"}


def everett(row: Row) -> None:
    alignment = "omega" if "full alignment" in row.table else "none"
    named(row, NAMES[row.parametrization], alignment, eps=False)
    if row.exp("eps") is not None:  # theirs is the gradient at init; ours, which may be larger, the largest (D17)
        solution = named_solution(net(), NAMES[row.parametrization], alignment)
        leaf = next(leaf for leaf in solution.lowered.leaves if leaf.name == PARAMETER[row.param_class])
        assert row.exp("eps") == solution.facts[leaf.grad].init - row.a
        assert row.exp("eps") <= solution.facts[leaf.grad].trained - row.a


def everett_not_unique(row: Row) -> None:
    """D9: SGD without alignment, muP and MFP.  The printed rates are stable, none can be larger alone, and yet ours,
    the largest updates, are others: a larger readout update makes all gradients larger."""
    rows = [
        r for r in ROWS if (r.table, r.parametrization, r.optimizer) == (row.table, row.parametrization, row.optimizer)
    ]
    assert [r.param_class for r in rows] == ["embedding", "hidden", "readout"]
    sgd = update_law("sgd")
    bare = lower(tpcalc.trace(lambda n: (Bare(n), points()), (64, 128, 256)))

    def stable(raised: Optional[int]) -> bool:
        given = {
            leaf.name: Given(r.a, r.A - r.a, -r.exp("lr") - (Fraction(1, 8) if index == raised else 0))
            for index, (leaf, r) in enumerate(zip(bare.leaves, rows, strict=True))
        }
        return regime(analyse(bare, given, sgd, NONE)).stable

    assert stable(None) and not any(stable(index) for index in range(3))
    with pytest.raises(AssertionError, match="lr: "):
        named(rows[2], NAMES[row.parametrization], "none")


class Bare(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(8, width, False), nn.ReLU(), nn.Linear(width, width, False), nn.ReLU(), nn.Linear(width, 4, False)
        )

    def forward(self, x):
        return self.layers(x)


def siblings(row: Row) -> list[Row]:
    keys = ("paper", "table", "parametrization", "optimizer")
    return [r for r in ROWS if all(r.of[key] == row.of[key] for key in keys)]


def analysed(row: Row, depth: int = 2):
    """The net under the whole table that the row belongs to (biases and the scalar stand still)."""
    given = {name: Given(ZERO, ZERO, None) for name in PARAMETER.values()}
    given.update({name: Given(ZERO, ZERO, None) for name in ("input.bias", "output.bias", "scale")})
    for r in siblings(row):
        given[PARAMETER[r.param_class]] = Given(r.a, r.A - r.a, -r.exp("lr"))
    return regime(analyse(lower(net(depth)), given, law_of(row)))


def one_rate(row: Row) -> None:
    """TP4's SP: one learning rate for all, which is the smallest of the largest stable ones; kernel regime, r = 1/2."""
    found = analysed(row)
    assert (found.name, found.r) == (KERNEL, H)
    largest = tpcalc.derive(net(), "sgd", parametrization="sp")
    assert -row.exp("lr") == max(largest[PARAMETER[r.param_class]].c for r in siblings(row))
    assert row.A == largest[PARAMETER[row.param_class]].A


def unstable(row: Row) -> None:
    """Listed by the source as what frameworks do, not as stable; its init is sp's."""
    assert "stable" in row.conditions.lower() and analysed(row).name == UNSTABLE
    assert row.A == tpcalc.derive(net(), parametrization="sp")[PARAMETER[row.param_class]].A
    if row.exp("eps") is not None:
        assert row.exp("eps") == 0  # not scaled: the table says what is done


def shallow(row: Row) -> None:
    """TP4's MFP is stable for one hidden layer only."""
    given = {name: Given(ZERO, ZERO, None) for name in ("input.bias", "output.bias", "scale")}
    given.update({PARAMETER[r.param_class]: Given(r.a, r.A - r.a, -r.exp("lr")) for r in siblings(row)})
    found = regime(analyse(lower(net(1)), given, law_of(row)))
    assert found.stable and found.r == 0
    solution = solve(net(1))
    orders = solution.orders[PARAMETER[row.param_class]]
    in_gauge(row, law_of(row), orders.A, orders.C, view(solution, PARAMETER[row.param_class]))


def general_architecture(row: Row) -> None:
    """TP4b's table for any architecture: the code multiplies the output by n^-a_out.

    A scalar gain and the readout before it could share the updates otherwise; the guess is that of vectors and scalars
    that move by as much as they are large.
    """
    power = float(row.conditions.rpartition("=")[2].replace("1/2", "0.5"))
    lowered = lower(net(2, power))
    A = {"matrix": H, "vector": ZERO, "scalar": ZERO}
    guess = {"matrix": ONE, "vector": ZERO, "scalar": ZERO}
    kinds = {leaf.name: len([s for s in leaf.shape if s.growth > 0]) for leaf in lowered.leaves}
    orders = {
        leaf.name: WeightOrders(A[kind], guess[kind], leaf.name.endswith("weight"))
        for leaf in lowered.leaves
        for kind in (("scalar", "vector", "matrix")[kinds[leaf.name]],)
    }
    C, facts = largest_updates(lowered, orders, FULL)
    checked = 0
    for leaf in lowered.leaves:
        if ("scalar", "vector", "matrix")[kinds[leaf.name]] == row.param_class:
            given = Given(row.a, orders[leaf.name].A - row.a, ZERO)
            seen = view_of(lowered, leaf, given, facts).at(-row.a)
            in_gauge(row, law_of(row), orders[leaf.name].A, C[leaf.name], seen)
            checked += 1
    assert checked


def with_norms(row: Row) -> None:
    """Gains and biases of norms: on the example GPT."""
    rules = tpcalc.derive(program(example("gpt.py", "gpt")), "adamw", gauge="mup")
    names = [WITH_NORMS[row.param_class]]
    names += [names[0].replace("weight", "bias")] if "bias" in row.param_class else []
    for name in names:
        rule = rules[name]
        assert (-rule.a, -rule.c) == (row.exp("multiplier"), row.exp("lr"))
        if row.exp("eps") is not None:
            assert rule.eps == row.exp("eps")


def residual_branch(row: Row) -> None:
    """No width-dependent multiplier on a residual branch: nothing asks for one."""
    rules = tpcalc.derive(program(example("gpt.py", "gpt")), "adamw")
    assert row.exp("multiplier") == 0 and not rules.sites
    assert row.depth


def only_in_blocks(row: Row) -> None:
    """D11: CompleteP's table gives epsilon inside residual blocks; its embedding row has n^0 where the gradient, of
    order
    -1, wants n^-1 (as Complete(d)P has it)."""
    solution, name = derived(), PARAMETER[row.param_class]
    orders = solution.orders[name]
    in_gauge(row, law_of(row), orders.A, orders.C, view(solution, name), eps=False)
    assert row.exp("eps") == 0 and law_of(row).eps.exponent(view(solution, name).at(row.a)) == -1


def everywhere_1_over_n(row: Row) -> None:
    """TP5's epsilon rule holds in the gauge of Table 8 (D4): gradients are 1/n there for every weight that grows."""
    rules = tpcalc.derive(net(), "adam", gauge="mup")
    inside = "inside sqrt" in row.conditions
    assert row.exp("eps") == rules[PARAMETER[row.param_class]].gradient * (2 if inside else 1)
    assert rules["input.weight"].gradient == -1  # read as 1/fan_out


def attention(row: Row) -> None:
    """Heads that grow need logits divided by d; where the code divides by its root, q makes up for the rest."""
    rules = tpcalc.derive(program(example("gpt.py", "gpt_growing_heads")), "adam", gauge="mup")
    in_code = -H
    assert in_code - rules["blocks.0.attn.q.weight"].a == row.exp("multiplier") == -1
    assert rules["blocks.0.attn.k.weight"].a == 0 and not rules.sites


def mu_sgd(row: Row) -> None:
    rules = tpcalc.derive(net(), "sgd", gauge="mup")
    vectors = ["input.weight", "input.bias", "output.weight"]
    if row.param_class == "hidden":
        growths = {"fan_in": row.of["fan_in_growth"], "fan_out": row.of["fan_out_growth"]}

        def difference(text: str) -> Fraction:
            x, y = text.split("-")
            return Fraction(growths[x]) - Fraction(growths[y])

        rule = rules[PARAMETER["hidden"]]
        assert -rule.c == difference(row.of["lr_exp"]) and rule.weight_decay == difference(row.of["wd_exp"])
        assert rule.A == row.A
        return
    for name in vectors:
        assert (-rules[name].c, rules[name].weight_decay) == (row.exp("lr"), row.exp("wd")), name


# --- which row is claimed by what -------------------------------------------------------------------------------------

Check = Callable[[Row], None]


@dataclass(frozen=True)
class Claim:
    """``check`` for the rows that ``of`` picks.  ``discrepancy``: its number in docs/theory.md, where rows differ
    from us.

    ``left_out``: what of a row is not compared, with the reason.
    """

    name: str
    of: Callable[[Row], bool]
    check: Check
    discrepancy: Optional[int] = None
    left_out: str = ""


def _mup(row: Row) -> bool:
    return row.parametrization.startswith(("muP", "spectral"))


DEPTH = "exponents of the depth are compared in test_2026.py, with nets that have one"
CLAIMS = [
    Claim("TP4 muP", lambda r: r.paper == "TP4" and _mup(r), is_derived),
    Claim("TP4 NTP", lambda r: r.paper == "TP4" and r.parametrization == "NTP", lambda r: named(r, "ntp")),
    Claim("TP4 SP", lambda r: r.paper == "TP4" and r.parametrization.startswith("SP"), one_rate),
    Claim("TP4 MFP", lambda r: r.paper == "TP4" and r.parametrization == "MFP", shallow),
    Claim("TP4b SP", lambda r: r.paper == "TP4b" and r.parametrization == "SP", unstable),
    Claim(
        "TP4b NTP",
        lambda r: r.paper == "TP4b" and r.parametrization == "NTP" and r.table != "general-architecture table",
        lambda r: named(r, "ntp"),
    ),
    Claim(
        "TP4b muP",
        lambda r: r.paper == "TP4b" and _mup(r) and r.table != "general-architecture table",
        is_derived,
    ),
    Claim("TP4b general", lambda r: r.table == "general-architecture table", general_architecture),
    Claim("TP5 SP", lambda r: r.paper == "TP5" and r.parametrization == "SP", unstable),
    Claim(
        "TP5 muP",
        lambda r: r.paper == "TP5" and _mup(r) and r.table not in ("attention", "App B.3 epsilon"),
        is_derived,
    ),
    Claim("TP5 epsilon", lambda r: r.table == "App B.3 epsilon", everywhere_1_over_n),
    Claim("TP5 attention", lambda r: r.table == "attention", attention),
    Claim("mup's MuAdam", lambda r: r.table == "MuAdam", is_derived),
    Claim("mup's MuSGD", lambda r: r.table == "MuSGD", mu_sgd),
    Claim("TP6", lambda r: r.paper == "TP6", is_derived, left_out=DEPTH),
    Claim(
        "CompleteP",
        lambda r: r.paper == "CompleteP" and r.param_class in ("hidden", "hidden_bias", "unembedding"),
        is_derived,
        left_out=DEPTH,
    ),
    Claim("CompleteP norms", lambda r: r.param_class in WITH_NORMS, with_norms, left_out=DEPTH),
    Claim("CompleteP branch", lambda r: r.param_class == "residual_branch", residual_branch, left_out=DEPTH),
    Claim(
        "CompleteP embedding",
        lambda r: r.paper == "CompleteP" and r.param_class == "embedding",
        only_in_blocks,
        discrepancy=11,
        left_out=DEPTH,
    ),
    Claim(
        "Everett",
        lambda r: r.paper == "Everett2024" and not _not_unique(r),
        everett,
    ),
    Claim("Everett, SGD", lambda r: _not_unique(r), everett_not_unique, discrepancy=9),
    Claim(
        "Everett with omega = 1",
        lambda r: r.paper == "derived",
        lambda r: named(r, NAMES[r.parametrization], "full"),
    ),
    Claim("Ishikawa & Karakida", lambda r: r.paper.startswith("Ishikawa") and r.parametrization == "muP", is_derived),
    Claim(
        "Ishikawa & Karakida, lazy",
        lambda r: r.paper.startswith("Ishikawa") and r.parametrization.startswith("UP"),
        lambda r: named(r, "sp"),
    ),
    Claim("spectral condition", lambda r: r.paper == "Spectral condition", is_derived),
]


def _not_unique(row: Row) -> bool:
    return (
        row.paper == "Everett2024"
        and row.optimizer == "SGD"
        and "none" in row.table
        and row.parametrization in ("muP", "MFP")
    )


def claims_of(row: Row) -> list[Claim]:
    return [claim for claim in CLAIMS if claim.of(row)]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_published_row(row):
    claims = claims_of(row)
    assert len(claims) == 1, [claim.name for claim in claims]
    assert row.depth == (claims[0].left_out == DEPTH) or claims[0].left_out == DEPTH
    claims[0].check(row)


def test_no_row_is_skipped():
    """All 233 rows are there, every claim claims some, and what is left out or differs has a written reason."""
    assert len(ROWS) == 233
    for claim in CLAIMS:
        assert any(claim.of(row) for row in ROWS), claim.name
        if claim.discrepancy is not None:
            assert f"D{claim.discrepancy}" in THEORY
    assert {claim.left_out for claim in CLAIMS} == {"", DEPTH}
    assert sum(claims_of(row)[0].discrepancy is not None for row in ROWS) == 2 + 6


@pytest.mark.parametrize("row", [row for row in ROWS if claims_of(row)[0].check is is_derived], ids=str)
def test_a_row_that_says_otherwise_fails(row):
    """The comparison can fail: half an order off in anything that the row states."""
    for key in ("init_std", "multiplier", "lr", "wd", "eps"):
        if row.exp(key) is not None and not (key == "multiplier" and row.exp("init_std") is None):
            changed = Row(row.index, {**row.of, f"{key}_exp": str(row.exp(key) + H)})
            with pytest.raises(AssertionError):
                is_derived(changed)


# --- symmetries and formulas
# --------------------------------------------------------------------------------------------

SYMMETRIES = {entry["paper"]: entry["text"] for entry in TABLE if entry["kind"] == "symmetry"}
ANY = WeightView(Fraction(-3, 4), Fraction(5, 8), (ONE, ONE), ONE)


@pytest.mark.parametrize("t", [Fraction(k, 4) for k in (-3, -1, 2)])
def test_the_shift_symmetries(t):
    """(a, b, c) -> (a + t, b - t, c - shift t): the same effective update, from the views alone."""
    assert set(SYMMETRIES) == {"TP4", "TP4b", "TP5 Lemma J.1", "Everett2024"}
    for name, shift in (("sgd", 2), ("adam", 1), ("adafactor", 0)):
        law = update_law(name)
        assert law.shift == shift and law.c(ONE, ANY.at(t), t) == law.c(ONE, ANY) - shift * t
    assert "c-2t" in SYMMETRIES["TP4"] and "C->C/t^2, Adam C->C/t" in SYMMETRIES["TP5 Lemma J.1"]
    assert "c unchanged" in SYMMETRIES["Everett2024"]
    # TP4b: d -> d + t, eps ~ n^-d; and SGD is the law with c <- c - d
    assert ADAM.eps.exponent(ANY.at(t)) == ADAM.eps.exponent(ANY) - t


FORMULAS = [(index, entry) for index, entry in enumerate(TABLE) if entry["kind"] == "formula"]


def formula_tp4(text: str) -> None:
    """Stability, nontriviality and r: tests/test_papers.py compares them for random exponents; here at its corners."""
    from tests.papers.test_papers import tp4

    assert tp4(2, [-H, ZERO, H], H, ZERO) == (True, True, ZERO)  # muP
    assert tp4(2, [ZERO, H, H], ZERO, ZERO) == (True, True, H)  # NTP
    assert "r=min(a_{L+1}+b_{L+1},2a_{L+1}+c)" in text


def formula_up(text: str) -> None:
    from tests.papers.test_papers import parametrized

    for r in (ZERO, Fraction(1, 4), H):
        rows = [Given(r - H, H - r, ZERO), Given(r, H - r, ZERO), Given(H, H - r, ZERO)]
        bare = lower(program_of(2))
        assert regime(analyse(bare, parametrized(2, *rows), update_law("sgd"))).r == r
    assert "UP_r" in text


def program_of(depth: int):
    from tests.support.models import bare_mlp

    return program(bare_mlp(depth))


def formula_tp4b(text: str) -> None:
    """Faithful: d_l = a_l + a_out + b_out, d_out = a_out, in every gauge."""
    for gauge in GAUGES:
        rules = tpcalc.derive(net(), "adam", gauge=gauge)
        out = rules["output.weight"]
        assert -out.eps == out.a
        for name in ("input.weight", "hidden.0.weight"):
            assert -rules[name].eps == rules[name].a + out.a + out.b
            assert rules[name].c + rules[name].a - (name != "input.weight") == 0  # r_l
    assert "faithful iff" in text


def formula_depth(text: str) -> None:
    """Stable and nontrivial, alpha + gamma = 1, for each alpha that is faithful; others are refused."""
    for alpha in (H, Fraction(3, 4), ONE):
        gamma = ONE - alpha
        for law, rate in ((ADAM, -gamma), (update_law("sgd"), alpha - gamma)):
            rule = of_stack(single, law, alpha)["blocks.0.layer.weight"]
            assert (rule.a["L"], rule.C["L"] - alpha, -rule.c["L"]) == (alpha, gamma, rate)
    with pytest.raises(DeriveError, match="alpha"):
        of_stack(single, ADAM, Fraction(1, 4))
    assert "EFFECTIVE update L^-gamma (Adam LR L^-gamma, SGD LR L^{alpha-gamma})" in text


def formula_everett(text: str) -> None:
    """The constraints, evaluated at our solutions: all hold, and every rate meets one of them with equality."""
    tight = {"omega": (ONE, H, ONE), "none": (H, H, H)}
    for alignment, (alpha, omega, u) in tight.items():
        for name in ("sp", "ntp", "mfp", "mup"):
            rules = tpcalc.derive(program_of(2), "adam", alignment=alignment, parametrization=name)
            (a1, c1), (a2, c2), (a3, b3, c3) = (
                *((r.a, r.c) for r in list(rules.values())[:2]),
                *((r.a, r.b, r.c) for r in list(rules.values())[2:]),
            )
            r1 = a1 + c1
            r2 = min(a2 + c2 - alpha, a2 + c2 + r1 - u, H + r1 - omega)
            logits = min(a3 + b3 + r2 - omega, a3 + c3 - alpha, a3 + c3 + r2 - u)
            assert (r1, min(r2, a2 + c2 - alpha)) == (0, 0) and logits >= 0 and a3 + c3 - alpha == 0
    assert "omega" in text


def formula_kronecker(text: str) -> None:
    for name, (e_inputs, e_outputs) in {"kfac": (1, 1), "foof": (1, 0), "shampoo": (H, H), "sgd": (0, 0)}.items():
        rules = tpcalc.derive(net(), name)
        expected = (e_outputs - 1, e_outputs - e_inputs, 1 - e_inputs)
        assert tuple(rules[PARAMETER[role]].c for role in ("input", "hidden", "output")) == expected
    assert "c_l=(e_B-1 input, e_B-e_A hidden, 1-e_A output)" in text


def formula_table_14(text: str) -> None:
    """Entries of A v for v correlated with A: what a contraction over n adds by laws 1 to 3."""
    assert FULL.initial_on_change(ONE, ONE) == H  # an iid Gaussian matrix: sqrt(n)
    assert FULL.weight_change(ONE) == 1  # an outer product: n
    assert FULL.initial_on_change(ONE, ZERO) == 1  # a vector: n
    assert "Theta(sqrt n)" in text


FORMULA_CHECKS = [
    formula_tp4,
    formula_up,
    formula_tp4b,
    formula_depth,
    formula_everett,
    formula_kronecker,
    formula_table_14,
]


@pytest.mark.parametrize("place", range(len(FORMULAS)))
def test_a_published_formula(place):
    assert len(FORMULAS) == len(FORMULA_CHECKS)
    FORMULA_CHECKS[place](FORMULAS[place][1]["text"])


# --- discrepancies
# --------------------------------------------------------------------------------------------------------

DISCREPANCIES = {entry["id"]: entry["text"] for entry in TABLE if entry["kind"] == "discrepancy"}


@pytest.mark.parametrize("number", DISCREPANCIES)
def test_every_discrepancy_is_argued_in_the_docs(number):
    assert re.search(rf"^- \*\*D{number}[ .]", THEORY, re.MULTILINE), DISCREPANCIES[number]


def test_the_file_holds_nothing_else():
    kinds = {entry["kind"] for entry in TABLE}
    assert kinds == {"meta", "row", "symmetry", "formula", "discrepancy"}


def test_d1_scalars_keep_their_size():
    rule = tpcalc.derive(net(), "sgd")["output.bias"]
    assert (rule.A, rule.C, rule.c) == (0, 0, 0)


def test_d2_the_input_rate_of_adam_is_constant():
    assert tpcalc.derive(net(), "adam")["input.weight"].c == 0


def test_d5_the_readouts_gradient_norm_grows():
    """In the form of Table 3; in that of Table 8 the global norm is constant."""
    assert tpcalc.derive(net(), "adam").clipping.norm == H
    assert tpcalc.derive(net(), "adam").clipping.dominated_by == ("output.weight",)
    assert tpcalc.derive(net(), "adam", gauge="mup").clipping.norm == 0


def test_d6_sp_under_adam_at_1_over_n_is_unstable():
    given = {leaf.name: Given(ZERO, A, ONE) for leaf, A in zip(lower(program_of(2)).leaves, (ZERO, H, H), strict=True)}
    found = regime(analyse(lower(program_of(2)), given, ADAM))
    assert found.name == UNSTABLE and found.r == 0 and found.output_change == H


def test_d8_mfp_under_adam_without_alignment():
    """The readout's rate is n^(1/2): c = -1/2."""
    assert list(tpcalc.derive(program_of(2), "adam", parametrization="mfp", alignment="none").values())[2].c == -H


def test_d10_muon_on_embedding_and_readout():
    """Trained by Muon without a shape factor: the embedding's rate grows as n^(1/2), the readout's falls so."""
    from tpcalc.optimizers import LAWS, Recipe

    rules = tpcalc.derive(program(example("gpt.py", "gpt")), Recipe(LAWS["muon"]))
    assert (-rules["token.weight"].c, -rules["head.weight"].c) == (H, -H)


def test_d12_the_spectral_factor_is_fan_out_over_fan_in():
    rules = tpcalc.derive(net(), "sgd")
    for name, growth in (("input.weight", 1), ("hidden.0.weight", 0), ("output.weight", -1)):
        assert -rules[name].c == growth  # growth of fan_out / fan_in


def test_d14_decay_by_convention():
    """lr*wd*W: wd of a hidden weight grows as n; (1 - wd) W, independent of lr, does not scale."""
    rule = tpcalc.derive(net(), "adamw")["hidden.0.weight"]
    assert rule.weight_decay == 1 and rule.weight_decay - rule.c == 0


def test_d16_two_ways_to_use_the_norm_of_the_weight():
    """Divided by it (TP4b) and multiplied by it (TP5 B.3) agree for hidden weights only."""
    a = {"hidden": ZERO, "input": ZERO, "output": ONE}  # as in Table 8
    divided, multiplied = (
        {role: law.c(C, seen.at(a[role]), a[role]) for role in a for C, seen in (effective(role),)}
        for law in (OVER_WEIGHT, update_law("lamb"))
    )
    assert divided == {"hidden": H, "input": -H, "output": -H}
    assert multiplied == {"hidden": H, "input": 0, "output": 0}


def effective(role: str) -> tuple[Fraction, WeightView]:
    solution = derived()
    name = PARAMETER[role]
    return solution.orders[name].C, view(solution, name)


def test_d17_a_gradient_may_grow_after_init():
    """Everett's muP without alignment: the readout's update, n^(-1/2), outgrows its init, and so do the gradients."""
    solution = named_solution(program_of(2), "mup", "none")
    leaf = solution.lowered.leaves[0]
    assert (solution.facts[leaf.grad].init, solution.facts[leaf.grad].trained) == (-1, -H)


def test_no_value_is_too_large_under_a_named_parametrization():
    """Largest means stable, and an eighth more of any one is not."""
    for alignment in ALIGNMENTS:
        for name in ("sp", "mup"):
            solution = named_solution(program_of(3), name, alignment)
            assert not excesses(solution.lowered, solution.facts)
            for leaf in solution.lowered.leaves:
                own = solution.orders[leaf.name]
                more = {**solution.orders, leaf.name: replace(own, C=own.C - Fraction(1, 8))}
                facts = tpcalc.calculus.laws.propagate(solution.lowered, more, ALIGNMENTS[alignment])
                assert excesses(solution.lowered, facts), (alignment, name, leaf.name)
