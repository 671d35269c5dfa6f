"""The laws of the calculus against numbers: log-log slopes of small experiments over widths 64 to 1024.

Each case states a structure, what is known of its operands, and an experiment that returns its result at init and after
training; the slopes of the rms entries must be the orders that the law gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import tpcalc
from tests.support.models import MODELS, Net, ones, program, readout
from tpcalc.algebra.order import HALF, MINUS_INFINITY, ONE, ZERO, max_order
from tpcalc.calculus.alignment import ALIGNMENTS, FULL, NONE, OMEGA
from tpcalc.calculus.facts import Fact, WeightOrders, weight_fact
from tpcalc.calculus.laws import LAWS, propagate
from tpcalc.lower.flatten import lower
from tpcalc.rules.structures import (
    Bounded,
    Centre,
    Contract,
    Discrete,
    Exp,
    Gather,
    Known,
    LinearLike,
    Log,
    Normalise,
    Power,
    Product,
    Reduce,
    Scale,
    Softmax,
    Structure,
    Sum,
    View,
)

WIDTHS = (64, 128, 256, 512, 1024)
SEEDS = 6
TOLERANCE = 0.1
BATCH = 8


def weight(A, C=None, bit: int = 0) -> Fact:
    """A random weight, entries n^-A, updates n^-C."""
    return weight_fact(bit, WeightOrders(Fraction(A), None if C is None else Fraction(C)))


def value(init, change=None, depends: int = 0, odd: int = 0) -> Fact:
    """A value that depends on the weights in ``depends``, odd in ``odd``, without parity in the others."""
    init = MINUS_INFINITY if init is None else Fraction(init)
    change = MINUS_INFINITY if change is None else Fraction(change)
    return Fact(init, max_order(init, change), change, depends, odd, depends & ~odd, data=True)


@dataclass
class Case:
    """``measure(rng, n)`` returns the result at init and after training."""

    name: str
    structure: Structure
    facts: tuple[Fact, ...]
    measure: Callable


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def unit(x: np.ndarray) -> np.ndarray:
    """Scaled to rms entries of 1."""
    return x / rms(x)


def slope(sizes: list[float]) -> float:
    return float(np.polyfit(np.log(WIDTHS), np.log(sizes), 1)[0])


def contract(K, rest_x, rest_y=0) -> Contract:
    return Contract(0, 1, Fraction(K), Fraction(rest_x), Fraction(rest_y))


def normal(rng, *shape, std=1.0):
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(std)


def initial_weight(rows: Callable, A: float, moved: bool) -> Callable:
    """W x for an independent x, which training moves by W's own direction, as the gradient through W does."""

    def measure(rng, n):
        W, x = normal(rng, rows(n), n, std=n**-A), normal(rng, n)
        dx = unit(W.T @ normal(rng, rows(n))) if moved else 0
        return W @ x, W @ (x + dx)

    return measure


def readouts(A: float) -> Callable:
    """Many readouts to one number each, every one meeting features that moved along it."""

    def measure(rng, n):
        W, x = normal(rng, 64, n, std=n**-A), normal(rng, 64, n)
        return (W * x).sum(axis=1), (W * (x + W * n**A)).sum(axis=1)

    return measure


def own_direction(rows: Callable, A: float) -> Callable:
    """W x for an x made by W itself."""

    def measure(rng, n):
        W = normal(rng, rows(n), n, std=n**-A)
        y = W @ unit(W.T @ normal(rng, rows(n)))
        return y, y

    return measure


def updated_weight(rows: Callable, A: float, C: float) -> Callable:
    """One step of a sign-like optimizer on W, seen by the x that made the gradient."""

    def measure(rng, n):
        W, x, g = normal(rng, rows(n), n, std=n**-A), normal(rng, n), normal(rng, rows(n))
        return W @ x, (W + n**-C * np.sign(np.outer(g, x))) @ x

    return measure


