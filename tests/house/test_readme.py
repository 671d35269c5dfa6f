"""README.md tells the truth: its commands are run and must print what it shows.

In a fenced ``console`` block, each line ``$ command`` is followed by the output it prints; an output line ``...``
stands for any number of lines left out.  ``make readme`` runs the commands again and pastes what they print
(blocks with ``...`` are left as they are).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]  # `make readme` runs this file

from tests.support.command import tpcalc_command  # noqa: E402
from tests.support.forked import forked  # noqa: E402

README = ROOT / "README.md"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: Commands that set up the machine the test already runs on.
NOT_RUN = ("make ", "git clone ", "pip install ")


@dataclass(frozen=True)
class Shown:
    """A command as the README shows it, and the output lines under it."""

    command: str
    output: tuple[str, ...]


def shown_in(text: str) -> list[Shown]:
    shown = []
    for block in _BLOCK.findall(text):
        lines: list[str] = []
        for line in [*block.splitlines(), "$ "]:
            if line.startswith("$ ") and lines:
                shown.append(Shown(lines[0].removeprefix("$ "), tuple(lines[1:])))
                lines = []
            lines.append(line)
    return shown


def runnable(text: str) -> list[Shown]:
    return [shown for shown in shown_in(text) if not shown.command.startswith(NOT_RUN)]


def printed_by(command: str) -> str:
    """Output and errors of a command, run in the repository: tpcalc in this process, what it is piped into by bash."""
    first, _, rest = command.partition(" | ")
    errors, given = "", None
    if first.startswith("tpcalc "):
        result = tpcalc_command(*shlex.split(first)[1:])
        if not rest:
            return result.stdout + result.stderr
        command, given, errors = rest, result.stdout, result.stderr
    script = f'python() {{ {shlex.quote(sys.executable)} "$@"; }}\n{command}'
    piped = subprocess.run(
        ["bash", "-c", script],
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    return errors + piped.stdout


def matches(shown: tuple[str, ...], printed: str) -> bool:
    """Equal line by line, where ``...`` stands for any lines."""
    pattern = "".join(r"(?:.*\n)*" if line == "..." else re.escape(line.rstrip()) + "\n" for line in shown)
    text = "".join(line.rstrip() + "\n" for line in printed.splitlines())
    return re.fullmatch(pattern, text) is not None


def pasted(text: str) -> str:
    """The README with every runnable output printed anew."""

    def block(match: re.Match) -> str:
        lines = []
        for shown in shown_in(match.group(0)):
            lines.append(f"$ {shown.command}")
            keep = "..." in shown.output or shown.command.startswith(NOT_RUN)
            lines += shown.output if keep else [line.rstrip() for line in printed_by(shown.command).splitlines()]
        return "```console\n" + "".join(f"{line}\n" for line in lines) + "```"

    return _BLOCK.sub(block, text)


@pytest.mark.parametrize("shown", runnable(README.read_text(encoding="utf-8")), ids=lambda shown: shown.command)
def test_a_command_prints_what_the_readme_shows(shown):
    printed = printed_by(shown.command)
    assert matches(shown.output, printed), f"run `make readme`; the command prints now:\n{printed}"


@pytest.mark.parametrize("code", _PYTHON.findall(README.read_text(encoding="utf-8")))
def test_python_in_the_readme_runs(code):
    def run() -> None:
        os.chdir(ROOT)
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})

    result = forked(run, ROOT / "examples").wait()
    assert result.returncode == 0, result.stderr


def test_the_readme_shows_commands():
    assert any(shown.command.startswith("tpcalc table") for shown in runnable(README.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "shown, printed, equal",
    [
        (("a", "b"), "a\nb\n", True),
        (("a", "b"), "a\nc\n", False),
        (("a",), "a\nb\n", False),
        (("a", "..."), "a\nb\nc\n", True),
        (("...", "c"), "a\nb\nc\n", True),
        (("...", "d"), "a\nb\nc\n", False),
        (("a.c",), "abc\n", False),
        ((), "", True),
        ((), "a\n", False),
    ],
)
def test_matches(shown, printed, equal):
    assert matches(shown, printed) is equal


def test_commands_and_outputs_are_told_apart():
    text = "x\n```console\n$ echo a\na\n$ make demo\nz\n$ echo b\n```\n```python\n$ no\n```\n"
    assert shown_in(text) == [Shown("echo a", ("a",)), Shown("make demo", ("z",)), Shown("echo b", ())]
    assert pasted(text) == text.replace("$ echo b\n", "$ echo b\nb\n")


if __name__ == "__main__":
    README.write_text(pasted(README.read_text(encoding="utf-8")), encoding="utf-8")
