"""abc equivalences, trained: a shift along the orbit of any weight leaves the run unchanged, for every update law.

A weight ``W = n^-a w`` behind a multiplier is trained beside the same net with ``a = 0``, from the same effective
weights, in float64.  Learning rate, epsilon and weight decay of each weight move as the calculus says
(``UpdateLaw.c``, ``Epsilon.exponent``, ``Decay.exponent`` on ``WeightView.at(a)``); nothing here knows the symmetry.
Epsilon and decay are large enough to be felt, which the negative twins prove: with one of them left where it was, the
runs part.

TOLERANCE, relative: float64 rounds at 1e-16, a run is some ten steps of well-conditioned maps, and the largest
difference seen in 40 draws for each law is 7e-15.  A quantity at a wrong place moves a run by more than PARTED (the
least seen: 1e-3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.support.once import once
from tpcalc.optimizers import LAWS, UpdateLaw, WeightView

TOLERANCE, PARTED = 1e-10, 1e-4
STEPS = 5
#: The symbol of the orbit.  No power of two, so that multipliers are rounded.
N = 3.0


@pytest.fixture(scope="module", autouse=True)
def float64_on_one_thread():
    """Also what torch's optimizers keep for themselves (ASGD's eta) is float64 then."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)


# -- nets: w -> loss, with W = m w wherever w is used --------------------------------------------------------------


class Weights:
    """The parameters ``w`` of a net with their multipliers; remembers what K-FAC wants to see."""

    def __init__(self, w: dict[str, Tensor], m: dict[str, float]):
        self.w, self.m = w, m
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        return self.w[name] * self.m[name]

    def linear(self, x: Tensor, name: str) -> Tensor:
        """``W x``; the multiplier stands behind the layer, whose own output is ``w x``."""
        y = x @ self.w[name].T
        if y.requires_grad:
            y.retain_grad()
        self.inputs[name], self.outputs[name] = x.detach(), y
        return y * self.m[name]


def mlp(W: Weights, batch: Tensor) -> Tensor:
    x = torch.sin(batch[:, None] * torch.arange(1.0, 6.0))
    h = torch.tanh(W.linear(x, "first") + W["bias"])
    h = torch.tanh(W.linear(h, "hidden"))
    return F.cross_entropy(W.linear(h, "last"), batch % 3)


MLP_SHAPES = {"first": (6, 5), "bias": (6,), "hidden": (6, 6), "last": (3, 6)}


def layers(W: Weights, batch: Tensor) -> Tensor:
    """Linear layers alone, for laws that look at their inputs and outputs."""
    x = torch.sin(batch[:, None] * torch.arange(1.0, 6.0))
    h = torch.tanh(W.linear(torch.tanh(W.linear(x, "first")), "hidden"))
    return F.cross_entropy(W.linear(h, "last"), batch % 3)


LAYER_SHAPES = {name: shape for name, shape in MLP_SHAPES.items() if name != "bias"}


def transformer(W: Weights, batch: Tensor) -> Tensor:
    """One block, pre-norm, four learned gains, the embedding tied to the readout."""
    tokens = (batch.reshape(4, -1) * 5 + 1) % 7
    x = W["embed"][tokens]
    h = F.layer_norm(x, (8,)) * W["gain1"]
    q, k, v = (W.linear(h, name).unflatten(-1, (2, 4)).transpose(1, 2) for name in "qkv")
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    x = x + W.linear(y.transpose(1, 2).flatten(2), "out")
    h = F.layer_norm(x, (8,)) * W["gain2"]
    x = x + W.linear(F.gelu(W.linear(h, "up") + W["up_bias"]), "down")
    x = F.layer_norm(x, (8,)) * W["gain"] + W["gain_bias"]
    logits = x @ W["embed"].T
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


TRANSFORMER_SHAPES = {
    "embed": (7, 8), "gain1": (8,), "q": (8, 8), "k": (8, 8), "v": (8, 8), "out": (8, 8), "gain2": (8,),
    "up": (12, 8), "up_bias": (12,), "down": (8, 12), "gain": (8,), "gain_bias": (8,),
}  # fmt: skip

NETS = {"mlp": (mlp, MLP_SHAPES), "transformer": (transformer, TRANSFORMER_SHAPES), "layers": (layers, LAYER_SHAPES)}


# -- optimizers: (groups, one for each weight, with its numbers) -> something with step() ---------------------------


