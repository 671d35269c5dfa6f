"""Every update law as a table: size of an update, epsilon, decay, for a weight no two of whose exponents are alike.

Entries of the gradient ``n^-1``, of the weight ``n^-1/4``; n rows and n^1/2 columns, of which the columns are
contracted with inputs of order ``n^1/8``.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

law_module = pytest.importorskip("tpcalc.optimizers.law")

from tests.dynamics.test_training import HIDDEN, IDLE, W1, given, two_layers  # noqa: E402
from tpcalc.algebra.order import HALF, MINUS_INFINITY, ONE, ZERO  # noqa: E402
from tpcalc.calculus.facts import Fact  # noqa: E402
from tpcalc.dynamics.training import analyse  # noqa: E402
from tpcalc.errors import DeriveError  # noqa: E402
from tpcalc.optimizers import LAWS, Decay, Epsilon, LiveRecipe, Recipe, WeightView, update_law  # noqa: E402
from tpcalc.optimizers.law import (  # noqa: E402
    AFTER_NORMALISING,
    BESIDE_GRADIENT,
    BESIDE_GRADIENT_RESCALED,
    BESIDE_GRAM,
    BESIDE_NORM,
    BESIDE_SQUARE,
    COUPLED,
    COUPLED_IN_NORM,
    DECOUPLED,
    INDEPENDENT,
    INSIDE_ROOT,
    LINEAR,
    SCALED_WITH_THE_RATE,
)

G, B, ROWS, COLUMNS, INPUTS = -ONE, Fraction(1, 4), ONE, HALF, Fraction(1, 8)
W = WeightView(G, B, (ROWS, COLUMNS), COLUMNS, INPUTS)
WIDE = replace(W, axes=(COLUMNS, ROWS))
VECTOR = replace(W, axes=(ROWS,))
#: Of the Frobenius norm of the gradient, and of 1 / sqrt(rows * columns).
NORM, FLAT = G + Fraction(3, 4), -Fraction(3, 4)

#: Law -> order of an update, decay, epsilon.
TABLE = {
    # linear in the gradient (TP4, Section 3)
    "sgd": (G, LINEAR, None),
    "asgd": (G, LINEAR, None),
    "adadelta": (G, COUPLED, BESIDE_SQUARE),
    # of degree 0 in it (TP4b, Section 2)
    "adam": (ZERO, COUPLED, BESIDE_GRADIENT),
    "adamw": (ZERO, DECOUPLED, BESIDE_GRADIENT),
    "nadam": (ZERO, COUPLED, BESIDE_GRADIENT),
    "nadamw": (ZERO, DECOUPLED, BESIDE_GRADIENT),
    "radam": (ZERO, COUPLED, BESIDE_GRADIENT),
    "radamw": (ZERO, DECOUPLED, BESIDE_GRADIENT),
    "adamax": (ZERO, COUPLED, BESIDE_GRADIENT),
    "rmsprop": (ZERO, COUPLED, BESIDE_GRADIENT),
    "adagrad": (ZERO, COUPLED, BESIDE_GRADIENT),
    "adam_atan2": (ZERO, DECOUPLED, None),
    "rprop": (ZERO, COUPLED, None),
    "sign": (ZERO, DECOUPLED, None),
    "lion": (ZERO, DECOUPLED, None),
    "adafactor_absolute": (ZERO, DECOUPLED, None),
    # scaled to the weight (TP5, Appendix B.3)
    "adafactor": (-B, DECOUPLED, None),
    "adafactor_transformers": (-B, SCALED_WITH_THE_RATE, None),
    "lamb": (-B, AFTER_NORMALISING, BESIDE_GRADIENT_RESCALED),
    "lars": (-B, COUPLED_IN_NORM, BESIDE_NORM),
    # of spectral norm 1, times sqrt(max(1, rows/columns)), sqrt(max(rows, columns)), sqrt(rows/columns)
    "muon": (FLAT + Fraction(1, 4), DECOUPLED, BESIDE_NORM),
    "muon_match_rms_adamw": (FLAT + HALF, DECOUPLED, BESIDE_NORM),
    "muon_spectral": (FLAT + Fraction(1, 4), DECOUPLED, BESIDE_NORM),
    "shampoo": (FLAT, DECOUPLED, BESIDE_GRAM),
    # B^-1 G A^-1 for G = d x^T: A = x x^T has norm n^(1/2 + 1/4), B = d d^T has n^(1 - 9/4)
    "kfac": (-ONE - Fraction(3, 4) + Fraction(5, 4), COUPLED, None),
    "foof": (-ONE - Fraction(3, 4), COUPLED, None),
}
C = Fraction(5)


def test_every_law_has_a_row():
    assert TABLE.keys() | {"soap"} == LAWS.keys()


@pytest.mark.parametrize("name", TABLE)
def test_an_update_its_decay_and_epsilon(name):
    law, (update, decay, eps) = LAWS[name], TABLE[name]
    assert law.update(W) == update and law.decay is decay and law.eps is eps


def test_soap():
    """Adam's law for what is new in a gradient; what lies in its own eigenbasis is divided by its norm."""
    law = LAWS["soap"]
    assert (law.update(W), law.update(VECTOR)) == (ZERO, ZERO)
    assert (law.least(W), law.least(VECTOR)) == (FLAT, ZERO)
    assert law.decay is DECOUPLED and law.eps is BESIDE_GRADIENT


