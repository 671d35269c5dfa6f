"""What is quoted of somebody's error."""

from __future__ import annotations

import sys

import pytest

from tpcalc.trace.quoted import MOST_QUOTED, error_text, exit_place, users_line


def raised(error: BaseException) -> BaseException:
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


def test_the_error_and_the_line_of_the_users_code():
    text = error_text(raised(ValueError("65 is not\n divisible by 4.")))
    assert text.startswith("ValueError: 65 is not divisible by 4 (test_quoted.py:")


def test_a_long_text_is_cut_and_frames_of_c_are_left_out():
    assert error_text(ValueError("x" * 1000)) == f"ValueError: {'x' * MOST_QUOTED} ..."
    assert error_text(RuntimeError("Overflow\nException raised from f at g.cpp:1\nframe #0: h")) == (
        "RuntimeError: Overflow"
    )


def test_an_error_whose_text_fails_has_its_name():
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert error_text(Odd()) == "Odd"


def test_how_and_where_the_process_was_ended():
    assert exit_place(raised(SystemExit(3))).startswith("called sys.exit(3) (test_quoted.py:")
    assert exit_place(SystemExit()) == "called sys.exit()"


def test_the_line_that_runs():
    assert users_line(sys._getframe()).startswith("test_quoted.py:")
    assert users_line(None) == ""
