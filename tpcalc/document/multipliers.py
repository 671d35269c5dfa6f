"""Reading and checking ``multipliers.json``.  Data only: nothing in a file is ever executed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, TypeVar, Union

from pydantic import ValidationError, model_validator
from pydantic_core import ErrorDetails

from tpcalc.document.assumed import MayAssume
from tpcalc.document.reading import parsed, sentence
from tpcalc.document.scaled import SCHEMA as SCALED
from tpcalc.document.scaled import ScaledMultipliers
from tpcalc.document.table import SCHEMA, TableDocument
from tpcalc.errors import ScalingError
from tpcalc.horizon.assumed import LEAST, MOST

Document = TypeVar("Document")
_OPTIMIZER = re.compile(r"[A-Za-z0-9_]{1,40}(\+[A-Za-z0-9_]{1,40})?")
_VERSION = re.compile(r"tpcalc/([0-9]{1,9})")


class MultipliersDocument(MayAssume, TableDocument):
    """Written by `tpcalc export`: a scaling table with all its numbers, which carry hyperparameters from one width to
    another.
    """

    @model_validator(mode="after")
    def _holds_multipliers(self) -> "MultipliersDocument":
        lacks = None in (self.scale.base, self.scale.target)
        return _without_problem(self, "is a scaling table and holds no multipliers" if lacks else "")


class ScaledMultipliersDocument(MayAssume, ScaledMultipliers):
    """Written by `tpcalc export` where several scales change: a scaling table of the model at the target with all its
    numbers.
    """

    @model_validator(mode="after")
    def _holds_multipliers(self) -> "ScaledMultipliersDocument":
        names = {scale.name for scale in self.scales}
        return _without_problem(
            self, "" if names == {*self.base} == {*self.target} else "gives other scales than it has"
        )


#: Version -> the model of what it holds.
_VERSIONS: dict[str, Any] = {SCHEMA: MultipliersDocument, SCALED: ScaledMultipliersDocument}


def _without_problem(document: Document, problem: str) -> Document:
    problem = problem or _problem(document)
    if problem:
        raise ValueError(problem)
    return document


def read(path: Union[str, Path]) -> dict[str, Any]:
    """The document in a file.  Raises ScalingError, in one sentence, where it is missing, corrupt or not ours."""
    document = parsed(path, "write it again with tpcalc export", ScalingError)
    check(document, str(path))
    return document


def check(document: Any, what: str = "the document") -> None:
    """Raise ScalingError unless ``document`` holds the multipliers of one model, in a version known here."""
    found = document.get("schema") if isinstance(document, dict) else None
    version = _VERSION.fullmatch(found) if isinstance(found, str) else None
    if version is None:
        raise ScalingError(f"{what} is not a multipliers file of tpcalc; write one with tpcalc export")
    if found not in _VERSIONS:
        known = " and ".join(_VERSIONS)
        raise ScalingError(f"{what} has version {found}, this tpcalc reads {known}; upgrade tpcalc or export again")
    if found == SCALED and not {"base", "target"} <= document.keys():
        raise ScalingError(f"{what} is a scaling table and holds no multipliers; write it again with tpcalc export")
    try:
        _VERSIONS[found].model_validate(document)
    except ValidationError as error:
        raise ScalingError(f"{what} {_sentence(error.errors(include_url=False)[0], found)}") from error


def _sentence(error: ErrorDetails, version: str) -> str:
    """What is wrong, where, and the remedy."""
    if error["type"] == "value_error":  # of _holds_multipliers
        return f"{error['ctx']['error']}; write it again with tpcalc export"
    return sentence(error, version, "export it again")


def _problem(document: Any) -> str:
    """What the schema can't say; empty if all is well."""
    for optimizer in (document.optimizer, *(entry.optimizer for entry in document.weights)):
        if not _OPTIMIZER.fullmatch(optimizer or ""):
            return "names no optimizer"
    if document.assumed is not None and {entry.optimizer for entry in document.weights} - document.assumed.laws.keys():
        return "assumes nothing of an optimizer that it has"
    entries = {entry.name: entry for entry in document.weights}
    if len(entries) != len(document.weights):
        return "names a parameter twice"
    for name, entry in entries.items():
        if not all(name.split(".")):
            return f"names a parameter {name!r}, which no model can have"
        numbers = entry.multipliers.model_dump(exclude_unset=True)
        if not all(_positive(number) or (key == "eps" and number is None) for key, number in numbers.items()):
            return f"has a multiplier of {name!r} that is missing or no positive number"
        if document.gauge != "init" and "forward" not in numbers:
            return f"lacks the forward multiplier of {name!r}"
        if entry.init_law is None or None in (entry.shape_at.base, entry.shape_at.target):
            return f"lacks the sizes or the init law of {name!r}"
        if None in (entry.init_std.target, entry.init_mean.target):
            return f"lacks the wanted init of {name!r}"
        problem = _slices_problem(entry, entry.shape_at.target or ())
        if problem:
            return f"has a block of {name!r} that {problem}"
        first = entries.get(entry.tied_to or name)
        if first is None or first.tied_to is not None:
            return f"ties {name!r} to a parameter that is not there"
        if {first.name, *first.aliases} != {name, *entry.aliases} or not entries.keys() >= {*entry.aliases}:
            return f"gives {name!r} other ties than {first.name!r}"
        if any(getattr(first, key) != getattr(entry, key) for key in ("multipliers", "shape_at", "slices")):
            return f"gives {name!r} other numbers than {first.name!r}, to which it is tied"
    return ""


def _positive(number: Optional[float]) -> bool:
    """Whether it is a multiplier of any training run."""
    return number is not None and LEAST < number < MOST


def _slices_problem(entry: Any, shape: Sequence[int]) -> str:
    """What is wrong with the blocks of one parameter; their numbers are optional."""
    pieces = [piece for piece in entry.slices if "multipliers" in piece.model_fields_set]
    if pieces and (len(pieces) < len(entry.slices) or len({piece.dim for piece in pieces}) > 1):
        return "lacks what the others have"
    end = 0
    for piece in pieces:
        if not _positive(piece.multipliers.init):
            return "has a multiplier that is missing or no positive number"
        start, length = piece.start_at.target, piece.length_at.target
        if start is None or length is None:
            return "lacks its place"
        if piece.dim >= len(shape) or start < end or start + length > shape[piece.dim]:
            return "overlaps another or lies outside of it"
        end = start + length
    return ""