class ByHand:
    """An optimizer from ``rule(p, g, state, group)``, which changes ``p`` in place."""

    def __init__(self, groups: list[dict], rule: Callable):
        self.param_groups, self.rule = groups, rule
        self.state: list[dict] = [{"t": 0} for _ in groups]

    @torch.no_grad()
    def step(self) -> None:
        for group, state in zip(self.param_groups, self.state, strict=True):
            state["t"] += 1
            (p,) = group["params"]
            self.rule(p, p.grad.clone(), state, group)


def mean(state: dict, key: str, value: Tensor, beta: float) -> Tensor:
    """An exponential mean, corrected for its start at zero."""
    state[key] = beta * state.get(key, torch.zeros_like(value)) + (1 - beta) * value
    return state[key] / (1 - beta ** state["t"])


def decoupled(p: Tensor, update: Tensor, group: dict) -> None:
    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * update)


def sign(p: Tensor, g: Tensor, state: dict, group: dict) -> None:
    decoupled(p, mean(state, "m", g, 0.9).sign(), group)


def lion(p: Tensor, g: Tensor, state: dict, group: dict) -> None:
    m = state.setdefault("m", torch.zeros_like(p))
    decoupled(p, (0.9 * m + 0.1 * g).sign(), group)
    m.mul_(0.99).add_(g, alpha=0.01)


def adam_atan2(p: Tensor, g: Tensor, state: dict, group: dict) -> None:
    decoupled(p, torch.atan2(mean(state, "m", g, 0.9), mean(state, "v", g * g, 0.95).sqrt()), group)


def lamb(p: Tensor, g: Tensor, state: dict, group: dict) -> None:
    m, v = mean(state, "m", g, 0.9), mean(state, "v", g * g, 0.95)
    update = m / (v.sqrt() + group["eps"]) + group["weight_decay"] * p
    p.sub_(group["lr"] * p.norm() / update.norm() * update)


def lars(p: Tensor, g: Tensor, state: dict, group: dict) -> None:
    wd = group["weight_decay"]
    local = p.norm() / (g.norm() + wd * p.norm() + group["eps"])
    v = state.setdefault("v", torch.zeros_like(p)).mul_(0.9).add_(local * (g + wd * p))
    p.sub_(group["lr"] * v)


def muon(size: Callable[[int, int], float]) -> Callable:
    """Momentum, then five Newton-Schulz steps on the singular values; ``size(rows, columns)`` is the shape factor."""

    def rule(p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        m = state.setdefault("m", torch.zeros_like(p)).mul_(0.9).add_(g)
        m = (g + 0.9 * m).reshape(len(p), -1)
        u, s, vh = torch.linalg.svd(m / (m.norm() + group["eps"]), full_matrices=False)
        for _ in range(5):
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        decoupled(p, size(*m.shape) * (u @ torch.diag(s) @ vh).reshape(p.shape), group)

    return rule


def gram(g: Tensor, dim: int) -> Tensor:
    unfolded = g.movedim(dim, 0).reshape(g.shape[dim], -1)
    return unfolded @ unfolded.T


def power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values**exponent) @ vectors.T


def rotate(g: Tensor, bases: list[Tensor]) -> Tensor:
    for dim, basis in enumerate(bases):
        g = torch.tensordot(basis, g, dims=([1], [dim])).movedim(0, dim)
    return g


def shampoo(p: Tensor, g: Tensor, state: dict, group: dict) -> None:
    sums = state.setdefault("sums", [group["eps"] * torch.eye(n) for n in p.shape])
    sums[:] = [total + gram(g, dim) for dim, total in enumerate(sums)]
    decoupled(p, rotate(g, [power(total, -1 / (2 * g.dim())) for total in sums]), group)


def soap(p: Tensor, g: Tensor, state: dict, group: dict) -> None:
    bases = []
    if p.dim() > 1:
        sums = state.setdefault("sums", [torch.zeros(n, n) for n in p.shape])
        sums[:] = [0.95 * total + 0.05 * gram(g, dim) for dim, total in enumerate(sums)]
        bases = [torch.linalg.eigh(total)[1] for total in sums]
    there = [basis.T for basis in bases]
    m, v = mean(state, "m", g, 0.9), mean(state, "v", rotate(g, there) ** 2, 0.95)
    decoupled(p, rotate(rotate(m, there) / (v.sqrt() + group["eps"]), bases), group)


