"""The command line: arguments only.

Each verb is one function that turns its arguments into calls of the library and hands the text to
:func:`~tpcalc.console.emit`.  The library is imported inside them, so that ``--help`` does not wait for it.
:func:`main` turns every error into one sentence on stderr and exit code 2.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from tpcalc import __version__
from tpcalc.calculus.alignment import ALIGNMENTS
from tpcalc.check import PARAMETRIZATIONS
from tpcalc.console import columns, emit, fail, library
from tpcalc.derive.gauge import EXPERTS, GAUGES, OF_DEPTH, WRITTEN_IN
from tpcalc.document import DOCUMENTS, json_text, schema
from tpcalc.errors import TpcalcError
from tpcalc.files import check_writable
from tpcalc.given import loaded, scaled_factory, traced, verify_scales
from tpcalc.optimizers import recipe
from tpcalc.report import FORMATS, render

if TYPE_CHECKING:
    pass

EXIT_FINDINGS = 1

app = typer.Typer(
    help=(
        "A symbolic calculator for Tensor Programs: derives how init, learning rate, weight decay and epsilon of each "
        "weight of a PyTorch model must scale with width."
    ),
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _one_of(names: Iterable[str]) -> Callable[[str], str]:
    """Parses an argument that is one of these names, as the module that has them knows them."""

    def parse(text: str) -> str:
        if text not in names:
            raise typer.BadParameter(f"{text!r} is not one of {', '.join(map(repr, names))}")
        return text

    return parse


def _choice(names: Iterable[str], option: str, help: str) -> Any:
    return typer.Option(option, help=help, parser=_one_of(names), metavar=f"<{'|'.join(names)}>")


Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="The model: file.py:callable, package.module:callable, or hf:<model_type> for a Hugging Face config.",
    ),
]
Widths = Annotated[
    Optional[str],
    typer.Option(
        "--widths",
        help="Three or more widths to trace at, separated by commas [default: 128,256,512; of hf: targets what fits].",
    ),
]
Optimizer = Annotated[
    str,
    typer.Option("--optimizer", help="Its name; muon+adamw, the first for hidden matrices; or file.py:make_optimizer."),
]
Gauge = Annotated[
    str,
    _choice((*GAUGES, OF_DEPTH), "--gauge", "Where sizes stand: in the init alone, or partly in forward multipliers."),
]
Alignment = Annotated[
    str,
    _choice(ALIGNMENTS, "--alignment", "How aligned updates and values are assumed: full, none, or omega (Everett's)."),
]
Output = Annotated[
    Optional[str], typer.Option("--output", "-o", metavar="FILE", help="Write to FILE instead of standard output.")
]
Overrides = Annotated[
    Optional[list[str]],
    typer.Option("--set", metavar="FIELD=VALUE", help="Set a config field (hf: targets; may be repeated)."),
]
Scale = Annotated[
    Optional[list[str]],
    typer.Option(
        "--scale",
        metavar="NAME=VALUES",
        help=(
            "A scale that the target takes by name, with its values, the base first: ffn=256,512,1024 (may be "
            "repeated). Targets of hf: know width, depth, heads, head_dim, ffn, ... and fields of their config."
        ),
    ),
]
Loss = Annotated[
    Optional[str],
    typer.Option("--loss", metavar="FILE.PY:CALLABLE", help="Loss of the model's output, behind the backward pass."),
]
DepthAlpha = Annotated[
    str, typer.Option("--depth-alpha", help="Along a scale depth, branches start at L^-alpha: 1 (CompleteP) to 1/2.")
]
Experts = Annotated[
    str, _choice(EXPERTS, "--experts", "The init of experts' last weights: derived, of Jiang et al., of Complete-muE.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tpcalc {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    plugin: Annotated[
        Optional[list[str]],
        typer.Option(
            "--plugin", metavar="FILE.PY", help="Import a file first, for the rules it adds (may be repeated)."
        ),
    ] = None,
) -> None:
    """Options of the program itself."""
    if plugin:
        with library(None):
            from tpcalc.trace.target import load_plugin

            for path in plugin:
                load_plugin(path)


@app.command()
def table(
    target: Target,
    widths: Widths = None,
    optimizer: Optimizer = "adamw",
    gauge: Annotated[
        Optional[str],
        _choice((*GAUGES, OF_DEPTH), "--gauge", "Where sizes stand [default: init, or that of --parametrization]."),
    ] = None,
    parametrization: Annotated[
        str,
        _choice(
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
    format: Annotated[str, _choice(FORMATS["table"], "--format", "How to print the table.")] = "text",
    overrides: Overrides = None,
    scale: Scale = None,
    loss: Loss = None,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Print the scaling table of a model: one row for each weight, repeated blocks folded."""
    with library(output):
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
    emit(render(kind, format, result, **columns(format, output)), output)


