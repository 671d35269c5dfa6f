"""Reading and checking ``multipliers.json``.  Data only: nothing in a file is ever executed."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Union

import jsonschema

from tpcalc.document.table import SCHEMA, load_schema
from tpcalc.errors import ScalingError

_OPTIMIZER = re.compile(r"[a-z0-9_]{1,40}(\+[a-z0-9_]{1,40})?")
_VERSION = re.compile(r"tpcalc/([0-9]{1,9})")
#: A multiplier outside of these bounds is no multiplier of any training run.
_SMALLEST, _LARGEST = 1e-100, 1e100


def read(path: Union[str, Path]) -> dict[str, Any]:
    """The document in a file.  Raises ScalingError, in one sentence, where it is missing, corrupt or not ours."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        document = json.loads(text, parse_constant=_no_constant)
    except OSError as error:
        raise ScalingError(f"cannot read {path}: {error.strerror or error}; check the path") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise ScalingError(f"{path} is corrupt ({reason}); write it again with tpcalc export") from error
    check(document, str(path))
    return document


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


@lru_cache(maxsize=1)
def _validator() -> jsonschema.protocols.Validator:
    schema = load_schema()
    return jsonschema.validators.validator_for(schema)(schema)


def check(document: Any, what: str = "the document") -> None:
    """Raise ScalingError unless ``document`` holds the multipliers of one model, in a version known here."""
    found = document.get("schema") if isinstance(document, dict) else None
    version = _VERSION.fullmatch(found) if isinstance(found, str) else None
    if version is None:
        raise ScalingError(f"{what} is not a multipliers file of tpcalc; write one with tpcalc export")
    if found != SCHEMA:
        raise ScalingError(f"{what} has version {found}, this tpcalc reads {SCHEMA}; upgrade tpcalc or export again")
    error = jsonschema.exceptions.best_match(_validator().iter_errors(document))
    if error is not None:
        place = error.json_path.removeprefix("$").lstrip(".") or "top level"
        message = " ".join(error.message.split())
        message = message if len(message) <= 120 else message[:117] + "..."
        raise ScalingError(f"{what} breaks the schema {SCHEMA} at {place}: {message}; export it again")
    problem = _problem(document)
    if problem:
        raise ScalingError(f"{what} {problem}; write it again with tpcalc export")


def _problem(document: dict[str, Any]) -> str:
    """What the schema can't say; empty if all is well."""
    if None in (document["scale"]["base"], document["scale"]["target"]):
        return "is a scaling table and holds no multipliers"
    for entry in (document, *document["weights"]):
        if not _OPTIMIZER.fullmatch(entry["optimizer"] or ""):
            return "names no optimizer"
    lengths = [document["scale"][key] for key in ("base", "target")]
    shapes = [shape or () for entry in document["weights"] for shape in entry["shape_at"].values()]
    lengths += [length for shape in shapes for length in shape]
    if not all(type(length) is int for length in lengths):
        return "has a width or a size that is no whole number"
    entries = {entry["name"]: entry for entry in document["weights"]}
    if len(entries) != len(document["weights"]):
        return "names a parameter twice"
    for name, entry in entries.items():
        if not all(name.split(".")):
            return f"names a parameter {name!r}, which no model can have"
        numbers = {key: value for key, value in entry["multipliers"].items() if key != "eps" or value is not None}
        if any(value is None or not _SMALLEST < value < _LARGEST for value in numbers.values()):
            return f"has a multiplier of {name!r} that is missing or no positive number"
        if document.get("gauge", "init") != "init" and "forward" not in numbers:
            return f"lacks the forward multiplier of {name!r}"
        if entry["init_law"] is None or None in entry["shape_at"].values():
            return f"lacks the sizes or the init law of {name!r}"
        if None in (entry["init_std"]["target"], entry["init_mean"]["target"]):
            return f"lacks the wanted init of {name!r}"
        problem = _slices_problem(entry)
        if problem:
            return f"has a block of {name!r} that {problem}"
        first = entries.get(entry["tied_to"] or name)
        if first is None or first["tied_to"] is not None:
            return f"ties {name!r} to a parameter that is not there"
        if {first["name"], *first["aliases"]} != {name, *entry["aliases"]} or not entries.keys() >= {*entry["aliases"]}:
            return f"gives {name!r} other ties than {first['name']!r}"
        if any(first[key] != entry[key] for key in ("multipliers", "shape_at", "slices")):
            return f"gives {name!r} other numbers than {first['name']!r}, to which it is tied"
    return ""


def _slices_problem(entry: dict[str, Any]) -> str:
    """What is wrong with the blocks of one parameter; their numbers are optional."""
    pieces = [piece for piece in entry["slices"] if "multipliers" in piece]
    if pieces and (len(pieces) < len(entry["slices"]) or len({piece["dim"] for piece in pieces}) > 1):
        return "lacks what the others have"
    shape, end = entry["shape_at"]["target"], 0
    for piece in pieces:
        init = piece["multipliers"]["init"]
        if init is None or not _SMALLEST < init < _LARGEST:
            return "has a multiplier that is missing or no positive number"
        start, length = (piece.get(key, {}).get("target") for key in ("start_at", "length_at"))
        if type(start) is not int or type(length) is not int:
            return "lacks its place"
        if piece["dim"] >= len(shape) or start < end or start + length > shape[piece["dim"]]:
            return "overlaps another or lies outside of it"
        end = start + length
    return ""