def kronecker(e_inputs: float, e_outputs: float) -> Callable:
    """``B^-e G A^-e``: A the second moment of a layer's inputs, B that of its outputs' gradients, both damped."""

    def rule(p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        x, y = group["layer"]()
        A = x.T @ x / len(x) + 0.3 * torch.eye(x.shape[1])
        step = (g + group["weight_decay"] * p) @ power(A, -e_inputs)
        if e_outputs:
            step = power(y.T @ y * len(y) + group["damping"] * torch.eye(y.shape[1]), -e_outputs) @ step
        p.sub_(group["lr"] * step)

    return rule


def of_torch(kind: str, **options) -> Callable:
    return lambda groups: getattr(torch.optim, kind)(groups, **options)


def of_transformers(**options) -> Callable:
    def make(groups: list[dict]):
        optimization = pytest.importorskip("transformers.optimization")
        return optimization.Adafactor(groups, relative_step=False, beta1=0.9, clip_threshold=1.0, **options)

    return make


def by_hand(rule: Callable) -> Callable:
    return lambda groups: ByHand(groups, rule)


# -- the laws, each with an optimizer that follows it ---------------------------------------------------------------

#: A quantity of an optimizer beside the learning rate -> its exponent x in "quantity ~ n^x", from the calculus.
Exponents = dict[str, Callable[[UpdateLaw, WeightView, Fraction], Fraction]]
LIKE_DECAY = lambda law, w, c: law.decay.exponent(w, c)  # noqa: E731
LIKE_EPS = lambda law, w, c: law.eps.exponent(w)  # noqa: E731
LIKE_RATE = lambda law, w, c: -c  # noqa: E731
LIKE_GRADIENT_SQUARED = lambda law, w, c: 2 * w.gradient  # noqa: E731
LIKE_WEIGHT = lambda law, w, c: -w.size  # noqa: E731


@dataclass(frozen=True)
class Case:
    """``numbers``: what the optimizer takes at ``a = 0``; ``exponents``: how each but the learning rate moves."""

    make: Callable[[list[dict]], Any]
    numbers: dict[str, float]
    exponents: Exponents = field(default_factory=dict)
    #: Steps at a learning rate of 0 before the others: what the law leaves out on purpose.
    skipped: int = 0
    nets: tuple[str, ...] = ("mlp", "transformer")
    #: A group's numbers -> the options its optimizer takes.
    options: Callable[[dict], dict] = dict


def case(make: Callable, lr: float, weight_decay: float, eps: float = 0.0, more: dict | None = None, **options) -> Case:
    numbers = {"lr": lr, "weight_decay": weight_decay, **({"eps": eps} if eps else {})}
    exponents: Exponents = {"weight_decay": LIKE_DECAY, **({"eps": LIKE_EPS} if eps else {})}
    for name, (number, exponent) in (more or {}).items():
        numbers[name], exponents[name] = number, exponent
    return Case(make, numbers, exponents, **options)


def steps_within(group: dict) -> dict:
    return {"lr": group["lr"], "step_sizes": (group["least"], group["most"])}


def eps_pair(first: float) -> Callable[[dict], dict]:
    return lambda group: {"lr": group["lr"], "weight_decay": group["weight_decay"], "eps": (first, group["eps2"])}


ADAM = {"lr": 0.02, "weight_decay": 0.3, "eps": 0.01}
CASES: dict[str, Case] = {
    "sgd": case(of_torch("SGD", momentum=0.9, nesterov=True), 0.1, 0.3),
    "asgd": case(of_torch("ASGD"), 0.2, 0.1, more={"lambd": (0.2, LIKE_DECAY)}),
    "adadelta": case(of_torch("Adadelta", rho=0.9), 2.0, 0.3, 1e-4),
    "adam": case(of_torch("Adam", betas=(0.8, 0.9), amsgrad=True), **ADAM),
    "adamw": case(of_torch("AdamW", betas=(0.8, 0.9)), **ADAM),
    "nadam": case(of_torch("NAdam", betas=(0.8, 0.9)), **ADAM),
    "nadamw": case(of_torch("NAdam", betas=(0.8, 0.9), decoupled_weight_decay=True), **ADAM),
    "radam": case(of_torch("RAdam"), skipped=6, **{**ADAM, "lr": 0.2}),
    "radamw": case(of_torch("RAdam", decoupled_weight_decay=True), skipped=6, **{**ADAM, "lr": 0.2}),
    "adamax": case(of_torch("Adamax", betas=(0.8, 0.9)), **ADAM),
    "rmsprop": case(of_torch("RMSprop", alpha=0.9, momentum=0.5, centered=True), **ADAM),
    "adagrad": case(
        # torch takes one initial accumulator for all groups: the optimizer is made for each
        lambda groups: Each(
            [torch.optim.Adagrad([g], lr_decay=0.1, initial_accumulator_value=g["start"]) for g in groups]
        ),
        0.1, 0.3, 0.05, {"start": (1e-3, LIKE_GRADIENT_SQUARED)},
    ),
    "adam_atan2": case(by_hand(adam_atan2), 0.02, 1.0),
    "rprop": Case(
        of_torch("Rprop"), {"lr": 0.01, "least": 0.004, "most": 0.015}, {"least": LIKE_RATE, "most": LIKE_RATE},
        options=steps_within,
    ),
    "sign": case(by_hand(sign), 0.01, 1.0),
    "lion": case(by_hand(lion), 0.01, 1.0),
    "adafactor": case(
        of_torch("Adafactor"), 0.1, 0.3, more={"eps2": (1.0, LIKE_WEIGHT)}, options=eps_pair(1e-30)
    ),
    "adafactor_transformers": case(
        of_transformers(), 0.1, 0.3, more={"eps2": (1.0, LIKE_WEIGHT)}, options=eps_pair(1e-30)
    ),
    "adafactor_absolute": case(of_transformers(scale_parameter=False), 0.02, 0.5),
    "lamb": case(by_hand(lamb), 0.05, 0.5, 0.02),
    "lars": case(by_hand(lars), 0.05, 0.1, 0.1),
    "muon": case(by_hand(muon(lambda r, c: max(1, r / c) ** 0.5)), 0.05, 0.5, 0.3),
    "muon_match_rms_adamw": case(by_hand(muon(lambda r, c: 0.2 * max(r, c) ** 0.5)), 0.1, 0.5, 0.3),
    "muon_spectral": case(by_hand(muon(lambda r, c: (r / c) ** 0.5)), 0.05, 0.5, 0.3),
    "shampoo": case(by_hand(shampoo), 0.1, 0.3, 0.01),
    "soap": case(by_hand(soap), 0.02, 0.5, 0.02),
    "kfac": case(
        by_hand(kronecker(1, 1)), 0.02, 0.1, more={"damping": (0.05, LIKE_GRADIENT_SQUARED)}, nets=("layers",)
    ),
    "foof": case(by_hand(kronecker(1, 0)), 0.1, 0.1, nets=("layers",)),
}  # fmt: skip


class Each:
    """Several optimizers as one."""

    def __init__(self, optimizers: list):
        self.optimizers = optimizers

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    @property
    def param_groups(self) -> list[dict]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]


