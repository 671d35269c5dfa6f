"""Lazy modules, with and without a first run; packed sequences."""

import pytest
import torch
from torch import nn

from tpcalc.trace import trace
from tpcalc.trace.record.lazy import pad_packed_sequence

X = torch.linspace(-1, 1, 48).reshape(2, 24)


def lazy(n):
    return nn.Sequential(nn.LazyLinear(n), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(10)), (X,)


def after_a_run(n):
    model, inputs = lazy(n)
    model(*inputs)
    return model, inputs


@pytest.mark.parametrize("factory", [lazy, after_a_run])
def test_lazy_modules_are_as_explicit_ones(factory):
    def explicit(n):
        return nn.Sequential(nn.Linear(24, n), nn.BatchNorm1d(n), nn.ReLU(), nn.Linear(n, 10)), (X,)

    found, wanted = (trace(make, widths=(16, 32, 64)) for make in (factory, explicit))
    assert [(w.name, w.shape, w.trainable) for w in found.weights] == [
        (w.name, w.shape, w.trainable) for w in wanted.weights
    ]
    assert [[law.std for _, law in w.init] for w in found.weights] == [
        [law.std for _, law in w.init] for w in wanted.weights
    ]
    assert [node.op for node in found.nodes] == [node.op for node in wanted.nodes]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("total", [None, 7])
def test_padding_is_that_of_torch(batch_first, total):
    x = torch.randn(3, 5, 2)
    packed = nn.utils.rnn.pack_padded_sequence(x, [5, 3, 1], batch_first=True)
    wanted, lengths = nn.utils.rnn.pad_packed_sequence(packed, batch_first, 0.5, total)
    found, own = pad_packed_sequence(packed.data, packed.batch_sizes, batch_first, 0.5, total or -1)
    assert torch.equal(found, wanted) and torch.equal(own, lengths)


def test_a_packed_sequence_is_traced():
    class Net(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.a, self.g, self.o = nn.Linear(24, n), nn.GRU(n, n, batch_first=True), nn.Linear(n, 10)

        def forward(self, x):
            packed = nn.utils.rnn.pack_padded_sequence(self.a(x), [4, 2], batch_first=True)
            return self.o(nn.utils.rnn.pad_packed_sequence(self.g(packed)[0], batch_first=True)[0])

    program = trace(lambda n: (Net(n), (torch.randn(2, 4, 24),)), widths=(16, 32, 64))
    assert all(weight.grad is not None for weight in program.weights)
