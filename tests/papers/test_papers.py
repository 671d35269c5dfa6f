"""The published tables, and TP4's and TP4b's theorems, on a traced MLP.

Rows are typed from the papers: (init std exponent, multiplier exponent, lr exponent), each x in "quantity ~ n^x", so
``-b``, ``-a`` and ``-c``.  Sources: TP4 (Yang & Hu 2021, arXiv 2011.14522), TP4b (Yang & Littwin 2023, arXiv
2308.01814), TP5 (Yang et al. 2022, arXiv 2203.03466).  One parametrization has many forms, one orbit of the shift
symmetry; all comparisons are modulo that (:func:`same_orbit`).
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple, Optional

import pytest
from hypothesis import given as draws
from hypothesis import settings
from hypothesis import strategies as st

from tests.support.models import bare_mlp, program, solution
from tests.support.once import once
from tpcalc.calculus.alignment import ALIGNMENTS, OMEGA
from tpcalc.derive import derive
from tpcalc.dynamics.regime import KERNEL, LEARNING, MAXIMAL, TRIVIAL, UNSTABLE, Regime, regime
from tpcalc.dynamics.training import Given, analyse
from tpcalc.lower.flatten import lower
from tpcalc.optimizers import ADAM, ADAMW, SGD, UpdateLaw

H = Fraction(1, 2)
ONE = Fraction(1)


class Row(NamedTuple):
    """One weight class of a table, as printed: quantity ~ n^x."""

    std: Fraction
    multiplier: Fraction
    lr: Fraction
    eps: Optional[Fraction] = None

    @property
    def abc(self) -> tuple[Fraction, Fraction, Fraction]:
        return -self.multiplier, -self.std, -self.lr

    @property
    def given(self) -> Given:
        return Given(*self.abc)


def row(std, multiplier, lr, eps=None) -> Row:
    return Row(Fraction(std), Fraction(multiplier), Fraction(lr), None if eps is None else Fraction(eps))


# --- the shift symmetry ------------------------------------------------------------------------------------------

Exponents = tuple[Fraction, Fraction, Fraction]


def shifted(abc: Exponents, law: UpdateLaw, t: Fraction) -> Exponents:
    """The same training in another form: TP4 Equation 5 (SGD), TP4b Section 2 (Adam), TP5 Lemma J.1."""
    a, b, c = abc
    return a + t, b - t, c - law.shift * t


def same_orbit(x: Exponents, y: Exponents, law: UpdateLaw) -> bool:
    """Whether two (a, b, c) are one parametrization of a weight."""
    return shifted(x, law, y[0] - x[0]) == y


def eps_shifted(eps: Fraction, t: Fraction) -> Fraction:
    """eps ~ n^eps follows the gradient of w, which a multiplier n^-t more makes n^-t smaller (TP4b: d -> d + t, eps ~
    n^-d).
    """
    return eps - t


quarters = st.integers(-8, 8).map(lambda k: Fraction(k, 4))
exponents = st.tuples(quarters, quarters, quarters)
LAWS = st.sampled_from((SGD, ADAM, ADAMW))


@draws(exponents, LAWS, quarters, quarters)
def test_orbits_are_the_classes_of_a_group_action(abc, law, s, t):
    assert shifted(abc, law, Fraction(0)) == abc
    assert shifted(shifted(abc, law, s), law, t) == shifted(abc, law, s + t)
    assert same_orbit(abc, shifted(abc, law, t), law) and same_orbit(shifted(abc, law, t), abc, law)


@draws(exponents, exponents, LAWS)
def test_an_orbit_is_told_by_its_effective_orders(x, y, law):
    """A = a + b and a's shift in c are all that training sees, so orbits and pairs (A, C + const) correspond."""

    def invariants(abc):
        a, b, c = abc
        return a + b, law.shift * a + c

    assert same_orbit(x, y, law) == (invariants(x) == invariants(y))


@settings(max_examples=40, deadline=None)
@draws(st.lists(exponents, min_size=3, max_size=3), st.lists(quarters, min_size=3, max_size=3), LAWS)
def test_the_calculus_does_not_see_the_form(rows, shifts, law):
    forms = [rows, [shifted(abc, law, t) for abc, t in zip(rows, shifts, strict=True)]]
    first, second = (analyse(lowered(2), parametrized(2, *(Given(*abc) for abc in form)), law) for form in forms)
    assert first.C == second.C and first.A == second.A and first.facts == second.facts


