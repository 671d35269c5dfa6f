"""The command that puts a model's rules, program, findings and plots on one page."""

from __future__ import annotations

from dataclasses import replace
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
        Optional[list[str]],
        typer.Option("--explain", metavar="WEIGHT", help="A weight to explain first (may be repeated)."),
    ] = None,
    verify: Annotated[
        Optional[str],
        typer.Option("--verify", metavar="SETUP", help="Verify this setup too, and show its findings at their place."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Train at small widths too, as check does, and plot what is measured.")
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
    with library(output):
        from tpcalc.derive.explain import find_weight
        from tpcalc.derive.explained import explain_all
        from tpcalc.document.transfer import read
        from tpcalc.report.page import page_document, page_html

        how = recipe(optimizer)  # before anything slow
        transfers = {directory: read(directory).data() for directory in transfer or ()}
        setup = loaded(verify)
        if check and any("=" in each for each in scale or ()):
            raise TpcalcError(
                "--check is of the width alone here; drop it, or --scale, and check along scales by check"
            )
        program = traced(target, widths, overrides, scale, loss)
        opened = [find_weight(program, name).name for name in explain or ()]
        verified = None if verify is None else _verified(verify, setup, widths, scale, depth_alpha, loss)
        measured = _checked(target, overrides, optimizer, loss) if check else None
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


def _checked(target: str, overrides: Optional[list[str]], optimizer: str, loss: Optional[str]) -> Any:
    from tpcalc.check import check
    from tpcalc.check.settings import WIDTHS

    made, along = checked(target, ",".join(map(str, WIDTHS)), overrides, None)
    return check(made, **along, optimizer=optimizer, loss=loaded(loss), progress=True).json()
