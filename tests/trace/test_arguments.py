"""Code that reads a command line, or ends the process."""

from __future__ import annotations

import argparse

import pytest

from tpcalc.trace.arguments import exit_text, without_arguments


def test_argparse_says_one_sentence(capsys):
    with without_arguments(), pytest.raises(SystemExit) as stopped:
        argparse.ArgumentParser().parse_args(["table"])
    assert exit_text(stopped.value) == "reads the command line (argparse: unrecognized arguments: table)"
    assert capsys.readouterr() == ("", "")


def test_argparse_is_itself_again(capsys):
    with pytest.raises(SystemExit) as stopped:
        argparse.ArgumentParser(prog="own").parse_args(["table"])
    assert exit_text(stopped.value) == "called sys.exit(2)"
    assert capsys.readouterr().err.startswith("usage: own")


@pytest.mark.parametrize("code, text", [(None, "sys.exit()"), (3, "sys.exit(3)"), ("x", "sys.exit('x')")])
def test_exits(code, text):
    assert exit_text(SystemExit(code)) == f"called {text}"