def test_every_law_has_an_optimizer_here():
    assert set(CASES) == set(LAWS)


# -- training in two forms ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shift:
    """A weight's place on its orbit: ``a``, beside what the calculus takes it for (``C``, a view at a = 0)."""

    a: Fraction
    C: Fraction
    view: WeightView

    def exponents(self, law: UpdateLaw, which: Exponents, a: Fraction) -> dict[str, Fraction]:
        """x in "quantity ~ n^x", of every quantity, for the weight at ``a``."""
        view = self.view.at(a)
        c = law.c(self.C, view, a)
        return {"lr": -c, **{name: exponent(law, view, c) for name, exponent in which.items()}}

    def moves(self, law: UpdateLaw, which: Exponents) -> dict[str, float]:
        """The factor by which each quantity moves from a = 0 to here."""
        here, there = (self.exponents(law, which, a) for a in (Fraction(0), self.a))
        return {name: N ** float(there[name] - here[name]) for name in here}


@dataclass(frozen=True)
class Run:
    """Losses, and all effective weights, of each step."""

    losses: list[float]
    weights: list[dict[str, Tensor]]

    def off(self, other: Run) -> float:
        """The largest relative difference of a loss, or of a weight (to its largest entry)."""
        found = [abs(x - y) / abs(x) for x, y in zip(self.losses, other.losses, strict=True)]
        for one, two in zip(self.weights, other.weights, strict=True):
            found += [float((one[name] - two[name]).abs().max() / one[name].abs().max()) for name in one]
        return max(found)