def test_wide_matrices_and_vectors():
    """sqrt(max(1, rows/columns)) is 1 for a wide one; a vector is n rows of one column."""
    updates = {name: LAWS[name].update(WIDE) for name in LAWS if name.startswith("muon")}
    assert updates == {
        "muon": FLAT,
        "muon_match_rms_adamw": FLAT + HALF,
        "muon_spectral": FLAT - Fraction(1, 4),
    }
    assert LAWS["muon"].update(VECTOR) == ZERO and LAWS["shampoo"].update(VECTOR) == -HALF
    assert LAWS["shampoo"].update(replace(W, axes=())) == ZERO
    assert LAWS["shampoo"].update(replace(W, axes=(ONE, ONE, HALF))) == -Fraction(5, 4)


#: Decay: lr * wd constant; in proportion to the gradient, or to the normalised update (TP5, Appendix B.3).
DECAYS = [
    (DECOUPLED, C),
    (INDEPENDENT, ZERO),
    (LINEAR, C),
    (COUPLED, G + B),
    (AFTER_NORMALISING, B),
    (SCALED_WITH_THE_RATE, C + B),
]
#: Epsilon as large as what it stands beside; what an excess, or a lack, of n^1 makes of an update.
EPSILONS = [
    (BESIDE_GRADIENT, G, ONE, ZERO),
    (BESIDE_NORM, NORM, ONE, ZERO),
    (INSIDE_ROOT, 2 * G, HALF, ZERO),  # g / sqrt(g^2 + eps)
    (BESIDE_GRAM, 2 * NORM, HALF, ZERO),  # (|G|^2 + eps)^-1/2
    (BESIDE_SQUARE, 2 * G, ZERO, HALF),  # sqrt(updates^2 + eps) / sqrt(g^2 + eps): starts at sqrt(eps)
]


@pytest.mark.parametrize("decay, exponent", DECAYS)
def test_decay(decay, exponent):
    assert decay.exponent(W, C) == exponent
    assert COUPLED.exponent(replace(W, gradient=MINUS_INFINITY), C) == B


@pytest.mark.parametrize("name", TABLE)
def test_decay_is_coupled_where_it_goes_by_the_gradient(name):
    law = LAWS[name]
    here, there = (law.decay.exponent(w, C) for w in (W, replace(W, gradient=G + 1)))
    assert law.coupled is (here != there)


