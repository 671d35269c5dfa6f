"""The command line: arguments only.

Each verb is one function that turns its arguments into calls of the library and hands the text to
:func:`_emit`.  The library is imported inside them, so that ``--help`` does not wait for torch.
:func:`main` turns every error into one sentence on stderr and exit code 2.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from tpcalc import __version__
from tpcalc.errors import TpcalcError
from tpcalc.files import check_writable, write_atomic

if TYPE_CHECKING:
    from tpcalc.program.ir import Program

EXIT_FINDINGS = 1
EXIT_ERROR = 2

app = typer.Typer(
    help=(
        "A symbolic calculator for Tensor Programs: derives how init, learning rate, weight decay and epsilon of each "
        "weight of a PyTorch model must scale with width."
    ),
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


class TableFormat(str, Enum):
    text = "text"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"
    json = "json"


class ProgramFormat(str, Enum):
    text = "text"
    dot = "dot"
    json = "json"


class CheckFormat(str, Enum):
    text = "text"
    json = "json"


class VerifyFormat(str, Enum):
    text = "text"
    json = "json"
    github = "github"


class Gauge(str, Enum):
    init = "init"
    mup = "mup"
    symmetric = "symmetric"
    ntk = "ntk"


class Assumed(str, Enum):
    full = "full"
    omega = "omega"
    none = "none"


class Parametrized(str, Enum):
    derived = "derived"
    sp = "sp"
    ntp = "ntp"
    mfp = "mfp"
    mup = "mup"


class Applied(str, Enum):
    derived = "derived"
    standard = "standard"


class HeadScale(str, Enum):
    heads = "heads"
    head_dim = "head-dim"


Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="The model: file.py:callable, package.module:callable, or hf:<model_type> for a Hugging Face config.",
    ),
]
Widths = Annotated[str, typer.Option("--widths", help="Three or more widths to trace at, separated by commas.")]
Optimizer = Annotated[
    str,
    typer.Option(
        "--optimizer", help="The optimizer the model is trained with; muon+adamw: the first for hidden matrices."
    ),
]
Gauged = Annotated[
    Gauge, typer.Option("--gauge", help="Where sizes stand: in the init alone, or partly in forward multipliers.")
]
Alignment = Annotated[
    Assumed,
    typer.Option("--alignment", help="How aligned updates and values are assumed: full, none, or omega (Everett's)."),
]
Output = Annotated[
    Optional[str], typer.Option("--output", "-o", metavar="FILE", help="Write to FILE instead of standard output.")
]
Overrides = Annotated[
    Optional[list[str]],
    typer.Option("--set", metavar="FIELD=VALUE", help="Set a config field (hf: targets; may be repeated)."),
]
Scale = Annotated[
    Optional[HeadScale], typer.Option("--scale", help="What grows with width in hf: targets [default: heads].")
]
Loss = Annotated[
    Optional[str],
    typer.Option("--loss", metavar="FILE.PY:CALLABLE", help="Loss of the model's output, behind the backward pass."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

DEFAULT_WIDTHS = "128,256,512"


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
        with _library(None):
            from tpcalc.trace.target import load_plugin

            for path in plugin:
                load_plugin(path)


@app.command()
def table(
    target: Target,
    widths: Widths = DEFAULT_WIDTHS,
    optimizer: Optimizer = "adamw",
    gauge: Annotated[
        Optional[Gauge],
        typer.Option("--gauge", help="Where sizes stand [default: init, or that of --parametrization]."),
    ] = None,
    parametrization: Annotated[
        Parametrized,
        typer.Option(
            "--parametrization", help="Derive the init too, or take a named one and its largest stable learning rates."
        ),
    ] = Parametrized.derived,
    alignment: Alignment = Assumed.full,
    format: Annotated[TableFormat, typer.Option("--format", help="How to print the table.")] = TableFormat.text,
    overrides: Overrides = None,
    scale: Scale = None,
    loss: Loss = None,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Print the scaling table of a model: one row for each weight, repeated blocks folded."""
    with _library(output):
        from tpcalc.derive import derive
        from tpcalc.optimizers import recipe

        how = recipe(optimizer)  # before anything slow
        rules = derive(
            _trace(target, widths, overrides, scale, loss),
            optimizer=how,
            alignment=alignment.value,
            gauge=None if gauge is None else gauge.value,
            parametrization=parametrization.value,
        )
    _emit(_table_renderer(format, output)(rules), output)


