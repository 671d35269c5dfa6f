"""Arguments that commands share, and how a choice is parsed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Optional

import typer

from tpcalc.calculus.alignment import ALIGNMENTS
from tpcalc.derive.gauge import EXPERTS, GAUGES, OF_DEPTH
from tpcalc.horizon import RULES


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """Parses an argument that is one of these names, as the module that has them knows them."""

    def parse(text: str) -> str:
        if text not in names:
            raise typer.BadParameter(f"{text!r} is not one of {', '.join(map(repr, names))}")
        return text

    return parse


def choice(names: Iterable[str], option: str, help: str) -> Any:
    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    metavar = f"<{'|'.join(names)}>"
    return typer.Option(option, help=help, parser=one_of(names), metavar=metavar, autocompletion=complete)


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
    choice((*GAUGES, OF_DEPTH), "--gauge", "Where sizes stand: in the init alone, or partly in forward multipliers."),
]
Alignment = Annotated[
    str,
    choice(ALIGNMENTS, "--alignment", "How aligned updates and values are assumed: full, none, or omega (Everett's)."),
]
Output = Annotated[
    Optional[str],
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write to FILE instead of standard output.",
        callback=lambda path: None if path == "-" else path,  # as other programs have it
    ),
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
    str, choice(EXPERTS, "--experts", "The init of experts' last weights: derived, of Jiang et al., of Complete-muE.")
]
Batch = Annotated[
    Optional[str], typer.Option("--batch", metavar="BASE:TARGET", help="Batch sizes, 64:1024 (needs --horizon).")
]
Tokens = Annotated[
    Optional[str],
    typer.Option("--tokens", metavar="BASE:TARGET", help="Tokens of the run, 1e9:2e11 (needs --horizon)."),
]
Horizon = Annotated[
    Optional[str],
    choice(
        RULES, "--horizon", "An assumed rule, of a paper, for what follows batch size and length (docs/horizon.md)."
    ),
]
HorizonExponent = Annotated[
    Optional[str],
    typer.Option(
        "--horizon-exponent", metavar="P", help="lr ~ tokens^-P at a given batch size, of completed-p [default: 1/2]."
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
