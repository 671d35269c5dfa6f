"""Commands that derive rules: the table, the program it is read from, the reasons of one weight."""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer

from tpcalc.cli.given import scaled_factory, traced
from tpcalc.cli.options import (
    Alignment,
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
    Widths,
    choice,
)
from tpcalc.console import columns, emit, library
from tpcalc.derive.gauge import EXPERTS, GAUGES, OF_DEPTH, WRITTEN_IN
from tpcalc.errors import TpcalcError
from tpcalc.horizon import assume, chosen
from tpcalc.optimizers import recipe
from tpcalc.report import FORMATS, render

#: Those of this module, in the order of ``tpcalc --help``.
commands = typer.Typer()


@commands.command()
def table(
    target: Target,
    widths: Widths = None,
    optimizer: Optimizer = "adamw",
    gauge: Annotated[
        Optional[str],
        choice((*GAUGES, OF_DEPTH), "--gauge", "Where sizes stand [default: init, or that of --parametrization]."),
    ] = None,
    parametrization: Annotated[
        str,
        choice(
            ("derived", *WRITTEN_IN),
            "--parametrization",
            "Derive the init too, or take a named one and its largest stable learning rates.",
        ),
    ] = "derived",
    alignment: Alignment = "full",
    depth_alpha: DepthAlpha = "1",
    experts: Experts = EXPERTS[0],
    explain_config: Annotated[
        bool, typer.Option("--explain-config", help="Print instead how each size of an hf: config follows the scales.")
    ] = False,
    format: Annotated[str, choice(FORMATS["table"], "--format", "How to print the table.")] = "text",
    overrides: Overrides = None,
    scale: Scale = None,
    loss: Loss = None,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Print the scaling table of a model: one row for each weight, repeated blocks folded."""
    with library(output, target, loss):
        from tpcalc.derive import derive

        result: Any
        if explain_config:
            kind, format = "config", "text"
            result, *_ = scaled_factory(target, widths, overrides, scale)
        else:
            kind, how = "table", recipe(optimizer)  # before anything slow
            program = traced(target, widths, overrides, scale, loss, fold=True)
            options: Any = {"alignment": alignment, "gauge": gauge, "parametrization": parametrization}
            options |= {"depth_alpha": depth_alpha, "experts": experts}
            try:
                result = derive(program, how, **options)
            except TpcalcError:
                if not program.copies:
                    raise
                result = derive(traced(target, widths, overrides, scale, loss), how, **options)
            kind = "table" if program.compass is None else "scales"
    emit(render(kind, format, result, **columns(format, output)), output, colours=format == "text")


@commands.command()
def trace(
    target: Target,
    widths: Widths = None,
    format: Annotated[str, choice(FORMATS["program"], "--format", "How to print the program.")] = "text",
    overrides: Overrides = None,
    scale: Scale = None,
    loss: Loss = None,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Print the tensor program of a model: one line for each operation, forward and backward."""
    with library(output, target, loss):
        program = traced(target, widths, overrides, scale, loss)
    emit(render("program", format, program), output, colours=format == "text")


@commands.command()
def explain(
    target: Target,
    weight: Annotated[str, typer.Argument(metavar="WEIGHT", help="Full name of a parameter.")],
    widths: Widths = None,
    optimizer: Optimizer = "adamw",
    gauge: Gauge = "init",
    alignment: Alignment = "full",
    depth_alpha: DepthAlpha = "1",
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
    """Explain the exponents of one weight: the rules, values and lines of code behind them."""
    with library(output, target, loss):
        from tpcalc.derive.explain import explain as explained

        how = recipe(optimizer)
        assumed: Any
        if horizon is not None and batch is tokens is None:  # formulas need no ends
            assumed = chosen(horizon, horizon_exponent)
        else:
            assumed = assume(horizon, batch, tokens, horizon_exponent)
        if assumed is not None:
            assumed.check(how)  # before anything slow
        program = traced(target, widths, overrides, scale, loss)
        options: Any = {"alignment": alignment, "gauge": gauge, "depth_alpha": depth_alpha, "horizon": assumed}
        explanation = explained(program, weight, how, **options)
    emit(render("explain", "text", explanation, **columns("text", output)), output, colours=True)
