"""What code keeps of a trace is dropped, so that the next trace and real training find what they would without it."""

from functools import lru_cache

import pytest
import torch
from torch import nn

from tpcalc.check import check
from tpcalc.trace import trace
from tpcalc.trace.record import Attributes
from tpcalc.trace.record.phantom import Phantom

X = torch.linspace(-1, 1, 48).reshape(2, 24)
CACHE: dict = {}
kept = None


@lru_cache
def table(count):
    return torch.arange(count).float().cos()


def by_function(module):
    return table(24)


def by_file(module):
    if 24 not in CACHE:
        CACHE[24] = torch.arange(24).float().cos()
    return CACHE[24]


def by_name(module):
    global kept
    if kept is None:
        kept = torch.arange(24).float().cos()
    return kept


def by_module(module):
    if module.kept is None:
        module.kept = torch.arange(24).float().cos()
    return module.kept


def by_list(module):
    if not module.list:
        module.list.append(torch.arange(24).float().cos())
    return module.list[0]


class Net(nn.Module):
    def __init__(self, n, cached):
        super().__init__()
        self.a, self.o, self.cached = nn.Linear(24, n), nn.Linear(n, 10), cached
        self.kept, self.list = None, []

    def forward(self, x):
        return self.o(torch.relu(self.a(x * self.cached(self))))


WAYS = [by_function, by_file, by_name, by_module, by_list]


@pytest.mark.parametrize("cached", WAYS)
def test_each_trace_makes_its_own(cached):
    program = trace(lambda n: (Net(n, cached), (X,)), widths=(16, 32, 64))
    assert any(node.op.startswith("aten.cos") for node in program.nodes)
    assert not CACHE and kept is None and type(table(24)) is torch.Tensor


@pytest.mark.parametrize("cached", [by_function, by_module, by_list])
def test_a_model_with_a_cache_is_checked(cached):
    found = check(lambda n: (Net(n, cached), (X,)), widths=(16, 32, 64), seeds=1, steps=2)
    assert found is not None


def test_what_was_kept_stands_again():
    model = Net(4, by_list)
    built = Attributes(model)
    model(X)
    model.kept = real = model.list[0]
    with built.standing():
        assert model.kept is None and model.list == []
        model.list.append("else")
    assert model.kept is real and model.list[0] is real and not isinstance(real, Phantom)
