"""Models that come without example inputs."""

import pytest

import tpcalc
from tpcalc.errors import TraceError

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402


class TwoArguments(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.a = nn.Linear(4, n)

    def forward(self, x, y):
        return self.a(x) + y


class WithOwn(TwoArguments):
    def __init__(self, n):
        super().__init__(n)
        self.example_inputs = (torch.randn(2, 4), torch.randn(2, n))


FIRST_LAYERS = {
    "linear": lambda n: nn.Sequential(nn.Linear(8, n), nn.ReLU(), nn.Linear(n, 10)),
    "embedding": lambda n: nn.Sequential(nn.Embedding(50, n), nn.Linear(n, 10)),
    "conv": lambda n: nn.Sequential(
        nn.Conv2d(3, n, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n, 10)
    ),
    "its own": WithOwn,
}


@pytest.mark.parametrize("name", FIRST_LAYERS)
def test_inputs_are_found_and_said(name):
    program = tpcalc.trace(FIRST_LAYERS[name], widths=(16, 32, 64))
    assert any("came without example inputs" in text for text in program.assumptions)


@pytest.mark.parametrize("factory", [TwoArguments, lambda n: nn.Sequential(nn.LayerNorm(n), nn.Linear(n, 2))])
def test_inputs_in_doubt_are_asked_for(factory):
    with pytest.raises(TraceError, match=r"without example inputs at width 16; return \(model, inputs\)"):
        tpcalc.trace(factory, widths=(16, 32, 64))
