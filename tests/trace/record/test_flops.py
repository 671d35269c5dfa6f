"""Operations of a trace, against counts by hand and torch's own counter on a real run."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tpcalc.trace.record import flops_of, record


def counted(make, *inputs) -> int:
    return flops_of(record(lambda: (make(), inputs), 1, activation_grads=False))


def real(make, *inputs) -> int:
    with FlopCounterMode(display=False) as counter:
        make()(*inputs).sum().backward()
    return counter.get_total_flops()


def mlp(*sizes: int, bias: bool = False) -> nn.Module:
    return nn.Sequential(*(nn.Linear(n, m, bias=bias) for n, m in pairwise(sizes)))


def test_a_multilayer_perceptron_takes_six_a_weight_and_token():
    """The first layer four: its input has no gradient."""
    tokens = 16
    by_hand = tokens * (4 * 8 * 64 + 6 * 64 * 64 + 6 * 64 * 4)
    for bias in (False, True):
        assert counted(partial(mlp, 8, 64, 64, 4, bias=bias), torch.randn(tokens, 8)) == by_hand


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 24)

    def forward(self, tokens):
        x = self.table(tokens).unflatten(-1, (3, 8)).transpose(1, 2)
        return nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)


def test_attention_has_two_products_forward_and_four_backward():
    """Torch itself counts none where a fused kernel of the CPU runs.  Embeddings are no product."""
    batch, heads, time, size = 2, 3, 10, 8
    tokens = torch.randint(50, (batch, time))
    assert counted(Attention, tokens) == 6 * 2 * batch * heads * time * time * size
    assert real(Attention, tokens) == 0


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_convolutions(kind, groups):
    """Each weight meets every position of the smaller picture; a channel meets those of its group alone."""
    kinds = (partial(nn.Conv2d, 3, 8, 1), partial(kind, 8, 16, 3, groups=groups, bias=False))
    picture = torch.randn(2, 3, 10, 10)
    positions = 2 * (8 * 8 if kind is nn.Conv2d else 10 * 10)
    first, second = 2 * 2 * 2 * 100 * 3 * 8, 3 * 2 * positions * 9 * 8 * 16 // groups

    def make():
        return nn.Sequential(*(kind() for kind in kinds))

    assert counted(make, picture) == first + second
    if groups == 1:
        assert real(make, picture) == first + second


class Readout(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.v = nn.Parameter(torch.randn(4, 7)), nn.Parameter(torch.randn(7))

    def forward(self, x):
        return torch.einsum("bti,ij->btj", x, self.w) @ self.v


def test_einsum_and_a_matrix_times_a_vector():
    """Torch counts no product with a vector.  The gradient of its operand is an outer product, which sums nothing."""
    x, rows = torch.randn(2, 3, 4), 6
    assert counted(Readout, x) == rows * (4 * 4 * 7 + 4 * 7)
    assert real(Readout, x) == rows * 4 * 4 * 7


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.w = nn.Linear(16, 16, bias=False), nn.Parameter(torch.randn(2, 16, 32))

    def forward(self, x):
        ends = torch.tensor([3, x.shape[0]], dtype=torch.int32)
        return torch._grouped_mm(self.first(x).bfloat16(), self.w.bfloat16(), offs=ends)


@pytest.mark.skipif(not hasattr(torch, "_grouped_mm"), reason="newer torch")
def test_experts_meet_their_own_rows():
    rows = 8
    assert counted(Experts, torch.randn(rows, 16)) == rows * (4 * 16 * 16 + 6 * 16 * 32)


def test_a_recurrence_is_counted_step_by_step():
    batch, time, size = 2, 5, 8
    cell = partial(nn.LSTM, 8, size, bias=False, batch_first=True)
    found = counted(cell, torch.randn(batch, time, 8))
    weights = 2 * 4 * size * size
    assert 4 * batch * time * weights // 2 < found <= 6 * batch * time * weights
