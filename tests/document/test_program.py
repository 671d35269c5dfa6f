"""A program as JSON."""

from __future__ import annotations

import json

from tests.report.made import small_program
from tpcalc.document import json_text
from tpcalc.document.program import program_json


def test_program_json():
    document = program_json(small_program())
    assert json.loads(json_text(document)) == document
    assert document["schema"] == "tpcalc-program/1" and document["widths"] == [128, 256, 512]
    assert document["nodes"][1]["args"] == [{"value": 2}, {"scalar": "2*n^(-1/2)"}]
    assert document["nodes"][1]["kwargs"] == {"x": {"float": "-inf"}}
    assert document["nodes"][2]["args"][1] == [{"size": "n"}, 4, True, None]
    assert document["nodes"][2]["outputs"] == [4, None]
    assert document["weights"][0]["aliases"] == ["tied"] and document["weights"][0]["init"][0]["std"] == 0.02
    assert document["values"][0]["growths"] == ["0", "1"] and document["values"][1]["magnitude"] == "2"
    assert document["outputs"] == [{"path": "logits", "value": 3}]
