"""docs/trainers.md tells the truth: its commands print what it shows, its Python runs where a trainer is installed."""

from __future__ import annotations

import importlib
import os
import re
import sys
import warnings

import pytest

from tests.house.test_readme import _PYTHON, ROOT, matches, printed_by, runnable
from tests.support.forked import forked
from tpcalc.scaling.dialects import DIALECTS

PAGE = (ROOT / "docs" / "trainers.md").read_text(encoding="utf-8")
#: Title -> the text under it.
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n)*)", PAGE, re.MULTILINE))
#: What is imported by the Python of a section.
LIBRARIES = {"torchtitan": "torchtitan", "Megatron": "megatron.core.optimizer", "OLMo-core": "olmo_core.optim"}
WITH_PYTHON = [title for title, text in SECTIONS.items() if _PYTHON.search(text)]


@pytest.fixture(scope="module")
def commands() -> list[tuple[str, tuple[str, ...], str]]:
    """Each command, what is shown of it and what it prints: one after the other, as each needs those before."""
    return [(shown.command, shown.output, printed_by(shown.command)) for shown in runnable(PAGE)]


def test_commands_print_what_the_page_shows(commands):
    assert sum("--for" in command for command, _, _ in commands) >= len(DIALECTS)
    for command, shown, printed in commands:
        assert matches(shown, printed), f"{command} prints now:\n{printed}"


@pytest.mark.parametrize("title", WITH_PYTHON)
def test_python_of_a_trainer_runs(title, commands):
    library = LIBRARIES.get(title)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(library or "torch")
    except ImportError as error:
        pytest.skip(f"{library} can't be imported: {error}")

    def run() -> None:
        os.chdir("/tmp")
        sys.path[:0] = [str(ROOT / "examples"), "/tmp"]
        import gpt

        names = {"__name__": "__main__", "model": gpt.gpt(256)[0]}
        for code in _PYTHON.findall(SECTIONS[title]):
            exec(compile(code, "<string>", "exec"), names)

    result = forked(run, ROOT / "examples").wait()
    assert result.returncode == 0, result.stderr


def test_every_trainer_has_a_section():
    titles = {title.lower() for title in SECTIONS}
    assert set(DIALECTS) <= titles
    table = PAGE[: PAGE.index("## ")]
    for name, dialect in DIALECTS.items():
        assert f"| [`{name}`](#{name}) | {dialect.source.split(' with ')[0]} |" in table
    assert {"megatron" if title == "Megatron" else title.lower() for title in WITH_PYTHON} <= set(DIALECTS)
