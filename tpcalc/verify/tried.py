"""Fixes are tried before they are given: with all of them applied, the same checks find nothing more.

Where they do, some of them may be enough.  Else what is found then is mended in turn, until nothing is left; and where
that does not end, each weight is brought to what the maximal parametrization gives it.  Of all changes those stay that
are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Optional

from tpcalc.algebra.order import ZERO, Order, order
from tpcalc.errors import DeriveError
from tpcalc.program.names import starred
from tpcalc.verify import words
from tpcalc.verify.case import Case
from tpcalc.verify.effective import FIELDS
from tpcalc.verify.findings import (
    DECAY,
    EPS,
    ERROR,
    EXPLODES,
    INIT_STD,
    MULTIPLIER,
    NOT_MAXIMAL,
    RATE,
    SEVERITY,
    WARNING,
    WEIGHT_DECAY,
    Fix,
)
from tpcalc.verify.grouping import Item
from tpcalc.verify.words import say

#: Times that what the last fixes leave is mended in turn.
ROUNDS = 5
#: Kinds of changes of which each is left out for a try; more are given as they are.
KINDS = 16

Checks = Callable[[Case], list[Item]]
#: What is changed -> by which fix.
Changes = dict[tuple[str, str, tuple[int, ...]], Fix]


def tried(case: Case, checks: Checks) -> tuple[list[Item], bool]:
    """What ``checks`` find, with fixes that work, and whether they do."""
    items = checks(case)
    if not any(map(_matters, items)):
        return items, True
    met, changes = list(items), _added({}, items)
    left = _left(case, checks, changes)
    if left == []:
        return _drifting(case, checks, items, changes), True
    for found in (_fewer, _more, _all):
        changes = found(case, checks, met, left)
        if changes and _left(case, checks, changes) == []:
            changes = _needed(case, checks, changes)
            return _drifting(case, checks, _told(case, items, met, changes), changes), True
    return items, False


def _fewer(case: Case, checks: Checks, met: list[Item], left: Optional[list[Item]]) -> Changes:
    """Some of the fixes: what is too small may be so through something else.  Or one init alone."""
    drifts, kinds = _drifts(met), _kinds(case, _added({}, filter(_matters, met)))
    several = 1 < len(kinds) <= KINDS // 2
    singles = [[kind] for kind in kinds if several]
    most = [list(some) for some in combinations(kinds, len(kinds) - 1) if several]
    for some in (*singles, *([kind] for kind in _inits(case, met)), *most):
        changes = {fix.key: fix for kind in some for fix in kind} | drifts
        if _left(case, checks, changes) == []:
            return changes
    return {}


def _inits(case: Case, met: Sequence[Item]) -> list[list[Fix]]:
    """Kinds of inits that are larger than in the maximal parametrization, what they make may have met another value; or
    by as much as an update is too large of what they meet (LoRA: ``B A`` moves by an update of ``B`` times ``A``).
    """
    fixes = [fix for fix in _maximal(case, met).values() if fix.quantity == INIT_STD and _shrinks(fix)]
    kinds = _kinds(case, {fix.key: fix for fix in fixes})
    for excess in dict.fromkeys(cause.excess for cause in case.causes if cause.leaf is not None):
        names = dict.fromkeys(item.weight for item in met if item.weight and case.given[item.weight].b is not None)
        changes = {fix.key: fix for fix in (Fix(name, INIT_STD, -excess) for name in names)}
        kinds += [kind for kind in _kinds(case, changes) if kind not in kinds]
    return kinds[:KINDS]


def _shrinks(fix: Fix) -> bool:
    return fix.by is not None and order(fix.by) < ZERO


def _more(case: Case, checks: Checks, met: list[Item], left: Optional[list[Item]]) -> Changes:
    """What is left is mended in turn; it is added to ``met``."""
    changes = _added({}, met)
    for _ in range(ROUNDS):
        if not left:
            break
        met += left
        changes = _added(changes, left)
        left = _left(case, checks, changes)
    return changes


def _matters(item: Item) -> bool:
    """Drifts of decay and epsilon change nothing that other checks see."""
    return _is_error(item) or item.kind == NOT_MAXIMAL


def _is_error(item: Item) -> bool:
    return (item.severity or SEVERITY[item.kind]) == ERROR


def _left(case: Case, checks: Checks, changes: Changes) -> Optional[list[Item]]:
    """What is found under ``changes``; None where that can't be mended."""
    try:
        after = case.with_(changes.values())
    except DeriveError:
        return None
    left = [item for item in checks(after) if _matters(item)]
    unexplained = not after.causes and not after.regime.stable
    return None if unexplained or any(not item.fixes for item in left) else left


