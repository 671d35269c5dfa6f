"""Reading documents from files, with what is wrong in one sentence.  Data only: nothing in a file is ever executed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar, Union

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tpcalc.errors import TpcalcError

__all__ = ["parsed", "sentence", "validated"]

Document = TypeVar("Document", bound=BaseModel)


def parsed(path: Union[str, Path], again: str, error: type[TpcalcError] = TpcalcError) -> Any:
    """What the JSON in a file says.  Raises ``error`` where it is missing or corrupt; ``again`` is the remedy."""
    try:
        content = Path(path).read_bytes()  # json knows UTF-8 and UTF-16 by their first bytes, as a Windows shell writes
        return json.loads(content, parse_constant=_no_constant)
    except OSError as cause:
        raise error(f"cannot read {path}: {cause.strerror or cause}; check the path") from cause
    except (ValueError, RecursionError) as cause:
        reason = "nested too deeply" if isinstance(cause, RecursionError) else " ".join(str(cause).split())
        raise error(f"{path} is corrupt ({reason}); {again}") from cause


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def validated(model: type[Document], data: Any, path: Union[str, Path], version: str, again: str) -> Document:
    """``data`` of a file as its document.  Raises TpcalcError, in one sentence, where it breaks the schema."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise TpcalcError(f"{path} {sentence(error.errors(include_url=False)[0], version, again)}") from error


def sentence(error: ErrorDetails, version: str, again: str) -> str:
    """What breaks the schema of a version, where, and the remedy."""
    kind, place = error["type"], error["loc"]
    shown = repr(error["input"])
    shown = shown if len(shown) <= 40 else shown[:37] + "..."
    if kind == "missing":
        place, message = place[:-1], f"{place[-1]!r} is missing"
    elif kind in ("int_type", "int_from_float"):
        message = f"{shown} is no whole number"
    else:
        message = error["msg"].replace("Input", shown, 1)
    path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place).lstrip(".")
    return f"breaks the schema {version} at {path or 'top level'}: {message}; {again}"
