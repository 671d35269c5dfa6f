"""A check as a document."""

from __future__ import annotations

from tests.report.made import checked


def test_document():
    document = checked().json()
    assert list(document) == [
        "schema", "ok", "parametrization", "optimizer", "widths", "seeds", "steps", "tolerance", "compared", "failed",
        "skipped", "slower", "trouble", "findings", "losses", "entries", "notes",
    ]  # fmt: skip
    assert (document["ok"], document["compared"], document["failed"], document["skipped"]) == (False, 3, 2, 1)
    assert document["losses"] == {"64": [2.5, None], "128": [2.5, 1.23457]}, "what JSON can't hold is null"
    assert document["entries"][0] == {
        "quantity": "init",
        "subject": "h3",
        "module": "fc",
        "where": "fc, net.py:4",
        "op": "mm",
        "predicted": "1/2",
        "wanted": "0",
        "floor": None,
        "slope": 0.5,
        "error": 0.02,
        "rms": [1.0, None, 0.123457],
        "verdict": "above",
        "reason": "",
    }
    skipped = document["entries"][3]
    assert (skipped["slope"], skipped["error"], skipped["wanted"]) == (None, None, "-oo")
