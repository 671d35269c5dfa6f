"""The result of a check as text: one row a module, then every failure; of a set-up causes first, one row a weight."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Optional, Union

from tpcalc.algebra.order import order_text
from tpcalc.algebra.scales import scales_text
from tpcalc.check.result import FADES, QUANTITIES, Entry, Result, ScaledResult
from tpcalc.program.names import fold
from tpcalc.report.grid import fitted, itemized, within
from tpcalc.verify.findings import ERROR, RATE, SCHEDULE

#: Failures listed one by one, and those beside a cause.
LISTED, FEW = 20, 5
LINE = 118


def result_text(result: Union[Result, ScaledResult], width: Optional[int] = None) -> str:
    """Rows show the slope that is furthest above its wanted order (of effects: furthest off either way).  ``width`` is
    that of a terminal, in which every number stays whole.
    """
    if isinstance(result, ScaledResult):
        return "\n".join(result_text(ray, width) for ray in result.rays)
    lines = _own(result, width) if result.own else _derived(result, width)
    return "\n".join(within(lines, width)) + "\n"


def _derived(result: Result, width: Optional[int]) -> list[str]:
    quantities = [quantity for quantity in QUANTITIES if quantity != "propagated"]
    return [
        f"Check of the {result.parametrization} parametrization with {result.optimizer}: {_size(result)}",
        "",
        *fitted(("module", "slopes", *quantities, "verdict"), list(_rows(result.entries, quantities)), width),
        "",
        "each cell: measured slope (wanted order) of the value furthest off",
        *itemized(("failures", _listed(result.failures, LISTED)), ("notes", result.notes)),
        *_verdict(result),
    ]


def _own(result: Result, width: Optional[int]) -> list[str]:
    lines = [f"Check of {result.name}, trained as it is by {result.optimizer}: {_size(result)}", ""]
    causes = [*_found(result), *([] if result.findings else _measured(result))]
    if causes:
        lines += ["root causes", *causes, ""]
    effects = {entry.subject: entry for entry in result.of("effect")}
    others = {entry.subject: entry for entry in result.of("propagated")}
    cells = {
        name: (_cell(own), _cell(others[name]) if name in others else "-", "ok" if own.verdict == "ok" else own.verdict)
        for name, own in effects.items()
    }
    table = [(folded.name, *cells[folded.names[0]]) for folded in fold(cells.items())]
    lines += [
        *fitted(("weight", "own effect", "propagated", "verdict"), table, width),
        "",
        "own effect: (W_t - W_0) x_t; propagated: W_0 (x_t - x_0); each cell: measured slope (wanted order)",
    ]
    rest = [entry for entry in result.failures if entry.quantity != "effect"]
    return [*lines, *itemized(("what follows", _listed(rest, FEW)), ("notes", result.notes)), *_verdict(result)]


def _found(result: Result) -> Iterator[str]:
    """Findings of the verification, each with the slope that confirms it."""
    effects = {entry.subject: entry for entry in result.of("effect")}
    for finding in result.findings:
        text = f"{finding}"
        own = next((effects[name] for name in finding.weights if name in effects), None)
        if finding.quantity == RATE and finding.kind != SCHEDULE and own is not None and own.slope is not None:
            text += f" (measured: its own effect has slope {own.slope.value:+.2f}, wanted {order_text(own.wanted)})"
        yield from textwrap.wrap(text, LINE, initial_indent="  ", subsequent_indent="    ", break_long_words=False)


def _measured(result: Result) -> list[str]:
    """Where nothing was found: the weights whose own effect is off, or the first value that is."""
    failed = [e for e in result.entries if e.failed]
    first = [e for e in failed if e.quantity == "effect"] or failed[:1]
    return [f"  {e.verdict}: {e}" for e in first[:FEW]]


def _size(result: Result) -> str:
    values = ", ".join(map(str, result.widths))
    at = scales_text({name: value for name, value in result.base.items() if name != result.scale})
    where = f"{result.scale} {values} at {at}" if at else f"{result.scale}s {values}"
    return f"{where}, {len(result.seeds)} seeds, {result.steps} steps"


def _listed(failures: Sequence[Entry], most: int) -> list[str]:
    listed = [f"{e.verdict}: {e}" for e in failures[:most]]
    if len(failures) > most:
        listed.append(f"and {len(failures) - most} more (--format json lists all)")
    return listed


def _verdict(result: Result) -> list[str]:
    lines = []
    passed = [e.reason == FADES for e in result.entries if e.verdict == "ok" and e.reason]
    for fades, why in ((False, "but by no more than their noise"), (True, "as predicted before they settle")):
        count = passed.count(fades)
        if count:
            lines += ["", f"{count} of the slopes that pass are off by more than the tolerance, {why}"]
    verdict = "ok"
    if not result.ok:
        errors = sum(finding.severity == ERROR for finding in result.findings)
        said = [f"no training: {result.trouble}"] if result.trouble else []
        said += [f"{errors} {'error' if errors == 1 else 'errors'}"] if errors else []
        verdict = f"FAILED: {', '.join([*said, f'{len(result.failures)} of {result.compared} slopes'])}"
    counts = f"{result.compared} slopes compared, {len(result.skipped)} skipped"
    return [*lines, "", f"{verdict} (tolerance {result.tolerance:g}; {counts})"]


def _rows(entries: Sequence[Entry], quantities: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """One for each module of which a slope counts."""
    for module in dict.fromkeys(e.module for e in entries):
        own = [e for e in entries if e.module == module]
        cells = [_worst([e for e in own if e.quantity == quantity]) for quantity in quantities]
        failed = sum(e.failed for e in own)
        counted = sum(e.verdict != "skipped" for e in own)
        if counted:
            yield module or "(top)", str(counted), *cells, f"{failed} failed" if failed else "ok"


def _worst(entries: Sequence[Entry]) -> str:
    measured = [(e.excess, e) for e in entries if e.excess is not None]
    if not measured:
        return "-"
    _, worst = max(measured, key=lambda pair: abs(pair[0]) if pair[1].quantity == "effect" else pair[0])
    return _cell(worst)


def _cell(entry: Entry) -> str:
    return "-" if entry.slope is None else f"{entry.slope.value:+.2f} ({order_text(entry.wanted)})"
