"""A bar for long work: on terminals, after a while, and gone at the end."""

from __future__ import annotations

import io
import time

import pytest

from tests.report.test_terminal import in_terminal
from tpcalc import progress
from tpcalc.progress import shown, steps, tell


def work(seconds: float) -> None:
    for _ in steps("tracing", range(3)):
        time.sleep(seconds / 3)


def test_steps_are_the_items():
    assert list(steps("tracing", ("a", "b"))) == ["a", "b"]


@pytest.mark.parametrize("patience, seconds, seen", [(0.05, 0.4, True), (5.0, 0.1, False)])
def test_a_bar_comes_only_where_work_is_long(monkeypatch, patience, seconds, seen):
    monkeypatch.setattr(progress, "PATIENCE", patience)

    def task() -> None:
        with shown(), shown():  # one inside another is no second bar
            work(seconds)
            tell("deriving")
            time.sleep(seconds / 3)
        print("done")

    text = in_terminal(task)
    assert ("tracing" in text and "2/3" in text and "deriving" in text) is seen
    assert text.endswith("done\n") and (seen or text == "done\n")
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == int(seen)  # the cursor comes back


def test_it_is_gone_after_an_error(monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)

    def task() -> None:
        try:
            with shown():
                time.sleep(0.2)
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            print("stopped")

    text = in_terminal(task)
    assert text.endswith("stopped\n") and text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1


def test_nothing_is_shown_without_a_terminal(monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    stream = io.StringIO()
    with shown(stream):
        work(0.05)
    assert stream.getvalue() == ""
