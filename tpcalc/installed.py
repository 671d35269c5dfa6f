"""What is installed of what this package needs, as its own metadata lists it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any

from tpcalc.errors import TpcalcError, first_line

__all__ = ["OPTIONAL", "Part", "installed", "load"]

#: Extra -> what it is for.  Those for work on this package are left out.
OPTIONAL = {
    "hf": "targets hf:...",
    "plot": "check --plot, and pictures of transfer and tune",
    "tune": "tpcalc tune; runs that go on after a kill",
    "ray": "runs on a Ray cluster",
    "mup": "set-ups that use mup",
}
_REQUIREMENT = re.compile(r"(?P<name>[\w-]+)\s*(?:>=(?P<least>[\d.]+))?[^;]*(?:;.*extra == ['\"](?P<extra>\w+)['\"])?")


@dataclass(frozen=True)
class Part:
    """One distribution: ``version`` is empty where it is missing, ``least`` where any will do, ``extra`` where it is
    always needed.  ``trouble``: what its import raised.
    """

    name: str
    version: str
    least: str
    extra: str = ""
    trouble: str = ""

    @property
    def is_old(self) -> bool:
        return bool(self.version and self.least) and _numbers(self.version) < _numbers(self.least)

    @property
    def is_fine(self) -> bool:
        return bool(self.version) and not self.is_old and not self.trouble


def installed(package: str = "tpcalc") -> tuple[Part, ...]:
    """All parts that are needed, and those of each of :data:`OPTIONAL`.

    Raises TpcalcError where the package itself was not installed.
    """
    try:
        requirements = metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        raise TpcalcError(f"{package} runs from its source and is not installed; pip install -e .") from None
    parts = []
    for text in requirements:
        found = _REQUIREMENT.match(text)
        name, least, extra = found.group("name", "least", "extra") if found else (text, "", "")
        if name != package and (not extra or extra in OPTIONAL):
            parts.append(Part(name, _version(name), least or "", extra or ""))
    return tuple(parts)


def load(part: Part) -> tuple[Part, Any]:
    """The part and its module, or with what its import raises: versions alone don't say whether it works."""
    if not part.version:
        return part, None
    try:
        return part, import_module(part.name)
    except Exception as error:
        return Part(
            part.name, part.version, part.least, part.extra, f"{type(error).__name__}: {first_line(error)}"
        ), None


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    """``2.13.0+cpu`` -> (2, 13, 0)."""
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:3])
