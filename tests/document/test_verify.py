"""A verification as a document."""

from __future__ import annotations

from dataclasses import replace

from tests.report.made import verified


def test_document():
    document = verified().to_json()
    assert list(document) == [
        "schema", "ok", "regime", "r", "summary", "widths", "ran_on", "ran_on_reason", "findings", "weights", "notes",
        "assumptions",
    ]  # fmt: skip
    assert document["findings"][0] == {
        "kind": "explodes",
        "severity": "error",
        "subject": "l.{0,1}.w",
        "quantity": "lr",
        "found": "0",
        "needed": "-1",
        "effect": "1",
        "where": "l.0, net.py:4",
        "trained_by": "",
        "message": "too large, at 100%",
        "weights": ["l.0.w", "l.1.w"],
        "fixes": [{"target": "l.0.w", "quantity": "lr", "by": "-1", "to": None}],
    }
    assert list(document["findings"][0]) == [
        "kind", "severity", "subject", "quantity", "found", "needed", "effect", "where", "trained_by",
        "message", "weights", "fixes",
    ]  # fmt: skip
    first, packed, bias = document["weights"]
    assert list(packed) == [
        "name", "shape", "role", "optimizer", "a", "b", "c", "weight_decay", "eps", "A", "C", "gradient", "needed",
        "findings", "blocks",
    ]  # fmt: skip
    assert (first["a"], first["b"], first["c"], first["gradient"]) == ("0", "1/2", "0", "-1")
    assert first["needed"] == {"A": "1/2", "C": "1"} and first["findings"] == ["explodes"] and "blocks" not in first
    assert packed["blocks"] == [{"name": "l.1.w[0 : n]", "b": "1/2"}, {"name": "l.1.w[n : 2*n]", "b": None}]
    assert (bias["optimizer"], bias["b"], bias["gradient"], bias["needed"]) == (None, None, "-oo", None)


def test_a_clean_report():
    document = replace(verified(), findings=(), regime="maximal", r=None, why="").to_json()
    assert (document["ok"], document["r"], document["findings"], document["ran_on_reason"]) == (True, None, [], "")
