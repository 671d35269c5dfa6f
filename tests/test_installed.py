"""What is installed, read from the package's own metadata."""

from __future__ import annotations

from importlib import metadata

import pytest

from tpcalc import installed as module
from tpcalc.errors import TpcalcError
from tpcalc.installed import Part, installed, load
from tpcalc.report.doctor import doctor_text

REQUIRED = [
    "torch>=2.4",
    "numpy",
    'transformers>=4.50; extra == "hf"',
    'mine[plot]; extra == "tune"',
    'ruff; extra == "dev"',
]
THERE = {"torch": "2.13.0+cpu", "transformers": "4.9.1"}


@pytest.fixture
def mine(monkeypatch):
    def version(name: str) -> str:
        if name not in THERE:
            raise metadata.PackageNotFoundError(name)
        return THERE[name]

    monkeypatch.setattr(module.metadata, "requires", lambda name: REQUIRED)
    monkeypatch.setattr(module.metadata, "version", version)
    return installed("mine")


def test_parts_are_those_of_the_metadata(mine):
    torch, numpy, transformers = mine
    assert torch == Part("torch", "2.13.0+cpu", "2.4") and torch.is_fine
    assert numpy == Part("numpy", "", "") and not numpy.is_fine
    assert transformers == Part("transformers", "4.9.1", "4.50", "hf") and transformers.is_old


def test_what_is_missing_old_or_broken_is_said_with_its_command(mine):
    broken = Part("mup", "1.0", "1.0", "mup", "ImportError: no torchvision")
    text = doctor_text(("this machine", [*mine, broken]))
    assert text.endswith(
        """
to install what is missing, too old or broken:
  - pip install --upgrade "numpy"
  - pip install --upgrade "transformers>=4.50"   (extra hf: targets hf:...)
  - pip install --upgrade "mup>=1.0"   (extra mup: set-ups that use mup)

FAIL: tpcalc needs more than there is
"""
    )
    for said in ("too old; for targets hf:...", "ImportError: no torchvision; for set-ups that use mup", "missing"):
        assert said in text
    assert doctor_text(("this machine", [mine[0], broken])).endswith("\nok\n")


def test_a_part_is_imported(monkeypatch):
    def broken(name: str) -> None:
        raise RuntimeError("two\nlines")

    part, loaded = load(Part("json", "1", ""))
    assert part.is_fine and loaded.dumps
    monkeypatch.setattr(module, "import_module", broken)
    assert load(Part("json", "1", ""))[0].trouble == "RuntimeError: two"


def test_from_source_without_an_installation():
    with pytest.raises(TpcalcError, match="no-such-package runs from its source and is not"):
        installed("no-such-package")
