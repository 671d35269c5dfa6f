"""Code of a target that reads a command line, where it finds that of tpcalc, or ends the process."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

__all__ = ["exit_text", "without_arguments"]


class _Unread(SystemExit):
    """argparse was given arguments that it does not know."""


@contextmanager
def without_arguments() -> Iterator[None]:
    """While this lasts, argparse says by its error alone what it says else by a page of usage, too."""

    def error(parser: ArgumentParser, message: str) -> NoReturn:
        raise _Unread(f"argparse: {message}")

    parser: Any = ArgumentParser
    own, parser.error = parser.error, error
    try:
        yield
    finally:
        parser.error = own


def exit_text(error: SystemExit) -> str:
    """What code did that raised it: ``called sys.exit(3)``, ``reads the command line (argparse: ...)``."""
    if isinstance(error, _Unread):
        return f"reads the command line ({error.code})"
    return f"called sys.exit({'' if error.code is None else repr(error.code)})"
