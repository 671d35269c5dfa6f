"""The table as a document, and what its schema refuses."""

from __future__ import annotations

import json

import jsonschema
import pytest

import tpcalc
from tests.report.made import N, make, make_rule, small_gpt
from tests.support.models import example
from tpcalc.derive.gauge import GAUGES, OF_DEPTH
from tpcalc.document import json_text, schema
from tpcalc.document.table import table_json


def test_json_document():
    rules = small_gpt()
    document = table_json(rules)
    jsonschema.validate(document, schema("table"))
    assert list(document) == [
        "schema", "optimizer", "gauge", "parametrization", "alignment", "experts", "scale", "weights", "clipping",
        "sites", "assumptions", "notes", "conventions",
    ]  # fmt: skip
    assert document["schema"] == "tpcalc/1"
    assert document["scale"] == {"symbol": "n", "base": None, "target": None}
    assert [weight["name"] for weight in document["weights"]] == list(rules)
    by_name = {weight["name"]: weight for weight in document["weights"]}
    assert by_name["wte.weight"]["tied_to"] is None and by_name["wte.weight"]["aliases"] == ["head.weight"]
    assert by_name["head.weight"]["tied_to"] == "wte.weight" and by_name["head.weight"]["aliases"] == ["wte.weight"]
    assert by_name["blocks.0.attn.q.weight"] == {
        "name": "blocks.0.attn.q.weight",
        "shape": ["n", "n"],
        "role": "hidden",
        "a": "0",
        "b": "1/2",
        "c": "1",
        "weight_decay": "1",
        "eps": "0",
        "A": "1/2",
        "C": "1",
        "gradient": "0",
        "trainable": True,
        "tied_to": None,
        "aliases": [],
        "reason": "gives h7 (blocks.0.q, gpt.py:41)",
        "slices": [],
        "optimizer": None,
        "shape_at": {"base": None, "target": None},
        "init_law": None,
        "init_std": {"base": None, "target": None, "code_at_target": None},
        "init_mean": {"base": None, "target": None, "code_at_target": None},
        "multipliers": dict.fromkeys(("init", "lr", "weight_decay", "eps", "clip", "forward")),
    }
    assert by_name["blocks.2.attn.kv.weight"]["slices"][1] == {
        "dim": 0, "start": "n", "length": "32", "role": "output", "A": "1", "C": "1", "b": None, "c": None,
        "start_at": {"base": None, "target": None},
        "length_at": {"base": None, "target": None},
        "init_std": {"base": None, "target": None, "code_at_target": None},
        "init_mean": {"base": None, "target": None, "code_at_target": None},
        "multipliers": {"init": None},
    }  # fmt: skip
    assert document["sites"][1]["found"] == "1/2" and document["sites"][1]["module"] == "blocks.1.attn"


def test_json_text():
    document = table_json(make(make_rule("gewicht.größe", (N,), "vector", 0, 0, eps=None)))
    text = json_text(document)
    assert json.loads(text) == document and text.endswith("}\n") and "größe" in text
    assert document["weights"][0]["eps"] is None
    jsonschema.validate(document, schema("table"))
    with pytest.raises(ValueError):
        json_text({"x": float("nan")})


@pytest.mark.parametrize(
    "path, value",
    [
        (("schema",), "tpcalc/2"),
        (("weights", 0, "b"), 0.5),
        (("weights", 0, "b"), "0.5"),
        (("weights", 0, "b"), "1/0"),
        (("weights", 0, "b"), "-oo"),
        (("weights", 0, "role"), "readout"),
        (("weights", 0, "multipliers", "lr"), "1"),
        (("weights", 0, "shape"), "[n]"),
        (("scale", "base"), "256"),
        (("sites", 0, "found"), None),
    ],
)
def test_the_schema_refuses(path, value):
    document = table_json(small_gpt())
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema("table"))


def test_the_schema_takes_exact_multipliers():
    """What an export fills in is the same document."""
    document = table_json(small_gpt())
    document["scale"] |= {"base": 256, "target": 4096}
    document["weights"][1]["init_std"] = {"base": 0.02, "target": 0.005, "code_at_target": 0.02}
    document["weights"][1]["multipliers"] = {"init": 0.25, "lr": 0.0625, "weight_decay": 16, "eps": 1, "clip": 1}
    jsonschema.validate(document, schema("table"))
    jsonschema.Draft202012Validator.check_schema(schema("table"))


@pytest.mark.parametrize("gauge", (*GAUGES, OF_DEPTH))
def test_every_gauge_has_a_document(gauge):
    rules = tpcalc.derive(tpcalc.trace(example("mlp.py", "mlp")), gauge=gauge)
    document = table_json(rules)
    jsonschema.validate(document, schema("table"))
    assert document["gauge"] == gauge