# --- the MLP of the papers under a given parametrization --------------------------------------------------------------


@once
def lowered(depth: int):
    return lower(program(bare_mlp(depth)))


def parametrized(depth: int, first: Given, hidden: Optional[Given], last: Given) -> dict[str, Given]:
    names = [f"layers.{i}.weight" for i in range(depth)]
    return {names[0]: first, **{name: hidden for name in names[1:]}, "readout.weight": last}


def regime_of(depth: int, rows: tuple, law: UpdateLaw, **options) -> Regime:
    given = [None if r is None else r.given for r in rows]
    return regime(analyse(lowered(depth), parametrized(depth, *given), law, **options))


class Case(NamedTuple):
    """Rows for input, hidden and readout, and what the source says of the limit (r None: not stated for an unstable
    net).
    """

    name: str
    law: UpdateLaw
    rows: tuple
    regime: str
    r: Optional[Fraction]
    depths: tuple[int, ...] = (2, 3)


NTP = (row(0, 0, 0), row(0, "-1/2", 0), row(0, "-1/2", 0))
TABLES = [
    # TP4 Table 1.  SP with lr ~ 1 is its Section 4's example of blow-up.
    Case("SP, SGD, lr 1", SGD, (row(0, 0, 0), row("-1/2", 0, 0), row("-1/2", 0, 0)), UNSTABLE, None),
    Case("SP, SGD, lr 1/n", SGD, (row(0, 0, -1), row("-1/2", 0, -1), row("-1/2", 0, -1)), KERNEL, H),
    Case("NTP, SGD", SGD, NTP, KERNEL, H, (1, 2, 3)),
    Case("MFP, SGD", SGD, (row(0, 0, 1), None, row(0, -1, 1)), MAXIMAL, Fraction(0), (1,)),
    Case(
        "muP, SGD",
        SGD,
        (row("-1/2", "1/2", 0), row("-1/2", 0, 0), row("-1/2", "-1/2", 0)),
        MAXIMAL,
        Fraction(0),
        (1, 2, 3),
    ),
    # TP4b, the table of (a, b, c, d) for an MLP.  SP is listed there with lr ~ 1, and is not stable.
    Case("SP, Adam", ADAM, (row(0, 0, 0), row("-1/2", 0, 0), row("-1/2", 0, 0)), UNSTABLE, None),
    Case("NTP, Adam", ADAM, (row(0, 0, "-1/2"), row(0, "-1/2", -1), row(0, "-1/2", "-1/2")), KERNEL, H),
    Case("muP, Adam", ADAM, (row(0, 0, 0), row("-1/2", 0, -1), row(0, -1, 0)), MAXIMAL, Fraction(0)),
    # TP5 Table 3, the entries of SP (frameworks' defaults).
    Case("SP, AdamW", ADAMW, (row(0, 0, 0), row("-1/2", 0, 0), row("-1/2", 0, 0)), UNSTABLE, None),
    # TP4b Remark 2.2.7 and TP5 J.3 call SP + Adam at lr 1/n stable; TP4b's own condition a + b + r >= 1 says it is not.
    Case("SP, Adam, lr 1/n", ADAM, (row(0, 0, -1), row("-1/2", 0, -1), row("-1/2", 0, -1)), UNSTABLE, None),
]


@pytest.mark.parametrize("case", TABLES, ids=lambda case: case.name)
def test_the_regime_of_a_published_parametrization(case):
    for depth in case.depths:
        found = regime_of(depth, case.rows, case.law)
        assert found.name == case.regime, found
        if case.r is not None:
            assert found.r == case.r and found.output_change == 0


def test_lr_1_over_n_in_sp_under_adam_blows_up_through_the_readout():
    """The features learn (r = 0), and W_out at init, of order n^-1/2, sums what they learnt coherently: n^(1/2)."""
    found = regime_of(2, (row(0, 0, -1), row("-1/2", 0, -1), row("-1/2", 0, -1)), ADAM)
    assert found.r == 0 and found.output_init == 0 and found.output_change == H
    assert [excess.why for excess in found.excesses] == ["leaves as an output"]
    # the sentence in the paper holds if W_out counts as random to what the features learnt (omega = 1/2)
    assert regime_of(2, (row(0, 0, -1), row("-1/2", 0, -1), row("-1/2", 0, -1)), ADAM, alignment=OMEGA).stable


