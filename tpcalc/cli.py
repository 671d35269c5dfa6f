"""The command line: arguments only.

Each verb is one function that turns its arguments into calls of the library and hands the text to
:func:`_emit`.  The library is imported inside them, so that ``--help`` does not wait for it.
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
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from tpcalc import __version__
from tpcalc.calculus.alignment import ALIGNMENTS
from tpcalc.check import PARAMETRIZATIONS
from tpcalc.derive.gauge import GAUGES, WRITTEN_IN
from tpcalc.document import DOCUMENTS, json_text, schema
from tpcalc.errors import TpcalcError
from tpcalc.files import check_writable, write_atomic
from tpcalc.optimizers import recipe
from tpcalc.report import FORMATS, render

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
Widths = Annotated[str, typer.Option("--widths", help="Three or more widths to trace at, separated by commas.")]
Optimizer = Annotated[
    str,
    typer.Option("--optimizer", help="Its name; muon+adamw, the first for hidden matrices; or file.py:make_optimizer."),
]
Gauge = Annotated[
    str, _choice(GAUGES, "--gauge", "Where sizes stand: in the init alone, or partly in forward multipliers.")
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
    Optional[str], _choice(("heads", "head-dim"), "--scale", "What grows with width in hf: targets [default: heads].")
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
        Optional[str],
        _choice(GAUGES, "--gauge", "Where sizes stand [default: init, or that of --parametrization]."),
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
    format: Annotated[str, _choice(FORMATS["table"], "--format", "How to print the table.")] = "text",
    overrides: Overrides = None,
    scale: Scale = None,
    loss: Loss = None,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Print the scaling table of a model: one row for each weight, repeated blocks folded."""
    with _library(output):
        from tpcalc.derive import derive

        how = recipe(optimizer)  # before anything slow
        program = _trace(target, widths, overrides, scale, loss)
        rules = derive(program, how, alignment=alignment, gauge=gauge, parametrization=parametrization)
    on_terminal = format == "text" and output is None and sys.stdout.isatty()
    options = {"width": shutil.get_terminal_size().columns} if on_terminal else {}
    _emit(render("table", format, rules, **options), output)


