"""The document of a page: read again, and refused where it is none."""

from __future__ import annotations

import json

import jsonschema
import pytest
from pydantic import ValidationError

from tests.report.page.made import document, found
from tpcalc.document import schema
from tpcalc.document.page import PageDocument


def test_whole_pages_meet_their_schema():
    """Those of ``test_schemas.py`` are trimmed."""
    data = json.loads(json.dumps(document("gpt", **found()).data()))
    jsonschema.Draft202012Validator(schema("page")).validate(data)


def test_it_is_read_again():
    data = document("mlp", **found()).data()
    assert data["schema"] == "tpcalc.page/1" and data["drawing"]["schema"] == "tpcalc.drawing/1"
    assert PageDocument.model_validate(json.loads(json.dumps(data))).data() == data


@pytest.mark.parametrize(
    "place, value", [("schema", "tpcalc.page/0"), ("optimizer", 3), ("drawing", {}), ("table", {"schema": "tpcalc/1"})]
)
def test_what_breaks_the_schema_is_refused(place, value):
    data = json.loads(json.dumps(document("mlp").data()))
    with pytest.raises(ValidationError, match=place):
        PageDocument.model_validate({**data, place: value})
