"""The command line, run in this process: what a process of its own would cost is the import of torch."""

from __future__ import annotations

import io
import os
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from tpcalc.cli import main

ROOT = Path(__file__).resolve().parents[2]


def tpcalc_command(*arguments: str) -> subprocess.CompletedProcess:
    """``tpcalc ARGUMENTS`` in the root of the project.  Plugins stay: not for ``--plugin``."""
    out, err, before = io.StringIO(), io.StringIO(), os.getcwd()
    os.chdir(ROOT)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main(arguments)
    except SystemExit as stopped:
        return subprocess.CompletedProcess(arguments, stopped.code, out.getvalue(), err.getvalue())
    finally:
        os.chdir(before)
    raise AssertionError("the command line ends by an exit code")
