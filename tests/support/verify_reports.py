"""Reports on the set-ups, made once, and what tests read of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import tpcalc
from tests.support import verify_setups as setups
from tests.support.once import once
from tpcalc.verify import Report

WIDTHS = (64, 128, 256)
MUP = {setup.__name__ for setup in setups.MUP_ADAM} | {"mup_mlp_sgd", "gpt_neox", "coupled_decay", "mup_shared_readout"}


@once
def report_of(setup: Callable) -> Report:
    if setup.__name__ in MUP:
        pytest.importorskip("mup")
    return tpcalc.verify(setup, WIDTHS)


def told(report: Report) -> list[tuple]:
    """(kind, quantity, found, needed) of every finding."""
    return [(f.kind, f.quantity, f.found, f.needed) for f in report.findings]


def weights(report: Report, kind: str) -> set[str]:
    return {name for f in report.findings if f.kind == kind for name in f.weights}


def hidden_of_llama(*names: str, layers: int = 2) -> set[str]:
    table = {"q": "attention.wq", "k": "attention.wk", "v": "attention.wv", "o": "attention.wo"}
    table |= {name: f"feed_forward.{name}" for name in ("w1", "w2", "w3")}
    return {f"layers.{i}.{table[name]}.weight" for i in range(layers) for name in names or table}
