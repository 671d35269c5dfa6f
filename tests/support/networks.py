"""Random networks: short lists of steps on a stream of values [batch, time, width], drawn by hypothesis.

Shared by ``test_random_programs.py`` and ``benchmarks/random_programs.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from statistics import NormalDist

import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import tpcalc
from tests.support.held import held, starts
from tpcalc.algebra.order import MINUS_INFINITY
from tpcalc.errors import DeriveError

WIDTHS = (64, 128, 256, 512)
#: For what seems to be above its prediction: the same model, 4 to 16 times as wide.
WIDER = (64, 256, 512, 1024)
TIME, FEATURES, CLASSES = 4, 6, 5
#: How far a slope may be off.
TOLERANCE = 0.15
#: Learning rates, and smaller ones.
RATES = {"adamw": (1e-3, 1e-4), "sgd": (0.02, 1e-3, 1e-4)}
#: Of norms: so small that a value of order n^-2 is not lost in it at these widths.
EPS = 1e-20
#: Steps that hold lists of steps.
BRANCHED = ("residual", "gated", "twice", "beside")


class Attend(nn.Module):
    """Causal attention; ``heads`` None: heads of a fixed size 16, else that many growing ones.  ``power``: of d in
    the scale.
    """

    def __init__(self, n: int, heads: "int | None", kv: "int | None", power: float):
        super().__init__()
        self.size = n // heads if heads else 16
        groups = kv or n // self.size
        self.q, self.k, self.v, self.o = (
            nn.Linear(n, m, bias=False) for m in (n, groups * self.size, groups * self.size, n)
        )
        self.scale = self.size**-power

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (y.unflatten(-1, (-1, self.size)).transpose(1, 2) for y in (self.q(x), self.k(x), self.v(x)))
        k, v = k.expand_as(q), v.expand_as(q)
        weights = (q @ k.transpose(-1, -2) * self.scale).softmax(-1)
        return self.o((weights @ v).transpose(1, 2).flatten(2))


class Gate(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        self.up, self.gate, self.down = nn.Linear(n, 2 * n), nn.Linear(n, 2 * n), nn.Linear(2 * n, n)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x) * F.silu(self.gate(x)))


class Cat(nn.Module):
    """Two branches of different widths side by side, one of them fixed."""

    def __init__(self, n: int):
        super().__init__()
        self.wide, self.narrow, self.join = nn.Linear(n, n), nn.Linear(n, 8), nn.Linear(n + 8, n)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat([torch.tanh(self.wide(x)), torch.tanh(self.narrow(x))], -1))


class Bottleneck(nn.Module):
    """Growing to finite and back."""

    def __init__(self, n: int):
        super().__init__()
        self.inner, self.outer = nn.Linear(n, 8), nn.Linear(8, n)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(torch.tanh(self.inner(x)))


class Scaled(nn.Module):
    """A constant that scales: 1 at the smallest width, which is the model that was tuned."""

    def __init__(self, n: int, power: float):
        super().__init__()
        self.factor = (n / WIDTHS[0]) ** power

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Rms(nn.Module):
    """A normaliser written by hand."""

    def __init__(self, n: int):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(n))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * self.gain


class Grouped(nn.Module):
    """GroupNorm of every sample at every time."""

    def __init__(self, n: int):
        super().__init__()
        self.norm = nn.GroupNorm(4, n, EPS)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.flatten(0, 1)).view(x.shape)


class Centred(nn.Module):
    """A LayerNorm written by hand."""

    def __init__(self, n: int):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(n))

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * self.gain


#: Functions of a weight [n, n], as it is met; of a size that vanishes with the weight, or its own.
TRANSFORMED: dict[str, Callable[[Tensor], Tensor]] = {
    "ternary": lambda w: w + ((w / w.abs().mean()).round().clamp(-1, 1) * w.abs().mean() - w).detach(),
    "identity": lambda w: w + torch.eye(len(w)),
    "skew": lambda w: torch.eye(len(w)) + w - w.t(),
    "tanh": torch.tanh,
    "abs": torch.abs,
    "centred": lambda w: w - w.mean(1, keepdim=True),
    "masked": lambda w: w * (w.abs() > w.abs().mean()),
    "unit": lambda w: w / w.norm(dim=-1, keepdim=True),
    "softmax": lambda w: w.softmax(-1),
    "exp": lambda w: w.exp() / len(w),
    "sign": lambda w: w.abs().mean() * w.sign().detach() + (w - w.detach()),
}


class Transformed(nn.Module):
    """A layer that meets a function of its weight."""

    def __init__(self, n: int, function: str):
        super().__init__()
        self.weight, self.function = nn.Parameter(torch.randn(n, n) / n**0.5), TRANSFORMED[function]

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.function(self.weight))


class Fixed(nn.Module):
    """A matrix that does not train: of random features, orthogonal, or the identity."""

    def __init__(self, n: int, kind: str):
        super().__init__()
        draw = torch.randn(n, n, generator=torch.Generator().manual_seed(1))
        made = {"random": lambda: draw / n**0.5, "orthogonal": lambda: torch.linalg.qr(draw)[0]}
        self.register_buffer("matrix", made.get(kind, lambda: torch.eye(n))())

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix


class Largest(nn.Module):
    """The largest 4 of all features at their places, into a layer of its own."""

    def __init__(self, n: int):
        super().__init__()
        self.join = nn.Linear(n, n)

    def forward(self, x: Tensor) -> Tensor:
        values, places = x.topk(4, -1)
        return x + self.join(torch.zeros_like(x).scatter(-1, places, values))


class Factors(nn.Module):
    """A norm written by hand, its factors in one order or another."""

    def __init__(self, n: int, order: int):
        super().__init__()
        self.gain, self.order = nn.Parameter(torch.ones(n)), order

    def forward(self, x: Tensor) -> Tensor:
        g, size, by = self.gain, (x.pow(2).mean(-1, keepdim=True) + EPS).sqrt(), x.shape[-1] ** 0.5
        return (
            lambda: g * x * size.reciprocal(),
            lambda: x * (g / size),
            lambda: by * x / (x.norm(dim=-1, keepdim=True) + EPS) * g,
            lambda: (x / size) * g,
            lambda: g / (x * x + EPS).sum(-1, keepdim=True).sqrt() * (by * x),
        )[self.order]()


class Function(nn.Module):
    def __init__(self, f: Callable[[Tensor], Tensor]):
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x)


class Number(nn.Module):
    """A gate that is one number for all features."""

    def __init__(self, n: int):
        super().__init__()
        self.one = nn.Linear(n, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.tanh(self.one(x))


class Residual(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Beside(nn.Module):
    """Two branches side by side, and a layer that reads both."""

    def __init__(self, n: int, left: nn.Module, right: nn.Module):
        super().__init__()
        self.left, self.right, self.join = left, right, nn.Linear(2 * n, n)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat([self.left(x), self.right(x)], -1))


class Gated(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.inner(x))


class Twice(nn.Module):
    """The same weights applied one after the other."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.inner(x))