def test_every_weight_of_a_kernel_limit_is_lazy_but_the_readout():
    found = regime_of(3, NTP, SGD)
    assert list(found.per_weight.values()) == ["lazy", "lazy", "lazy", "maximal"]


def test_a_frozen_layer_is_not_updated_at_all():
    rows = [r.given for r in (row(0, 0, 1), row("-1/2", 0, 0), row(-1, 0, -1))]
    given = parametrized(2, rows[0], Given(Fraction(0), H, None), rows[2])
    found = regime(analyse(lowered(2), given, SGD))
    assert list(found.per_weight.values()) == ["maximal", "frozen", "maximal"]


def test_too_small_a_learning_rate_is_trivial():
    assert regime_of(2, (row(0, 0, -2), row("-1/2", 0, -2), row("-1/2", 0, -2)), SGD).name == TRIVIAL


# --- the tables of muP, derived ---------------------------------------------------------------------------------------

MUP = {
    ("TP4 Table 1", "sgd"): (row("-1/2", "1/2", 0), row("-1/2", 0, 0), row("-1/2", "-1/2", 0)),
    ("TP4b", "adam"): (row(0, 0, 0, -1), row("-1/2", 0, -1, -1), row(0, -1, 0, -1)),
    ("TP5 Table 3", "sgd"): (row(0, 0, 1), row("-1/2", 0, 0), row(-1, 0, -1)),
    ("TP5 Table 3", "adam"): (row(0, 0, 0), row("-1/2", 0, -1), row(-1, 0, -1)),
    ("TP5 Table 8", "sgd"): (row(0, 0, 1), row("-1/2", 0, 0), row(0, -1, 1)),
    ("TP5 Table 8", "adam"): (row(0, 0, 0), row("-1/2", 0, -1), row(0, -1, 0)),
    ("TP5 Table 9", "sgd"): (row("-1/2", "1/2", 0), row("-1/2", 0, 0), row("-1/2", "-1/2", 0)),
    ("TP5 Table 9", "adam"): (row("-1/2", "1/2", "-1/2"), row("-1/2", 0, -1), row("-1/2", "-1/2", "-1/2")),
}
MLP_WEIGHTS = ("layers.0.weight", "layers.1.weight", "readout.weight")


@pytest.mark.parametrize("source, optimizer", MUP, ids=str)
def test_the_derived_rules_are_those_of_the_table(source, optimizer):
    law = {"sgd": SGD, "adam": ADAM}[optimizer]
    rules = derive(program(bare_mlp(2)), optimizer)
    for name, published in zip(MLP_WEIGHTS, MUP[source, optimizer], strict=True):
        rule = rules[name]
        assert same_orbit((rule.a, rule.b, rule.c), published.abc, law), name
        if published.eps is not None:
            assert eps_shifted(rule.eps, published.abc[0] - rule.a) == published.eps


@pytest.mark.parametrize("source, optimizer", MUP, ids=str)
def test_every_published_form_of_mup_is_maximal(source, optimizer):
    law = {"sgd": SGD, "adam": ADAM}[optimizer]
    assert regime_of(3, MUP[source, optimizer], law).name == MAXIMAL


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_derived_rules_are_maximal_by_the_other_road(depth, optimizer):
    """derive asks for the smallest exponents within budget; analyse follows training under them."""
    law = {"sgd": SGD, "adam": ADAM, "adamw": ADAMW}[optimizer]
    rules = derive(program(bare_mlp(depth)), optimizer)
    analysis = analyse(lowered(depth), {name: Given(r.a, r.b, r.c) for name, r in rules.items()}, law)
    assert analysis.settled and regime(analysis).name == MAXIMAL
    assert analysis.C == {name: rule.C for name, rule in rules.items()}
    assert analysis.gradients == {name: rule.gradient for name, rule in rules.items()}


def test_tp4b_the_derived_epsilon_keeps_adam_faithful():
    """TP4b: faithful iff d_l = a_l + a_out + b_out for l <= L and d_out = a_out; eps ~ n^-d at a = 0."""
    rules = derive(program(bare_mlp(3)), "adam")
    out = rules["readout.weight"]
    for name, rule in rules.items():
        d = rule.a if name == "readout.weight" else rule.a + out.a + out.b
        assert rule.eps == -d


