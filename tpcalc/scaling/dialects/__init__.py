"""Multipliers in the words of other people's trainers: one emitter, and a dialect for each.

:func:`write` makes the text of a file.  What every dialect is written from is in :mod:`.table`, under names that
:mod:`.names` maps; :mod:`.trainers` says what each trainer can carry, :mod:`.modules` and :mod:`.configs` write it, and
:mod:`.said` tells what is not carried, and what would undo it, with what to do instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from tpcalc.errors import ScalingError
from tpcalc.horizon.words import HEADING, assumed_lines
from tpcalc.scaling.codegen import comment
from tpcalc.scaling.dialects.names import Rename, check_names, read_patterns
from tpcalc.scaling.dialects.said import Told, told
from tpcalc.scaling.dialects.table import Table, table
from tpcalc.scaling.dialects.trainers import DIALECTS, Dialect
from tpcalc.scaling.exported import Exported

__all__ = ["DIALECTS", "Written", "write"]


@dataclass(frozen=True)
class Written:
    """The text of a file, and the sentences of its head that have to be heard."""

    text: str
    warnings: tuple[str, ...]


def write(
    scaling: Exported,
    trainer: str,
    rename: Sequence[str] = (),
    no_decay: Sequence[str] = (),
    given: Mapping[str, Optional[float]] = {},
) -> Written:
    """Multipliers for a trainer, by its name in :data:`DIALECTS`.

    ``rename``: rules ``PATTERN=REPLACEMENT`` from the names of the traced model to the trainer's.  ``no_decay``:
    regular expressions on the trainer's names; what one matches somewhere has no weight decay.  ``given``: ``lr``,
    ``weight_decay`` and ``eps`` of the base, for a trainer that takes rates and not multipliers.

    Raises ScalingError for what the trainer can't do, for names it can't have, and for options it has no use for.
    """
    if trainer not in DIALECTS:
        raise ScalingError(f"--for {trainer!r} is no trainer known here; choose one of {', '.join(DIALECTS)}")
    dialect = DIALECTS[trainer]
    _check_law(scaling, dialect)
    values = _values(dialect, given)
    rules = [Rename.read(text) for text in rename]
    found = table(scaling, rules, read_patterns("--no-decay", no_decay), dialect.tied, dialect.globs)
    names = [name for row in found.rows for name in row.names]
    check_names(names, dialect.name, dialect.peft, dialect.roots, found.mapped)
    said = told(found, dialect.traps, dialect.eps)
    text = "".join(_head(found, dialect, said)) + "\n" + dialect.body(found, values)
    aloud = [item.sentence for item in said if item.aloud]
    return Written(text, tuple(f"{dialect.name}: {sentence}" for sentence in aloud))


def _check_law(scaling: Exported, dialect: Dialect) -> None:
    laws = sorted({weight.optimizer for weight in scaling.values()}, key=scaling.optimizer.find)
    if len(laws) > 1:
        raise ScalingError(
            f"these multipliers are for {len(laws)} optimizers, {' and '.join(laws)}, and a table of groups is for "
            f"one; make both with param_groups of the file that `tpcalc codegen` writes without --for"
        )
    if dialect.laws is not None and laws[0] not in dialect.laws:
        raise ScalingError(
            f"{dialect.name} can't be given multipliers for {laws[0]}: they are read there as those of "
            f"{' or '.join(dialect.laws)}; export with --optimizer {dialect.laws[0]}"
        )
    if scaling.gauge != "init":
        raise ScalingError(
            f"the gauge {scaling.gauge} has multipliers in the forward pass, which no table of a trainer carries; "
            f"export with --gauge init"
        )


def _values(dialect: Dialect, given: Mapping[str, Optional[float]]) -> dict[str, float]:
    options = {name: f"--{name.replace('_', '-')}" for name in ("lr", "weight_decay", "eps")}
    values = {name: value for name, value in given.items() if value is not None}
    if not dialect.rates:
        if values:
            named = ", ".join(options[name] for name in values)
            raise ScalingError(f"{dialect.name} takes multipliers, and the base's numbers elsewhere; leave out {named}")
        return {}
    missing = [options[name] for name in ("lr", "weight_decay") if name not in values]
    if missing:
        raise ScalingError(
            f"{dialect.name} takes learning rates, not multipliers: give {' and '.join(missing)} of the base"
        )
    wrong = [f"{options[name]} {value!r}" for name, value in values.items() if not 0.0 <= value < float("inf")]
    if wrong:
        raise ScalingError(f"{', '.join(wrong)} is not a number of 0 or more")
    return {"lr": values["lr"], "weight_decay": values["weight_decay"], "eps": values.get("eps", 1e-8)}


def _head(found: Table, dialect: Dialect, said: Sequence[Told]) -> Iterator[str]:
    base, target = found.scaling.ends
    yield from comment(f"{dialect.name}: multipliers from {base} to {target}, for {found.law}.")
    yield from comment(
        f"Generated by `tpcalc codegen --for {dialect.name}`, as {dialect.source} reads it; write it again rather than "
        f"edit it. lr, weight_decay, eps{', betas' if found.one_minus_beta != 1.0 else ''} and clipping are those of "
        f"{base}."
    )
    yield "#\n"
    yield from (f"#     {line}\n" for line in dialect.use)
    yield "#\n"
    for item in said:
        yield from comment(f"{'Beware' if item.aloud else 'Note'}: {item.sentence}.")
        yield from (line for text in item.lines for line in comment(text, "#   "))
    for kind, sentences in (
        (HEADING, assumed_lines(found.scaling.assumed or {})),
        ("The model itself needs", found.scaling.sites),
        ("Assumption", found.scaling.document["assumptions"]),
        ("Note", found.scaling.document["notes"]),
    ):
        yield from (line for sentence in sentences for line in comment(f"{kind}: {sentence}"))
