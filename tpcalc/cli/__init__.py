"""The command line: arguments only.

Each verb is one function of a module here that turns its arguments into calls of the library and hands the text to
:func:`~tpcalc.console.emit`.  The library is imported inside them, so that ``--help`` does not wait for it.
:func:`main` turns every error into one sentence on stderr and exit code 2.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Optional

import typer

from tpcalc import __version__
from tpcalc.cli import documents, machine, multipliers, page, rules, training, verdicts
from tpcalc.console import ELSEWHERE, fail, forget_output, library
from tpcalc.errors import TpcalcError

app = typer.Typer(
    help=(
        "A symbolic calculator for Tensor Programs: derives how init, learning rate, weight decay and epsilon of each "
        "weight of a PyTorch model must scale with width."
    ),
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for module in (rules, multipliers, verdicts, training, page, documents, machine):  # in the order of --help
    app.add_typer(module.commands)


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


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run the command line and exit: 0 on success, 2 with one sentence on stderr otherwise."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    arguments = _plugins_first(arguments)
    usage_error: Any = typer.BadParameter.__base__  # typer does not export it by name
    try:
        code = app(args=arguments or ["--help"], prog_name="tpcalc", standalone_mode=False, obj=arguments)
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as error:
        asked = any(each.startswith(("--install-completion", "--show-completion")) for each in arguments)
        if asked or "_TPCALC_COMPLETE" in os.environ:  # typer answers, and exits
            raise
        fail(
            f"the code of the target called sys.exit({error.code!r}); guard it by if __name__ == '__main__'", arguments
        )
    except usage_error as error:
        fail(_usage_sentence(error), arguments)
    except TpcalcError as error:
        fail(str(error), arguments)
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            forget_output()
            fail(f"cannot write: {error.strerror}; {ELSEWHERE}", arguments)
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            fail("the name of a file that is given is too long for this system; give a shorter one", arguments)
        fail(f"internal error: {type(error).__name__}: {error} (rerun with --debug to see where)", arguments)
    sys.exit(code if isinstance(code, int) else 0)


def _plugins_first(arguments: list[str]) -> list[str]:
    """``--plugin`` may stand behind the command as well."""
    first: list[str] = []
    rest: list[str] = []
    waiting = iter(arguments)
    for each in waiting:
        is_plugin = each == "--plugin" or each.startswith("--plugin=")
        (first if is_plugin else rest).append(each)
        if each == "--plugin":
            value = next(waiting, None)
            if value is None:
                return [each]  # which says what is missing
            first.append(value)
    return [*first, *rest]


def _usage_sentence(error: Any) -> str:
    """What is wrong with the arguments, and the command that lists the right ones."""
    command = error.ctx.command_path if error.ctx is not None else "tpcalc"
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    return f"{message}; see {command} --help"
