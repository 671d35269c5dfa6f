"""The result of a check as text: one row a module, then every failure."""

from __future__ import annotations

from io import StringIO
from typing import Optional

from rich.box import Box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tpcalc.check.result import QUANTITIES, Entry, Result

_HEAD_RULE = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
_WIDEST = 100_000
#: Failures listed one by one.
LISTED = 20


def result_text(result: Result) -> str:
    """Rows show the slope that is furthest above its wanted order (of effects: furthest off either way)."""
    widths = ", ".join(map(str, result.widths))
    lines = [
        f"Check of the {result.parametrization} parametrization with {result.optimizer}: widths {widths}, "
        f"{len(result.seeds)} seeds, {result.steps} steps",
        "",
    ]
    table = Table(box=_HEAD_RULE, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), header_style="")
    for column in ("module", "slopes", *QUANTITIES, "verdict"):
        table.add_column(column, no_wrap=True)
    modules = dict.fromkeys(e.module for e in result.entries)
    for module in modules:
        own = [e for e in result.entries if e.module == module]
        cells = [_worst([e for e in own if e.quantity == quantity]) for quantity in QUANTITIES]
        failed = sum(e.failed for e in own)
        counted = sum(e.verdict != "skipped" for e in own)
        if counted:
            table.add_row(
                *(
                    Text(cell)
                    for cell in (module or "(top)", str(counted), *cells, f"{failed} failed" if failed else "ok")
                )
            )
    stream = StringIO()
    Console(file=stream, width=_WIDEST, color_system=None, force_terminal=False, legacy_windows=False).print(table)
    lines += [line.rstrip() for line in stream.getvalue().splitlines()]
    lines += ["", "each cell: measured slope (wanted order) of the value furthest off"]
    if result.failures:
        lines += ["", "failures:", *(f"  - {e.verdict}: {e}" for e in result.failures[:LISTED])]
        if len(result.failures) > LISTED:
            lines.append(f"  - and {len(result.failures) - LISTED} more (--format json lists all)")
    if result.notes:
        lines += ["", "notes:", *(f"  - {note}" for note in result.notes)]
    unsure = sum(e.verdict == "ok" and bool(e.reason) for e in result.entries)
    if unsure:
        lines += [
            "",
            f"{unsure} of the slopes that pass are off by more than the tolerance, but by no more than their noise",
        ]
    verdict = "ok" if result.ok else f"FAILED: {len(result.failures)} of {result.compared} slopes"
    lines += [
        "",
        f"{verdict} (tolerance {result.tolerance:g}; {result.compared} slopes compared, {len(result.skipped)} skipped)",
    ]
    return "\n".join(lines) + "\n"


def _worst(entries: list[Entry]) -> str:
    measured = [e for e in entries if e.excess is not None]
    if not measured:
        return "-"
    worst: Optional[Entry] = max(measured, key=lambda e: abs(e.excess) if e.quantity == "effect" else e.excess)
    return f"{worst.slope.value:+.2f} ({worst.wanted})"