def queries_and_keys(rng, n):
    """q.k of independent projections, aligned by training."""
    x, A = normal(rng, n, 64), n**-0.5
    q, k = normal(rng, n, n, std=A) @ x, normal(rng, n, n, std=A) @ x
    return (q * k).sum(axis=0), ((q + unit(k)) * k).sum(axis=0)


def same_weight_twice(rng, n):
    x = normal(rng, n)
    q = normal(rng, n, n, std=n**-0.5) @ x
    return q @ q, (q + unit(q)) @ q


def rectified(rng, n):
    q, k = np.maximum(normal(rng, n), 0), np.maximum(normal(rng, n), 0)
    return q @ k, q @ (k + q)


def average(rng, n):
    """softmax over n entries, contracted with zero-mean values that training aligns."""
    p, v = softmax(normal(rng, 64, n)), normal(rng, 64, n)
    return (p * v).sum(axis=1), (p * (v + 1)).sum(axis=1)


def entrywise(f: Callable, order: float = 0, change: float = 0) -> Callable:
    """f of n entries of order ``order`` that move by ``change``."""

    def measure(rng, n):
        x, d = normal(rng, BATCH * n), normal(rng, BATCH * n)
        return f(x * n**order), f(x * n**order + d * n**change)

    return measure


def over_rows(f: Callable, order: float, change: float) -> Callable:
    def measure(rng, n):
        x, d = normal(rng, BATCH, n), normal(rng, BATCH, n)
        return f(x * n**order), f(x * n**order + d * n**change)

    return measure


def near(init, change, left) -> Fact:
    """A value that is one number, but for a part of order ``left``."""
    return value(init, change)._replace(deviation=left)


def centred(x: np.ndarray) -> np.ndarray:
    return x - x.mean(axis=-1, keepdims=True)


def rms_norm(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x)
    return e / e.sum(axis=-1, keepdims=True)


