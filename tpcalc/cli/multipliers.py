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
from tpcalc.errors import ScalingError
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
    with library(output, target, loss):
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
    trainer: Annotated[
        Optional[str],
        typer.Option(
            "--for",
            metavar="TRAINER",
            help=(
                "Write what a trainer takes: torchtitan, megatron, automodel, olmo-core, llm-foundry, fairseq2, "
                "deepspeed or axolotl."
            ),
        ),
    ] = None,
    rename: Annotated[
        Optional[list[str]],
        typer.Option(
            "--rename",
            metavar="PATTERN=REPLACEMENT",
            help="With --for: from names of the traced model to the trainer's, as Python's re.sub; may be repeated.",
        ),
    ] = None,
    no_decay: Annotated[
        Optional[list[str]],
        typer.Option(
            "--no-decay",
            metavar="PATTERN",
            help="With --for: trainer's names that have no weight decay, as Python's re.search; may be repeated.",
        ),
    ] = None,
    lr: Annotated[Optional[float], typer.Option("--lr", help="With --for, where rates are asked: the base's.")] = None,
    weight_decay: Annotated[Optional[float], typer.Option("--weight-decay", help="Likewise.")] = None,
    eps: Annotated[Optional[float], typer.Option("--eps", help="Likewise [default: 1e-8].")] = None,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Write a stand-alone Python file (torch only) that applies exported multipliers, or what a trainer takes."""
    with library(output, multipliers):
        from tpcalc.scaling.exported import Exported

        given = {"lr": lr, "weight_decay": weight_decay, "eps": eps}
        options = {f"--{name.replace('_', '-')}": value for name, value in given.items()}
        _check_together(trainer, formulas, {"--rename": rename, "--no-decay": no_decay, **options})
        result = Exported.load(multipliers)
        warnings = result.sites
        if trainer is not None:
            from tpcalc.scaling.dialects import write

            written = write(result, trainer, rename or (), no_decay or (), given)
            text, warnings = written.text, (*result.sites, *written.warnings)
        elif formulas:
            from tpcalc.scaling.everywhere import codegen_formulas

            text = codegen_formulas(result)
        else:
            from tpcalc.scaling.codegen import codegen as numbers

            text = numbers(result)
    emit(text, output, warnings)


def _check_together(trainer: Optional[str], formulas: bool, others: dict[str, object]) -> None:
    """Raise ScalingError for options of codegen that mean nothing beside one another."""
    if trainer is not None and formulas:
        raise ScalingError("--for writes the numbers of one target and --formulas those of all; leave one of them out")
    alone = [name for name, value in others.items() if value not in (None, [])]
    if trainer is None and alone:
        raise ScalingError(f"{alone[0]} is for the file of a trainer; give --for as well")