@pytest.mark.parametrize("eps, exponent, excess, lack", EPSILONS)
def test_epsilon(eps, exponent, excess, lack):
    assert eps.exponent(W) == exponent and (eps.power, eps.below) == (excess, lack)
    law = replace(LAWS["adam"], eps=eps)
    assert law.held_back(W, exponent + 2) == 2 * excess and law.held_back(W, exponent - 2) == 2 * lack
    assert law.held_back(W, exponent) == law.held_back(W, None) == 0
    assert LAWS["sign"].held_back(W, ONE) == 0


def test_learning_rates():
    """C = a + c - u, less what epsilon holds back."""
    a = Fraction(1, 3)
    for name, u in (("sgd", G), ("adam", ZERO), ("lamb", -B)):
        law = LAWS[name]
        assert law.c(C, W) == C + u and law.c(C, W, a) == C - a + u
        assert law.C(C, W) == C - u and law.C(C, W, a) == C + a - u
    assert LAWS["adam"].C(C, W, a, G + 1) == C + a + 1
    assert (
        LAWS["sgd"].c(C, replace(W, gradient=MINUS_INFINITY))
        == C
        == LAWS["sgd"].C(C, replace(W, gradient=MINUS_INFINITY))
    )


def test_entries_without_a_gradient_do_not_count():
    """Of n rows few move: all that is a norm, or shared among the entries that move, counts those alone.  ``thin``: of
    rows and columns both few entries, as in a band."""
    rows = replace(W, axes=(ONE, ONE), few=ONE)
    band = replace(rows, thin=True)
    assert (rows.entries, rows.moved, rows.full, band.full) == (2, 1, 1, 0)
    assert (rows.norm, band.norm) == (G + HALF, G + HALF)
    changed = {
        "muon": (-HALF, ZERO),
        "muon_match_rms_adamw": (ZERO, HALF),
        "muon_spectral": (-HALF, ZERO),
        "shampoo": (-HALF, ZERO),
        "kfac": (-G - ONE, -G - ONE),
        "lars": (HALF - B, HALF - B),
        "lamb": (HALF - B, HALF - B),
        "adafactor": (-B, HALF - B),
        "adafactor_transformers": (-B, HALF - B),
        "adafactor_absolute": (ZERO, HALF),
    }
    whole = replace(rows, few=ZERO)
    for name, law in LAWS.items():
        expected = changed.get(name, (law.unit(whole),) * 2)
        assert (law.unit(rows), law.unit(band)) == expected, name
        if law.eps is not None:
            less = {"lars": HALF, "shampoo": ONE}.get(name, HALF if name.startswith("muon") else ZERO)
            assert law.eps.exponent(whole) - law.eps.exponent(rows) == less, name
        less = HALF if name in ("lars", "lamb") else ZERO
        assert law.decay.exponent(whole, ONE) - law.decay.exponent(rows, ONE) == less, name


def test_what_lies_behind_a_multiplier():
    view = W.at(Fraction(1, 3))
    assert view == replace(W, gradient=G - Fraction(1, 3), size=B - Fraction(1, 3))


def test_shifts_along_the_orbit():
    """TP4, Equation 5: 2 for SGD; TP4b, Section 2: 1 for Adam; 0 for what is scaled to the weight; 1 for Muon."""
    shifts = {name: LAWS[name].shift for name in ("sgd", "adadelta", "adam", "lamb", "muon", "shampoo")}
    assert shifts == {"sgd": 2, "adadelta": 2, "adam": 1, "lamb": 0, "muon": 1, "shampoo": 1}


