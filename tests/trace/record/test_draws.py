"""Branches on random numbers: refused by name; what comes out the same for every draw is not one."""

import random
import secrets
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from tpcalc.derive import derive
from tpcalc.errors import TraceError
from tpcalc.trace import trace

X = torch.linspace(-1, 1, 48).reshape(2, 24)
OWN, NUMPY, OLD, SYSTEM = random.Random(0), np.random.default_rng(0), np.random.RandomState(0), random.SystemRandom()


class Net(nn.Module):
    def __init__(self, n, skip):
        super().__init__()
        self.skip, self.a, self.o = skip, nn.Linear(24, n), nn.Linear(n, 10)
        self.blocks = nn.ModuleList(nn.Linear(n, n) for _ in range(2))

    def forward(self, x):
        x = self.a(x)
        for index, block in enumerate(self.blocks):
            if not (self.training and self.skip(index)):
                x = x + block(x)
        return self.o(x)


def traced(skip, training=True):
    return trace(lambda n: (Net(n, skip).train(training), (X,)), widths=(16, 32, 64))


DECIDES = {
    "tensor": lambda i: torch.rand(()) < 0.1,
    "item": lambda i: torch.rand(1).item() < 0.1,
    "float": lambda i: float(torch.rand(1)) < 0.1,
    "uniform": lambda i: torch.empty(1).uniform_() < 0.1,
    "bernoulli": lambda i: torch.bernoulli(torch.tensor(0.1)).item(),
    "distribution": lambda i: torch.distributions.Bernoulli(0.1).sample().item() == 1,
    "whole number": lambda i: torch.randint(0, 2, ()).item() == i,
    "permutation": lambda i: torch.randperm(2).tolist()[0] == i,
    "python": lambda i: random.random() < 0.1,
    "python, turned round": lambda i: 0.1 > random.uniform(0, 1),
    "numpy": lambda i: np.random.rand() < 0.1,
    "numpy, binomial": lambda i: np.random.binomial(1, 0.9),
    "numpy, an array": lambda i: np.random.rand(2)[i] < 0.99,
    "choice": lambda i: random.choice([0, 1]) == i,
    "sample": lambda i: i in random.sample(range(2), 1),
    "a generator of the file": lambda i: OWN.random() < 0.99,
    "made on the way": lambda i: random.Random(i).random() < 0.99,
    "its choice": lambda i: OWN.choice([0, 1]) == i,
    "of the system": lambda i: SYSTEM.random() < 0.99,
    "secrets": lambda i: secrets.randbelow(1 << 30) < (1 << 30) - 1,
    "numpy's generator": lambda i: NUMPY.random() < 0.99,
    "its integers": lambda i: NUMPY.integers(2) == i,
    "its binomial": lambda i: NUMPY.binomial(1, 0.99),
    "numpy's old generator": lambda i: OLD.rand() < 0.99,
}


@pytest.mark.parametrize("skip", DECIDES.values(), ids=DECIDES)
def test_a_branch_on_a_random_number_is_refused(skip):
    with pytest.raises(TraceError, match=r"decides by a random number .* put that module into evaluation mode"):
        traced(skip)
    assert all(weight.grad is not None for weight in traced(skip, training=False).weights)


SAME = {
    "a rate of 0": lambda i: torch.rand([]) < 0.0,
    "read": lambda i: torch.rand(1).item() < 0.0,
    "python": lambda i: random.random() >= 1,
    "no branch": lambda i: (torch.rand(3) * torch.rand(1).item()).sum() is None,
}


@pytest.mark.parametrize("skip", SAME.values(), ids=SAME)
def test_what_comes_out_the_same_for_every_draw_decides_nothing(skip):
    assert all(weight.grad is not None for weight in traced(skip).weights)


class Holding(Net):
    """A model with a generator of its own."""

    def __init__(self, n, generator):
        super().__init__(n, lambda i: self.generator.random() < 0.99)
        self.generator = generator


@pytest.mark.parametrize("make", [random.Random, np.random.default_rng, np.random.RandomState])
def test_a_generator_of_the_model(make):
    with pytest.raises(TraceError, match="decides by a random number"):
        trace(lambda n: (Holding(n, make(0)), (X,)), widths=(16, 32, 64))


@pytest.mark.parametrize(
    "draw", [lambda: NUMPY.normal(), lambda: OWN.gauss(0, 1), lambda: OWN.triangular(), lambda: OWN.betavariate(1, 2)]
)
def test_a_draw_that_decides_nothing_is_said(draw):
    program = traced(lambda i: draw() is None)
    assert all(weight.grad is not None for weight in program.weights)
    assert any("draws random numbers from Python or numpy" in note for note in program.assumptions)


def test_generators_are_as_before():
    def state():
        ways = (
            random.random,
            np.random.rand,
            random.Random.random,
            random.Random.getrandbits,
            random.SystemRandom.random,
        )
        return ways, "random" in vars(random.Random), OWN.getstate(), repr(NUMPY.bit_generator.state)

    before = state()
    traced(lambda i: NUMPY.random() is None or OWN.random() is None)
    assert state() == before and type(random.random()) is type(OWN.random()) is float


def test_a_module_that_draws_as_it_is_imported_decides_nothing(tmp_path, monkeypatch):
    """sympy does, which torch imports at the first operation that needs it."""
    (tmp_path / "draws_at_import.py").write_text("import random\nNUMBER = random.Random().randint(1, 9)\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    class Importing(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.used, self.unused = nn.Linear(8, width), nn.Linear(width, 4)

        def forward(self, x):
            import draws_at_import  # noqa: F401

            return self.used(x)

    monkeypatch.delitem(sys.modules, "draws_at_import", raising=False)
    program = trace(lambda width: (Importing(width), (torch.ones(2, 8),)), (64, 128, 256))
    assert program.assumptions == ()


def test_the_first_trace_of_a_process_is_as_any_other():
    """A weight that is not used is no reason to suspect torch's own imports."""
    code = (
        "import torch, tpcalc\n"
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, n):\n"
        "        super().__init__()\n"
        "        self.used, self.unused = nn.Linear(8, n), nn.Linear(n, 4)\n"
        "    def forward(self, x):\n"
        "        return self.used(x)\n"
        "print(tpcalc.trace(lambda n: (Net(n), (torch.ones(2, 8),)), (64, 128, 256)).assumptions)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "()"), done.stderr[-500:]


MASKS = {
    "transformers": lambda x, keep: (keep + torch.rand(x.shape[0], 1)).floor() / keep,
    "timm": lambda x, keep: x.new_empty(x.shape[0], 1).bernoulli_(keep) / keep,
    "in place": lambda x, keep: (torch.empty(x.shape[0], 1).uniform_() < keep).to(x.dtype) / keep,
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=list(MASKS))
def test_branches_dropped_for_each_sample_count_as_taken(mask):
    """Two samples of a batch may both be dropped in one draw: the weights of that branch are used all the same."""

    class Dropped(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.a, self.o = nn.Linear(24, n), nn.Linear(n, 10)
            self.blocks = nn.ModuleList(nn.Linear(n, n) for _ in range(12))

        def forward(self, x):
            x = self.a(x)
            for block in self.blocks:
                x = x + block(x) * mask(x, 0.5)
            return self.o(x)

    rules = derive(trace(lambda n: (Dropped(n), (X,)), widths=(16, 32, 64)))
    for i in range(12):
        rule = rules[f"blocks.{i}.weight"]
        assert (rule.role, rule.b, rule.c, rule.gradient) == ("hidden", Fraction(1, 2), 1, -1), i
