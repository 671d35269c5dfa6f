"""Ends that grow cut nothing off a value of order 0, whatever op has them and whether it has one or two."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tpcalc

WIDTHS = (64, 128, 256)


class Logits(nn.Module):
    def __init__(self, n, op):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(8, n), nn.Linear(n, n), nn.Linear(n, 4, bias=False)
        self.op, self.n = op, n

    def forward(self, x):
        return self.op(self.head(F.relu(self.b(F.relu(self.a(x))))), self.n)


def rules_of(op):
    return tpcalc.derive(tpcalc.trace(lambda n: (Logits(n, op), (torch.randn(3, 8),)), WIDTHS), "adamw")


NOTHING = {
    "clamp to both": lambda y, n: y.clamp(-n, n),
    "clamp from below": lambda y, n: y.clamp(min=-n),
    "clamp from above": lambda y, n: y.clamp(max=n),
    "clamp_min": lambda y, n: y.clamp_min(-n),
    "clamp_max": lambda y, n: y.clamp_max(2 * n),
    "one end grows": lambda y, n: y.clamp(-1, n),
    "the other grows": lambda y, n: y.clamp(-n, 1),
    "one end shrinks": lambda y, n: y.clamp(min=-1 / n),
    "hardtanh": lambda y, n: F.hardtanh(y, -n, n),
    "fmod": lambda y, n: torch.fmod(y, n),
    "fmod of a fixed number": lambda y, n: torch.fmod(y, 3.0),
    "remainder of a fixed number": lambda y, n: torch.remainder(y, 3.0),
}
#: ... but an end on the wrong side of 0 pushes the value along, as does a number that is added to what is negative.
GROWS = {
    "clamp above": lambda y, n: y.clamp(min=n),
    "clamp below": lambda y, n: y.clamp(max=-n),
    "clamp_min above": lambda y, n: y.clamp_min(n),
    "between growing ends": lambda y, n: y.clamp(n, 2 * n),
    "remainder": lambda y, n: torch.remainder(y, n),
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_cuts_nothing_off_leaves_the_rules(name):
    rules, plain = rules_of(NOTHING[name]), rules_of(lambda y, n: y)
    assert not rules.sites and not rules.notes
    assert {w: (r.A, r.C, r.eps) for w, r in rules.items()} == {w: (r.A, r.C, r.eps) for w, r in plain.items()}


@pytest.mark.parametrize("name", GROWS)
def test_what_pushes_the_value_along_is_a_site(name):
    assert [(s.found, s.needed) for s in rules_of(GROWS[name]).sites] == [(1, 0)]
