"""Commands about the JSON documents that the others print and write."""

from __future__ import annotations

from typing import Annotated

import typer

from tpcalc.cli.options import Debug, Output, one_of
from tpcalc.console import emit
from tpcalc.document import DOCUMENTS, json_text, schema

#: Those of this module, in the order of ``tpcalc --help``.
commands = typer.Typer()


@commands.command("schema")
def print_schema(
    document: Annotated[
        str, typer.Argument(metavar="DOCUMENT", help=f"One of {', '.join(DOCUMENTS)}.", parser=one_of(DOCUMENTS))
    ],
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Print the JSON Schema of a document that --format json prints or export writes."""
    emit(json_text(schema(document)), output)