@app.command()
def trace(
    target: Target,
    widths: Widths = DEFAULT_WIDTHS,
    format: Annotated[ProgramFormat, typer.Option("--format", help="How to print the program.")] = ProgramFormat.text,
    overrides: Overrides = None,
    scale: Scale = None,
    loss: Loss = None,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Print the tensor program of a model: one line for each operation, forward and backward."""
    with _library(output):
        program = _trace(target, widths, overrides, scale, loss)
    _emit(_program_renderer(format)(program), output)


@app.command()
def explain(
    target: Target,
    weight: Annotated[str, typer.Argument(metavar="WEIGHT", help="Full name of a parameter.")],
    widths: Widths = DEFAULT_WIDTHS,
    optimizer: Optimizer = "adamw",
    gauge: Gauged = Gauge.init,
    alignment: Alignment = Assumed.full,
    overrides: Overrides = None,
    scale: Scale = None,
    loss: Loss = None,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Explain the exponents of one weight: the rules, values and lines of code behind them."""
    with _library(output):
        from tpcalc.derive.explain import explain as explained
        from tpcalc.optimizers import recipe

        how = recipe(optimizer)
        program = _trace(target, widths, overrides, scale, loss)
        text = explained(program, weight, optimizer=how, alignment=alignment.value, gauge=gauge.value)
    _emit(text, output)


@app.command()
def export(
    target: Target,
    base: Annotated[int, typer.Option("--base", help="The width at which the hyperparameters were tuned.")],
    target_width: Annotated[int, typer.Option("--target", help="The width to train at.")],
    widths: Annotated[
        Optional[str],
        typer.Option("--widths", help="Widths to trace at besides --base and --target [default: 2 and 4 times base]."),
    ] = None,
    optimizer: Optimizer = "adamw",
    gauge: Gauged = Gauge.init,
    overrides: Overrides = None,
    scale: Scale = None,
    loss: Loss = None,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Write exact multipliers for training at another width, as JSON."""
    with _library(output):
        from tpcalc.document.table import json_text
        from tpcalc.optimizers import recipe
        from tpcalc.scaling import scale as scaled
        from tpcalc.scaling.compute import traced_widths
        from tpcalc.trace.target import load_target, parse_widths

        how = recipe(optimizer)
        traced = traced_widths(base, target_width, None if widths is None else parse_widths(widths))
        factory = _factory(target, traced, overrides, scale)
        function = None if loss is None else load_target(loss)
        result = scaled(factory, base, target_width, how, traced, gauge=gauge.value, loss=function)
    for sentence in result.sites:
        print("warning:", sentence, file=sys.stderr)
    _emit(json_text(result.document), output)


@app.command()
def codegen(
    multipliers: Annotated[str, typer.Argument(metavar="MULTIPLIERS", help="A file written by tpcalc export.")],
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Write a stand-alone Python file (torch only) that applies exported multipliers."""
    with _library(output):
        from tpcalc.scaling import Scaling
        from tpcalc.scaling.codegen import codegen as generated

        result = Scaling.load(multipliers)
    for sentence in result.sites:
        print("warning:", sentence, file=sys.stderr)
    _emit(generated(result), output)


@app.command()
def check(
    target: Target,
    widths: Annotated[
        str, typer.Option("--widths", help="Three or more widths to train at, separated by commas; small ones.")
    ] = "64,128,256,512",
    optimizer: Optimizer = "adamw",
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps to train at each width.")] = 5,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds to average over.")] = 3,
    parametrization: Annotated[
        Applied, typer.Option("--parametrization", help="Apply the derived rules, or keep the code's own.")
    ] = Applied.derived,
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
    format: Annotated[CheckFormat, typer.Option("--format", help="How to print the result.")] = CheckFormat.text,
    overrides: Overrides = None,
    scale: Scale = None,
    loss: Loss = None,
    output: Output = None,
    debug: Debug = False,
) -> int:
    """Train for a few steps at several widths and compare what is measured with what is predicted."""
    with _library(output):
        from tpcalc.check import check as checked
        from tpcalc.document.table import json_text
        from tpcalc.report.plots import check_plot, require_matplotlib
        from tpcalc.trace.target import load_target, parse_widths

        if plot is not None:
            check_writable(plot)
            require_matplotlib()
        parsed = parse_widths(widths)
        factory = _factory(target, parsed, overrides, scale)
        options = {
            "optimizer": optimizer,
            "steps": steps,
            "seeds": seeds,
            "tolerance": tolerance,
            "lr": lr,
            "progress": True,
            "batch": None if batch is None else load_target(batch),
            "loss": None if loss is None else load_target(loss),
        }
        result = checked(factory, parsed, parametrization=parametrization.value, **options)
        if plot is not None:
            other = Applied.standard if parametrization is Applied.derived else Applied.derived
            pair = [result, checked(factory, parsed, parametrization=other.value, **options)]
            check_plot(sorted(pair, key=lambda r: r.parametrization, reverse=True), plot)
    _emit(str(result) if format is CheckFormat.text else json_text(result.json()), output)
    return 0 if result.ok else EXIT_FINDINGS