def _added(changes: Changes, items: Iterable[Item]) -> Changes:
    """``changes``, and on top of them the fixes of ``items``."""
    result = dict(changes)
    for fix in dict.fromkeys(fix for item in items for fix in item.fixes):
        known = result.get(fix.key)
        if known is not None and fix.by is not None:
            by, to = (None if at is None else order(at) + order(fix.by) for at in (known.by, known.to))
            fix = replace(known, by=by, to=to)
        result[fix.key] = fix
    return {key: fix for key, fix in result.items() if fix.by is None or order(fix.by) != ZERO}


def _all(case: Case, checks: Checks, met: list[Item], left: Optional[list[Item]]) -> Changes:
    return _maximal(case, met)


def _maximal(case: Case, met: Iterable[Item]) -> Changes:
    """All weights as in the maximal parametrization."""
    fixes = []
    for leaf in case.lowered.leaves:
        own, need, block = case.given[leaf.name], case.need(leaf), case.part(leaf)
        if need is not None and own.b is not None:
            fixes.append(Fix(block or leaf.weight.name, INIT_STD, own.b - need.A))
    for weight in case.program.weights:
        c, leaves = case.given[weight.name].c, case.lowered.leaves_of[weight.name]
        rates = [rate for leaf in leaves if (rate := case.maximal_c(leaf)) is not None]
        if c is not None and rates:
            fixes.append(Fix(weight.name, RATE, c - max(rates)))
    return {fix.key: fix for fix in fixes if fix.by != ZERO} | _drifts(met)


def _drifts(items: Iterable[Item]) -> Changes:
    return _added({}, (item for item in items if not _matters(item)))


def _kinds(case: Case, changes: Changes) -> list[list[Fix]]:
    """Those of weights of one role, or of repeated blocks, stand and fall together."""
    roles = {leaf.name: case.group(leaf.weight) for leaf in case.lowered.leaves}
    roles |= {weight.name: case.group(weight) for weight in case.program.weights}
    kinds: dict[tuple[object, ...], list[Fix]] = {}
    for fix in changes.values():
        what = roles.get(fix.target, starred(fix.target))
        kinds.setdefault((what, fix.quantity, fix.by, fix.to), []).append(fix)
    return list(kinds.values())


def _needed(case: Case, checks: Checks, changes: Changes) -> Changes:
    """Those of ``changes`` without which something is found."""
    kinds = _kinds(case, changes)
    if len(kinds) <= KINDS:
        for kind in reversed(kinds):
            fewer = {key: fix for key, fix in changes.items() if fix not in kind}
            if _left(case, checks, fewer) == []:
                changes = fewer
    return changes


def _drifting(case: Case, checks: Checks, items: Sequence[Item], changes: Changes) -> list[Item]:
    """``items``, whose fixes take along the decay and the epsilon that do not fit what comes of them.

    Decay of a weight whose rate changes is no finding of its own.
    """
    rated = {fix.target for fix in changes.values() if fix.quantity == RATE}
    items = [item for item in items if item.kind != DECAY or item.weight not in rated]
    changes = {key: fix for key, fix in changes.items() if fix.quantity != WEIGHT_DECAY or fix.target not in rated}
    drifts = [item for item in checks(case.with_(changes.values())) if item.kind in (DECAY, EPS)]
    along: dict[str, list[Fix]] = {}
    for fix in (fix for item in drifts for fix in item.fixes):
        along.setdefault(fix.target, []).append(fix)
    result = list(items)
    # with the rate of a weight, where that changes: in each finding that changes it, so that they are one
    for place, item in sorted(enumerate(items), key=lambda each: all(fix.quantity != RATE for fix in each[1].fixes)):
        own = {fix.target for fix in item.fixes if fix.quantity == RATE}
        names = [name for name in item.weights if name in own or name not in rated] if _matters(item) else []
        more = [fix for name in names for fix in (along.get(name, ()) if name in own else along.pop(name, ()))]
        text = "".join(say(words.ALONG, quantity=fix.quantity, by=order(fix.by)) for fix in more if fix.by is not None)
        result[place] = replace(item, fix=item.fix + text, fixes=(*item.fixes, *more))
    return result