# --- TP4's and TP4b's theorems, for all exponents ---------------------------------------------------------------------


def tp4(depth: int, a: list[Fraction], b_out: Fraction, c: Fraction) -> tuple[bool, bool, Fraction]:
    """TP4 Section 3 for SGD with one c: (stable, nontrivial, r).  Initialisation is stable."""
    a_out = a[-1]
    r = min(a_out + b_out, 2 * a_out + c) + c - 1 + min(2 * a_l + (i == 0) for i, a_l in enumerate(a[:-1]))
    stable = r >= 0 and 2 * a_out + c >= 1 and a_out + b_out + r >= 1
    return stable, a_out + b_out + r == 1 or 2 * a_out + c == 1, r


def tp4b(depth: int, a: list[Fraction], b_out: Fraction, c: list[Fraction]) -> tuple[bool, bool, Fraction]:
    """TP4b Section 2 for Adam, any epsilon that keeps up with the gradients: (stable, nontrivial, r)."""
    r = min(a_l + c_l - (i > 0) for i, (a_l, c_l) in enumerate(zip(a[:-1], c[:-1], strict=True)))
    stable = r >= 0 and a[-1] + c[-1] >= 1 and a[-1] + b_out + r >= 1
    return stable, a[-1] + b_out + r == 1 or a[-1] + c[-1] == 1, r


@st.composite
def tp4_parametrizations(draw, adam: bool):
    """Exponents with a stable initialisation: a_1 + b_1 = 0, a_l + b_l = 1/2, a_out + b_out >= 1/2."""
    depth = draw(st.integers(1, 3))
    a = [draw(quarters) for _ in range(depth + 1)]
    b = [(Fraction(0) if i == 0 else H) - a_l for i, a_l in enumerate(a[:-1])]
    b.append(H - a[-1] + draw(st.integers(0, 4).map(lambda k: Fraction(k, 4))))
    c = [draw(quarters) for _ in range(depth + 1)] if adam else [draw(quarters)] * (depth + 1)
    return depth, a, b, c


def agrees_with_theorem(parametrization, law, stable, nontrivial, r) -> None:
    depth, a, b, c = parametrization
    weights = [Given(*abc) for abc in zip(a, b, c, strict=True)]
    names = [f"layers.{i}.weight" for i in range(depth)] + ["readout.weight"]
    found = regime(analyse(lowered(depth), dict(zip(names, weights, strict=True)), law))
    assert found.stable == stable
    if stable:
        assert found.r == r
        assert (found.name != TRIVIAL) == nontrivial
        if nontrivial:
            assert (found.name == KERNEL) == (r > 0)


@settings(max_examples=300, deadline=None)
@draws(tp4_parametrizations(adam=False))
def test_tp4_theorems_hold_for_all_exponents(parametrization):
    depth, a, b, c = parametrization
    agrees_with_theorem(parametrization, SGD, *tp4(depth, a, b[-1], c[0]))


@settings(max_examples=300, deadline=None)
@draws(tp4_parametrizations(adam=True))
def test_tp4b_theorems_hold_for_all_exponents(parametrization):
    depth, a, b, c = parametrization
    agrees_with_theorem(parametrization, ADAM, *tp4b(depth, a, b[-1], c))


@pytest.mark.parametrize("r", [Fraction(k, 4) for k in range(3)])
def test_tp4_uniform_parametrizations(r):
    """TP4 UP_r: a_l = r - [l = 1]/2, a_out = 1/2, b = 1/2 - r, c = 0: from muP (r = 0) to NTP (r = 1/2)."""
    rows = [Given(r - H, H - r, Fraction(0)), Given(r, H - r, Fraction(0)), Given(H, H - r, Fraction(0))]
    found = regime(analyse(lowered(2), parametrized(2, *rows), SGD))
    assert found.r == r and found.name == (KERNEL if r else MAXIMAL)


def test_mup_is_the_only_maximal_one():
    """TP4 Theorem 5.6: any move of one exponent away from muP's orbit is no longer maximal."""
    base = [Given(Fraction(0), *bc) for bc in ((Fraction(0), Fraction(-1)), (H, Fraction(0)), (ONE, ONE))]
    assert regime(analyse(lowered(2), parametrized(2, *base), SGD)).name == MAXIMAL
    for index in range(3):
        for step in (Fraction(-1, 4), Fraction(1, 4)):
            moved = list(base)
            moved[index] = Given(base[index].a, base[index].b, base[index].c + step)
            found = regime(analyse(lowered(2), parametrized(2, *moved), SGD))
            assert found.name in ((UNSTABLE,) if step < 0 else (LEARNING, KERNEL)), found
            assert index == 2 or found.per_weight[MLP_WEIGHTS[index]] != "maximal"


