"""Laws of single ops that a whole model seldom reaches; the common ones are in ``test_recorder``."""

import math

import pytest
import torch
from torch import nn

from tpcalc.trace.init import InitRecorder


def law(make):
    model = nn.Module()
    with InitRecorder() as recorder:
        model.w = nn.Parameter(make())
    return recorder.laws(model)["w"]


@pytest.mark.parametrize(
    "make, mean, std, call",
    [
        (lambda: torch.empty(9).exponential_(2.0), 0.5, 0.5, "exponential_(2)"),
        (lambda: torch.empty(9).log_normal_(0.0, 1.0), math.exp(0.5), 2.1612, "log_normal_(std=1)"),
        (lambda: torch.empty(9).bernoulli_(0.25), 0.25, 0.4330, "bernoulli(0.25)"),
        (lambda: torch.bernoulli(torch.full((9,), 0.25)), 0.25, 0.4330, "bernoulli(0.25)"),
        (lambda: torch.randint(0, 7, (9,)).float(), 3.0, 2.0, "randint(0, 7)"),
        (lambda: torch.randperm(7).float(), 3.0, 2.0, "randperm(7)"),
        (lambda: torch.normal(torch.zeros(9), torch.full((9,), 3.0)), 0.0, 3.0, "normal(std=3)"),
        (lambda: 1 - torch.rand(9) * 2, 0.0, 0.57735, "rsub of rand() * 2"),
        (lambda: torch.randn(80, 80).triu(1), 0.0, math.sqrt(79 / 160), "triu of randn()"),
        (lambda: torch.randn(80, 80).permute(1, 0).contiguous(), 0.0, 1.0, "randn()"),
        (lambda: torch.ops.aten.permute_copy(torch.randn(8, 8), (1, 0)), 0.0, 1.0, "randn()"),
        (lambda: torch.hann_window(9, periodic=False), 4 / 9, 0.36852, None),
    ],
)
def test_laws(make, mean, std, call):
    found = law(make)
    assert (found.mean, found.std) == (pytest.approx(mean, abs=1e-6), pytest.approx(std, rel=1e-4))
    assert call is None or found.call == call


def test_a_mask_of_the_same_draw_is_followed_through_its_quantiles():
    def positive():
        draw = torch.randn(80, 80)
        return draw.masked_fill(draw < 0, 0.0)

    assert law(positive).mean == pytest.approx(1 / math.sqrt(2 * math.pi), rel=1e-3)


@pytest.mark.parametrize(
    "make, why",
    [
        (lambda: torch.randn(80, 80).norm(p=1, dim=1), "norm"),
        (lambda: torch.rand(9, 9) @ torch.rand(9, 9), "product of matrices of nonzero mean"),
        (lambda: (lambda a: a @ a)(torch.randn(9, 9)), "product of matrices whose laws are unknown or dependent"),
        (lambda: torch.bernoulli(torch.rand(9)), "bernoulli with unequal probabilities"),
        (lambda: torch.linalg.qr(torch.rand(9, 9))[0], "QR of a matrix that is not a tall zero-mean draw"),
        (lambda: torch.arange(1 << 21).float(), f"arange of {1 << 21} entries"),
    ],
)
def test_what_has_no_law_says_why(make, why):
    found = law(make)
    assert (found.kind, found.call) == ("unknown", why)


def test_the_label_is_that_of_the_function_of_torch_nn_init():
    assert law(lambda: nn.init.orthogonal_(torch.empty(9, 9))).call.startswith("orthogonal_(std=0.333333)")
    assert law(lambda: nn.init.kaiming_normal_(torch.empty(9, 8))).call == "kaiming_normal_(std=0.5)"