def train(law: str, net: str, shifts: dict[str, Shift], kept: tuple[str, ...] = (), how: Case | None = None) -> Run:
    """Train ``net`` with every weight at its place; the quantities in ``kept`` stay as they are at ``a = 0``."""
    run, shapes = NETS[net]
    how, generator = how or CASES[law], torch.Generator().manual_seed(0)
    m = {name: N ** -float(shift.a) for name, shift in shifts.items()}
    w, groups = {}, []
    for name, shape in shapes.items():
        W = torch.randn(shape, generator=generator) * (0.7 if len(shape) > 1 else 0.3)
        w[name] = ((W + (len(shape) == 1)) / m[name]).requires_grad_()
    W = Weights(w, m)
    for name in shapes:
        factors = shifts[name].moves(LAWS[law], how.exponents)
        numbers = {key: x * (1.0 if key in kept else factors[key]) for key, x in how.numbers.items()}
        seen = lambda name=name: (W.inputs[name], W.outputs[name].grad)  # noqa: E731
        groups.append({"params": [w[name]], "layer": seen, **how.options(numbers)})
    optimizer = how.make(groups)
    rates = [group["lr"] for group in optimizer.param_groups]
    losses, weights = [], []
    for step in range(how.skipped + STEPS):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = 0.0 if step < how.skipped else rate
        for p in w.values():
            p.grad = None
        loss = run(W, torch.randint(1000, (24,), generator=generator))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        weights.append({name: (p * m[name]).detach().clone() for name, p in w.items()})
    return Run(losses, weights)


@once
def plain(law: str, net: str) -> Run:
    """The run at a = 0."""
    return train(law, net, dict.fromkeys(NETS[net][1], Shift(Fraction(0), Fraction(1), WeightView(Fraction(0), H))))


H = Fraction(1, 2)
rationals = st.fractions(-2, 2, max_denominator=4)
growths = st.sampled_from((Fraction(0), H, Fraction(1)))
views = st.builds(WeightView, rationals, rationals, st.tuples(growths, growths), growths, rationals)
shifts = st.builds(Shift, rationals, rationals, views)


@pytest.mark.parametrize("law", CASES)
def test_a_shift_along_the_orbit_changes_nothing(law):
    @settings(max_examples=4, deadline=None, derandomize=True)
    @given(st.data())
    def check(data):
        net = data.draw(st.sampled_from(CASES[law].nets))
        places = {name: data.draw(shifts, name) for name in NETS[net][1]}
        assert plain(law, net).off(train(law, net, places)) < TOLERANCE

    check()


#: Every weight one step along the orbit.
AT_ONE = Shift(Fraction(1), Fraction(1), WeightView(Fraction(-1), H, (Fraction(1), Fraction(1))))


def moved(law: str) -> list[str]:
    """The quantities that a shift moves."""
    return [name for name, factor in AT_ONE.moves(LAWS[law], CASES[law].exponents).items() if factor != 1.0]


@pytest.mark.parametrize("law, quantity", [(law, quantity) for law in CASES for quantity in moved(law)])
def test_a_quantity_that_stays_behind_parts_the_runs(law, quantity):
    """The twin: what the law moves has to move, be it the learning rate, epsilon or the decay."""
    for net in CASES[law].nets:
        places = dict.fromkeys(NETS[net][1], AT_ONE)
        assert plain(law, net).off(train(law, net, places, kept=(quantity,))) > PARTED, net


def test_what_the_laws_move():
    """Laws of one kind move alike: SGD by 2 in the rate, what normalises by 1, what is relative not at all."""
    assert {law: moved(law) for law in ("sgd", "adamw", "adam", "lion", "lamb", "adafactor")} == {
        "sgd": ["lr", "weight_decay"],
        "adamw": ["lr", "weight_decay", "eps"],
        "adam": ["lr", "weight_decay", "eps"],
        "lion": ["lr", "weight_decay"],
        "lamb": ["weight_decay", "eps"],
        "adafactor": ["eps2"],
    }


@pytest.mark.parametrize("law", ["radam", "radamw"])
def test_radam_is_sgd_in_its_first_steps(law):
    """As its note says: until it rectifies, updates are linear in the gradient, and its rate does not carry them."""
    how = replace(CASES[law], skipped=0)
    forms = [dict.fromkeys(MLP_SHAPES, replace(AT_ONE, a=a)) for a in (Fraction(0), Fraction(1))]
    first, second = (train(law, "mlp", places, how=how) for places in forms)
    assert first.off(second) > PARTED
