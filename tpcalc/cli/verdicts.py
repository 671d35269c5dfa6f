"""Commands that judge, by training and at infinite width: exit code 1 where something is wrong."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Optional

import typer

from tpcalc.check.settings import PARAMETRIZATIONS
from tpcalc.cli.given import checked as places
from tpcalc.cli.given import loaded, verify_scales
from tpcalc.cli.options import Debug, DepthAlpha, Loss, Optimizer, Output, Overrides, Scale, Target, Widths, choice
from tpcalc.console import EXIT_FINDINGS, columns, emit, library
from tpcalc.errors import TpcalcError
from tpcalc.files import check_writable
from tpcalc.report import FORMATS, render

#: Those of this module, in the order of ``tpcalc --help``.
commands = typer.Typer()


@commands.command()
def check(
    target: Target,
    widths: Annotated[
        Optional[str],
        typer.Option(
            "--widths",
            help="Three or more small widths to train at, separated by commas [default: 64,128,256,512].",
        ),
    ] = None,
    optimizer: Optimizer = "adamw",
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps to train at each width.")] = 5,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds to average over.")] = 3,
    parametrization: Annotated[
        str, choice(PARAMETRIZATIONS, "--parametrization", "Apply the derived rules, or keep the code's own.")
    ] = "derived",
    tolerance: Annotated[float, typer.Option("--tolerance", help="How far a slope may be off.")] = 0.15,
    lr: Annotated[Optional[float], typer.Option("--lr", help="Learning rate at the smallest width.")] = None,
    batch: Annotated[
        Optional[str],
        typer.Option("--batch", metavar="FILE.PY:CALLABLE", help="Inputs at a width, instead of the target's."),
    ] = None,
    plot: Annotated[
        Optional[str],
        typer.Option("--plot", metavar="FILE", help="Draw the standard and the derived rules side by side."),
    ] = None,
    format: Annotated[str, choice(FORMATS["check"], "--format", "How to print the result.")] = "text",
    overrides: Overrides = None,
    depth_alpha: DepthAlpha = "1",
    scale: Scale = None,
    loss: Loss = None,
    output: Output = None,
    debug: Debug = False,
) -> int:
    """Train for a few steps at several widths and compare what is measured with what is predicted.

    Of several scales each with three or more values moves alone, and one value keeps a scale where it is: --scale
    width=64 --scale depth=2,4,8,16. A setup (see verify) is trained as it is.
    """
    with library(output, target, batch, loss):
        from tpcalc.check.settings import WIDTHS
        from tpcalc.report.plots import check_plot, require_matplotlib

        if plot is not None:
            check_writable(plot, target, batch, loss)
            require_matplotlib(plot)
        by_name = any("=" in each for each in scale or ())
        if plot is not None and by_name:
            raise TpcalcError("--plot draws a check of the width alone; drop it, or --scale")
        if widths is None and not by_name:
            widths = ",".join(map(str, WIDTHS))
        made, along = places(target, widths, overrides, scale)
        from tpcalc.check import check as checked  # torch comes after all that can be wrong

        run = partial(checked, made, **along, optimizer=optimizer, steps=steps, seeds=seeds, tolerance=tolerance, lr=lr)
        run = partial(run, batch=loaded(batch), loss=loaded(loss), depth_alpha=depth_alpha, progress=True)
        result = run(parametrization=parametrization)
        if result.own:
            result = replace(result, name=target.rpartition(":")[2])
        if plot is not None:
            others = (run(parametrization=other) for other in PARAMETRIZATIONS if other != parametrization)
            check_plot(sorted((result, *others), key=lambda r: r.parametrization, reverse=True), plot)
    emit(render("check", format, result, **columns(format, output)), output, colours=format == "text")
    return 0 if result.ok else EXIT_FINDINGS


@commands.command()
def verify(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help=(
                "The setup: file.py:callable or package.module:callable; "
                "setup(width) returns (model, optimizer[, scheduler], inputs); several scales it takes by name."
            ),
        ),
    ],
    widths: Widths = None,
    scale: Annotated[
        Optional[list[str]],
        typer.Option(
            "--scale",
            metavar="NAME=VALUES",
            help="A scale that the setup takes by name, with its values, the base first: depth=2,3 (may be repeated).",
        ),
    ] = None,
    depth_alpha: DepthAlpha = "1",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on warnings too.")] = False,
    format: Annotated[str, choice(FORMATS["verify"], "--format", "How to print the report.")] = "text",
    loss: Loss = None,
    output: Output = None,
    debug: Debug = False,
) -> int:
    """Check a hand-written parametrization, someone's own init and optimizer groups, at infinite width."""
    with library(output, target, loss):
        from tpcalc.verify import verify as verified

        if target.startswith("hf:"):
            raise TpcalcError(
                f"{target} is a config, and verify judges somebody's init and optimizer; write a setup(width) that "
                f"returns (model, optimizer, inputs), and give file.py:setup"
            )
        parsed, scales = verify_scales(widths, scale)
        report = verified(loaded(target), parsed, scales=scales, depth_alpha=depth_alpha, loss=loaded(loss))
        report = replace(report, name=target.rpartition(":")[2], strict=strict)
    options: dict[str, Any] = {"file": target.rpartition(":")[0]} if format == "github" else columns(format, output)
    emit(render("verify", format, report, **options), output, colours=format == "text")
    return report.exit_code()
