"""Gradients of look-ups: of more places than there are rows, each row collects many."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tpcalc

ROWS = 16

LOOK_UPS = {
    "embedding": lambda table, at: F.embedding(at, table),
    "index": lambda table, at: table[at],
    "index_select": lambda table, at: table.index_select(0, at),
    "gather": lambda table, at: table.gather(0, at[:, None].expand(-1, table.shape[1])),
}


class Table(nn.Module):
    def __init__(self, n, look_up):
        super().__init__()
        self.table, self.o, self.look_up = nn.Parameter(torch.randn(ROWS, n)), nn.Linear(n, 5), look_up

    def forward(self, at):
        return self.o(F.relu(self.look_up(self.table, at)))


@pytest.mark.parametrize("name", LOOK_UPS)
@pytest.mark.parametrize("batch, eps", [(lambda n: n, -1), (lambda n: 32, -1)], ids=["growing", "fixed"])
def test_each_row_collects_the_gradients_of_all_places_where_it_stands(name, batch, eps):
    """With a batch that grows, measured at widths 64 to 1024: -0.99 (each place has n^-2, a mean over n of n^-1)."""
    rules = tpcalc.derive(
        tpcalc.trace(lambda n: (Table(n, LOOK_UPS[name]), (torch.arange(batch(n)) % ROWS,)), (64, 128, 256)), "adamw"
    )
    assert rules["table"].gradient == rules["table"].eps == eps
