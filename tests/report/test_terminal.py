"""Every report that has a table, in a real terminal of 60 to 200 columns: each number is whole, and nothing else moved.

One fork with a pseudo-terminal runs each command once and prints its result at every width that the terminal is set
to; ``terminal/*.txt`` hold what is then seen (not of a config, whose fields are its library's).
``python -m tests.report.test_terminal`` writes them anew.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report import made
from tests.support.once import once
from tpcalc import cli, console, progress, report
from tpcalc.report.table.rows import table_of

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "terminal"
COLUMNS = (60, 80, 100, 120, 200)
SMALL = ("--widths", "64,128,256")
#: Name -> the arguments of a command, or the kind of a result that takes training and its maker.
SHOWN: dict[str, Any] = {
    "table": ("table", "examples/gpt.py:gpt_growing_heads", *SMALL),
    "recipe": ("table", "examples/mlp.py:mlp", *SMALL, "--optimizer", "muon+adamw", "--gauge", "mup"),
    "scales": (
        *("table", "tests/support/stacks.py:pre", "--scale", "width=16,32,64", "--scale", "depth=2,3"),
        *("--depth-alpha", "1/2"),
    ),
    "explain": ("explain", "examples/mlp.py:mlp", "output.weight", *SMALL),
    "verify": ("verify", "examples/by_hand.py:fan_ratio", *SMALL),
    "config": ("table", "hf:llama", "--explain-config"),
    "check": ("check", made.checked),
    "transfer": ("transfer", made.transferred),
    "tune": ("tune", made.tuned),
}
MARK = "=== {} columns"
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_POWER = re.compile(r"\b\w\^(?:-?\d+(?:/\d+)?|\(-?\d+(?:/\d+)?\))|[-+]?\d+\.\d+(?:e[-+]\d+)?")


def resize(columns: int) -> None:
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


def show(kind: str, format: str, result: Any, **_: Any) -> str:
    """Prints a result at every width; stands where the commands render theirs."""
    for columns in COLUMNS:
        resize(columns)
        print(MARK.format(columns))
        console.emit(report.render(kind, format, result, **console.columns(format, None)), None, colours=True)
    if kind in ("table", "scales"):
        print(MARK.format("cells in any"))
        print(*(cell for row in table_of(result).rows for cell in row[2:-1]))
    return ""


def commands() -> None:
    progress.PATIENCE = 600  # no bar, however slow the machine
    for module in (cli.rules, cli.verdicts):
        module.render = show
    for name, (first, *rest) in SHOWN.items():
        print(f"##### {name}")
        if callable(rest[0]):
            show(first, "text", rest[0]())
            continue
        try:
            cli.main((first, *rest))
        except SystemExit as stopped:
            print("exit", stopped.code)


def in_terminal(task: Callable[[], None], **environment: str) -> str:
    """What a fork prints to a terminal of its own while it does ``task``."""
    sys.stdout.flush(), sys.stderr.flush()
    child, terminal = pty.fork()
    if not child:
        try:
            sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))
            sys.__stdout__ = sys.stdout
            for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
                os.environ.pop(name, None)
            os.environ.update({"TERM": "xterm", **environment})
            os.chdir(ROOT)
            task()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(0)
    parts = []
    try:
        while part := os.read(terminal, 65536):
            parts.append(part)
    except OSError:  # the other end is closed
        pass
    os.waitpid(child, 0)
    os.close(terminal)
    return b"".join(parts).decode().replace("\r\n", "\n")


@once
def seen() -> dict[str, str]:
    parts = in_terminal(commands).split("##### ")[1:]
    return {name: text for name, _, text in (part.partition("\n") for part in parts)}


def golden(name: str) -> str:
    return _STYLE.sub("", seen()[name].partition(MARK.format("cells in any"))[0])


def screens(text: str) -> Iterator[tuple[str, str]]:
    """Each width and what is shown at it."""
    for part in text.split("=== ")[1:]:
        head, _, body = part.partition("\n")
        yield head.removesuffix(" columns"), _STYLE.sub("", body)


@pytest.mark.parametrize("name", [name for name in SHOWN if name != "config"])
def test_what_a_terminal_shows(name):
    assert golden(name) == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8"), (
        "if this is better, run python -m tests.report.test_terminal"
    )


@pytest.mark.parametrize("name", SHOWN)
def test_every_number_is_whole(name):
    if name == "config":
        pytest.importorskip("transformers")
    texts = dict(screens(seen()[name]))
    cells = Counter(_POWER.findall(texts.pop("cells in any", "")))
    assert list(texts) == [str(columns) for columns in COLUMNS]
    numbers = {columns: Counter(_POWER.findall(text)) for columns, text in texts.items()}
    for columns, text in texts.items():
        assert numbers[columns] <= numbers["200"] and cells <= numbers[columns], (columns, numbers)
        # of a table the reasons may be left out; of all else nothing
        assert cells or numbers[columns] == numbers["200"], columns
        longer = [line for line in text.splitlines() if len(line) > int(columns) and len(line.split()) > 1]
        assert not longer, longer


def test_powers_are_found_whole():
    """What is compared above notices a digit that is cut."""
    assert _POWER.findall("n^-1/2 n^(-3/2) +0.50 1e-3 n^-1") == ["n^-1/2", "n^(-3/2)", "+0.50", "n^-1"]
    assert Counter(_POWER.findall("lr n^-3/2")) != Counter(_POWER.findall("lr n^-3/"))


def test_colours_are_for_terminals_that_want_them():
    def task() -> None:
        console.emit("FAIL, unstable\n\nnotes:\n  lr ~ n^-1/2   # net.py:4", None, colours=True)
        console.emit("plain n^-1", None)

    coloured = in_terminal(task)
    assert "\x1b[1;31mFAIL\x1b[0m, unstable\n" in coloured and "\x1b[36mn^-1/2\x1b[0m" in coloured
    assert "plain n^-1\n" in coloured
    plain = "FAIL, unstable\n\nnotes:\n  lr ~ n^-1/2   # net.py:4\nplain n^-1\n"
    assert _STYLE.sub("", coloured) == plain
    assert in_terminal(task, NO_COLOR="1") == in_terminal(task, TERM="dumb") == plain


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for each in SHOWN.keys() - {"config"}:
        (GOLDEN / f"{each}.txt").write_text(golden(each), encoding="utf-8")
