"""What a dialect can't carry, and what in the trainer would undo the multipliers: told with what to do instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tpcalc.scaling.dialects.averages import examples
from tpcalc.scaling.dialects.table import Row, Table


@dataclass(frozen=True)
class Told:
    """A sentence, ``lines`` that belong to it in the file alone, and whether it is said on stderr, too."""

    sentence: str
    lines: tuple[str, ...] = ()
    aloud: bool = True


@dataclass(frozen=True)
class Traps:
    """What is said of a trainer.

    ``clipping`` names its setting for the global norm and says how to turn it off; ``schedule`` says what its schedules
    do to the ratios of learning rates, and what to set, unless all are ``safe``; ``notes`` stand in the file alone.
    ``betas`` names their setting where no table has them, ``averages`` what applies a rule to them where one does.
    """

    clipping: str
    schedule: str
    safe: bool = False
    notes: tuple[str, ...] = ()
    betas: str = ""
    averages: str = ""


#: Where names were mapped, a file made for the traced names does not know the trainer's.
_ALONE = "multiply the fresh weights by the numbers in the head of the file"


def told(table: Table, traps: Traps, carries_eps: bool) -> list[Told]:
    """All that is said; nothing of what makes no difference here."""
    rates = {row.numbers.lr for row in table.rows}
    return [
        *_init(table),
        *(() if carries_eps else _eps(table)),
        *_betas(table, traps),
        *_clip(table, traps.clipping),
        *([Told(traps.schedule, aloud=not traps.safe)] if len(rates) > 1 else []),
        *(Told(note, aloud=False) for note in traps.notes),
    ]


def _init(table: Table) -> Iterator[Told]:
    rows = [row for row in table.rows if row.init != 1.0 or row.slices]
    if rows:
        call = "call init_(model) of the file that `tpcalc codegen MULTIPLIERS -o scaling.py` writes"
        remedy = _ALONE if table.renamed else call
        yield Told(
            f"no trainer takes an init multiplier ({_listed(rows, 'init')}): {remedy}, once, after the model has "
            f"initialised itself and before anything is loaded into it",
            _lines(rows, "init", "init"),
        )


def _eps(table: Table) -> Iterator[Told]:
    multipliers = {row.numbers.eps for row in table.rows if row.numbers.eps is not None}
    if multipliers - {1.0}:
        least = min(multipliers)
        yield Told(
            f"its table has no eps and one holds for all parameters: give the optimizer {least!r} times the eps of the "
            f"base, the least that any asks for, so that none feels it more than at the base",
            _lines([row for row in table.rows if row.numbers.eps not in (None, 1.0)], "eps", "eps"),
        )


def _betas(table: Table, traps: Traps) -> Iterator[Told]:
    factor = table.one_minus_beta
    if factor != 1.0 and traps.averages:
        yield Told(f"the assumed rule multiplies 1 - beta by {factor!r}: {traps.averages}", aloud=False)
    elif factor != 1.0:
        yield Told(
            f"its table has no betas, and the assumed rule multiplies 1 - beta by {factor!r}: set {traps.betas} to "
            f"1 - {factor!r} (1 - beta) for each beta of the base ({', '.join(examples(factor))})"
        )


def _clip(table: Table, setting: str) -> Iterator[Told]:
    rows = [row for row in table.rows if row.clip != 1.0]
    if rows:
        own = "clip by clip_grad_norm_(model, max_norm) of the file that `tpcalc codegen MULTIPLIERS` writes"
        weighed = "measure a norm in which each gradient is multiplied by its number in the head of the file"
        yield Told(
            f"{setting} clips by the plain global norm, in which some gradients outgrow the others "
            f"({_listed(rows, 'clip')}), so that a threshold of the base bites more here: turn it off, or "
            f"{weighed if table.renamed else own} in its place",
            _lines(rows, "clip", "gradient, in the norm"),
        )


def _number(row: Row, what: str) -> float:
    return getattr(row, what) if what != "eps" else row.numbers.eps  # type: ignore[return-value]


def _listed(rows: Sequence[Row], what: str, count: int = 2) -> str:
    shown = ", ".join(f"{row.name} x {_number(row, what):.6g}" for row in rows[:count])
    return shown + (f" and {len(rows) - count} more" if len(rows) > count else "")


def _lines(rows: Sequence[Row], what: str, title: str) -> tuple[str, ...]:
    parts = " (parts of it each their own)"
    return tuple(
        f"  {row.name}: {title} x {_number(row, what)!r}{parts if what == 'init' and row.slices else ''}"
        for row in rows
    )
