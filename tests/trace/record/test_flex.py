"""FlexAttention by plain ops: the numbers of torch's own, and a trace like that of scaled dot product attention."""

import pytest
import torch
import torch.nn.functional as F

from tpcalc.check import check
from tpcalc.trace.record.flex import flex_decomposed

flex = pytest.importorskip("torch.nn.attention.flex_attention")


@pytest.mark.parametrize("heads", [4, 2])
def test_it_is_scaled_dot_product_attention(heads):
    q = torch.randn(2, 4, 128, 8, requires_grad=True)
    k, v = torch.randn(2, heads, 128, 8), torch.randn(2, heads, 128, 8)
    mask = flex.create_block_mask(lambda b, h, i, j: i >= j, None, None, 128, 128, device="cpu")
    bias = -0.1 * (torch.arange(128)[:, None] - torch.arange(128)).abs()
    causal = bias.masked_fill(torch.ones(128, 128).triu(1).bool(), -torch.inf)
    with flex_decomposed():
        found = flex.flex_attention(
            q, k, v, score_mod=lambda s, b, h, i, j: s - 0.1 * (i - j).abs(), block_mask=mask, enable_gqa=heads < 4
        )
    wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=causal, enable_gqa=heads < 4)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    found.sum().backward()
    assert q.grad is not None


class Attention(torch.nn.Module):
    def __init__(self, n):
        super().__init__()
        self.i, self.qkv = torch.nn.Linear(8, n), torch.nn.Linear(n, 3 * n, bias=False)
        self.o = torch.nn.Linear(n, 4)

    def forward(self, x):
        q, k, v = self.qkv(self.i(x)).unflatten(-1, (3, -1, 16)).permute(2, 0, 3, 1, 4)
        y = flex.flex_attention(q, k, v, score_mod=lambda s, b, h, i, j: s - 0.1 * (i - j).abs())
        return self.o(y.transpose(1, 2).flatten(2))


def test_it_trains_in_a_check():
    x = torch.linspace(-1, 1, 2 * 16 * 8).reshape(2, 16, 8).sin()
    found = check(lambda n: (Attention(n), (x,)), widths=(32, 64, 128), seeds=1, steps=2)
    assert len(found.widths) == 3