@app.command()
def trace(
    target: Target,
    widths: Widths = DEFAULT_WIDTHS,
    format: Annotated[str, _choice(FORMATS["program"], "--format", "How to print the program.")] = "text",
    overrides: Overrides = None,
    scale: Scale = None,
    loss: Loss = None,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Print the tensor program of a model: one line for each operation, forward and backward."""
    with _library(output):
        program = _trace(target, widths, overrides, scale, loss)
    _emit(render("program", format, program), output)


@app.command()
def explain(
    target: Target,
    weight: Annotated[str, typer.Argument(metavar="WEIGHT", help="Full name of a parameter.")],
    widths: Widths = DEFAULT_WIDTHS,
    optimizer: Optimizer = "adamw",
    gauge: Gauge = "init",
    alignment: Alignment = "full",
    overrides: Overrides = None,
    scale: Scale = None,
    loss: Loss = None,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Explain the exponents of one weight: the rules, values and lines of code behind them."""
    with _library(output):
        from tpcalc.derive.explain import explain as explained

        how = recipe(optimizer)
        program = _trace(target, widths, overrides, scale, loss)
        explanation = explained(program, weight, how, alignment=alignment, gauge=gauge)
    _emit(str(explanation), output)


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
    gauge: Gauge = "init",
    overrides: Overrides = None,
    scale: Scale = None,
    loss: Loss = None,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Write exact multipliers for training at another width, as JSON."""
    with _library(output):
        from tpcalc.scaling import scale as scaled
        from tpcalc.scaling.compute import traced_widths
        from tpcalc.trace.target import parse_widths

        how = recipe(optimizer)
        traced = traced_widths(base, target_width, None if widths is None else parse_widths(widths))
        factory = _factory(target, traced, overrides, scale)
        result = scaled(factory, base, target_width, how, traced, gauge=gauge, loss=_load(loss))
    _emit(json_text(result.document), output, result.sites)


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
    _emit(generated(result), output, result.sites)


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
    scale: Scale = None,
    loss: Loss = None,
    output: Output = None,
    debug: Debug = False,
) -> int:
    """Train for a few steps at several widths and compare what is measured with what is predicted."""
    with _library(output):
        from tpcalc.check import check as checked
        from tpcalc.report.plots import check_plot, require_matplotlib
        from tpcalc.trace.target import parse_widths

        if plot is not None:
            check_writable(plot)
            require_matplotlib()
        parsed = parse_widths(widths)
        factory = _factory(target, parsed, overrides, scale)
        run = partial(checked, factory, parsed, optimizer, steps=steps, seeds=seeds, tolerance=tolerance, lr=lr)
        run = partial(run, batch=_load(batch), loss=_load(loss), progress=True)
        result = run(parametrization=parametrization)
        if plot is not None:
            others = (run(parametrization=other) for other in PARAMETRIZATIONS if other != parametrization)
            check_plot(sorted((result, *others), key=lambda r: r.parametrization, reverse=True), plot)
    _emit(render("check", format, result), output)
    return 0 if result.ok else EXIT_FINDINGS


@app.command()
def verify(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help=(
                "The setup: file.py:callable or package.module:callable; "
                "setup(width) returns (model, optimizer[, scheduler], inputs)."
            ),
        ),
    ],
    widths: Widths = DEFAULT_WIDTHS,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on warnings too.")] = False,
    format: Annotated[str, _choice(FORMATS["verify"], "--format", "How to print the report.")] = "text",
    loss: Loss = None,
    output: Output = None,
    debug: Debug = False,
) -> int:
    """Check a hand-written parametrization, someone's own init and optimizer groups, at infinite width."""
    with _library(output):
        from tpcalc.trace.target import parse_widths
        from tpcalc.verify import verify as verified

        report = verified(_load(target), parse_widths(widths), loss=_load(loss))
    options = {"file": target.rpartition(":")[0]} if format == "github" else {}
    _emit(render("verify", format, report, **options), output)
    return report.exit_code(strict)


@app.command("schema")
def print_schema(
    document: Annotated[
        str, typer.Argument(metavar="DOCUMENT", help=f"One of {', '.join(DOCUMENTS)}.", parser=_one_of(DOCUMENTS))
    ],
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Print the JSON Schema of a document that --format json prints or export writes."""
    _emit(json_text(schema(document)), output)


def _trace(
    target: str, widths: str, overrides: Optional[list[str]], scale: Optional[str], loss: Optional[str]
) -> Program:
    """The program of a target given on the command line."""
    from tpcalc.trace import trace
    from tpcalc.trace.target import parse_widths

    parsed = parse_widths(widths)
    return trace(_factory(target, parsed, overrides, scale), parsed, loss=_load(loss))


def _load(target: Optional[str]) -> Any:
    """The callable of a target, None of none."""
    from tpcalc.trace.target import load_target

    return None if target is None else load_target(target)


def _factory(
    target: str, widths: Sequence[int], overrides: Optional[list[str]], scale: Optional[str]
) -> Callable[[int], Any]:
    kind, _, model_type = target.partition(":")
    if kind == "hf":
        from tpcalc.trace.hf import hf_factory

        growing = "head_dim" if scale == "head-dim" else "heads"
        return hf_factory(model_type, overrides=_parse_overrides(overrides or ()), scale=growing, widths=widths)
    if overrides or scale is not None:
        option = "--set" if overrides else "--scale"
        raise TpcalcError(f"{option} works only with hf: targets, not with {target}; drop it or change the factory")
    return _load(target)


def _parse_overrides(assignments: Sequence[str]) -> dict[str, str]:
    """``["num_layers=2", "act=relu"]`` -> ``{"num_layers": "2", "act": "relu"}``."""
    for assignment in assignments:
        if assignment.find("=") < 1:
            raise TpcalcError(f"--set {assignment} is no assignment; write --set field=value")
    return dict(assignment.split("=", 1) for assignment in assignments)


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


def _emit(text: str, output: Optional[str], warnings: Iterable[str] = ()) -> None:
    """Write a finished text, with a final newline, to ``output`` or to standard output."""
    for sentence in warnings:
        print("warning:", sentence, file=sys.stderr)
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
    usage_error: Any = typer.BadParameter.__base__  # typer does not export it by name
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
