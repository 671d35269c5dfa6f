"""Every page of docs/ tells the truth: what it shows is run, and its links lead somewhere.

``python -m tests.house.test_pages docs/why.md ...`` pastes what the steps of a page print now.
"""

from __future__ import annotations

import re
import shlex
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from tests.support.pages import ROOT, RUN, blocks, differences, files, near, pages, pasted, steps, warm
from tpcalc.calculus import reading
from tpcalc.cli import app
from tpcalc.rules import structures as st

DOCS = ROOT / "docs"
TEXT = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in pages()}
#: Pages that are walked by a test of their own, which knows what they need.
OWN = {
    "cluster.md": "tests/house/test_transfer_docs.py",
    "first-hour.md": "tests/house/test_first_hour.py",
    "horizon.md": "tests/horizon/test_page.py",
    "integrations.md": "tests/house/test_integrations_docs.py",
    "rules.md": "tests/rules/test_plugins.py",
    "trainers.md": "tests/house/test_trainers_docs.py",
    "transfer.md": "tests/house/test_transfer_docs.py",
}
#: Languages that are not run: what is shown, and configuration.
SHOWN = (
    "text",
    "yaml",
    "json",
    "diff",
    "dockerfile",
    "{toctree}",
    "{math}",
    "{figure}",
    "{code-block}",
    "{literalinclude}",
)
#: Pages that take many seconds; each kind of step that they have is run on others, too.
SLOW = (
    "beyond-width.md",
    "gallery.md",
    "how-to/hugging-face.md",
    "multipliers.md",
    *(f"tutorials/{name}.md" for name in ("gpt", "mamba", "moe", "tune")),
)
WALKED = [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
    for name, text in TEXT.items()
    if name not in OWN and steps(text)
]


@pytest.fixture(scope="module")
def warmed():
    warm()


@pytest.mark.parametrize("name", WALKED)
def test_a_page_shows_what_is_printed(name, warmed, tmp_path):
    found = differences(TEXT[name], tmp_path, f"docs/{name}")
    assert found == [], f"run `python -m tests.house.test_pages docs/{name}`;\n" + "\n".join(found)


@pytest.mark.parametrize("name", OWN)
def test_a_page_with_a_test_of_its_own_is_read_by_it(name):
    assert name in (ROOT / OWN[name]).read_text(encoding="utf-8")


def commands(name: str) -> list[str]:
    """Those of tpcalc in the ``bash`` blocks of a page."""
    lines = [line for language, text, _ in blocks(TEXT[name]) if language == "bash" for line in text.splitlines()]
    return [line.split(" #")[0].strip() for line in lines if line.startswith("tpcalc ")]


@pytest.mark.parametrize("name", [name for name in OWN if commands(name)])
def test_commands_that_cannot_run_here_are_ones(name):
    """Of clusters, and of files that are not there: the command line takes them."""
    program = typer.main.get_command(app)
    for command in commands(name):
        _, *arguments = shlex.split(re.sub(r" --plugin \S+", "", command))
        assert program.commands[arguments[0]].make_context(arguments[0], arguments[1:]).params


@pytest.mark.parametrize("name", TEXT)
def test_every_block_has_a_language_that_is_run_or_shown(name):
    kinds = {language for language, _, _ in blocks(TEXT[name])}
    assert kinds <= {*RUN, *SHOWN}, "a block without a language is not run: say console, bash, python or text"
    assert re.findall(r"^(?: +```|~~~).*", TEXT[name], re.MULTILINE) == [], "an indented block is not run, nor one of ~"


def test_contributing_shows_what_is_there(monkeypatch):
    """Its commands can be typed, its rule is one of ours, its structure is registered as it shows."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    commands = [line for language, content, _ in blocks(text) for line in content.splitlines() if language == "bash"]
    assert len(commands) > 10 and {language for language, _, _ in blocks(text)} == {"bash"}
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for program, *arguments in (shlex.split(line, comments=True) for line in commands):
        if program == "make":
            assert arguments[0] in targets
        elif "pytest" in arguments:
            assert all((ROOT / each).exists() for each in arguments[2:] if not each.startswith("-"))
        else:
            assert f'"{arguments[2]}"' in (ROOT / f"{arguments[1].replace('.', '/')}.py").read_text(encoding="utf-8")
    ours, shown = map(textwrap.dedent, re.findall(r"^   ```python\n(.*?)^   ```", text, re.MULTILINE | re.DOTALL))
    assert ours in (ROOT / "tpcalc" / "rules" / "elementwise.py").read_text(encoding="utf-8")
    assert f"no combination of the {len(reading.STRUCTURES)} says" in text
    mine = type("Mine", (st.Structure,), {})
    monkeypatch.setattr(reading, "STRUCTURES", (*reading.STRUCTURES, mine))
    laws, limits = reading.Reading("laws", "?"), reading.Reading("limits", "?")
    names = {"st": SimpleNamespace(Mine=mine), "LAWS": laws, "LIMITS": limits}
    exec(shown, names | dict.fromkeys(("Facts", "Alignment", "Fact")))
    assert mine in laws and mine in limits.silent_on


def models(text: str) -> set[str]:
    """Modules of examples/ that the Python of a page imports."""
    written = "".join(content for language, content, _ in blocks(text) if language == "python")
    imported = set(re.findall(r"^(?:from|import) (\w+)", written, re.MULTILINE))
    return imported & {path.stem for path in (ROOT / "examples").glob("*.py")}


@pytest.mark.parametrize("name", [name for name, text in TEXT.items() if models(text)])
def test_a_page_says_where_its_models_are(name):
    """The walk has them on the path; whoever types the page has not."""
    for model in models(TEXT[name]):
        assert f"examples/{model}.py)" in TEXT[name], f"link to examples/{model}.py, from which it imports"
    assert "get-started.md#models-of-these-pages)" in TEXT[name]


def test_steps_of_a_page(tmp_path):
    text = (
        "`a.py`:\n\n```python\nx = 1\n```\n\n```python\nfrom a import x\n\nprint(x)\n```\n\n```text\n2\n```\n\n"
        "```python\ny = x + 1\n```\n\nText.\n\n```text\nno output\n```\n\n```console\n$ echo a\nb\n$ make b\n```\n"
    )
    assert files(text) == {"a.py": "x = 1\n"}
    assert [(step.kind, step.shown) for step in steps(text)] == [
        ("python", ("2",)),
        ("python", None),
        ("console", ("b",)),
    ]
    found = differences(text, tmp_path)
    assert [line.split(":")[0] for line in found] == ["from a import x", "echo a"]
    mended = pasted(text)
    assert mended == text.replace("```text\n2", "```text\n1").replace("$ echo a\nb", "$ echo a\na")


@pytest.mark.parametrize(
    "shown, printed, equal",
    [
        ("change +0.04 (0)", "change +0.09 (0)", True),
        ("change +0.04 (0)", "change +0.19 (0)", False),
        ("change +0.04 (0)", "effect +0.04 (0)", False),
        ("change +0.04", "change +0.04\nchange +0.04", False),
        ("slope +1.17 +- 0.04", "slope +1.18 +- 0.03", True),
        ("slope +1.17 +- 0.04", "slope +1.27 +- 0.04", False),
    ],
)
def test_slopes_are_near(shown, printed, equal):
    assert near((shown,), printed) is equal


def test_a_python_block_that_fails_is_noticed(tmp_path):
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        differences("```python\n1 / 0\n```\n", tmp_path)


if __name__ == "__main__":
    for given in sys.argv[1:]:
        page = Path(given)
        page.write_text(pasted(page.read_text(encoding="utf-8"), given), encoding="utf-8")