def test_which_laws_are_relative_and_which_follow_other_weights():
    relative = {name for name, law in LAWS.items() if replace(law).relative}  # a law keeps what it has said once
    assert relative == {"adafactor", "adafactor_transformers", "lamb", "lars"}
    following = {name for name, law in LAWS.items() if law.follows_others}
    assert following == relative | {"sgd", "asgd", "adadelta", "kfac", "foof"}
    assert {name for name, law in LAWS.items() if law.follows_gradient} == following - relative
    inverse = replace(LAWS["adam"], update=lambda w: w.size)  # smaller weights move more: not in proportion
    assert not inverse.relative and inverse.follows_others
    squared = replace(LAWS["adam"], update=lambda w: -2 * w.size)
    assert not squared.relative
    mixed = replace(LAWS["adam"], update=lambda w: w.gradient + w.size)  # both count as much
    assert mixed.follows_others


def test_true_lengths():
    """The factors of an update for 8 x 32, 32 x 8, and 8 x 8 as numbers."""

    def size(name: str, rows: int, columns: int) -> float:
        result = 1.0
        for base, exponent in LAWS[name].shape(rows, columns):
            result *= float(base) ** float(exponent)
        return result

    shapes = ((8, 32), (32, 8), (8, 8))
    expected = {
        "shampoo": (1 / 16, 1 / 16, 1 / 8),
        "muon": (1 / 16, 2 / 16, 1 / 8),
        "muon_match_rms_adamw": (32**0.5 / 16, 32**0.5 / 16, 8**0.5 / 8),
        "muon_spectral": (0.5 / 16, 2 / 16, 1 / 8),
    }
    assert {name for name, law in LAWS.items() if law.shape is not None} == expected.keys()
    for name, sizes in expected.items():
        assert [size(name, *shape) for shape in shapes] == pytest.approx(sizes)


def test_a_recipe_gives_hidden_matrices_to_their_law():
    adam, muon = LAWS["adam"], LAWS["muon"]
    both, one = Recipe(adam, muon), Recipe(adam)
    assert both.law_for("hidden", (ONE, HALF)) is muon
    for role, axes in (
        ("input", (ONE, ONE)),
        ("output", (ONE, ONE)),
        ("hidden", (ONE,)),
        ("hidden", (ONE, ONE, ONE)),
        ("hidden", (ONE, ZERO)),
        ("hidden", (ZERO, ONE)),
    ):
        assert both.law_for(role, axes) is adam
    assert one.law_for("hidden", (ONE, ONE)) is adam


# -- what a law sees of a weight in training -------------------------------------------------------


def update_of(name: str, law: str, first, last, lowered=None, step: int = 1):
    lowered = lowered or two_layers()
    return analyse(lowered, {"first": first, "last": last}, update_law(law), steps=step).trail[-1].C[name]


def test_a_relative_law_sees_the_present_size():
    """LAMB, lr n^0: from W = n^-2 that SGD has moved by n^-1/2 to updates of n^-1/2."""
    laws = {"first": update_law("lamb"), "last": update_law("lamb")}
    lowered = two_layers()
    grown = given(0, 2, -1)
    trail = analyse(lowered, {"first": IDLE, "last": grown}, laws, steps=2).trail
    # lr n^1: the first update is n^(1 - 2), the next one n^(1 - 1)
    assert [step.C["last"] for step in trail] == [None, ONE, ZERO]


def test_a_law_that_looks_at_inputs_sees_what_the_weight_meets():
    """FOOF divides by the squared norm of its inputs: n^(fan_in + 2 inputs); the gradient of W2 is as large as they
    are."""
    # features of n^-1/4: g = -1/4, u = -1/4 - (1 - 1/2)
    assert update_of("last", "foof", given(0, "1/4", None), given(0, 1, 0)) == Fraction(3, 4)
    # data of order 0 in few entries: g = -1 (W2), u = -1
    assert update_of("first", "foof", given(0, 0, 0), given(0, 1, 0)) == ONE
    # behind a multiplier n^-1/4 the gradient of w is n^(-1/2) for these features: u = -1/2 - 1/2
    assert update_of("last", "foof", given(0, "1/4", None), given("1/4", "3/4", 0)) == Fraction(5, 4)


