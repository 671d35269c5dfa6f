"""The command that puts a model's rules, program, findings and plots on one page."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Optional

import typer

from tpcalc import __version__
from tpcalc.cli.given import checked, loaded, traced, verify_scales
from tpcalc.cli.options import (
    Alignment,
    Debug,
    DepthAlpha,
    Gauge,
    Loss,
    Optimizer,
    Output,
    Overrides,
    Scale,
    Target,
    Widths,
)
from tpcalc.console import emit, library
from tpcalc.errors import TpcalcError
from tpcalc.optimizers import recipe
from tpcalc.progress import tell

#: Those of this module, in the order of ``tpcalc --help``.
commands = typer.Typer()


@commands.command()
def report(
    target: Target,
    widths: Widths = None,
    optimizer: Optimizer = "adamw",
    gauge: Gauge = "init",
    alignment: Alignment = "full",
    depth_alpha: DepthAlpha = "1",
    explain: Annotated[
        Optional[str],
        typer.Option("--explain", metavar="WEIGHT", help="The weight whose explanation is open at first."),
    ] = None,
    verify: Annotated[
        Optional[str],
        typer.Option("--verify", metavar="SETUP", help="Verify this setup too, and show its findings at their place."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Train too, as check does, at small widths or at the values of --scale, and plot what is measured.",
        ),
    ] = False,
    transfer: Annotated[
        Optional[list[str]],
        typer.Option("--transfer", metavar="DIR", help="Plot what transfer -o wrote there (may be repeated)."),
    ] = None,
    overrides: Overrides = None,
    scale: Scale = None,
    loss: Loss = None,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Write one HTML page: the table, the program as a drawing, the reasons, findings and plots.

    The page needs no network and no other file: -o report.html.
    """
    from tpcalc.document.transfer import FILE, read

    sweeps = transfer or ()
    with library(output, target, verify, loss, optimizer, *sweeps, *(f"{each}/{FILE}" for each in sweeps)):
        if output is None and sys.stdout is not None and sys.stdout.isatty():
            raise TpcalcError("a page is nothing to read on a terminal; write it to a file: -o report.html")
        from tpcalc.derive.explain import find_weight
        from tpcalc.derive.explained import explain_all
        from tpcalc.report.page import page_document, page_html

        how = recipe(optimizer)  # before anything slow
        transfers = {directory: read(directory).data() for directory in sweeps}
        setup = loaded(verify)
        program = traced(target, widths, overrides, scale, loss)
        opened = [] if explain is None else [find_weight(program, explain).name]
        verified = None if verify is None else _verified(verify, setup, widths, scale, depth_alpha, loss)
        measured = _checked(target, widths, overrides, scale, optimizer, depth_alpha, loss) if check else None
        page = page_document(
            target,
            program,
            explain_all(program, how, alignment=alignment, gauge=gauge, depth_alpha=depth_alpha),
            version=__version__,
            opened=opened,
            setup=verify or "",
            verify=verified,
            check=measured,
            transfers=transfers,
        )
        tell("writing")
        text = page_html(page)
    emit(text, output)


def _verified(
    target: str, setup: Any, widths: Optional[str], scale: Optional[list[str]], depth_alpha: str, loss: Optional[str]
) -> Any:
    from tpcalc.verify import verify

    parsed, scales = verify_scales(widths, scale)
    tell("verifying")
    found = verify(setup, parsed, scales=scales, depth_alpha=depth_alpha, loss=loaded(loss))
    return replace(found, name=target.rpartition(":")[2]).to_json()


def _checked(
    target: str,
    widths: Optional[str],
    overrides: Optional[list[str]],
    scale: Optional[list[str]],
    optimizer: str,
    depth_alpha: str,
    loss: Optional[str],
) -> Any:
    from tpcalc.check import check
    from tpcalc.check.settings import WIDTHS

    made, along = checked(target, widths if scale else ",".join(map(str, WIDTHS)), overrides, scale)
    run = partial(check, made, **along, optimizer=optimizer, depth_alpha=depth_alpha, loss=loaded(loss))
    return run(progress=True).json()
