"""A weight that contracts an outer product: one factor changes at a time."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn

import tpcalc
from tests.support.models import Net, entry, normal, points, readout

WIDTHS = (16, 32, 64)
H = Fraction(1, 2)


def outer(p, q, w):
    return (p[:, :, None] * q[:, None, :]).flatten(1) @ w.flatten(0, 1)


#: Two values of n entries and a weight [n, n, k].
FORMS = {
    "einsum": lambda p, q, w: torch.einsum("bi,bj,ijk->bk", p, q, w),
    "written out": outer,
    "layer": lambda p, q, w: torch._trilinear(p, w.permute(2, 0, 1), q, [1, 3], [0], [1, 2], [2, 3]),
}


def factory(form, hidden: bool):
    def made(n: int):
        def run(s, x):
            y = form(torch.tanh(s.i(x)), torch.tanh(s.j(x)), s.w)
            return s.o(torch.tanh(y)) if hidden else y

        return Net(run, i=entry(n), j=entry(n), w=normal(n, n, n if hidden else 4), o=readout(n)), points()

    return made


@pytest.mark.parametrize("hidden, init", [(True, 1), (False, 3 * H)])
@pytest.mark.parametrize("name", FORMS)
def test_the_other_axis_of_an_outer_product_counts_among_the_rest(name, hidden, init):
    """Effect of the features' change, n = 16 to 128: to n outputs with std n^-1 -0.01 (n^-3/2: -0.52), to four with
    n^-3/2 -0.06 (n^-1: +0.34)."""
    rules = tpcalc.derive(tpcalc.trace(factory(FORMS[name], hidden), WIDTHS))
    assert (rules["w"].b, rules["w"].c) == (init, 2)
    assert not rules.sites


def test_a_gain_is_no_outer_product():
    def made(n: int):
        def run(s, x):
            return s.o(torch.tanh((torch.tanh(s.i(x)) * s.g) @ s.w))

        return Net(run, i=entry(n), g=nn.Parameter(torch.ones(n)), w=normal(n, n), o=readout(n)), points()

    rules = tpcalc.derive(tpcalc.trace(made, WIDTHS))
    assert (rules["w"].b, rules["w"].c) == (H, 1)
