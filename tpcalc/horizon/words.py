"""What is assumed, in lines of plain text: for tables, for the header of generated code, and for one weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tpcalc.horizon.assumed import Chosen, Horizon
from tpcalc.horizon.rules import RATIOS
from tpcalc.optimizers import UpdateLaw

__all__ = ["ENDS", "HEADING", "assumed_lines", "formula_lines", "formula_text"]

#: Of the block, in the order of the ratios.
ENDS = ("batch", "tokens", "parameters")
HEADING = "assumed, not derived"
WORDS = {"lr": "lr", "weight_decay": "weight decay", "eps": "eps", "one_minus_beta": "1 - beta"}


def formula_text(powers: Any) -> str:
    """As sympy writes it."""
    return str(powers.expr)


def assumed_lines(row: Mapping[str, Any], everywhere: bool = False) -> list[str]:
    """A sentence each, from the block ``assumed`` of a document; the first says by which rule, and from where to where.
    ``everywhere``: of any target, so that formulas are without numbers.  None of an empty block."""
    if not row:
        return []
    way = _over if everywhere else _way
    ends = [way(key, end, name) for key, name in zip(ENDS, RATIOS) if (end := row[key]) is not None]
    found = [f"{row['rule']} ({row['source']}): {', '.join(ends)}"]

    def times(quantity: Mapping[str, Any]) -> str:
        number = "" if everywhere else f" = {quantity['factor']:.6g}"
        return f"{quantity['formula']}{number}" if quantity["powers"] else "1"

    for law, quantities in row["laws"].items():
        told = [f"{word} x {times(quantities[key])}" for key, word in WORDS.items() if quantities[key] is not None]
        found.append(f"{law}, every parameter alike: {', '.join(told)}; steps x {times(row['steps'])}")
    found += row["notes"]
    return [*found, *(f"contradicted: {sentence}" for sentence in row["contradicted"])]


def formula_lines(assumed: Chosen, law: UpdateLaw) -> Iterator[str]:
    """The same of one law, from the rule itself; without numbers where no ends are given."""
    yield f"{assumed.rule.name} ({assumed.rule.source})"
    told = []
    for key, powers in assumed.quantities(law).items():
        number = ""
        if isinstance(assumed, Horizon) and not (powers.parameters and assumed.parameters is None):
            number = f" = {assumed.factor(powers):.6g}"
        told.append(f"{WORDS[key]} x {formula_text(powers)}{number if powers.by_name else ''}")
    yield f"on top of what is derived, every parameter alike: {', '.join(told)}"
    yield from (*assumed.remarks, *assumed.notes(law))
    yield from (f"contradicted: {sentence}" for sentence in assumed.rule.contradicted)


def _way(key: str, end: Mapping[str, float], ratio: str) -> str:
    if end["base"] == end["target"]:
        return f"{key} unchanged"
    return f"{key} {_amount(end['base'])} -> {_amount(end['target'])} ({ratio})"


def _over(key: str, end: Mapping[str, float], ratio: str) -> str:
    return f"{ratio} = {key} / {_amount(end['base'])}"


def _amount(x: float) -> str:
    return f"{x:.0f}" if x == int(x) < 10**7 else f"{x:.4g}"
