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
from typing import Optional

from tpcalc.files import check_writable, write_atomic

EXIT_ERROR = 2


def columns(format: str, output: Optional[str]) -> dict[str, int]:
    """How wide a text may be that goes to a terminal."""
    on_terminal = format == "text" and output is None and sys.stdout.isatty()
    return {"width": shutil.get_terminal_size().columns} if on_terminal else {}


@contextlib.contextmanager
def library(output: Optional[str]) -> Iterator[None]:
    """Run the library and the user's factory: their prints go to stderr, their warnings nowhere."""
    if output is not None:
        check_writable(output)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def emit(text: str, output: Optional[str], warnings: Iterable[str] = ()) -> None:
    """Write a finished text, with a final newline, to ``output`` or to standard output."""
    for sentence in warnings:
        print("warning:", sentence, file=sys.stderr)
    text = text if text.endswith("\n") else text + "\n"
    if output is not None:
        write_atomic(output, text)
        return
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (head, less) has seen enough; keep the interpreter's last flush quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(sentence: str, arguments: Sequence[str]) -> None:
    if "--debug" in arguments:
        traceback.print_exc()
    print("error:", " ".join(sentence.split()), file=sys.stderr)
    sys.exit(EXIT_ERROR)


__all__ = ["EXIT_ERROR", "columns", "emit", "fail", "library"]
