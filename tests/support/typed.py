"""``tpcalc`` and ``python`` as somebody types them, in this process, which has torch: for walks of pages, in a fork."""

from __future__ import annotations

import contextlib
import importlib
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from tpcalc.cli import main

__all__ = ["PROGRAMS", "typed"]

PROGRAMS = ("tpcalc", "python")


def typed(program: str, arguments: Sequence[str], out: TextIO, err: TextIO) -> int:
    """Run a program with what it prints in ``out`` and ``err``; its exit code."""
    here = {path.stem for path in Path.cwd().glob("*.py")}
    for name, module in list(sys.modules.items()):  # a new process would have neither those of this folder nor others
        if name in here or str(getattr(module, "__file__", "")).startswith(os.getcwd()):  # in their place
            del sys.modules[name]
    importlib.invalidate_caches()
    path = list(sys.path)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if program == "tpcalc":
                main(list(arguments))
            else:
                sys.argv, sys.path = list(arguments), [os.getcwd(), *path]  # as of a script
                runpy.run_path(arguments[0], run_name="__main__")
        except SystemExit as stopped:
            return stopped.code if isinstance(stopped.code, int) else 0 if stopped.code is None else 1
        finally:
            sys.path = path
    return 0
