"""What a command does around its work: it keeps the library and the user's code quiet, and writes one finished text."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Optional, TextIO

from tpcalc.errors import TpcalcError
from tpcalc.files import check_writable, write_atomic
from tpcalc.progress import shown

EXIT_FINDINGS = 1
EXIT_ERROR = 2

#: What stands out on a terminal, and how: verdicts, powers, headings and rules, places in the code.
_STYLES = (
    (r"(?m)^(error|FAIL\w*)\b", "bold red"),
    (r"(?m)^warning\b", "bold yellow"),
    (r"(?m)^ok\b", "bold green"),
    (r"\b\w\^(-?\d+(/\d+)?|\(-?\d+(/\d+)?\))", "cyan"),
    (r"(?m)^[a-z ]+:$", "bold"),
    (r"(?m)^-{4,}$|  # .*$", "bright_black"),
)


def columns(format: str, output: Optional[str]) -> dict[str, int]:
    """How wide a text may be that goes to a terminal."""
    on_terminal = format == "text" and output is None and sys.stdout is not None and sys.stdout.isatty()
    return {"width": shutil.get_terminal_size().columns} if on_terminal else {}


@contextlib.contextmanager
def library(output: Optional[str], *read: Optional[str]) -> Iterator[None]:
    """Run the library and the user's factory: their prints go to stderr, their warnings nowhere.

    ``read``: targets and files that ``output`` must not be.
    """
    if output is not None:
        check_writable(output, *read)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), shown(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def painted(text: str, stream: Optional[TextIO]) -> str:
    """The same text in colours where ``stream`` is a terminal that has them and ``NO_COLOR`` is not set."""
    if stream is None or not stream.isatty() or os.environ.get("NO_COLOR"):
        return text
    from rich.console import Console
    from rich.text import Text

    styled = Text(text, end="")
    for pattern, style in _STYLES:
        styled.highlight_regex(pattern, style)
    console = Console(file=stream)
    with console.capture() as captured:
        console.print(styled, soft_wrap=True, end="")
    return captured.get()


def emit(text: str, output: Optional[str], warnings: Iterable[str] = (), colours: bool = False) -> None:
    """Write a finished text, with a final newline, to ``output`` or to standard output, there with ``colours``."""
    for sentence in warnings:
        print(painted(f"warning: {sentence}", sys.stderr), file=sys.stderr)
    text = text if text.endswith("\n") else text + "\n"
    if output is not None:
        write_atomic(output, text)
        return
    if sys.stdout is None:
        raise TpcalcError("standard output is closed; write to a file: -o FILE")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        sys.stdout.write(painted(text, sys.stdout) if colours else text)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (head, less) has seen enough
        forget_output()
    except OSError as error:
        forget_output()
        raise TpcalcError(f"cannot write to standard output: {error.strerror or error}; {ELSEWHERE}") from error


#: What to do where standard output can't be written.
ELSEWHERE = "write elsewhere, as with -o FILE"


def forget_output(stream: Optional[TextIO] = None) -> None:
    """What is left to be written goes nowhere, so that the interpreter's last flush is quiet."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), (stream or sys.stdout).fileno())


def fail(sentence: str, arguments: Sequence[str]) -> None:
    if "--debug" in arguments:
        traceback.print_exc()
    if sys.stderr is not None:
        said = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(sentence.split()))
        try:
            print(painted(f"error: {said}", sys.stderr), file=sys.stderr, flush=True)
        except OSError:  # a full disk: the exit code says it alone
            forget_output(sys.stderr)
    sys.exit(EXIT_ERROR)


__all__ = [
    "ELSEWHERE", "EXIT_ERROR", "EXIT_FINDINGS", "columns", "emit", "fail", "forget_output", "library", "painted",
]  # fmt: skip
