"""Schedules: schedulers that give all groups one rate, and so erase what groups and widths had apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Optional

from tpcalc.algebra.exponents import power
from tpcalc.algebra.order import MINUS_INFINITY, Order
from tpcalc.errors import FitError
from tpcalc.verify import words
from tpcalc.verify.case import Case
from tpcalc.verify.findings import ERROR, RATE, SCHEDULE
from tpcalc.verify.grouping import Item
from tpcalc.verify.schedules import Course, Scheduler
from tpcalc.verify.words import say

#: An exponent that differs by less than this is the same one.
NEAR = 0.1
#: A rate that is this part of its peak still counts, and one below that part is as good as none.
COUNTS, NOTHING = 0.1, 1e-6

#: Width -> the rate of one weight along its schedule there.
Courses = Mapping[int, Course]


def erased(case: Case) -> Iterator[Item]:
    """Weights whose rate, where the schedule starts or at its low, is no longer as their peak in groups and widths."""
    courses = _courses(case)
    seen: set[str] = set()
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


def overridden(case: Case, found: Sequence[Item]) -> list[Item]:
    """What was ``found``, told otherwise where a group has the rate that is needed and a scheduler replaces it."""
    courses = _courses(case)
    items = []
    for item in found:
        if item.quantity == RATE and item.needed is not None and item.weight in courses:
            own = _order({width: course.own for width, course in courses[item.weight].items()})
            if own == item.needed != item.found:
                scheduler = _blamed(case, "peak")
                reason = say(words.OVERRIDDEN, needed=item.needed, scheduler=str(scheduler))
                item = replace(item, text=f"{reason}: {item.text}", fix=_remedy(scheduler), also=(*item.also, reason))
        items.append(item)
    return items


def lengths(case: Case) -> Iterator[str]:
    """A note on warm-ups whose length depends on the width."""
    for along in _courses(case).values():
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
    listed = [name for name in ("base_lr", "max_lr") if name in scheduler.takes]
    return say(words.LIST_RATES, names=" and ".join(listed)) if listed else words.ONE_FACTOR


__all__ = ["erased", "lengths", "overridden"]