@app.command()
def verify(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="The setup: file.py:callable or package.module:callable; setup(width) returns (model, optimizer[, scheduler], inputs).",
        ),
    ],
    widths: Widths = DEFAULT_WIDTHS,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on warnings too.")] = False,
    format: Annotated[VerifyFormat, typer.Option("--format", help="How to print the report.")] = VerifyFormat.text,
    loss: Loss = None,
    output: Output = None,
    debug: Debug = False,
) -> int:
    """Check a hand-written parametrization, someone's own init and optimizer groups, at infinite width."""
    with _library(output):
        from tpcalc.document.table import json_text
        from tpcalc.report.verify import report_github
        from tpcalc.trace.target import load_target, parse_widths
        from tpcalc.verify import verify as verified

        report = verified(load_target(target), parse_widths(widths), loss=None if loss is None else load_target(loss))
    texts = {
        VerifyFormat.text: lambda: str(report),
        VerifyFormat.json: lambda: json_text(report.to_json()),
        VerifyFormat.github: lambda: report_github(report, target.rpartition(":")[0]),
    }
    _emit(texts[format](), output)
    return report.exit_code(strict)


def _trace(
    target: str, widths: str, overrides: Optional[list[str]], scale: Optional[HeadScale], loss: Optional[str]
) -> "Program":
    """The program of a target given on the command line."""
    from tpcalc.trace import trace
    from tpcalc.trace.target import load_target, parse_widths

    parsed = parse_widths(widths)
    factory = _factory(target, parsed, overrides, scale)
    return trace(factory, parsed, loss=None if loss is None else load_target(loss))


def _factory(
    target: str, widths: Sequence[int], overrides: Optional[list[str]], scale: Optional[HeadScale]
) -> Callable[[int], Any]:
    kind, _, model_type = target.partition(":")
    if kind == "hf":
        from tpcalc.trace.hf import hf_factory

        growing = "head_dim" if scale is HeadScale.head_dim else "heads"
        return hf_factory(model_type, overrides=_parse_overrides(overrides or ()), scale=growing, widths=widths)
    if overrides or scale is not None:
        option = "--set" if overrides else "--scale"
        raise TpcalcError(f"{option} works only with hf: targets, not with {target}; drop it or change the factory")
    from tpcalc.trace.target import load_target

    return load_target(target)


def _parse_overrides(assignments: Sequence[str]) -> dict[str, str]:
    """``["num_layers=2", "act=relu"]`` -> ``{"num_layers": "2", "act": "relu"}``."""
    overrides = {}
    for assignment in assignments:
        field, equals, value = assignment.partition("=")
        if not field or not equals:
            raise TpcalcError(f"--set {assignment} is no assignment; write --set field=value")
        overrides[field] = value
    return overrides


def _table_renderer(format: TableFormat, output: Optional[str]) -> Callable[..., str]:
    from tpcalc.document import table as document
    from tpcalc.report.table import csv, latex, markdown, text

    return {
        TableFormat.text: lambda rules: text.table_text(rules, width=_terminal_width(output)),
        TableFormat.markdown: markdown.table_markdown,
        TableFormat.latex: latex.table_latex,
        TableFormat.csv: csv.table_csv,
        TableFormat.json: lambda rules: document.json_text(document.table_json(rules)),
    }[format]


def _program_renderer(format: ProgramFormat) -> Callable[["Program"], str]:
    from tpcalc.document.program import program_json
    from tpcalc.document.table import json_text
    from tpcalc.report import dot

    return {
        ProgramFormat.text: str,
        ProgramFormat.dot: dot.program_dot,
        ProgramFormat.json: lambda program: json_text(program_json(program)),
    }[format]


def _terminal_width(output: Optional[str]) -> Optional[int]:
    """Columns of the terminal the table goes to, None where it goes anywhere else."""
    if output is not None or not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


@contextlib.contextmanager
def _library(output: Optional[str]) -> Iterator[None]:
    """Run the library and the user's factory: their prints go to stderr, their warnings nowhere."""
    if output is not None:
        check_writable(output)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _emit(text: str, output: Optional[str]) -> None:
    """Write a finished text, with a final newline, to ``output`` or to standard output."""
    text = text if text.endswith("\n") else text + "\n"
    if output is not None:
        write_atomic(output, text)
        return
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (head, less) has seen enough; keep the interpreter's last flush quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run the command line and exit: 0 on success, 2 with one sentence on stderr otherwise."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    usage_error: type[Exception] = typer.BadParameter.__base__  # typer does not export it by name
    try:
        code = app(args=arguments or ["--help"], prog_name="tpcalc", standalone_mode=False)
    except KeyboardInterrupt:
        sys.exit(130)
    except usage_error as error:
        _fail(_usage_sentence(error), arguments)
    except TpcalcError as error:
        _fail(str(error), arguments)
    except Exception as error:
        _fail(f"internal error: {type(error).__name__}: {error} (rerun with --debug to see where)", arguments)
    sys.exit(code if isinstance(code, int) else 0)


def _usage_sentence(error: Any) -> str:
    """What is wrong with the arguments, and the command that lists the right ones."""
    command = error.ctx.command_path if error.ctx is not None else "tpcalc"
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    return f"{message}; see {command} --help"


def _fail(sentence: str, arguments: Sequence[str]) -> None:
    if "--debug" in arguments:
        traceback.print_exc()
    print("error:", " ".join(sentence.split()), file=sys.stderr)
    sys.exit(EXIT_ERROR)
