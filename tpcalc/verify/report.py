"""The report on a case: all checks in order, findings put together, notes and the table of exponents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Optional

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order, fraction
from tpcalc.dynamics.regime import KERNEL, LEARNING, MAXIMAL, UNSTABLE
from tpcalc.program.ir import Weight
from tpcalc.program.names import fold_names
from tpcalc.verify import words
from tpcalc.verify.absorbed import multipliers, without_effect
from tpcalc.verify.case import Case
from tpcalc.verify.drift import decay_drifts, eps_drifts, hidden_epsilons
from tpcalc.verify.effective import exact
from tpcalc.verify.findings import (
    EPSILON,
    ERROR,
    EXPLODES,
    FROZEN,
    KINDS,
    NOT_MAXIMAL,
    RATE,
    SEVERITY,
    UNMATCHED,
    VANISHES,
    WEIGHT_DECAY,
    Checked,
    Finding,
    Report,
    plain,
)
from tpcalc.verify.grouping import Item, grouped
from tpcalc.verify.large import explosions
from tpcalc.verify.scheduled import erased, lengths, overridden
from tpcalc.verify.small import outsized, shared_rates, small_inits, small_updates
from tpcalc.verify.tried import tried
from tpcalc.verify.unmatched import missed, untrained
from tpcalc.verify.words import say


def report_of(case: Case, name: str) -> Report:
    """All that can be said about a setup called ``name``."""
    findings, works = _findings(case)
    regime, r = (_headline(case, findings), case.regime.r) if _stable(case) else (UNSTABLE, None)
    table = {name: replace(row, name=name) for row in _rows(case, findings) for name in (row.name, *row.aliases)}
    assumed = (*case.program.assumptions, *(case.given[weight.name].assumption for weight in case.program.weights))
    notes = (*_notes(case), *_one_rate(case, findings), *(() if works else (words.UNTRIED,)))
    assumptions = tuple(filter(None, dict.fromkeys(assumed)))
    how, why = case.gathered.how, case.gathered.why
    return Report(findings, table, regime, case.program.widths, how, why, plain(r), notes, assumptions, name)


def findings_of(case: Case) -> tuple[Finding, ...]:
    """One a cause; errors first."""
    return _findings(case)[0]


def _findings(case: Case) -> tuple[tuple[Finding, ...], bool]:
    """And whether their fixes work."""
    items, works = tried(case, _items)
    items = missed(case, items)
    items = [*overridden(case, items), *erased(case, items)]
    findings = grouped(items, len(case.program.weights))
    findings.sort(key=lambda finding: (finding.severity != ERROR, KINDS.index(finding.kind)))
    if not _stable(case) and (not case.causes or all(finding.severity != ERROR for finding in findings)):
        findings.insert(0, _unexplained(case))
    return tuple(replace(finding, trained_by=_trained_by(case, finding)) for finding in findings), works


def _trained_by(case: Case, finding: Finding) -> str:
    """``group 1 of AdamW, train.py:41``, of a finding about a number of one group."""
    live = next(iter(case.gathered.live.values()), None)
    if live is None or finding.quantity not in (RATE, WEIGHT_DECAY, EPSILON):  # none: rules, and no set-up that runs
        return ""
    groups = {(own.place, own.line) for name in finding.weights if (own := live.settings.get(name)) is not None}
    return ", ".join(groups.pop()) if len(groups) == 1 and all(line for _, line in groups) else ""


def _stable(case: Case) -> bool:
    return not case.causes and case.regime.stable


def _items(case: Case) -> list[Item]:
    """The checks in their order: one that takes ``items`` leaves alone what is explained by those before it."""
    absorbed = multipliers(case)
    explained = [cause for site in absorbed for cause in site.causes]
    items = explosions(case, [cause for cause in case.causes if cause not in explained])
    items += without_effect(case, absorbed)
    items += small_updates(case)
    items += outsized(case)
    items += small_inits(case, items)
    items += untrained(case)
    items += decay_drifts(case)
    items += eps_drifts(case, items)
    return items


def _headline(case: Case, findings: Sequence[Finding]) -> str:
    """The regime, no better and no worse than the findings: what can't move more moves as much as it can."""
    name, slow = case.regime.name, any(finding.kind in (NOT_MAXIMAL, FROZEN, VANISHES) for finding in findings)
    if name == MAXIMAL and slow:
        return LEARNING
    return MAXIMAL if name == LEARNING and not slow and not any(f.kind == UNMATCHED for f in findings) else name