def test_a_law_that_looks_at_inputs_sees_their_largest_size():
    """The factors are running means: what was large once is still in them."""
    from tpcalc.dynamics.training import view_of

    lowered = two_layers()
    facts = dict(analyse(lowered, {"first": IDLE, "last": given(0, 1, 0)}, update_law("foof")).facts)
    for fact in (Fact(ONE, ZERO, ONE), Fact(ZERO, ONE, ONE)):
        facts[HIDDEN] = fact
        view = view_of(lowered, lowered.leaves[1], given(0, 1, 0), facts)
        assert (view.inputs, view.fan_in, view.axes) == (ONE, ONE, (ZERO, ONE))


def test_a_weight_that_meets_nothing_has_inputs_of_order_0():
    lowered = two_layers()
    leaves = (replace(lowered.leaves[0], value=99), lowered.leaves[1])
    lowered = replace(lowered, leaves=leaves)
    lowered.program.values[99] = replace(lowered.program.values[W1], id=99)
    found = analyse(lowered, {"first": given(0, 0, 0), "last": given(0, 1, 0)}, update_law("foof"), steps=1)
    assert found.trail[1].C["first"] == ONE and HIDDEN in found.facts


def test_declared_conventions_are_what_they_say():
    assert all(isinstance(law.decay, Decay) and isinstance(law.eps, (Epsilon, type(None))) for law in LAWS.values())


# -- zeros, and what is no exact order -------------------------------------------------------------


def test_the_first_update_of_a_weight_that_starts_at_zero():
    """It has no size to go by: an update of order 0 (a ratio of 1, the size of a floor), under LARS the gradient."""
    zero = replace(W, zero=True)
    updates = {name: law.update(zero) for name, law in LAWS.items() if law.relative}
    assert updates == {"adafactor": ZERO, "adafactor_transformers": ZERO, "lamb": ZERO, "lars": G}


def test_what_epsilon_takes_a_scaling_to_the_weight_gives_back():
    eps = law_module.BESIDE_GRADIENT_RESCALED
    assert eps.exponent(W) == G and (eps.power, eps.below) == (0, 0)
    assert LAWS["lamb"].held_back(W, G + 2) == LAWS["lamb"].held_back(W, G - 2) == 0


def test_an_update_is_an_exact_number():
    def unit(u, view: WeightView = W):
        return replace(LAWS["sgd"], update=lambda w: u).unit(view)

    assert (unit(1), unit(HALF), unit(MINUS_INFINITY)) == (1, HALF, 0)
    assert unit(Fraction(1, 3)) == Fraction(1, 3)
    assert LAWS["sgd"].unit(replace(W, gradient=MINUS_INFINITY)) == 0
    both = replace(LAWS["sgd"], update=lambda w: w.gradient + w.size)
    assert both.unit(replace(W, gradient=MINUS_INFINITY)) == W.size
    for wrong in (0.5, "1/2", None):
        with pytest.raises(DeriveError, match="return an exact one"):
            unit(wrong)


def test_two_laws_of_a_function_have_two_names():
    """Whatever each is called by itself; a weight is asked for once."""
    plain = LAWS["adam"]
    kinds = (plain, replace(plain, decay=INDEPENDENT), replace(plain, decay=DECOUPLED), replace(plain, note="noted"))
    asked = []

    def law_of(axes, lengths):
        asked.append(lengths)
        return kinds[lengths[0]]

    found = LiveRecipe(plain, made_by="make", law_of=law_of)
    names = [found.law_for("hidden", (ONE,), (kind,)).name for kind in (0, 1, 2, 3, 0, 1)]
    assert names == ["adam", "adam_2", "adam_3", "adam", "adam", "adam_2"]
    assert asked == [(0,), (1,), (2,), (3,)] and {law.name for law in found.laws} == {"adam", "adam_2", "adam_3"}
