"""The scaling table as CSV: one line a parameter, under its own full name, exponents as text.

Columns mean what the keys of the same name mean in JSON (:mod:`tpcalc.document.table`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any

from tpcalc.derive.result import Parametrization
from tpcalc.derive.several import ScaledParametrization
from tpcalc.document.scaled import scaled_row
from tpcalc.document.table import weight_row

COLUMNS = (
    *("name", "shape", "role"),
    *("a", "b", "c", "weight_decay", "eps"),
    *("A", "C", "gradient"),
    *("trainable", "tied_to", "optimizer", "reason"),
)


SCALED_COLUMNS = (
    *("name", "shape", "role"),
    *("multiplier", "init_std", "lr", "weight_decay", "eps"),
    *("trainable", "tied_to", "optimizer", "reason"),
)


def scaled_csv(rules: ScaledParametrization) -> str:
    """Of several scales: each quantity as its formula, for sympy."""
    entries = []
    for name, rule in rules.items():
        entry = scaled_row(name, rule).data()
        entries.append({**entry, **entry["formulas"], "shape": rule.shape_text})
    return _written(SCALED_COLUMNS, entries)


def table_csv(parametrization: Parametrization) -> str:
    """A header and a line for each parameter; an empty field where JSON has null."""
    entries = (
        {**weight_row(name, rule).data(), "shape": rule.shape_text} for name, rule in parametrization.rules.items()
    )
    return _written(COLUMNS, entries)


def _written(columns: Sequence[str], entries: Iterable[dict[str, Any]]) -> str:
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for entry in entries:
        entry["trainable"] = str(entry["trainable"]).lower()
        writer.writerow("" if entry[column] is None else entry[column] for column in columns)
    return stream.getvalue()