@app.command()
def trace(
    target: Target,
    widths: Widths = None,
    format: Annotated[str, _choice(FORMATS["program"], "--format", "How to print the program.")] = "text",
    overrides: Overrides = None,
    scale: Scale = None,
    loss: Loss = None,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Print the tensor program of a model: one line for each operation, forward and backward."""
    with library(output):
        program = traced(target, widths, overrides, scale, loss)
    emit(render("program", format, program), output)


@app.command()
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
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Explain the exponents of one weight: the rules, values and lines of code behind them."""
    with library(output):
        from tpcalc.derive.explain import explain as explained

        how = recipe(optimizer)
        program = traced(target, widths, overrides, scale, loss)
        explanation = explained(program, weight, how, alignment=alignment, gauge=gauge, depth_alpha=depth_alpha)
    emit(render("explain", "text", explanation, **columns("text", output)), output)


@app.command()
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
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Write exact multipliers for training at another width, or another place of several scales, as JSON."""
    with library(output):
        from tpcalc.given import between

        result = between(target, base, target_place, widths, overrides, scale)(
            optimizer=recipe(optimizer), gauge=gauge, depth_alpha=depth_alpha, experts=experts, loss=loaded(loss)
        )
    emit(json_text(result.document), output, result.sites)


@app.command()
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


@app.command()
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
        str, _choice(PARAMETRIZATIONS, "--parametrization", "Apply the derived rules, or keep the code's own.")
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
    format: Annotated[str, _choice(FORMATS["check"], "--format", "How to print the result.")] = "text",
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
    with library(output):
        from tpcalc.check import check as checked
        from tpcalc.check.settings import WIDTHS
        from tpcalc.given import checked as places
        from tpcalc.report.plots import check_plot, require_matplotlib

        if plot is not None:
            check_writable(plot)
            require_matplotlib()
        by_name = any("=" in each for each in scale or ())
        if plot is not None and by_name:
            raise TpcalcError("--plot draws a check of the width alone; drop it, or --scale")
        if widths is None and not by_name:
            widths = ",".join(map(str, WIDTHS))
        made, along = places(target, widths, overrides, scale)
        run = partial(checked, made, **along, optimizer=optimizer, steps=steps, seeds=seeds, tolerance=tolerance, lr=lr)
        run = partial(run, batch=loaded(batch), loss=loaded(loss), depth_alpha=depth_alpha, progress=True)
        result = run(parametrization=parametrization)
        if result.own:
            result = replace(result, name=target.rpartition(":")[2])
        if plot is not None:
            others = (run(parametrization=other) for other in PARAMETRIZATIONS if other != parametrization)
            check_plot(sorted((result, *others), key=lambda r: r.parametrization, reverse=True), plot)
    emit(render("check", format, result, **columns(format, output)), output)
    return 0 if result.ok else EXIT_FINDINGS


@app.command()
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
    format: Annotated[str, _choice(FORMATS["verify"], "--format", "How to print the report.")] = "text",
    loss: Loss = None,
    output: Output = None,
    debug: Debug = False,
) -> int:
    """Check a hand-written parametrization, someone's own init and optimizer groups, at infinite width."""
    with library(output):
        from tpcalc.verify import verify as verified

        parsed, scales = verify_scales(widths, scale)
        report = verified(loaded(target), parsed, scales=scales, depth_alpha=depth_alpha, loss=loaded(loss))
        report = replace(report, name=target.rpartition(":")[2], strict=strict)
    options: dict[str, Any] = {"file": target.rpartition(":")[0]} if format == "github" else columns(format, output)
    emit(render("verify", format, report, **options), output)
    return report.exit_code()


@app.command("schema")
def print_schema(
    document: Annotated[
        str, typer.Argument(metavar="DOCUMENT", help=f"One of {', '.join(DOCUMENTS)}.", parser=_one_of(DOCUMENTS))
    ],
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Print the JSON Schema of a document that --format json prints or export writes."""
    emit(json_text(schema(document)), output)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run the command line and exit: 0 on success, 2 with one sentence on stderr otherwise."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    usage_error: Any = typer.BadParameter.__base__  # typer does not export it by name
    try:
        code = app(args=arguments or ["--help"], prog_name="tpcalc", standalone_mode=False)
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as error:
        fail(
            f"the code of the target called sys.exit({error.code!r}); guard it by if __name__ == '__main__'", arguments
        )
    except usage_error as error:
        fail(_usage_sentence(error), arguments)
    except TpcalcError as error:
        fail(str(error), arguments)
    except Exception as error:
        fail(f"internal error: {type(error).__name__}: {error} (rerun with --debug to see where)", arguments)
    sys.exit(code if isinstance(code, int) else 0)


def _usage_sentence(error: Any) -> str:
    """What is wrong with the arguments, and the command that lists the right ones."""
    command = error.ctx.command_path if error.ctx is not None else "tpcalc"
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    return f"{message}; see {command} --help"