# -- in words ----------------------------------------------------------------------------------------


def _told(case: Case, items: Sequence[Item], met: Sequence[Item], changes: Changes) -> list[Item]:
    """The items that ``changes`` are the fixes of: those first found, those ``met`` on the way, and new ones."""
    told: list[Item] = []
    open_ = dict(changes)
    for item in dict.fromkeys(met):
        fixes = tuple(open_.pop(fix.key) for fix in dict.fromkeys(item.fixes) if _same(fix, open_.get(fix.key)))
        first = item in items
        if fixes and not (first and fixes == item.fixes):
            told.append(_rewritten(case, item if first else _then(item, any(map(_is_error, items))), fixes))
        elif fixes or (first and not _matters(item)):
            told.append(item)
    told.sort(key=lambda item: not _matters(item))
    # an error of which no change is the fix is mended by the others: it is told of the first that makes smaller
    lost = [item for item in items if _is_error(item)] if not any(map(_is_error, told)) else []
    for fix in sorted((f for f in open_.values() if f.quantity in (INIT_STD, RATE)), key=lambda f: not _shrinks(f)):
        kind = EXPLODES if _shrinks(fix) else NOT_MAXIMAL
        leaf = next(leaf for leaf in case.lowered.leaves if fix.target in (leaf.name, leaf.weight.name))
        block = "" if fix.target == leaf.weight.name else fix.target
        where, also = case.where(leaf), (case.group(leaf.weight),)
        text, effect = (_of_another(lost[0]), lost[0].effect) if lost and _shrinks(fix) else (words.BESIDE, None)
        item = Item(kind, fix.quantity, None, None, effect, where, text, "", (leaf.weight.name,), also, block)
        told.append(_rewritten(case, item, (fix,)))
        lost = [] if _is_error(item) else lost
    if lost and told:
        error = lost[0]
        text = _of_another(error)
        told[0] = replace(told[0], kind=error.kind, severity=error.severity, text=text, effect=error.effect)
    return told


def _then(item: Item, failing: bool) -> Item:
    """An item that is only found once others are mended: where nothing fails before, that is no error either."""
    return replace(item, text=say(words.THEN, text=item.text), severity=item.severity if failing else WARNING)


def _of_another(item: Item) -> str:
    """What an item says, where it is another weight that is told of it."""
    return say(words.OF_ANOTHER, weight=item.weight, text=item.text) if item.weight else item.text


def _same(fix: Fix, change: Optional[Fix]) -> bool:
    """Whether a change goes the way of a fix."""
    if change is None or fix.by is None or change.by is None:
        return change is not None
    return (order(fix.by) < ZERO) == (order(change.by) < ZERO)


def _rewritten(case: Case, item: Item, fixes: tuple[Fix, ...]) -> Item:
    """An item whose fixes are others than it came with."""
    first = fixes[0]
    found, needed = _exponents(case, item, first)
    texts = []
    for fix in fixes:
        if fix.by is None:
            texts.append(item.fix)
        elif fix.quantity != MULTIPLIER:
            texts.append(say(words.MULTIPLY, quantity=fix.quantity, by=order(fix.by)))
        else:
            texts.append(say(words.TIED if item.weights else words.IN_FORWARD, by=order(fix.by)))
    quantity, text = first.quantity, " and ".join(dict.fromkeys(texts))
    return replace(item, quantity=quantity, found=found, needed=needed, fix=text, fixes=fixes)


def _exponents(case: Case, item: Item, fix: Fix) -> tuple[Optional[Order], Optional[Order]]:
    """What ``fix`` changes as the setup has it, and as it needs it."""
    if fix.by is None:
        return item.found, item.needed
    found = item.found if fix.quantity == item.quantity else ZERO
    if fix.quantity in FIELDS and fix.target in case.given:
        name, sign = FIELDS[fix.quantity]
        exponent = getattr(case.given[fix.target], name)
        found = None if exponent is None else sign * exponent
    return found, None if found is None else found + order(fix.by)


__all__ = ["tried"]