def _unexplained(case: Case) -> Finding:
    """A value that is too large though no error says so: no cause was found for it, or none by itself."""
    if case.regime.excesses:
        excess = case.regime.excesses[0]
        value, atom, why, order = excess.value, excess.atom, excess.why, excess.order
    else:
        cause = case.causes[0]
        value, atom, why, order = cause.value, cause.atom, cause.limit.why, cause.order
    where = "" if atom is None else case.lowered.where(atom)
    text, found = say(words.UNEXPLAINED, why=why, order=order), plain(exact(order))
    name = case.lowered.name(value)
    return Finding(EXPLODES, SEVERITY[EXPLODES], name, "value", found, fraction(ZERO), where, text, (), order)


def _notes(case: Case) -> Iterator[str]:
    yield from dict.fromkeys(shared_rates(case))
    if case.regime.name == KERNEL and not case.causes:
        for weight in case.program.weights:
            b, found = case.given[weight.name].b, case.solution.needs_of(weight)
            if found and b is not None and b < found[0][1].A and not case.block(found[0][0]):
                yield say(words.KERNEL, weight=weight.name, found=-b, needed=-found[0][1].A)
    yield from dict.fromkeys(lengths(case))
    live = list(case.gathered.live.values())
    strangers = max(own.strangers for own in live)
    if strangers:
        yield say(words.STRANGERS, number=strangers)
    if live[0].twice:
        yield say(words.TWICE, names=", ".join(fold_names(live[0].twice)))
    yield from dict.fromkeys(own.law.note for own in case.given.values() if own.law is not None and own.law.note)
    yield from _law_notes(case)
    yield from hidden_epsilons(case)
    if case.gathered.measured:
        yield say(words.MEASURED, names=", ".join(fold_names(sorted(case.gathered.measured))))


def _one_rate(case: Case, findings: Sequence[Finding]) -> Iterator[str]:
    """Fixes of a rate where an optimizer takes one for all its groups."""
    told: dict[tuple[str, bool], list[str]] = {}
    for fix in (fix for finding in findings for fix in finding.fixes if fix.quantity == RATE):
        own = case.given.get(fix.target)
        if own is not None and own.trained is not None and own.trained.one_rate and own.trained.seen is not None:
            u = own.trained.seen.update
            told.setdefault((own.optimizer, u.gradient == u.size), []).append(fix.target)
    for (optimizer, entrywise), names in told.items():
        instead = words.MULTIPLIED if entrywise else words.SCALED_FORWARD
        yield say(words.ONE_RATE, optimizer=optimizer, instead=instead, names=", ".join(fold_names(names)))


def _law_notes(case: Case) -> Iterator[str]:
    """Where an optimizer's law is not the one that its name says, or could not be read."""
    shapes: dict[str, dict[str, None]] = {}
    for own in case.given.values():
        if own.trained is not None:
            for note in own.trained.notes:
                shapes.setdefault(note, {})[own.trained.shape] = None
    for note, found in shapes.items():
        yield note.format(shapes=" and ".join(found))


def _rows(case: Case, findings: Sequence[Finding]) -> Iterator[Checked]:
    """The exponents of every weight."""
    for weight in case.program.weights:
        own, needs = case.given[weight.name], [need for _, need in case.solution.needs_of(weight)]
        yield Checked(
            weight.name,
            "[" + ", ".join(map(str, weight.shape)) + "]",
            case.role(weight),
            own.optimizer,
            plain(own.b),
            plain(own.c),
            plain(own.weight_decay),
            plain(own.eps),
            plain(own.b),
            plain(_update_order(case, weight)),
            case.gradient(weight),
            (plain(max(need.A for need in needs)), plain(max(need.C for need in needs))) if needs else None,
            tuple(dict.fromkeys(finding.kind for finding in findings if weight.name in finding.weights)),
            weight.aliases,
            tuple(
                (leaf.name, plain(case.given[leaf.name].b))
                for leaf in case.lowered.leaves_of[weight.name]
                if case.block(leaf)
            ),
        )


def _update_order(case: Case, weight: Weight) -> Optional[Order]:
    """As given, with sound gradients."""
    own, gradient = case.given[weight.name], case.gradient(weight)
    if own.law is None or own.c is None or gradient is MINUS_INFINITY:
        return None
    return own.law.C(own.c, case.view(weight, gradient))


__all__ = ["findings_of", "report_of"]
