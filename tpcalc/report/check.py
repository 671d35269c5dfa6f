"""The result of a check as text: one row a module, then every failure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tpcalc.check.result import QUANTITIES, Entry, Result
from tpcalc.report.grid import itemized, ruled

#: Failures listed one by one.
LISTED = 20


def result_text(result: Result) -> str:
    """Rows show the slope that is furthest above its wanted order (of effects: furthest off either way)."""
    widths = ", ".join(map(str, result.widths))
    failures = [f"{e.verdict}: {e}" for e in result.failures[:LISTED]]
    if len(result.failures) > LISTED:
        failures.append(f"and {len(result.failures) - LISTED} more (--format json lists all)")
    lines = [
        f"Check of the {result.parametrization} parametrization with {result.optimizer}: widths {widths}, "
        f"{len(result.seeds)} seeds, {result.steps} steps",
        "",
        *ruled(("module", "slopes", *QUANTITIES, "verdict"), list(_rows(result.entries))),
        "",
        "each cell: measured slope (wanted order) of the value furthest off",
        *itemized(("failures", failures), ("notes", result.notes)),
    ]
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


def _rows(entries: Sequence[Entry]) -> Iterator[tuple[str, ...]]:
    """One for each module of which a slope counts."""
    for module in dict.fromkeys(e.module for e in entries):
        own = [e for e in entries if e.module == module]
        cells = [_worst([e for e in own if e.quantity == quantity]) for quantity in QUANTITIES]
        failed = sum(e.failed for e in own)
        counted = sum(e.verdict != "skipped" for e in own)
        if counted:
            yield module or "(top)", str(counted), *cells, f"{failed} failed" if failed else "ok"


def _worst(entries: Sequence[Entry]) -> str:
    measured = [(e.excess, e) for e in entries if e.excess is not None]
    if not measured:
        return "-"
    _, worst = max(measured, key=lambda pair: abs(pair[0]) if pair[1].quantity == "effect" else pair[0])
    assert worst.slope is not None  # it has an excess
    return f"{worst.slope.value:+.2f} ({worst.wanted})"