W0 = 1
W1 = 2
H, Q = HALF, Fraction(1, 4)
CASES = [
    # law 1
    Case("law 1, square", contract(1, 1), (weight(H), value(0)), initial_weight(lambda n: n, 0.5, False)),
    Case("law 1, to finite", contract(1, 0), (weight(H), value(0)), initial_weight(lambda n: BATCH, 0.5, False)),
    # law 2: max(K/2, K - R/2)
    Case("law 2, square", contract(1, 1), (weight(H), value(0, 0)), initial_weight(lambda n: n, 0.5, True)),
    Case("law 2, to finite", contract(1, 0), (weight(H), value(0, 0)), readouts(0.5)),
    Case("law 2, to finite, at muP's init", contract(1, 0), (weight(1), value(0, 0)), readouts(1)),
    Case(
        "law 2, to sqrt(n)",
        contract(1, H),
        (weight(H), value(0, 0)),
        initial_weight(lambda n: round(n**0.5), 0.5, True),
    ),
    Case(
        "law 2, to n, from its own direction",
        contract(1, 1),
        (weight(H), value(0, depends=W0, odd=W0)),
        own_direction(lambda n: n, 0.5),
    ),
    Case(
        "law 2, to finite, from its own direction",
        contract(1, 0),
        (weight(H), value(0, depends=W0, odd=W0)),
        own_direction(lambda n: 1, 0.5),
    ),
    # law 3
    Case("law 3, square", contract(1, 1), (weight(H, 1), value(0)), updated_weight(lambda n: n, 0.5, 1)),
    Case("law 3, to finite", contract(1, 0), (weight(1, 1), value(0)), updated_weight(lambda n: BATCH, 1, 1)),
    Case(
        "law 3, standard parametrization",
        contract(1, 1),
        (weight(H, H), value(0)),
        updated_weight(lambda n: n, 0.5, 0.5),
    ),
    # law 4
    Case("law 4, odd in two weights", contract(1, 0), (value(0, 0, W0, W0), value(0, 0, W1, W1)), queries_and_keys),
    Case("law 4, even in one weight", contract(1, 0), (value(0, 0, W0, W0), value(0, 0, W0, W0)), same_weight_twice),
    Case("law 4, no parity", contract(1, 0), (value(0, 0, W0), value(0, 0, W1)), rectified),
    Case("softmax over a growing axis averages", contract(1, 0), (value(-1, None, W0), value(0, 0, W1, W1)), average),
    # entrywise
    Case("scale", Scale(0, -H), (value(0, -H),), entrywise(lambda x: x * (x.size / BATCH) ** -0.5, 0, -0.5)),
    Case(
        "product",
        Product(0, 1),
        (value(H, -Q), value(-1, -1)),
        lambda rng, n: (lambda x, y, dx, dy: (x * y, (x + dx) * (y + dy)))(
            *(normal(rng, BATCH * n, std=n**e) for e in (0.5, -1, -0.25, -1))
        ),
    ),
    Case(
        "sum",
        Sum((0, 1)),
        (value(-H, -1), value(0, -Q)),
        lambda rng, n: (lambda x, y, dx, dy: (x + y, x + dx + y + dy))(
            *(normal(rng, BATCH * n, std=n**e) for e in (-0.5, 0, -1, -0.25))
        ),
    ),
    Case("square", Power(0, Fraction(2), "even"), (value(-H, -1),), entrywise(np.square, -0.5, -1)),
    Case("relu", Power(0, ONE), (value(H, Q),), entrywise(lambda x: np.maximum(x, 0), 0.5, 0.25)),
    Case(
        "power of a value that grows from less",
        Power(0, Fraction(2), "even"),
        (value(-1, H),),
        entrywise(np.square, -1, 0.5),
    ),
    Case(
        "gelu-like",
        LinearLike(0),
        (value(H, Q),),
        entrywise(lambda x: x / (1 + np.exp(-np.clip(x, -50, 50))), 0.5, 0.25),
    ),
    Case("softplus", LinearLike(0, offset=True), (value(-H, -1),), entrywise(lambda x: np.log1p(np.exp(x)), -0.5, -1)),
    Case("tanh of small", Bounded(0, True, "odd"), (value(-H, -1),), entrywise(np.tanh, -0.5, -1)),
    Case("tanh of O(1)", Bounded(0, True, "odd"), (value(0, -H),), entrywise(np.tanh, 0, -0.5)),
    Case("sigmoid of small", Bounded(0, False), (value(-H, -1),), entrywise(lambda x: 1 / (1 + np.exp(-x)), -0.5, -1)),
    Case("exp of small", Exp(0), (value(-H, -1),), entrywise(np.exp, -0.5, -1)),
    Case(
        "log moves relatively",
        Log(0),
        (value(0, -H),),
        entrywise(lambda x: np.log(2 + np.abs(x) * 1e-6 + x * 0.1), 0, -0.5),
    ),
    # over an axis
    Case("rms norm of large", Normalise(0, ZERO), (value(H, Q),), over_rows(rms_norm, 0.5, 0.25)),
    Case("rms norm of small", Normalise(0, ZERO), (value(-1, -H),), over_rows(rms_norm, -1, -0.5)),
    Case(
        "a unit vector",
        Normalise(0, -H),
        (value(0, -H),),
        over_rows(lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True), 0, -0.5),
    ),
    # what is one number but for a small part
    Case("centring of 1 + small", Centre(0), (near(0, -1, -H),), over_rows(lambda x: centred(1 + x), -0.5, -1)),
    Case("softmax over n", Softmax(0, ONE), (value(0, -H),), over_rows(softmax, 0, -0.5)),
    Case(
        "log-softmax over a finite axis",
        Softmax(0, ZERO, log=True),
        (value(0, -H),),
        lambda rng, n: (lambda x, d: tuple(np.log(softmax(z)) for z in (x, x + d * n**-0.5)))(
            normal(rng, n, 4), normal(rng, n, 4)
        ),
    ),
    Case(
        "sum of n odd terms",
        Reduce(0, ONE),
        (value(0, 0, W0, W0),),
        lambda rng, n: (lambda x: (x.sum(axis=1), (x + 1).sum(axis=1)))(normal(rng, 64, n)),
    ),
    Case(
        "sum of n rectified terms",
        Reduce(0, ONE),
        (value(0, -H, W0),),
        lambda rng, n: (lambda x: (x.sum(axis=1), (x + n**-0.5).sum(axis=1)))(np.maximum(normal(rng, 64, n), 0)),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_law_against_measurement(case):
    fact = LAWS[type(case.structure)](case.structure, dict(enumerate(case.facts)), FULL)
    init, change, trained = [], [], []
    for n in WIDTHS:
        runs = [case.measure(np.random.default_rng([n, seed]), n) for seed in range(SEEDS)]
        init.append(rms(np.array([rms(before) for before, _ in runs])))
        change.append(rms(np.array([rms(after - before) for before, after in runs])))
        trained.append(rms(np.array([rms(after) for _, after in runs])))
    assert slope(init) == pytest.approx(float(fact.init), abs=TOLERANCE), "init"
    assert slope(trained) == pytest.approx(float(fact.trained), abs=TOLERANCE), "trained"
    if fact.change is MINUS_INFINITY:
        assert max(change) == 0
    else:
        assert slope(change) == pytest.approx(float(fact.change), abs=TOLERANCE), "change"


def test_a_wrong_law_is_noticed():
    """The readout at n^-1/2 drifts by n^(1/2) when features follow it; without law 2 one would predict 0."""
    case = next(case for case in CASES if case.name == "law 2, to finite")
    moved = [
        rms(np.array([np.subtract(*case.measure(np.random.default_rng([n, seed]), n)) for seed in range(SEEDS)]))
        for n in WIDTHS
    ]
    assert slope(moved) == pytest.approx(0.5, abs=TOLERANCE)
    assert LAWS[Contract](case.structure, dict(enumerate(case.facts)), OMEGA).change == 0


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


#: Functions of x of order n^-e in float64, and their structures; the results centred.
CENTRED = [
    ("sigmoid", Bounded(0, False), sigmoid, H),
    ("sigmoid of less", Bounded(0, False), sigmoid, ONE),
    ("sigmoid twice", Bounded(1, False), lambda x: sigmoid(x.shape[-1] ** -0.5 * sigmoid(x)), ZERO),
    ("exp", Exp(0), np.exp, H),
    ("softplus", LinearLike(0, offset=True), lambda x: np.log1p(np.exp(x)), H),
    ("cos", Bounded(0, False, "even"), np.cos, H),
    ("softmax", Softmax(0, ONE), softmax, H),
    ("inverse of exp", Power(1, -ONE), lambda x: 1 / np.exp(x), H),
    ("rms norm of exp", Normalise(1, ZERO), lambda x: rms_norm(np.exp(x)), H),
]
#: What value 1 is, where the structure has that for its operand.
BEFORE = {
    "sigmoid twice": near(-H, None, -H),
    "inverse of exp": near(0, None, -H),
    "rms norm of exp": near(0, None, -H),
}


@pytest.mark.parametrize("name, structure, f, e", CENTRED, ids=[row[0] for row in CENTRED])
def test_what_is_left_of_a_constant(name, structure, f, e):
    """Law against measurement, through centring: the size of what is left, and of its inverse."""
    facts = {0: value(-e), 1: BEFORE.get(name)}
    left = LAWS[Centre](Centre(2), {2: LAWS[type(structure)](structure, facts, FULL)}, FULL)

    def experiment(rng, n):
        return rms(centred(f(rng.standard_normal((BATCH, n)) * n ** -float(e))))

    assert measured(experiment) == pytest.approx(float(left.init), abs=TOLERANCE)


def test_an_average_of_what_is_nearly_constant():
    """Over signs that cancel: n^-1/2 of the deviation, as the law says; over those that do not, all of it."""
    fact = LAWS[Reduce](Reduce(0, ONE), {0: near(0, None, -H)}, FULL)
    fact = LAWS[Scale](Scale(0, -ONE), {0: fact}, FULL)

    def spread(shared):
        def experiment(rng, n):
            x = normal(rng, 64, n) + shared * normal(rng, 64, 1)
            return rms(centred(sigmoid(x * n**-0.5).mean(axis=1)))

        return experiment

    assert measured(spread(0)) == pytest.approx(float(fact.deviation), abs=TOLERANCE)
    assert measured(spread(1)) == pytest.approx(float(fact.deviation) + 0.5, abs=TOLERANCE)


def centrings(f: Callable) -> int:
    """How many of the values that ``f`` makes of a layer's output are centred by the code itself."""

    class Made(nn.Module):
        def __init__(self, n: int):
            super().__init__()
            self.enter = nn.Linear(4, n)

        def forward(self, x):
            return f(self.enter(x))

    lowered = lower(tpcalc.trace(lambda n: (Made(n), (torch.randn(3, 4),)), (64, 128, 256)))
    return sum(
        isinstance(atom.structure, Centre) and atom.out in lowered.program.values
        for atom in lowered.atoms[: lowered.forward]
    )


@pytest.mark.parametrize(
    "f, number",
    [
        (lambda x: x - x.mean(-1, keepdim=True), 1),
        (lambda x: x - x.mean(), 1),
        (lambda x: x.mean(-1, keepdim=True) - x, 1),
        (lambda x: torch.rsub(x.mean(-1, keepdim=True), x), 1),
        (lambda x: x - x.mean(-1)[:, None].expand(-1, x.shape[1]), 1),
        (lambda x: x.t() - x.mean(-1), 1),
        (lambda x: x - torch.var_mean(x, -1, keepdim=True)[1], 1),
        (lambda x: x - x.double().mean(-1, keepdim=True).float(), 1),
        (lambda x: x - x.detach().mean(-1, keepdim=True), 1),
        # refused: sums, multiples, parts, means of something else
        (lambda x: x + x.mean(-1, keepdim=True), 0),
        (lambda x: x + (-x).mean(-1, keepdim=True), 0),
        (lambda x: x - (-x).mean(-1, keepdim=True), 0),
        (lambda x: x - (2 * x).mean(-1, keepdim=True), 0),
        (lambda x: x - x.sum(-1, keepdim=True), 0),
        (lambda x: torch.sub(x, x.mean(-1, keepdim=True), alpha=0.5), 0),
        (lambda x: x - x[:, :2].mean(-1, keepdim=True), 0),
        (lambda x: x.relu() - x.mean(-1, keepdim=True), 0),
        (lambda x: x - torch.var_mean(x, -1, keepdim=True)[0], 0),
        (lambda x: x - 1, 0),
        (lambda x: 1 - x, 0),
        (lambda x: x - x.add(1).mean(-1, keepdim=True), 0),
    ],
)
def test_what_is_less_its_own_mean_is_seen(f, number):
    assert centrings(f) == number


def measured(experiment: Callable) -> float:
    return slope(
        [rms(np.array([experiment(np.random.default_rng([n, seed]), n) for seed in range(SEEDS)])) for n in WIDTHS]
    )


def test_a_jump_changes_in_the_mean_as_its_law_says_and_more_in_rms():
    """A known limit: relu's slope flips for a fraction n^-1/2 of entries when its input moves by n^-1/2."""

    def flips(rng, n):
        x = normal(rng, 64, n)
        return (x + normal(rng, 64, n) * n**-0.5 > 0) != (x > 0)

    predicted = LAWS[Discrete](Discrete((0,)), {0: value(0, -H)}, FULL).change
    assert measured(lambda rng, n: np.mean(flips(rng, n))) == pytest.approx(float(predicted), abs=TOLERANCE)
    assert measured(lambda rng, n: np.sqrt(np.mean(flips(rng, n)))) == pytest.approx(
        float(predicted) / 2, abs=TOLERANCE
    )


def test_the_gain_of_a_normalised_weight_could_move_more_than_it_may():
    """A known limit: an O(1) update of g in W = g v/|v| moves W x by O(1), where the law of an update of W says
    n^(1/2).
    """

    def effect(rng, n):
        v, x, g = normal(rng, n, n), normal(rng, n), normal(rng, n)
        h = (v / np.linalg.norm(v, axis=1, keepdims=True)) @ x
        return rms(np.sign(g * h) * h)

    assert measured(effect) == pytest.approx(0, abs=TOLERANCE)
    product = LAWS[Product](Product(0, 1), {0: weight(0, 0), 1: weight(H, bit=1)}, FULL)
    assert LAWS[Contract](contract(1, 1), {0: product, 1: value(0)}, FULL).change == H


# --- alignment ---


@pytest.mark.parametrize(
    "alignment, update, change, values",
    [(FULL, 0, H, 1), (OMEGA, 0, 0, 1), (NONE, -H, 0, H)],
    ids=lambda x: getattr(x, "name", x),
)
def test_assumptions_about_alignment(alignment, update, change, values):
    """What W's update, W at init on a change, and a product of trained values contribute over growth 1, W to finite."""
    assert ALIGNMENTS[alignment.name] is alignment
    run = LAWS[Contract]
    assert run(contract(1, 0), {0: weight(1, 1), 1: value(0)}, alignment).change == update
    assert run(contract(1, 0), {0: weight(H), 1: value(0, 0)}, alignment).change == change
    assert run(contract(1, 0), {0: value(0, 0, W0, W0), 1: value(0, 0, W1, W1)}, alignment).change == values


# --- parity ---


def parity(fact: Fact, bit: int = W0) -> str:
    return "mixed" if fact.mixed & bit else "odd" if fact.odd & bit else "even" if fact.depends & bit else "independent"


ODD, OTHER, NEITHER = value(0, 0, W0, W0), value(0, 0, W1, W1), value(0, 0, W0)
EVEN = LAWS[Power](Power(0, Fraction(2), "even"), {0: ODD}, FULL)


@pytest.mark.parametrize(
    "structure, facts, expected",
    [
        (Product(0, 1), (ODD, ODD), "even"),
        (Product(0, 1), (ODD, EVEN), "odd"),
        (Product(0, 1), (ODD, OTHER), "odd"),
        (Product(0, 1), (ODD, NEITHER), "mixed"),
        (Sum((0, 1)), (ODD, ODD), "odd"),
        (Sum((0, 1)), (EVEN, EVEN), "even"),
        (Sum((0, 1)), (ODD, EVEN), "mixed"),
        (Sum((0, 1)), (ODD, OTHER), "mixed"),
        (Sum((0, 1)), (ODD, value(None)), "odd"),
        (Power(0, ONE), (ODD,), "mixed"),
        (Power(0, Fraction(3), "odd"), (ODD,), "odd"),
        (Power(0, ONE, "even"), (ODD,), "even"),
        (Bounded(0, True, "odd"), (ODD,), "odd"),
        (Bounded(0, False, "none"), (ODD,), "mixed"),
        (Bounded(0, False, "even"), (ODD,), "even"),
        (LinearLike(0), (ODD,), "mixed"),
        (LinearLike(0), (EVEN,), "even"),
        (Normalise(0, ZERO), (ODD,), "odd"),
        (Softmax(0, ONE), (ODD,), "mixed"),
        (contract(1, 0), (ODD, ODD), "even"),
        (contract(1, 0), (ODD, OTHER), "odd"),
        (Reduce(0, ONE), (ODD,), "odd"),
        (View(0), (ODD,), "odd"),
        (Gather(0), (ODD,), "odd"),
        (Scale(0, ONE), (ODD,), "odd"),
        (Discrete((0,)), (ODD,), "mixed"),
        (Discrete((0,)), (EVEN,), "even"),
        (Known(ZERO), (), "independent"),
        # a function with f(0) != 0 of a vanishing value is a constant
        (Bounded(0, False), (value(-1, -1, W0, W0),), "independent"),
        (Exp(0), (value(-1, -1, W0, W0),), "independent"),
        (Bounded(0, True, "odd"), (value(-1, -1, W0, W0),), "odd"),
    ],
    ids=str,
)
def test_parity(structure, facts, expected):
    assert parity(LAWS[type(structure)](structure, dict(enumerate(facts)), FULL)) == expected


# --- zeros, constants, registration ---


def test_a_zero_weight_gives_zero_until_it_moves():
    zero = weight_fact(0, WeightOrders(None, ONE))
    fact = LAWS[Contract](contract(1, 1), {0: zero, 1: value(0)}, FULL)
    assert fact.init is MINUS_INFINITY and fact.trained == fact.change == 0


def test_a_frozen_weight_has_no_change():
    fact = LAWS[Contract](contract(1, 1), {0: weight(H), 1: value(0)}, FULL)
    assert fact.init == fact.trained == 0 and fact.change is MINUS_INFINITY


def test_the_reciprocal_of_zero_counts_as_order_0():
    """1 / (0 + eps): what keeps it finite is a constant."""
    assert LAWS[Power](Power(0, -ONE), {0: value(None)}, FULL).init == 0


def test_a_law_is_registered_once():
    with pytest.raises(ValueError, match="Contract already has a law"):
        LAWS.law(Contract)(lambda *args: None)


def test_every_structure_of_every_model_has_a_law():
    used = {type(atom.structure) for factory in MODELS.values() for atom in lower(program(factory)).atoms}
    assert used <= set(LAWS)


# --- whole programs ---


def facts_of(factory, A: dict[str, object]) -> tuple:
    """The facts of the outputs for the given init orders, the rest 0; nothing trains."""
    traced = tpcalc.trace(factory, (64, 128, 256))
    orders = {w.name: WeightOrders(Fraction(A.get(w.name, 0)), None) for w in traced.weights}
    return tuple(propagate(lower(traced), orders, backward=False)[vid] for _, vid in traced.outputs)


@pytest.mark.parametrize(
    "look", [lambda x: x, lambda x: x.transpose(0, 1).contiguous().transpose(0, 1), lambda x: x[:, None].clone()[:, 0]]
)
def test_what_views_of_the_inputs_multiply_is_no_weight(look):
    """x W1 is a value whatever views x went through, and W2 meets it as one: law 1, not the product of two weights."""

    def factory(n):
        net = Net(lambda s, x: s.o(look(x) @ s.w), w=nn.Parameter(torch.randn(8, n)), o=readout(n, bias=False))
        return net, (torch.linspace(-1, 1, 24).reshape(3, 8),)

    (fact,) = facts_of(factory, {"o.weight": 1})
    assert fact.data and fact.weight == 0 and fact.init == -HALF


def test_a_masked_or_scaled_weight_is_still_a_weight():
    def factory(n):
        mask = torch.ones(n, n).tril()
        net = Net(
            lambda s, x: s.o((x @ s.i) @ (s.w * mask * 2)),
            i=nn.Parameter(torch.randn(8, n)),
            w=nn.Parameter(torch.randn(n, n)),
            o=readout(n, False),
        )
        return net, (torch.ones(3, 8),)

    (fact,) = facts_of(factory, {"w": "1/2", "o.weight": 1})
    assert fact.init == -HALF


def test_sizes_of_a_sum_over_the_width_depend_on_parity():
    """sum of W x is n^(1/2), sum of relu(W x) is n."""

    def factory(n):
        net = Net(
            lambda s, x: ((x @ s.w).sum(-1, keepdim=True), (x @ s.w).relu().sum(-1, keepdim=True) * s.one),
            w=nn.Parameter(torch.randn(8, n)),
            one=ones(1),
        )
        return net, (torch.ones(3, 8),)

    odd, rectified_sum = facts_of(factory, {})
    assert (odd.init, rectified_sum.init) == (HALF, ONE)
