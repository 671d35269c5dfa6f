"""Schemas: up to date, valid, and true of the documents that are made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name

import jsonschema
import pytest

import tpcalc
from tests.report.made import checked, curve, small_gpt, small_program, transferred, tuned, verified
from tests.report.page.made import document as page_of
from tests.report.page.made import found as beside
from tests.support import scaled, stacks
from tests.support.models import MODELS
from tests.support.once import once
from tpcalc.check.result import ScaledResult
from tpcalc.document import DOCUMENTS, json_text, schema
from tpcalc.document.drawing import drawing
from tpcalc.document.recipe import recipe_json
from tpcalc.document.scaled import scaled_json
from tpcalc.document.table import table_json
from tpcalc.document.transfer import transfer_json
from tpcalc.horizon import assume
from tpcalc.optimizers import LAWS

pytestmark = pytest.mark.usefixtures("recorded_once")

SCHEMAS = Path(__file__).parents[2] / "tpcalc" / "document" / "schemas"


def supposed(scaling: tpcalc.Scaling) -> tpcalc.Scaling:
    """With a rule for batch size and length on top."""
    return scaling.under(assume("completed-p", "64:1024", "1e9:2e11").at(1000, 10**6), LAWS)


def trimmed(data, most: int):
    """With no more than so many of each list: of a page every kind of row is there then, too."""
    if isinstance(data, dict):
        return {key: trimmed(own, most) for key, own in data.items()}
    return [trimmed(own, most) for own in data[:most]] if isinstance(data, list) else data


@once
def made(name: str) -> list[dict]:
    """Documents of each kind, of several models."""
    factories = [MODELS[name] for name in sorted(MODELS)[::9]]
    if name == "table":
        programs = [tpcalc.trace(factory, (64, 128, 256)) for factory in factories]
        tables = [tpcalc.derive(program, optimizer) for program in programs for optimizer in ("sgd", "muon+adamw")]
        named = tpcalc.derive(programs[0], parametrization="sp", alignment="omega")
        return [table_json(rules) for rules in (small_gpt(), named, *tables)]
    if name == "scales":
        programs = [tpcalc.trace(factory, scales=scales) for factory, scales in scaled.SCALES.items()]
        return [
            scaled_json(tpcalc.derive(program, optimizer)) for program in programs for optimizer in ("adamw", "sgd")
        ]
    if name == "multipliers":
        found = [tpcalc.scale(factory, 64, 256, gauge=gauge) for factory in factories[:2] for gauge in ("init", "mup")]
        return [each.document for each in (*found, supposed(found[0]))]
    if name == "scaled-multipliers":
        ways = (
            (stacks.pre, {"width": 16, "depth": 2}, {"width": 64, "depth": 4}),
            (scaled.packed, {"heads": 2, "head_dim": 8}, {"heads": 4, "head_dim": 32}),
        )
        found = [tpcalc.scale(*way, gauge=gauge) for way in ways for gauge in ("init", "mup")]
        return [each.document for each in (*found, supposed(found[0]))]
    if name == "scaled-check":
        ray = replace(checked(), scale="depth", base={"width": 64, "depth": 2})
        return [ScaledResult((checked(), ray)).json()]
    if name == "transfer":
        return [
            transfer_json(transferred()),
            transfer_json(replace(transferred(), curves=(curve("tuned", 64, 0.003, 2.0, wall=0),))),
        ]
    if name == "recipe":
        return [recipe_json(each) for each in (tuned(), replace(tuned(), scaling=supposed(tuned().scaling)))]
    if name == "drawing":
        return [drawing(small_program(), {}).data(), page_of("gpt").data()["drawing"]]
    if name == "page":
        return [trimmed(page_of("mlp").data(), 1), trimmed(page_of("mlp", **beside()).data(), 2)]
    return [verified().to_json()] if name == "verify" else [checked().json()]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_file_is_up_to_date(name):
    text = (SCHEMAS / f"{name}.json").read_text(encoding="utf-8")
    assert text == json_text(schema(name)), "run make schema"
    jsonschema.Draft202012Validator.check_schema(json.loads(text))


def test_there_is_no_other_file():
    assert {path.stem for path in SCHEMAS.iterdir()} == set(DOCUMENTS)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_meet_their_schema_and_read_back(name):
    """The schema and the model agree on what is made, and reading it back changes no byte."""
    model = resolve_name(DOCUMENTS[name])
    for document in made(name):
        text = json_text(document)
        jsonschema.validate(json.loads(text), schema(name))
        assert json_text(model.model_validate(json.loads(text)).data()) == text


@pytest.mark.parametrize("name", DOCUMENTS)
def test_schema_and_model_refuse_alike(name):
    """Every key that is required, every other type, everywhere in a document."""
    model, validator = resolve_name(DOCUMENTS[name]), jsonschema.Draft202012Validator(schema(name))
    document = made(name)[-1 if name.endswith(("multipliers", "recipe")) else 0]  # the one that has all keys
    if name.endswith("multipliers"):  # one parameter has them all, and many are slow
        document = document | {key: document[key][:1] for key in ("weights", "patterns") if key in document}
        model.model_validate(document)
    refused = 0
    for path in places(document):
        for value in (KeyError, None, 7, "1/0", [], {}):
            broken = json.loads(json.dumps(document))
            *above, last = path
            place = broken
            for key in above:
                place = place[key]
            if value is not KeyError:
                place[last] = value
            elif isinstance(last, str):
                del place[last]
            accepted = not refuses(model, broken)
            if validator.is_valid(broken):
                assert accepted or name.endswith("multipliers"), path  # whose numbers must fit together
            else:
                assert not accepted, (path, value)
                refused += 1
    assert refused > 20


def refuses(model, document) -> bool:
    try:
        model.model_validate(document)
    except ValueError:
        return True
    return False


def places(value, path=()):
    """Paths to everything in a document, of lists the first item."""
    items = value.items() if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))
