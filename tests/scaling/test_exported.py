"""Multipliers as a document alone: the same mapping and the same text as with what applies them, and no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tpcalc
from tests.house.test_layers import WITHOUT_TORCH
from tpcalc.errors import ScalingError
from tpcalc.scaling.codegen import codegen
from tpcalc.scaling.exported import Exported

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples"))
import gpt as examples  # noqa: E402


@pytest.fixture(scope="module")
def scaling() -> tpcalc.Scaling:
    return tpcalc.scale(examples.gpt_tied, 32, 128)


@pytest.fixture(scope="module")
def path(scaling, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "multipliers.json"
    scaling.save(path)
    return path


def test_it_says_what_a_scaling_says(scaling, path):
    exported = Exported.load(path)
    assert dict(exported) == dict(scaling) and exported["head.weight"] is exported["token.weight"]
    assert (exported.base, exported.target, exported.way) == (scaling.base, scaling.target, scaling.way)
    assert str(exported) == str(scaling) and repr(exported) == repr(scaling).replace("Scaling", "Exported")
    assert codegen(exported) == codegen(scaling)
    assert not hasattr(exported, "param_groups") and isinstance(scaling, Exported)


def test_a_document_of_another_kind_is_refused(path, tmp_path):
    other = tmp_path / "other.json"
    other.write_text("{}")
    with pytest.raises(ScalingError, match="is not a multipliers file"):
        Exported.load(other)


@pytest.mark.parametrize("options", [(), ("--for", "torchtitan")])
def test_the_command_writes_code_without_torch(path, tmp_path, options):
    out = tmp_path / "made.py"
    argv = ["tpcalc", "codegen", str(path), *options, "-o", str(out)]
    command = f"{WITHOUT_TORCH}\nsys.argv[:] = {argv!r}\nfrom tpcalc.cli import main\nmain()"
    result = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "head.weight" in out.read_text().replace("\\", "")
