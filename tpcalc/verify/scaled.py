"""Verify along several scales: one ordinary verification for each way in which they can grow, and one report of all.

A setup is judged along each scale of sizes alone, the others at their base, the first of them beside each depth; and
along all sizes together, the k-th value of each at once.  Along one way orders are forms of at most one size and one
depth, so that no comparison hangs on which of two sizes grows faster.  What is needed may: a formula with a ``Min`` is
one power along each way, and a number that follows it is read as that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Optional

from tpcalc.algebra.form import coordinates
from tpcalc.algebra.order import MINUS_INFINITY, Order
from tpcalc.algebra.scales import Scale
from tpcalc.dynamics.regime import KERNEL, LEARNING, MAXIMAL, TRIVIAL, UNSTABLE
from tpcalc.trace.depth import depths_of
from tpcalc.trace.target import check_takes, name_of, parse_scales, parse_widths
from tpcalc.verify.along import Setup, Values, gather_along, model_of
from tpcalc.verify.case import Case
from tpcalc.verify.findings import EPSILON, ERROR, KINDS, WARNING, Checked, Finding, Powers, Report
from tpcalc.verify.gather import Loss
from tpcalc.verify.report import report_of

#: From the worst to the best.
REGIMES = (UNSTABLE, TRIVIAL, KERNEL, LEARNING, MAXIMAL)
#: What sizes that grow together are called: the first that is no symbol of a scale.
TOGETHER = ("s", "u", "w", "z")


@dataclass(frozen=True)
class Way:
    """What grows, one of ``sizes`` and at most one ``depth``, in ``setup``, which takes no other scale."""

    setup: Setup
    sizes: Values
    depth: Values
    together: bool = False

    @property
    def scales(self) -> tuple[Scale, ...]:
        return (*map(Scale, self.sizes), *(Scale(name, depth=True) for name in self.depth))


def verify_along(setup: Setup, scales: Values, widths: Sequence[int], loss: Loss, alpha: Order) -> Report:
    """The report on ``setup``, which takes ``scales`` by name; beside depths alone also ``width``, of ``widths``.

    Raises what :func:`tpcalc.verify.gather.gather` does.
    """
    parsed: dict[str, tuple[int, ...]] = parse_scales(scales)
    if all(name.endswith("depth") for name in parsed):
        parsed = {"width": parse_widths(widths), **parsed}
    check_takes(setup, tuple(parsed))
    depths = depths_of(model_of(setup), parsed)
    found = list(_reports(setup, {n: v for n, v in parsed.items() if n not in depths}, depths, parsed, loss, alpha))
    return _merged(found, parsed, name_of(setup))


def _reports(
    setup: Setup, sizes: Values, depths: Sequence[str], scales: Values, loss: Loss, alpha: Order
) -> Iterator[tuple[Way, Report]]:
    base = {name: values[0] for name, values in scales.items()}

    def reported(way: Way) -> tuple[Way, Report]:
        gathered = gather_along(way.setup, way.sizes, way.depth, loss)
        traced = gathered.program.widths[0].by_name
        base.update({name: traced[name] for name in way.depth})  # the other ways have the weights of this one
        return way, report_of(Case.of(gathered, alpha), name_of(setup))

    def fixed(*free: str) -> Setup:
        return partial(setup, **{name: value for name, value in base.items() if name not in free})

    first, *others = sizes
    for depth in depths:
        yield reported(Way(fixed(first, depth), {first: sizes[first]}, {depth: scales[depth]}))
    for name in others if depths else sizes:
        yield reported(Way(fixed(name), {name: sizes[name]}, {}))
    if others:
        taken = {Scale(name).symbol for name in scales}
        called = next(name for name in TOGETHER if name not in taken)
        moving = _together(fixed(*sizes), sizes, called)
        yield reported(Way(moving, {called: sizes[first]}, {}, together=True))


def _together(setup: Setup, sizes: Values, called: str) -> Setup:
    """``setup`` with the k-th value of each size at the k-th of the first."""
    at = {row[0]: dict(zip(sizes, row)) for row in zip(*sizes.values())}

    def moving(**scale: int) -> Any:
        return setup(**at[scale[called]])

    moving.__name__ = name_of(setup)
    return moving


# -- one report of all ways ----------------------------------------------------------------------------


def _merged(found: Sequence[tuple[Way, Report]], scales: Values, name: str) -> Report:
    spelled = [(way, _finding(finding, way)) for way, report in found for finding in report.findings]
    lopsided = [finding for way, finding in spelled if _is_lopsided(finding, way, spelled, found, scales)]
    findings: list[Finding] = []
    for way, finding in spelled:
        if not any(_says(other, finding, way) for other in findings):
            findings.append(_beside(finding, way) if finding in lopsided else finding)
    findings.sort(key=lambda finding: (finding.severity != ERROR, KINDS.index(finding.kind)))
    reports = [report for _, report in found]
    of_error = {id(way) for way, finding in spelled if finding.severity == ERROR and finding not in lopsided}
    bent = {id(way) for way, finding in spelled if finding in lopsided} - of_error
    way, worst = min(
        (each for each in found if id(each[0]) not in bent), key=lambda each: REGIMES.index(each[1].regime)
    )
    return Report(
        findings=tuple(findings),
        weights=_rows(found, findings),
        regime=worst.regime,
        widths=(),
        how=worst.how,
        r=_powers(worst.r, way.scales),
        # of sizes that grow together the parts say the same
        notes=tuple(dict.fromkeys(note for way, report in found if not way.together for note in report.notes)),
        assumptions=tuple(dict.fromkeys(text for report in reports for text in report.assumptions)),
        name=name,
        scales={scale: tuple(values) for scale, values in scales.items()},
    )


def _is_lopsided(
    finding: Finding,
    way: Way,
    spelled: Sequence[tuple[Way, Finding]],
    found: Sequence[tuple[Way, Report]],
    scales: Values,
) -> bool:
    """Whether a number is wrong only where one size outgrows the others, and no one power is right everywhere.

    It is right where all grow together, and along one of them alone; and what it lacks along the others does not add up
    to nothing, as it would if a power of one size stood where one of another belongs: what is needed has a kink.
    """
    if way.together or not any(other.together for other, _ in found) or not finding.weights:
        return False
    if finding.quantity == EPSILON:  # one that is too small is no finding, and may be what is right elsewhere
        return False
    for weight in finding.weights:
        lacking: dict[str, float] = {}
        for other, each in spelled:
            if each.quantity != finding.quantity or weight not in each.weights:
                continue
            if other.together or not isinstance(each.found, Mapping) or not isinstance(each.needed, Mapping):
                return False
            (size,) = other.sizes
            lacks = {symbol: each.needed[symbol] - x for symbol, x in each.found.items()}
            of_size = lacks.pop(Scale(size).symbol)
            if any(lacks.values()):  # of a depth
                return False
            lacking[size] = math.log(scales[size][-1] / scales[size][0]) * float(of_size)
        sizes = {size for other, _ in found if not other.together for size in other.sizes}
        if len(lacking) >= len(sizes) or abs(sum(lacking.values())) < 1e-9:
            return False
    return True


def _beside(finding: Finding, way: Way) -> Finding:
    """A lopsided finding: a warning without a fix, which would be wrong where all sizes grow together."""
    (size,) = way.sizes
    message = (
        f"right where all sizes grow together, but as read at these values not where {size} outgrows the others (no "
        f"one power is right in both; tpcalc table with these scales has the formula): {finding.message}"
    )
    return replace(finding, severity=WARNING, message=message, fixes=())


def _says(known: Finding, other: Finding, way: Way) -> bool:
    """Whether a finding of an earlier way says what one along ``way`` does: its powers there, or, where all sizes grow
    together, what is so along one of them already.
    """
    if known.quantity != other.quantity or not set(other.weights) <= set(known.weights) or not other.weights:
        return (known.kind, known.subject, known.message) == (other.kind, other.subject, other.message)
    if way.together:
        return True
    return all(_along(mine, theirs) for mine, theirs in ((known.found, other.found), (known.needed, other.needed)))


def _along(known: Optional[Powers], other: Optional[Powers]) -> bool:
    if not isinstance(known, Mapping) or not isinstance(other, Mapping):
        return known == other
    return all(known.get(symbol) == power for symbol, power in other.items() if power or symbol in known)


def _finding(finding: Finding, way: Way) -> Finding:
    scales = way.scales
    message = re.sub(r"\bn\^0\b", f"{scales[0].symbol}^0", finding.message)  # the order of 1 is one of no scale
    if way.together:
        message = f"where all sizes grow together, like {scales[0].symbol}: {message}"
    return replace(
        finding,
        found=_powers(finding.found, scales),
        needed=_powers(finding.needed, scales),
        effect=_powers(finding.effect, scales),
        message=message,
        fixes=tuple(
            replace(fix, by=_powers(fix.by, scales), to=_powers(fix.to, scales), values=()) for fix in finding.fixes
        ),
    )


def _powers(order: Any, scales: Sequence[Scale]) -> Any:
    """Symbol of each scale -> exponent; None of none, and the order of zero as it is."""
    if order is None or order is MINUS_INFINITY:
        return order
    return {scale.symbol: x for scale, x in zip(scales, coordinates(order, len(scales)))}


def _rows(found: Sequence[tuple[Way, Report]], findings: Sequence[Finding]) -> dict[str, Checked]:
    """The exponents of every weight, those of all ways side by side; where all sizes move there are no new ones."""
    rows: dict[str, Checked] = {}
    for way, report in found:
        for name, row in report.weights.items() if not way.together else ():
            own = _row(row, way.scales)
            rows[name] = own if name not in rows else _joined(rows[name], own)
    return {
        name: replace(row, kinds=tuple(dict.fromkeys(f.kind for f in findings if {name, *row.aliases} & {*f.weights})))
        for name, row in rows.items()
    }


_FIELDS = ("b", "c", "weight_decay", "eps", "A", "C")


def _row(row: Checked, scales: Sequence[Scale]) -> Checked:
    return replace(
        row,
        **{field: _powers(getattr(row, field), scales) for field in _FIELDS},
        gradient=_powers(row.gradient, scales),
        needed=None if row.needed is None else tuple(_powers(x, scales) for x in row.needed),
        blocks=tuple((name, _powers(b, scales)) for name, b in row.blocks),
    )


def _joined(row: Checked, other: Checked) -> Checked:
    needed = None
    if row.needed is not None and other.needed is not None:
        needed = tuple(_union(*pair) for pair in zip(row.needed, other.needed))
    known = dict(other.blocks)
    return replace(
        row,
        **{field: _union(getattr(row, field), getattr(other, field)) for field in _FIELDS},
        gradient=_union(row.gradient, other.gradient),
        needed=needed,
        blocks=tuple((name, _union(b, known[name]) if name in known else b) for name, b in row.blocks),
    )


def _union(powers: Any, others: Any) -> Any:
    return {**powers, **others} if isinstance(powers, dict) and isinstance(others, dict) else powers


__all__ = ["verify_along"]
