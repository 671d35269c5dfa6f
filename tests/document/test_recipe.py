"""A search as a document (its reading, more: tests/tune/test_recipe.py)."""

from __future__ import annotations

import math
from typing import get_args

from tests.report.made import tuned
from tpcalc.document.recipe import Kind, recipe_json
from tpcalc.transfer.tuned import KINDS


def test_content():
    result = tuned()
    document = recipe_json(result)
    assert list(document) == [
        "schema", "name", "optimizer", "base", "target", "constants", "weights", "cost", "search", "loss", "notes",
    ]  # fmt: skip
    assert document["base"]["scales"] == {"width": 64} and document["target"] == {
        "scales": {"width": 256},
        "steps": 1000,
    }
    assert document["base"]["hyperparameters"] == {"lr": result.base.lr, "weight_decay": 0.1, "eps": 1e-8}
    assert document["constants"] == result.constants
    search = document["search"]
    assert search["space"] == {name: list(ends) for name, ends in result.search.space.ranges.items()}
    assert [trial["numbers"] for trial in search["trials"]] == [dict(job.numbers) for job in result.jobs]
    assert [trial["steps"] for trial in search["trials"]] == [25] * 16 + [100] * 4
    for trial, job in zip(search["trials"], result.jobs, strict=True):
        loss = result.done[job].loss
        assert trial["loss"] == (float(f"{loss:.6g}") if math.isfinite(loss) else None)
    losses = [trial["loss"] for trial in search["trials"]]
    assert None in losses and document["loss"]["chosen"] == min(loss for loss in losses[16:])
    assert document["loss"]["after"] == min(loss for loss in losses[:16] if loss is not None)
    assert document["loss"]["before"] == min(loss for loss in losses[:4] if loss is not None)
    assert document["cost"] == {
        "base": 10**6, "target": 15 * 10**6, "spent": 800 * 1e6, "steps": 1000, "share": 800 / 15000,
    }  # fmt: skip


def test_numbers_of_a_weight():
    """A constant multiplies what the powers give, and stands beside it in the absolute number."""
    result = tuned()
    rows = {row["name"]: row for row in recipe_json(result)["weights"]}
    assert list(rows) == list(result.scaling)
    for name, row in rows.items():
        weight = result.scaling[name]
        assert row["multipliers"] == {
            "init": weight.init, "lr": weight.lr, "weight_decay": weight.weight_decay, "eps": weight.eps,
        }  # fmt: skip
        assert (row["lr"], row["weight_decay"]) == (result.base.lr * weight.lr, 0.1 * weight.weight_decay)
        assert (row["init_std"], row["eps"]) == (weight.draw[2], 1e-8 * weight.eps)
    readout = rows["output.weight"]
    assert readout["multipliers"]["init"] < result.constants["readout"]["init"] < 0.1


def test_kinds_are_those_of_constants():
    assert get_args(Kind) == KINDS
