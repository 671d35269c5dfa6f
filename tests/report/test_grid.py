"""Columns of plain text."""

from __future__ import annotations

import pytest

from tpcalc.report.grid import aligned, fitted, itemized, ruled, shortened, within, wrapped

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


HEAD = ("weight", "init std", "lr", "eps", "why")
CELLS = [
    ("blocks.*.attention.query_key_value.weight", "n^-1/2", "n^-3/2", "n^-1", "contraction, growing to growing"),
    ("blocks.*.attention.query_key_value.bias", "1", "n^1/2", "", "added"),
    ("head.weight", "n^-1", "n^-1", "1", "contraction, growing to finite"),
]


@pytest.mark.parametrize("width", [24, 40, 60, 72, 80, 100, 120, 200])
def test_a_table_fits_and_every_number_is_whole(width):
    lines = fitted(HEAD, CELLS, width, prose=True)
    text = "\n".join(lines)
    assert max(len(line) for line in lines if "." not in line.split(" ")[0]) <= width
    words = text.replace(",", " ").split()
    assert [words.count(number) for number in ("n^-1/2", "n^-3/2", "n^1/2")] == [1, 1, 1]
    assert ("contraction" in text) == (width >= 87)
    assert "(why: printed on 87 columns or more)" in " ".join(text.split()) or width >= 87


def test_names_are_shortened_only_while_they_stay_distinct():
    assert shortened("blocks.*.attention.weight", 15) == "blocks...weight"
    assert shortened("head.weight", 15) == "head.weight"
    rows = [("a" * 12 + middle + "b" * 20, "n^-1") for middle in ("x", "y")]
    assert fitted(("weight", "lr"), rows, 30) == [rows[0][0], "    lr n^-1", rows[1][0], "    lr n^-1"]
    distinct = [("first" + rows[0][0], "n^-1"), ("other" + rows[1][0], "n^-1")]
    lines = fitted(("weight", "lr"), distinct, 30)
    assert max(map(len, lines)) <= 30 and lines[2].startswith("firstaaaaa") and lines[2].endswith("  n^-1")


def test_without_a_width_nothing_is_wrapped():
    assert fitted(HEAD, CELLS, None, prose=True) == ruled(HEAD, CELLS)
    assert wrapped("so many words") == ["so many words"]
    assert wrapped("so many words", 9, "- ", "  ") == ["- so many"[:9], "  words"]
    assert itemized(("notes", ("so many words",)), width=12) == ["", "notes:", "  - so many", "    words"]


def test_lines_are_broken_between_words():
    lines = ["    multiply its lr by n^(-1/2) and go on", "short"]
    assert within(lines, 24) == ["    multiply its lr by", "        n^(-1/2) and go", "        on", "short"]
    assert within(lines, None) == lines
