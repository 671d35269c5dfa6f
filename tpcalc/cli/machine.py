"""A command about the machine: what is installed there."""

from __future__ import annotations

import platform

import typer

from tpcalc import __version__
from tpcalc.cli.options import Debug, Output
from tpcalc.console import EXIT_FINDINGS, columns, emit, library
from tpcalc.report import render

#: Those of this module, in the order of ``tpcalc --help``.
commands = typer.Typer()


@commands.command()
def doctor(output: Output = None, debug: Debug = False) -> int:
    """Say what is installed, whether it can be imported, and what to install: exit code 1 where it can't work."""
    with library(output):
        from tpcalc.installed import installed, load
        from tpcalc.progress import steps

        loaded = [load(part) for part in steps("importing", installed())]
        torch = next((module for part, module in loaded if part.name == "torch"), None)
        devices = "cpu"
        if torch is not None and torch.cuda.is_available():
            devices += f", {torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
        python = f"Python {platform.python_version()}"
        machine = f"tpcalc {__version__}, {python}, {platform.system()} {platform.machine()}; torch sees {devices}"
        parts = [part for part, _ in loaded]
    text = render("doctor", "text", (machine, parts), **columns("text", output))
    emit(text, output, colours=True)
    return 0 if all(part.is_fine for part in parts if not part.extra) else EXIT_FINDINGS
