"""Schedules: schedulers that give all groups one rate, and so erase what groups and widths had apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Optional

from tpcalc.algebra.exponents import power
from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order
from tpcalc.errors import FitError
from tpcalc.verify import words
from tpcalc.verify.case import Case
from tpcalc.verify.findings import ERROR, FACTOR, RATE, SCHEDULE
from tpcalc.verify.grouping import Item
from tpcalc.verify.schedules import Course, Scheduler
from tpcalc.verify.words import say

#: An exponent that differs by less than this is the same one.
NEAR = 0.1
#: A rate that is this part of its peak still counts, and one below that part is as good as none.
COUNTS, NOTHING = 0.1, 1e-6

#: Width -> the rate of one weight along its schedule there.
Courses = Mapping[int, Course]


def erased(case: Case, found: Sequence[Item]) -> Iterator[Item]:
    """Weights whose rate, where the schedule starts or at its low, is no longer as their peak in groups and widths.

    Where what was ``found`` says that the peak is no rate of theirs, the peak is no measure.
    """
    courses = _courses(case)
    seen = {item.weight for item in found if _is_overridden(item, courses)}
    for name, along in courses.items():
        if _peak(along) is None:
            seen.add(name)
            yield _off_power(case, name, along)
    for point, moment in (("low", words.AT_ITS_LOW), ("start", words.AT_ITS_START)):
        drifts = {}
        for name, along in courses.items():
            parts = {width: getattr(course, point) / course.peak for width, course in along.items() if course.peak > 0}
            if len(parts) == len(along) and min(parts.values()) > NOTHING:
                drifts[name] = _slope(parts)
        if not drifts:
            continue
        apart = max(drifts.values()) - min(drifts.values()) > NEAR
        rates = [getattr(course, point) for name in drifts for course in courses[name].values()]
        if not apart and max(rates) > 1.001 * min(rates):
            continue  # another length of the schedule, the same for all
        for name in (name for name, drift in drifts.items() if abs(drift) > NEAR and name not in seen):
            seen.add(name)
            yield _erased(case, name, courses[name], point, moment)


def _erased(case: Case, name: str, along: Courses, point: str, moment: str) -> Item:
    rates = {width: getattr(course, point) for width, course in along.items()}
    peak, found = case.given[name].c, _order(rates)
    needed = None if peak is None else -peak
    scheduler = _blamed(case, point)
    largest = max(rates[width] / course.peak for width, course in along.items())
    widest = max(rates)
    text = say(
        words.ERASED,
        scheduler=str(scheduler),
        peak=f"{along[widest].peak:.3g}",
        rate=f"{rates[widest]:.3g}",
        width=widest,
        moment=moment,
    )
    severity = ERROR if point == "low" and largest >= COUNTS else ""
    return Item(SCHEDULE, RATE, found, needed, None, "", text, _remedy(scheduler), (name,), (text,), severity=severity)


def _off_power(case: Case, name: str, along: Courses) -> Item:
    """A weight whose rate is a power of the width in its group, and none at the peak of its schedule."""
    scheduler, needed = _blamed(case, "low"), _own(along)
    listed = ", ".join(f"{course.peak:.3g} at width {width}" for width, course in along.items())
    text = say(words.OFF_POWER, scheduler=str(scheduler), own=needed or ZERO, listed=listed)
    return Item(SCHEDULE, RATE, None, needed, None, "", text, _remedy(scheduler), (name,), (text,), severity=ERROR)


def overridden(case: Case, found: Sequence[Item]) -> list[Item]:
    """What was ``found``, told otherwise where a group has the rate that is needed and a scheduler replaces it; one for
    all where it multiplies every rate by the same power of the width.
    """
    courses = _courses(case)
    factors = {name: _factor(case, name, along) for name, along in courses.items()}
    at_fault = [item for item in found if _is_overridden(item, courses)]
    if len(at_fault) > 1 and len(set(factors.values())) == 1 and None not in factors.values():
        (factor,) = set(factors.values())
        one = _multiplied(case, at_fault, factor)
        return [one if item is at_fault[0] else item for item in found if item is at_fault[0] or item not in at_fault]
    return [_replaced(case, item) if item in at_fault else item for item in found]


def _is_overridden(item: Item, courses: Mapping[str, Courses]) -> bool:
    if item.quantity != RATE or item.needed is None or item.weight not in courses:
        return False
    return _own(courses[item.weight]) == item.needed != item.found


def _multiplied(case: Case, items: Sequence[Item], factor: Optional[Order]) -> Item:
    scheduler, names = _blamed(case, "peak"), dict.fromkeys(name for item in items for name in item.weights)
    fixes = tuple(fix for item in items for fix in item.fixes)
    text = say(words.ONE_FOR_ALL, scheduler=str(scheduler), text=items[0].text)
    remedy, site = words.FREE_OF_WIDTH, scheduler.name
    first = replace(items[0], quantity=FACTOR, found=factor, needed=ZERO, text=text, fix=remedy, site=site)
    return replace(first, weights=tuple(names), also=(), block="", fixes=fixes)


def _replaced(case: Case, item: Item) -> Item:
    scheduler = _blamed(case, "peak")
    reason = say(words.OVERRIDDEN, needed=item.needed or ZERO, scheduler=str(scheduler))
    return replace(item, text=f"{reason}: {item.text}", fix=_remedy(scheduler), also=(*item.also, reason))


def _own(along: Courses) -> Optional[Order]:
    """The exponent of the rate that the group itself has."""
    return _order({width: course.own for width, course in along.items()})


def _peak(along: Courses) -> Optional[Order]:
    """That of the rate at its peak."""
    return _order({width: course.peak for width, course in along.items()})


def _factor(case: Case, name: str, along: Courses) -> Optional[Order]:
    """What the schedule multiplies that by at its peak."""
    own, c = _own(along), case.given[name].c
    return None if own is None or c is None else -c - own


def lengths(case: Case) -> Iterator[str]:
    """A note on warm-ups whose length depends on the width (not where a schedule leads from one power to another)."""
    for name, along in _courses(case).items():
        if _factor(case, name, along) not in (None, ZERO) or _peak(along) is None:
            continue
        steps = {width: course.step for width, course in along.items()}
        if max(steps.values()) > 1.05 * min(steps.values()) + 1:
            listed = ", ".join(f"{step} at width {width}" for width, step in steps.items())
            yield say(words.WARM_UP, listed=listed)


def _courses(case: Case) -> dict[str, Courses]:
    """Weights with a schedule at every width and a rate above 0."""
    lives = case.gathered.live
    found: dict[str, Courses] = {}
    for weight in case.program.weights:
        name = next((name for name in weight.names if all(name in live.courses for live in lives.values())), None)
        if lives and name is not None and case.given[weight.name].c is not None:
            found[weight.name] = {width: live.courses[name] for width, live in lives.items()}
    return found


def _slope(samples: Mapping[int, float]) -> float:
    (n0, v0), *_, (n1, v1) = sorted(samples.items())
    return math.log(v1 / v0) / math.log(n1 / n0)


def _order(rates: Mapping[int, float]) -> Optional[Order]:
    """The exact exponent of rates that follow one."""
    try:
        order = power(rates, "")
    except FitError:
        return None
    return None if order is MINUS_INFINITY else order


def _blamed(case: Case, point: str) -> Scheduler:
    """The scheduler that gives one rate to all: one with a floor, where it is about lows, else the outermost."""
    schedulers = next(iter(case.gathered.live.values())).schedulers
    floors = [scheduler for scheduler in schedulers if scheduler.floor]
    return floors[0] if floors and point == "low" else schedulers[-1]


def _remedy(scheduler: Scheduler) -> str:
    if scheduler.floor:
        return say(words.NO_FLOOR, floor=scheduler.floor)
    listed = [name for name in ("base_lr", "max_lr", "swa_lr") if name in scheduler.takes]
    return say(words.LIST_RATES, names=" and ".join(listed)) if listed else words.ONE_FACTOR


__all__ = ["erased", "lengths", "overridden"]
