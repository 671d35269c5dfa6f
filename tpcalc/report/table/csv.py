"""The scaling table as CSV: one line a parameter, under its own full name, exponents as text.

Columns mean what the keys of the same name mean in JSON (:mod:`tpcalc.document.table`).
"""

from __future__ import annotations

import csv
from io import StringIO

from tpcalc.derive.result import Parametrization
from tpcalc.document.table import weight_row

COLUMNS = (
    *("name", "shape", "role"),
    *("a", "b", "c", "weight_decay", "eps"),
    *("A", "C", "gradient"),
    *("trainable", "tied_to", "optimizer", "reason"),
)


def table_csv(parametrization: Parametrization) -> str:
    """A header and a line for each parameter; an empty field where JSON has null."""
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, rule in parametrization.rules.items():
        entry = weight_row(name, rule).data()
        entry |= {"shape": rule.shape_text, "trainable": str(rule.trainable).lower()}
        writer.writerow("" if entry[column] is None else entry[column] for column in COLUMNS)
    return stream.getvalue()
