"""Columns of plain text."""

from __future__ import annotations

import pytest

from tpcalc.report.grid import aligned, itemized, ruled

ROWS = [("a", "1", ""), ("bcd", "", "why not")]


def test_ruled():
    assert ruled(("name", "n", "why"), ROWS) == [
        "name  n  why",
        "----------------",
        "a     1",
        "bcd      why not",
    ]


@pytest.mark.parametrize("width", [12, 14])
def test_a_width_wraps_the_last_column_and_cuts_nothing(width):
    lines = ruled(("name", "n", "why"), [("a", "1", "so many words")], width=width)
    assert max(map(len, lines)) <= width and lines[2].startswith("a     1  ")
    assert "".join(lines[2:]).replace(" ", "") == "a1somanywords"


def test_aligned():
    head = ("name", "n", "why")
    assert aligned([head, *ROWS]) == ["name  n  why", "a     1", "bcd      why not"]
    assert aligned([head, *ROWS], dashes=True)[1] == "----  -  -------"
    assert aligned([head]) == ["name  n  why"]


def test_empty_lists_say_nothing():
    assert itemized(("none", ()), ("some", ("x", "y"))) == ["", "some:", "  - x", "  - y"]
