"""Branches on random numbers: refused by name; what comes out the same for every draw is not one."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from tpcalc.errors import TraceError
from tpcalc.trace import trace

X = torch.linspace(-1, 1, 48).reshape(2, 24)


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


def test_generators_are_as_before():
    before = random.random, np.random.rand
    traced(lambda i: False)
    assert (random.random, np.random.rand) == before and type(random.random()) is float
