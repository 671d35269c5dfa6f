"""Multipliers as a plain table, repeated blocks folded, and what the model itself still needs."""

from __future__ import annotations

from dataclasses import replace

from tpcalc.horizon.words import HEADING, assumed_lines
from tpcalc.program.names import fold
from tpcalc.report.grid import aligned, itemized
from tpcalc.scaling.exported import Exported, weights


def scaling_text(scaling: Exported) -> str:
    items = {" = ".join((w.name, *w.aliases)): w for w in weights(scaling.document)}
    multiplied = any(w.forward != 1.0 for w in items.values())
    rows = [("weight", "shape", *(("multiplier",) if multiplied else ()), "init", "lr", "weight decay", "eps", "clip")]
    slices = []
    for row in fold((name, replace(w, name="", draw=("", 0.0, 0.0), aliases=())) for name, w in items.items()):
        w = items[row.names[0]]
        numbers = ["-" if x is None else f"{x:.6g}" for x in (w.init, w.lr, w.weight_decay, w.eps, w.clip)]
        if w.slices:
            numbers[0] = "below"
        for dim, start, length, init in w.slices:
            slices.append(f"{row.name}[{':, ' * dim}{start} : {start + length}]: {init:.6g}")
        rows.append((row.name, str(list(w.shape)), *((f"{w.forward:.6g}",) if multiplied else ()), *numbers))
    lines = [
        f"Multipliers for {scaling.optimizer}, {scaling.way}",
        "",
        *aligned(rows, dashes=True),
        *itemized(
            ("init of each block", slices),
            (HEADING, assumed_lines(scaling.assumed or {})),
            ("the model itself needs", scaling.sites),
            *((heading, scaling.document[heading]) for heading in ("assumptions", "notes", "conventions")),
        ),
    ]
    return "\n".join(lines) + "\n"
