"""What is recognised whatever ops wrote it: one function written several ways has the same rules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tpcalc
from tests.support.models import WIDTHS, Net, entry, points, readout
from tests.support.once import once


@once
def traced(function):
    """A network with ``function`` over its hidden layer of growing size."""

    def factory(n):
        return Net(
            lambda s, x: s.o(function(s.h(s.i(x).relu()))), i=entry(n), h=nn.Linear(n, n), o=readout(n)
        ), points()

    return tpcalc.trace(factory, WIDTHS)


@once
def rules_of(function, optimizer):
    """Every exponent."""
    rules = tpcalc.derive(traced(function), optimizer)
    return {name: (rule.b, rule.c, rule.weight_decay, rule.eps) for name, rule in rules.items()}


def log_softmax(h):
    return h.log_softmax(-1)


def softmax(h):
    return h.softmax(-1) * h


def shifted(h):
    most = h.amax(-1, keepdim=True)
    return h - (most + (h - most).exp().sum(-1, keepdim=True).log())


LOG_SOFTMAX = {
    "less its total": lambda h: h - h.logsumexp(-1, keepdim=True),
    "less its total, which lost its axis": lambda h: h - torch.logsumexp(h, dim=-1).unsqueeze(-1),
    "on a transpose": lambda h: (h.T - h.T.logsumexp(0)).T,
    "less its largest first": shifted,
    "log of a softmax made so": lambda h: (h - h.logsumexp([-1], keepdim=True)).exp().log(),
}
SOFTMAX = {
    "reversed twice": lambda h: torch.rsub(h.logsumexp(-1, keepdim=True), h).exp() * h,
    "exp of what is less its total": lambda h: (h - h.logsumexp(-1, keepdim=True)).exp() * h,
    "cast between": lambda h: (h - h.logsumexp(-1, keepdim=True)).double().exp().float() * h,
}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("way", LOG_SOFTMAX)
def test_a_logarithm_of_a_softmax(way, optimizer):
    assert rules_of(LOG_SOFTMAX[way], optimizer) == rules_of(log_softmax, optimizer)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("way", SOFTMAX)
def test_a_softmax(way, optimizer):
    assert rules_of(SOFTMAX[way], optimizer) == rules_of(softmax, optimizer)


@pytest.mark.parametrize(
    "function",
    [
        lambda h: (h - h.tanh().logsumexp(-1, keepdim=True)).exp() * h,
        lambda h: (h.logsumexp(-1, keepdim=True) - h).tanh() * h,
        lambda h: (h - 0.5 * h.logsumexp(-1, keepdim=True)).exp() * h,
        lambda h: (0.5 * (h - h.logsumexp(-1, keepdim=True))).exp() * h,
        lambda h: (h - (0.5 * h).logsumexp(-1, keepdim=True)).exp() * h,
        lambda h: torch.sub(h, h.logsumexp(-1, keepdim=True), alpha=0.5).exp() * h,
        lambda h: torch.rsub(h, h.logsumexp(-1, keepdim=True)).exp() * h,
    ],
    ids=["of another", "the other way round", "half of it", "half of both", "of a half", "half by alpha", "reversed"],
)
def test_only_an_entry_less_its_own_total_is_a_part(function):
    """Where it is none, nothing is made smaller than it may be."""
    rules, softmax = rules_of(function, "sgd"), rules_of(lambda h: h.softmax(-1) * h, "sgd")
    assert rules["o.weight"] != softmax["o.weight"]