class Net(nn.Module):
    """``steps`` between an input layer and a readout, which a last step ``("tied",)`` ties to the input layer.

    With a last step ``("slopes",)`` the gradients of the outputs with respect to the inputs are outputs as well.
    """

    def __init__(self, n: int, steps: tuple):
        super().__init__()
        self.slopes = steps[-1:] == (("slopes",),)
        steps = steps[:-1] if self.slopes else steps
        self.tied = steps[-1:] == (("tied",),)
        self.input = nn.Linear(FEATURES, n)
        if any(step[0] == "shared" for step in flat(steps)):
            self.shared = nn.Linear(n, n)
        self.steps = nn.ModuleList(self.module(n, step) for step in steps if step != ("tied",))
        if not self.tied:
            self.readout = nn.Linear(n, CLASSES, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                # beside torch's own, n^-1/2 of this many inputs would be the larger part up to thousands of them
                nn.init.normal_(module.bias, std=0.5)

    def module(self, n: int, step: tuple) -> nn.Module:
        kind, *options = step
        if kind in BRANCHED:
            branches = (nn.Sequential(*(self.module(n, inner) for inner in branch)) for branch in options)
            return {
                "residual": Residual,
                "gated": Gated,
                "twice": Twice,
                "beside": lambda left, right: Beside(n, left, right),
            }[kind](*branches)
        if kind == "shared":
            return self.shared
        made = {
            "linear": lambda: nn.Linear(n, n, bias=options[0]),
            "relu": nn.ReLU,
            "gelu": nn.GELU,
            "tanh": nn.Tanh,
            "sigmoid": nn.Sigmoid,
            "softplus": nn.Softplus,
            "exp": lambda: Function(torch.exp),
            "cos": lambda: Function(torch.cos),
            "softmax": lambda: Function(lambda x: x.unflatten(-1, (-1, 4)).softmax(-1).flatten(-2)),
            "layernorm": lambda: nn.LayerNorm(n, EPS),
            "groupnorm": lambda: Grouped(n),
            "centred": lambda: Centred(n),
            "rms": lambda: Rms(n),
            "factors": lambda: Factors(n, *options),
            "transformed": lambda: Transformed(n, *options),
            "fixed": lambda: Fixed(n, *options),
            "largest": lambda: Largest(n),
            "number": lambda: Number(n),
            "gate": lambda: Gate(n),
            "cat": lambda: Cat(n),
            "bottleneck": lambda: Bottleneck(n),
            "scale": lambda: Scaled(n, *options),
            "attention": lambda: Attend(n, *options),
        }
        return made[kind]()

    def forward(self, x: Tensor) -> Tensor:
        starts(self)
        if not self.slopes:
            return self.outputs(x)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = self.outputs(x)
            return torch.cat([y, torch.autograd.grad(y.sum(), x, create_graph=True)[0]], -1)

    def outputs(self, x: Tensor) -> Tensor:
        x = self.input(x)
        for step in self.steps:
            x = step(x)
        return x @ self.input.weight if self.tied else self.readout(x)


def flat(steps: tuple) -> Iterator[tuple]:
    """All steps, those inside of branches too."""
    for step in steps:
        yield step
        if step[0] in BRANCHED:
            for branch in step[1:]:
                yield from flat(branch)


STEPS = st.one_of(
    st.tuples(st.just("linear"), st.booleans()),
    st.sampled_from([("relu",), ("gelu",), ("tanh",), ("sigmoid",), ("softplus",), ("cos",), ("softmax",)]),
    st.sampled_from([("layernorm",), ("groupnorm",), ("centred",), ("rms",)]),
    st.sampled_from([("gate",), ("number",), ("cat",), ("bottleneck",), ("shared",)]),
    st.tuples(st.just("scale"), st.sampled_from([-1.0, -0.5, 0.5])),
    st.tuples(st.just("factors"), st.integers(0, 4)),
    st.tuples(st.just("transformed"), st.sampled_from(sorted(TRANSFORMED))),
    st.one_of(
        st.tuples(st.just("fixed"), st.sampled_from(["random", "orthogonal", "identity"])), st.just(("largest",))
    ),
    st.sampled_from(
        [
            ("attention", None, None, 0.5),
            ("attention", 4, None, 0.5),
            ("attention", 4, None, 1.0),
            ("attention", None, 1, 0.5),
        ]
    ),
)


def branched(steps: st.SearchStrategy) -> st.SearchStrategy:
    branch = st.lists(steps, min_size=1, max_size=3).map(tuple)
    return st.one_of(
        st.tuples(st.sampled_from(["residual", "gated", "twice"]), branch), st.tuples(st.just("beside"), branch, branch)
    )


PROGRAMS = st.builds(
    lambda steps, last: (*steps, *last),
    st.lists(st.recursive(STEPS, branched, max_leaves=6), min_size=1, max_size=5),
    st.sampled_from([(), (), (), (), (("tied",),), (("slopes",),)]),
)
OPTIMIZERS = st.sampled_from(["adamw", "sgd"])


def factory(steps: tuple) -> Callable:
    data = torch.randn(4, TIME, FEATURES, generator=torch.Generator().manual_seed(0))
    return lambda n: (Net(n, steps), (data,))


def largest(n: int) -> float:
    """How large the entries are that a top-4 picks of n normal ones."""
    return sum(NormalDist().inv_cdf(1 - (place + 0.5) / n) for place in range(4)) / 4


def picks(steps: tuple) -> int:
    """How many picks stand behind one another."""
    total = 0
    for kind, *branches in steps:
        inner = max(map(picks, branches)) if kind in BRANCHED else int(kind == "largest")
        total += 2 * inner if kind == "twice" else inner
    return total


def tolerance(steps: tuple) -> float:
    """By how much a slope may be above its order.  Behind p picks behind one another changes grow like the p-th power
    of what a pick finds, which is like sqrt(2 log n): no power of n, and a slope all the same (docs/theory.md)."""
    behind = picks(steps)
    grows = math.log(largest(WIDER[-1]) / largest(WIDER[0])) / math.log(WIDER[-1] / WIDER[0])
    return TOLERANCE + (behind * grows if behind > 1 else 0.0)


def check(steps: tuple, optimizer: str, seeds=3, widths=WIDTHS) -> "tpcalc.check.Result":
    """Derive, train at every width, compare; where that blows up, for a rate may be too large at every width, at a
    smaller one."""
    for lr in RATES[optimizer]:
        result = tpcalc.check(
            factory(steps), widths, optimizer, seeds=seeds, steps=3, lr=lr, tolerance=tolerance(steps)
        )
        if all(entry.slope is not None or "not finite" not in str(entry) for entry in result.failures):
            break
    return result


class Refused(Exception):
    """Said, not guessed: there are no rules for this program as it is written."""


def exceeded(steps: tuple, optimizer: str) -> list[str]:
    """Slopes above their prediction, confirmed on fresh seeds, far from the smallest width, and with picks held.

    Shrunk programs have few numbers to average: one head of 16, twice, is a product of two samples of 16.  And an order
    is one of the limit: tanh of what is O(1) at the smallest width and n^-1/2 in the limit is not yet linear there, and
    a top-4 of which few change places in training is not one of which all do (:mod:`held`).
    Raises Refused where no rules exist, or the program needs multipliers in its code: without them it has no limit to
    compare with.
    """
    try:
        sites = tpcalc.derive(tpcalc.trace(factory(steps), WIDTHS[:3]), optimizer).sites
    except DeriveError as error:
        raise Refused("exponents that do not settle") from error
    if sites:
        raise Refused("multipliers needed in the code")

    def above(result) -> dict[tuple[str, str], "tpcalc.check.Entry"]:
        return {(e.quantity, e.subject): e for e in result.failures if e.verdict == "above"}

    found = above(check(steps, optimizer))
    fresh, wider = (range(100, 112), WIDTHS), (range(200, 204), WIDER)
    for (seeds, widths), place in ((fresh, nullcontext), (wider, nullcontext), (wider, held)):
        if found and (place is nullcontext or picks(steps)):
            with place():
                again = above(check(steps, optimizer, seeds, widths))
            found = {key: again[key] for key in found if key in again}
    return [str(entry) for entry in found.values() if still_above(entry, tolerance(steps))]


def still_above(entry: "tpcalc.check.Entry", tolerance: float = TOLERANCE) -> bool:
    """Whether it is above its prediction without the smallest width, too, and does not fade.

    Where an order is wrong, the excess stays from one pair of widths to the next; it fades (by a third or more, from
    the first pair to the last) where the limit is only far away.
    """
    if entry.slope is None or entry.wanted is MINUS_INFINITY:
        return True  # not finite, or not zero
    first, last = (
        math.log(entry.sizes[i + 1] / entry.sizes[i]) / math.log(WIDER[i + 1] / WIDER[i]) - float(entry.wanted)
        for i in (0, len(WIDER) - 2)
    )
    return last > tolerance and last > first * 2 / 3


Program = tuple[tuple, str]


@dataclass
class Tally:
    """What became of the programs that were drawn.  ``refused``: why each of them has no rules as it is written."""

    held: list[Program] = field(default_factory=list)
    refused: dict[Program, str] = field(default_factory=dict)
    failed: dict[Program, list[str]] = field(default_factory=dict)

    @property
    def drawn(self) -> int:
        return len(self.held) + len(self.refused) + len(self.failed)

    def __str__(self) -> str:
        return (
            f"{self.drawn} random programs: {len(self.held)} trained and no predicted order exceeded, "
            f"{len(self.failed)} failed, {len(self.refused)} refused"
        )

    def run(self, steps: tuple, optimizer: str) -> bool:
        """Derive and train one program; False where a slope is above its prediction, or something broke."""
        try:
            found = exceeded(steps, optimizer)
        except Refused as error:
            self.refused[steps, optimizer] = str(error)
            return True
        except Exception as error:
            found = [f"{type(error).__name__}: {error}"]
        if found:
            self.failed[steps, optimizer] = found
        else:
            self.held.append((steps, optimizer))
        return not found


def campaign(number: int, start: int, heard: Callable[[Tally, Program], None]) -> Tally:
    """Draw and run ``number`` different programs; ``start`` is the random seed, ``heard`` is called after each."""
    tally = Tally()
    seen: set[Program] = set()

    @seed(start)
    @settings(max_examples=4 * number, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(PROGRAMS, OPTIMIZERS)
    def draw(steps, optimizer):
        if len(seen) < number and (steps, optimizer) not in seen:
            seen.add((steps, optimizer))
            tally.run(steps, optimizer)
            heard(tally, (steps, optimizer))

    draw()
    return tally
