"""A weight that no output depends on has no rule to keep; one with a gradient that nothing asks for is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tpcalc
from tpcalc.derive.solve import solve
from tpcalc.errors import DeriveError


class StraightThrough(torch.autograd.Function):
    """Signs, with the gradient of what they are signs of."""

    @staticmethod
    def forward(ctx, x):
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Net(nn.Module):
    def __init__(self, n: int, signs) -> None:
        super().__init__()
        self.first, self.second, self.signs = nn.Linear(8, n, bias=False), nn.Linear(n, 4, bias=False), signs

    def forward(self, x):
        return self.second(self.signs(self.first(x)))


def program(signs):
    return tpcalc.trace(lambda n: (Net(n, signs), (torch.ones(2, 8),)), (64, 128, 256))


def test_a_gradient_without_a_demand_is_refused():
    with pytest.raises(DeriveError, match="first.weight has a gradient, but .* straight-through"):
        solve(program(StraightThrough.apply))


def test_the_remedy_works():
    solution = solve(program(lambda x: x + ((x > 0).to(x.dtype) - x).detach()))
    assert solution.unused == set() and solution.orders["first.weight"].A == 0


def test_a_weight_without_a_gradient_is_unused():
    assert solve(program(lambda x: (x > 0).to(x.dtype))).unused == {"first.weight"}
