"""A sweep as a document."""

from __future__ import annotations

import math
from dataclasses import replace

from tests.report.made import RATES, curve, transferred
from tpcalc.document.transfer import NAMES, transfer_json
from tpcalc.transfer.result import PARAMETRIZATIONS


def test_document():
    document = transfer_json(transferred())
    assert list(document) == [
        "schema", "name", "optimizer", "steps", "seeds", "sizes", "drift", "drift_error", "at_largest", "cost",
        "advice", "notes",
    ]  # fmt: skip
    first, last = document["sizes"]
    assert first["scales"] == {"width": 64} and last["scales"] == {"width": 256}
    assert (first["derived"]["optimum"], first["derived"]["loss"], first["tuned"]) == (0.003, 2.40147, None)
    standard = last["standard"]
    assert list(standard) == ["optimum", "error", "edge", "loss", "loss_error", "diverged", "rates", "losses"]
    assert standard["rates"] == list(RATES), "as they were tried"
    assert [loss is None for loss in standard["losses"][2]] == [False] * 5 + [True] * 2 and standard["diverged"] == 6
    assert (round(document["drift"]["standard"], 3), document["drift"]["tuned"]) == (-1.0, None)
    assert 0.05 < document["drift_error"]["derived"] < 0.2
    ending = document["at_largest"]["derived"]
    assert document["at_largest"]["scales"] == {"width": 256}
    assert ending["rate"] == ending["best_rate"] == RATES[3] and ending["carried"] == ending["best"] == 2.37107
    against = ending["against_standard"]
    assert (against["no_worse"], ending["against_unscaled"]) == (False, None)
    assert math.isclose(against["difference"], ending["carried"] - standard["loss"], abs_tol=1e-5)
    share = 150 * 21 / 13 / 3000
    assert document["cost"] == {
        "base": 10**9, "target": 13 * 10**9, "spent": 21 * 150 * 1e9, "steps": 3000, "share": share,
    }  # fmt: skip
    advice = {"module": "readout", "kind": "lr", "factor": 0.25, "loss": 2.2, "before": 2.4, "error": 0.03}
    assert document["advice"][0] == advice
    assert document["notes"] == ["one note"]


def test_what_is_not_there_is_null():
    """A loop that diverges everywhere, an optimum at the end of the grid, a cost that can't be counted."""
    edge, nothing = curve("derived", 64, 1.0, 2.0), curve("derived", 256, 0.003, 2.0, wall=0.0)
    document = transfer_json(replace(transferred(), curves=(edge, nothing), cost=None, advice=()))
    first, last = (entry["derived"] for entry in document["sizes"])
    assert (first["optimum"], first["edge"], first["error"]) == (round(RATES[-1], 9), True, None)
    assert (last["optimum"], last["edge"], last["loss"], last["diverged"]) == (None, False, None, 21)
    assert document["drift"]["derived"] is None and document["cost"] is None
    ending = document["at_largest"]["derived"]
    assert (ending["rate"], ending["carried"], ending["best"], ending["against_standard"]) == (RATES[-1], *[None] * 3)


def test_names_are_those_of_the_result():
    assert NAMES == PARAMETRIZATIONS
