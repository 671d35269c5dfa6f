"""docs/first-hour.md tells the truth: each of its paths is walked as it is written, in an empty folder.

The files are those of the page, a name in typewriter before each, and so are the commands.  ``python -m
tests.house.test_first_hour`` pastes what the commands print now, but for what ``...`` stands for.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pytest

from tests.house.test_readme import NOT_RUN, Shown, matches, shown_in
from tests.support.forked import forked
from tests.support.once import once
from tests.support.typed import PROGRAMS, typed

PAGE = Path(__file__).parents[2] / "docs" / "first-hour.md"
_FILE = re.compile(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: Beside the page's files; what a path needs that is not everywhere.
NEEDS = {"Hugging Face": ("transformers", "accelerate")}
#: Exit codes that are no surprise: a finding is 1.
FOUND = {"FAIL": 1}


def paths(text: str) -> dict[str, str]:
    """Heading -> text of each section that has commands."""
    parts = [part.partition("\n") for part in text.split("\n## ")[1:]]
    return {heading: body for heading, _, body in parts if "```console" in body}


def walk(body: str, folder: Path) -> list[tuple[Shown, str, int]]:
    """Write the files of a path, run its commands in order: each with what it printed and its exit code."""
    for name, content in _FILE.findall(body):
        (folder / name).write_text(content, encoding="utf-8")
    commands = [shown for shown in shown_in(body) if not shown.command.startswith(NOT_RUN)]

    def run() -> None:
        warnings.resetwarnings()  # those of pytest are kept for it
        warnings.showwarning = _show
        done = [_printed(shown.command) for shown in commands]
        Path("done.json").write_text(json.dumps(done), encoding="utf-8")

    result = forked(run, folder).wait()
    assert result.returncode == 0, result.stdout + result.stderr
    done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    return [(shown, *each) for shown, each in zip(commands, done, strict=True)]


def _show(
    message: Warning, category: type, filename: str, lineno: int, file: object = None, line: object = None
) -> None:
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))


def _printed(command: str) -> tuple[str, int]:
    """In this process, where ``tpcalc`` and ``python`` need not import torch again."""
    program, *arguments = shlex.split(command)
    if program not in PROGRAMS:
        done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr, done.returncode
    printed = io.StringIO()
    code = typed(program, arguments, printed, printed)
    return printed.getvalue(), code


PATHS = paths(PAGE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """Each path is walked once: its folder, and what came of its commands."""

    @once
    def walk_once(path: str) -> tuple[Path, list[tuple[Shown, str, int]]]:
        for needed in NEEDS.get(path, ()):
            pytest.importorskip(needed)
        folder = tmp_path_factory.mktemp("hour")
        return folder, walk(PATHS[path], folder)

    return walk_once


@pytest.mark.parametrize("path", PATHS)
def test_a_newcomers_path(path, walked):
    for shown, printed, code in walked(path)[1]:
        assert code == next((found for word, found in FOUND.items() if f"\n{word}, " in printed), 0), printed
        assert matches(shown.output, printed), f"{shown.command} prints now:\n{printed}"
        assert "Warning" not in printed, printed


def test_all_three_are_there():
    assert set(PATHS) == {"A training script", "Hugging Face", "Inherited code"}


def test_the_loop_as_it_was_is_warned_of(walked):
    """What the page says of a loop that writes one rate into every group: once, at the line that clips."""
    folder, _ = walked("A training script")
    script = (folder / "train.py").read_text(encoding="utf-8")
    erasing = '    for g in optimizer.param_groups:\n        g["lr"] = lr\n'
    assert "    scaling.set_lr(optimizer, lr)\n" in script and erasing in PATHS["A training script"].replace(
        "\n-", "\n"
    )
    script = script.replace("    scaling.set_lr(optimizer, lr)\n", erasing)
    (folder / "train.py").write_text(script, encoding="utf-8")
    ((_, printed, code),) = walk("```console\n$ python train.py --n_embd 256 --max_iters 3\n```\n", folder)
    line = script[: script.index("scaling.clip_grad_norm_")].count("\n") + 1
    assert code == 0 and printed.count("RatioWarning") == 1 and f"train.py:{line}: RatioWarning: the lr of" in printed


def test_both_faults_of_inherited_code_are_named(walked):
    _, (first, *_) = walked("Inherited code")
    assert "2 errors, 0 warnings" in first[1]
    for place, remedy in (
        ("attention scale: blocks.{0,1}   # blocks.0, inherited.py:22", "scale the logits by n^(-1)"),
        ("unmatched: readout.weight   # readout, inherited.py:", "holds no parameter: its filter matches no name"),
    ):
        assert place in first[1] and remedy in " ".join(first[1].split())


def pasted(text: str) -> str:
    """The page with what its commands print now; an ending ``...`` stays."""
    for body in paths(text).values():
        with tempfile.TemporaryDirectory() as folder:
            for shown, printed, _ in walk(body, Path(folder)):
                if "..." not in shown.output:
                    old = "\n".join((f"$ {shown.command}", *shown.output))
                    new = "\n".join((f"$ {shown.command}", *(line.rstrip() for line in printed.splitlines())))
                    text = text.replace(old, new, 1) if old in text else text
    return text


if __name__ == "__main__":
    PAGE.write_text(pasted(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
