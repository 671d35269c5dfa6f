"""Random programs: whatever network is built, no slope exceeds what its derived rules predict.

Each program is a short list of operations on a stream of values [batch, time, width]; hypothesis builds and shrinks it.
"""

from __future__ import annotations

import os

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import tpcalc
from tpcalc.errors import DeriveError

WIDTHS = (64, 128, 256, 512)
#: More than the tests run: TPCALC_RANDOM=200 pytest tests/test_random_programs.py
EXAMPLES = int(os.environ.get("TPCALC_RANDOM", "12"))
TIME, FEATURES, CLASSES = 4, 6, 5


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    def __init__(self, n: int, power: float):
        super().__init__()
        self.factor = float(n) ** power

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Rms(nn.Module):
    """A normaliser written by hand."""

    def __init__(self, n: int):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(n))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.gain


class Residual(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Net(nn.Module):
    def __init__(self, n: int, steps: tuple):
        super().__init__()
        self.input = nn.Linear(FEATURES, n)
        self.shared = nn.Linear(n, n)
        self.steps = nn.ModuleList(self.module(n, step) for step in steps)
        self.readout = nn.Linear(n, CLASSES, bias=False)

    def module(self, n: int, step) -> nn.Module:
        kind, *options = step
        if kind == "residual":
            return Residual(nn.Sequential(*(self.module(n, inner) for inner in options[0])))
        if kind == "shared":
            return self.shared
        made = {
            "linear": lambda: nn.Linear(n, n, bias=options[0]),
            "relu": nn.ReLU,
            "gelu": nn.GELU,
            "tanh": nn.Tanh,
            "layernorm": lambda: nn.LayerNorm(n),
            "rms": lambda: Rms(n),
            "gate": lambda: Gate(n),
            "cat": lambda: Cat(n),
            "bottleneck": lambda: Bottleneck(n),
            "scale": lambda: Scaled(n, *options),
            "attention": lambda: Attend(n, *options),
        }
        return made[kind]()

    def forward(self, x: Tensor) -> Tensor:
        x = self.input(x)
        for step in self.steps:
            x = step(x)
        return self.readout(x)


SIMPLE = st.one_of(
    st.tuples(st.just("linear"), st.booleans()),
    st.sampled_from(
        [("relu",), ("gelu",), ("tanh",), ("layernorm",), ("rms",), ("gate",), ("cat",), ("bottleneck",), ("shared",)]
    ),
    st.tuples(st.just("scale"), st.sampled_from([-1.0, -0.5, 0.5])),
    st.sampled_from(
        [
            ("attention", None, None, 0.5),
            ("attention", 4, None, 0.5),
            ("attention", 4, None, 1.0),
            ("attention", None, 1, 0.5),
        ]
    ),
)
RESIDUAL = st.tuples(st.just("residual"), st.lists(SIMPLE, min_size=1, max_size=3).map(tuple))
PROGRAMS = st.lists(st.one_of(SIMPLE, RESIDUAL), min_size=1, max_size=5).map(tuple)


def check(steps: tuple, optimizer: str, seeds=3) -> "tpcalc.check.Result":
    data = torch.randn(4, TIME, FEATURES, generator=torch.Generator().manual_seed(0))
    lr = 1e-3 if optimizer == "adamw" else 0.02
    return tpcalc.check(lambda n: (Net(n, steps), (data,)), WIDTHS, optimizer, seeds=seeds, steps=3, lr=lr)


def exceeded(steps: tuple, optimizer: str) -> list[str]:
    """Slopes above their prediction, confirmed on fresh seeds.

    Shrunk programs have few numbers to average: one head of 16, twice, is a product of two samples of 16.
    """

    def above(result) -> dict[tuple[str, str], str]:
        return {(e.quantity, e.subject): str(e) for e in result.failures if e.verdict == "above"}

    first = above(check(steps, optimizer))
    again = above(check(steps, optimizer, range(100, 112))) if first else {}
    return [again[key] for key in first if key in again]


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)
@given(PROGRAMS, st.sampled_from(["adamw", "sgd"]))
def test_no_predicted_order_is_exceeded(steps, optimizer):
    try:
        found = exceeded(steps, optimizer)
    except DeriveError as error:  # said, not guessed
        event(f"refused: {str(error)[:60]}")
        return
    assert not found, found[:5]


#: Programs that a change of a law breaks, or that once failed.
REGRESSIONS: list[tuple[tuple, str]] = [
    ((("attention", None, 1, 0.5), ("attention", None, 1, 0.5)), "sgd"),
    ((("cat",), ("attention", 4, None, 0.5)), "adamw"),
    ((("residual", (("bottleneck",),)), ("gate",), ("attention", 4, None, 1.0)), "sgd"),
    (
        (
            ("linear", False),
            ("residual", (("linear", False), ("linear", False), ("linear", False))),
            ("scale", -1.0),
            ("tanh",),
            ("layernorm",),
        ),
        "adamw",
    ),
    ((("scale", 0.5), ("rms",), ("shared",), ("shared",), ("attention", None, None, 0.5)), "adamw"),
]


@pytest.mark.parametrize("steps, optimizer", REGRESSIONS)
def test_regressions(steps, optimizer):
    found = exceeded(steps, optimizer)
    assert not found, found[:5]


@pytest.mark.xfail(
    raises=DeriveError, strict=True, reason="a vanishing branch that a nonlinearity feeds: needs chase each other"
)
def test_a_vanishing_branch_settles():
    exceeded((("residual", (("tanh",), ("scale", -1.0))),), "adamw")


def test_gradients_follow_the_rules_as_applied():
    """``narrow`` feeds columns of ``join`` that would need a larger init than their rule, the safe one of all, has.

    Its gradient is the smaller one of that rule; a learning rate made for the larger one would freeze it.
    """
    steps = (("cat",), ("cat",))
    result = check(steps, "sgd")
    for name in ("steps.1.narrow.weight", "steps.1.narrow.bias"):
        (effect,) = result.of("effect", name)
        assert effect.verdict == "ok" and effect.slope.value > -0.8