# --- what the papers dispute: W_out times what the features learnt --------------------------------------------------

#: Everett et al. 2024 (arXiv 2407.05872): (std, multiplier) of the four families, and the largest stable learning
#: rates for embedding, hidden and readout under each assumption: full alignment with omega = 1/2, and none.
EVERETT = {
    "SP": ((0, 0), ("-1/2", 0), ("-1/2", 0)),
    "NTK": ((0, 0), (0, "-1/2"), (0, "-1/2")),
    "muP": (("-1/2", "1/2"), ("-1/2", 0), ("-1/2", "-1/2")),
    "MFP": ((0, 0), (0, "-1/2"), (0, -1)),
}
LARGEST = {
    ("SP", "sgd", "omega"): ("1/2", "-1/2", -1),
    ("NTK", "sgd", "omega"): ("1/2", "1/2", 0),
    ("muP", "sgd", "omega"): (0, 0, 0),
    ("MFP", "sgd", "omega"): (1, 1, 1),
    ("SP", "adam", "omega"): (0, -1, -1),
    ("NTK", "adam", "omega"): (0, "-1/2", "-1/2"),
    ("muP", "adam", "omega"): ("-1/2", -1, "-1/2"),
    ("MFP", "adam", "omega"): (0, "-1/2", 0),
    ("SP", "adam", "none"): (0, "-1/2", "-1/2"),
    ("NTK", "adam", "none"): (0, 0, 0),
    ("muP", "adam", "none"): ("-1/2", "-1/2", 0),
    ("MFP", "adam", "none"): (0, 0, "1/2"),
}
EVERETT_EPS = {
    "SP": ("-1/2", "-1/2", 0),
    "NTK": ("-1/2", -1, "-1/2"),
    "muP": ("-1/2", -1, "-1/2"),
    "MFP": (-1, "-3/2", -1),
}


@pytest.mark.parametrize("family, optimizer, assumption", LARGEST, ids=str)
def test_everetts_learning_rates_are_the_largest_stable_ones(family, optimizer, assumption):
    law, alignment = {"sgd": SGD, "adam": ADAM}[optimizer], ALIGNMENTS[assumption]
    largest = LARGEST[family, optimizer, assumption]
    rows = [row(*sizes, lr) for sizes, lr in zip(EVERETT[family], largest, strict=True)]
    assert regime_of(2, tuple(rows), law, alignment=alignment).stable
    for index in range(3):
        more = [r._replace(lr=r.lr + Fraction(1, 8)) if i == index else r for i, r in enumerate(rows)]
        assert not regime_of(2, tuple(more), law, alignment=alignment).stable, index


@pytest.mark.parametrize("family", EVERETT)
def test_everetts_epsilon_is_the_order_of_the_gradient(family):
    rows = [row(*sizes, lr) for sizes, lr in zip(EVERETT[family], LARGEST[family, "adam", "omega"], strict=True)]
    analysis = analyse(lowered(2), parametrized(2, *(r.given for r in rows)), ADAM, OMEGA)
    for name, r, eps in zip(MLP_WEIGHTS, rows, EVERETT_EPS[family], strict=True):
        assert eps_shifted(analysis.gradients[name], r.abc[0]) == Fraction(eps)


def test_under_full_alignment_the_same_rows_of_sp_and_ntk_are_unstable():
    """omega is 1 for a readout whose own gradient moved the features; that decides SP and NTK, and leaves muP and MFP
    as they are.
    """
    for family in EVERETT:
        rows = tuple(
            row(*sizes, lr) for sizes, lr in zip(EVERETT[family], LARGEST[family, "adam", "omega"], strict=True)
        )
        assert regime_of(2, rows, ADAM).stable == (family in ("muP", "MFP"))


def test_derived_under_omega_one_half():
    rules = derive(program(bare_mlp(2)), "adam", alignment="omega")
    assert (rules["readout.weight"].A, rules["readout.weight"].C) == (H, 1)
    assert solution(bare_mlp(2)).needs["readout.weight"].A == 1
