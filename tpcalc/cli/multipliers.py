"""Commands that put rules to use: multipliers between two places, and code that applies them."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from tpcalc.cli.given import between, loaded
from tpcalc.cli.options import (
    Batch,
    Debug,
    DepthAlpha,
    Experts,
    Gauge,
    Horizon,
    HorizonExponent,
    Loss,
    Optimizer,
    Output,
    Overrides,
    Scale,
    Target,
    Tokens,
)
from tpcalc.console import emit, library
from tpcalc.derive.gauge import EXPERTS
from tpcalc.document import json_text
from tpcalc.horizon import assume
from tpcalc.optimizers import recipe

#: Those of this module, in the order of ``tpcalc --help``.
commands = typer.Typer()


@commands.command()
def export(
    target: Target,
    target_place: Annotated[
        str,
        typer.Option(
            "--target", metavar="PLACE", help="The width to train at, or several scales by name: width=256,depth=8."
        ),
    ],
    base: Annotated[
        Optional[str],
        typer.Option(
            "--base",
            metavar="PLACE",
            help=(
                "Where the hyperparameters were tuned, as --target [default: the width of the file of "
                "hf:./config.json]."
            ),
        ),
    ] = None,
    widths: Annotated[
        Optional[str],
        typer.Option("--widths", help="Widths to trace at besides --base and --target [default: 2 and 4 times base]."),
    ] = None,
    optimizer: Optimizer = "adamw",
    gauge: Gauge = "init",
    depth_alpha: DepthAlpha = "1",
    experts: Experts = EXPERTS[0],
    overrides: Overrides = None,
    scale: Scale = None,
    loss: Loss = None,
    batch: Batch = None,
    tokens: Tokens = None,
    horizon: Horizon = None,
    horizon_exponent: HorizonExponent = None,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Write exact multipliers for training at another width, or another place of several scales, as JSON."""
    with library(output):
        how = recipe(optimizer)
        assume(horizon, batch, tokens, horizon_exponent, how)  # before anything slow
        result = between(target, base, target_place, widths, overrides, scale)(
            optimizer=how,
            gauge=gauge,
            depth_alpha=depth_alpha,
            experts=experts,
            loss=loaded(loss),
            batch=batch,
            tokens=tokens,
            horizon=horizon,
            horizon_exponent=horizon_exponent,
        )
    emit(json_text(result.document), output, result.sites)


@commands.command()
def codegen(
    multipliers: Annotated[str, typer.Argument(metavar="MULTIPLIERS", help="A file written by tpcalc export.")],
    formulas: Annotated[
        bool,
        typer.Option(
            "--formulas", help="Write formulas that serve every target, not the numbers of one (several scales)."
        ),
    ] = False,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Write a stand-alone Python file (torch only) that applies exported multipliers."""
    with library(output):
        from tpcalc.scaling import Scaling
        from tpcalc.scaling.codegen import codegen as numbers
        from tpcalc.scaling.everywhere import codegen_formulas

        result = Scaling.load(multipliers)
        text = codegen_formulas(result) if formulas else numbers(result)
    emit(text, output, result.sites)
