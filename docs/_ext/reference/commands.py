"""The command line, from its own commands."""

from __future__ import annotations

from typing import Any

from .words import cell, prose


def command_line() -> str:
    import typer

    from tpcalc.cli import app

    program = typer.main.get_command(app)
    parts = [
        "# Command line\n\n"
        "Exit codes: 0, done or nothing found; 1, a finding (`verify`, `check`, `transfer --max-drift`); 2, "
        "refused or not run, with one sentence on stderr. `tpcalc COMMAND --help` prints the same.",
        "## Options of the program\n\n" + _options("tpcalc", program),
    ]
    for name, command in program.commands.items():
        context = command.make_context(name, [], resilient_parsing=True)
        usage = " ".join(command.collect_usage_pieces(context))
        parts.append(
            f"## {name}\n\n```text\ntpcalc {name} {usage}\n```\n\n{prose(command.help)}\n\n{_options(name, command)}"
        )
    return "\n\n".join(parts)


def _options(name: str, command: Any) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    rows = ["| given | is |", "|---|---|"]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and record[0] != "--help":
            rows.append(f"| {code(record[0])} | {cell(record[1])} |")
    return "\n".join(rows)


def code(text: str) -> str:
    """In typewriter, in a cell."""
    return "`" + text.replace("|", "\\|") + "`"
