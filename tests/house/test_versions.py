"""docs/versions.md, pyproject.toml and .ci/matrix say the same of the oldest versions; what needs more is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.versions import NEEDS, unmet

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "versions.md").read_text(encoding="utf-8")
OLDEST = dict(re.findall(r"^\| (\w+)[^|]* \| ([\d.]+) \|", PAGE, re.MULTILINE))


@pytest.mark.parametrize("library", ["torch", "transformers", "accelerate", "lightning", "deepspeed"])
def test_the_oldest_is_what_is_asked_for(library):
    assert f'"{library}>={OLDEST[library]}"' in (ROOT / "pyproject.toml").read_text()
    if library != "deepspeed":
        assert f"{library}=={OLDEST[library]}.0" in (ROOT / ".ci" / "matrix").read_text()


def test_python():
    assert f'requires-python = ">={OLDEST["Python"]}"' in (ROOT / "pyproject.toml").read_text()


def test_what_needs_more_is_there():
    sources: dict[str, str] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        sources[path.name] = sources.get(path.name, "") + path.read_text()
    for parts in NEEDS.values():
        for part in parts:
            file, test = part.split("::")
            assert f"def {test.partition('[')[0]}" in sources[file], part


def test_what_is_met_is_not_skipped(monkeypatch):
    part = "test_accelerate.py::test_sharded_on_two_processes_then_one"
    for torch, reason in (("2.13.0+cpu", ""), ("2.6.0", ""), ("2.4.1", "needs torch 2.6: FSDP2 is public")):
        monkeypatch.setattr("tests.support.versions.version", lambda library, torch=torch: torch)
        assert unmet(f"tests/integrations/{part}").startswith(reason) and bool(unmet(part)) == bool(reason)
    assert not unmet("tests/integrations/test_accelerate.py::test_what_is_refused")
