"""What schedulers make of learning rates: each is followed from its first step to its last.

Schedulers are cheap, so they are simply stepped, as training would; where one is a function of the step alone (most of
torch's), it is asked at few steps far beyond, up to its end.
"""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Optional

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tpcalc.trace.quoted import users_line
from tpcalc.verify.built import Built, number

#: Steps taken one by one: of schedules that can be asked at any step, and of others.
NEAR, FAR = 1024, 2**13
#: The most steps taken one by one, times the groups.
WORK = 2**18
#: The last step asked for, and how far apart steps are asked for.
END, STRIDE = 2**22, 1.1
#: Steps at which a schedule must agree with itself when asked for out of order.
PROBES = (1, 3, 17, 100, 101, 640, NEAR - 1)

#: What schedulers call the least rate that they give.
FLOORS = ("eta_min", "min_lr", "lr_min", "lr_end", "floor")

Rates = tuple[tuple[Optional[float], Any], ...]


@dataclass(frozen=True)
class Course:
    """The learning rate of one parameter along its schedule.

    ``own``: what its group said before any scheduler was made.  ``start``: at the first step.  ``peak``: the largest,
    first at ``step``.  ``low``: the smallest after the peak.
    """

    own: float
    start: float
    peak: float
    low: float
    step: int


@dataclass(frozen=True)
class Scheduler:
    """A scheduler as it is named: its class, and the line that made it.

    ``takes``: arguments of its constructor.  ``floor``: the one by which it was given a least rate for all groups.
    """

    name: str
    where: str
    takes: frozenset[str]
    floor: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.where})" if self.where else self.name


class Watch:
    """Notes where schedulers and optimizers are made, and the rates of the groups before the first scheduler was."""

    def __init__(self) -> None:
        self._lines: dict[int, str] = {}
        self._rates: dict[int, Any] = {}
        self._kept: list[Any] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While the setup runs."""
        classes: list[Any] = [LRScheduler, *_below(LRScheduler)]
        own = {cls: vars(cls)["__init__"] for cls in classes if "__init__" in vars(cls)}
        for cls, init in own.items():
            cls.__init__ = self._noting(init)
        optimizer: Any = Optimizer
        own[optimizer] = optimizer.__init__
        optimizer.__init__ = self._placing(own[optimizer])
        try:
            yield
        finally:
            for cls, init in own.items():
                cls.__init__ = init

    def _noting(self, init: Callable[..., None]) -> Callable[..., None]:
        def noting(scheduler: Any, *args: Any, **kwargs: Any) -> None:
            if id(scheduler) not in self._lines:
                self._kept.append(scheduler)  # so that no other takes its id
                self._lines[id(scheduler)] = users_line(sys._getframe(1))
                optimizer = args[0] if args else kwargs.get("optimizer")
                for group in getattr(optimizer, "param_groups", ()):
                    self._kept.append(group)
                    self._rates.setdefault(id(group), group.get("lr"))
            init(scheduler, *args, **kwargs)

        return noting

    def _placing(self, init: Callable[..., None]) -> Callable[..., None]:
        def placing(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            frame: Any = sys._getframe(1)
            while frame is not None and frame.f_locals.get("self") is optimizer:  # its own class, which may be theirs
                frame = frame.f_back
            self._kept.append(optimizer)
            self._lines[id(optimizer)] = users_line(frame)
            init(optimizer, *args, **kwargs)

        return placing

    def line(self, optimizer: Any) -> str:
        """Where it was made, ``train.py:41``; empty where that is not known."""
        return self._lines.get(id(optimizer), "")

    def own(self, group: dict[str, Any]) -> Any:
        return self._rates.get(id(group), group["lr"])

    def described(self, scheduler: Any) -> Scheduler:
        cls = type(scheduler)
        where = self._lines.get(id(scheduler)) or _line_of(cls)
        least = {name: getattr(scheduler, name, None) for name in FLOORS}
        floor = next((name for name, x in least.items() if isinstance(x, (int, float)) and x > 0), "")
        return Scheduler(cls.__name__, where, frozenset(inspect.signature(cls).parameters), floor)


def _below(cls: type) -> Iterator[type]:
    below: list[type] = cls.__subclasses__()
    for kind in below:
        yield kind
        yield from _below(kind)


def _line_of(cls: type) -> str:
    try:
        return f"{os.path.basename(inspect.getsourcefile(cls) or '')}:{inspect.getsourcelines(cls)[1]}"
    except (OSError, TypeError):
        return ""


def follow(built: Built, watch: Watch) -> dict[int, Course]:
    """Parameter id -> its course; the groups are left with their peak rates, and what they say beside these.

    Empty without a scheduler that steps by itself (ReduceLROnPlateau waits for a loss, and changes nothing at first).
    """
    schedulers = [(s, step) for s in built.schedulers if (step := _stepping(s)) is not None]
    if not schedulers:
        return {}
    groups = built.groups
    own = [watch.own(group) for group in groups]
    said = [{key: value for key, value in group.items() if key != "params"} for group in groups]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples = _samples(schedulers, groups)
    found = {}
    for index, group in enumerate(groups):
        lrs = [(step, rates[index][0]) for step, rates in samples]
        group.update(said[index])
        if any(lr is None for _, lr in lrs):
            continue
        rates = [(step, lr) for step, lr in lrs if lr is not None]
        peak = max(lr for _, lr in rates)
        first, at = next((i, step) for i, (step, lr) in enumerate(rates) if lr >= peak * (1 - 1e-9))
        low = min(lr for _, lr in rates[first:])
        group["lr"] = peak
        if samples[first][1][index][1] is not None:
            group["weight_decay"] = samples[first][1][index][1]
        course = Course(number(own[index], "the learning rate"), rates[0][1], peak, low, at)
        found.update({id(parameter): course for parameter in group["params"]})
    return found


def named(built: Built, watch: Watch) -> tuple[Scheduler, ...]:
    """The schedulers and those inside them, the innermost first."""

    def within(scheduler: Any) -> Iterator[Any]:
        for inner in getattr(scheduler, "_schedulers", ()):
            yield from within(inner)
        yield scheduler

    return tuple(watch.described(s) for outer in built.schedulers if _stepping(outer) for s in within(outer))


# -- along the schedule ------------------------------------------------------------------------------

Step = Callable[[int], Any]


def _stepping(scheduler: Any) -> Optional[Step]:
    """How a scheduler takes its next step; None where that needs what only training knows, a loss."""
    try:
        parameters = inspect.signature(scheduler.step).parameters.values()
    except (TypeError, ValueError):
        return lambda step: scheduler.step()
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    asked = [p.name for p in parameters if p.default is p.empty and p.kind not in variable]
    if not asked:
        return lambda step: scheduler.step()
    if len(asked) == 1 and (
        asked[0] in ("t", "it") or any(word in asked[0] for word in ("epoch", "step", "iter", "update"))
    ):
        return scheduler.step
    return None


def _samples(schedulers: Sequence[tuple[Any, Step]], groups: Sequence[dict[str, Any]]) -> list[tuple[int, Rates]]:
    """(step, rates) in order."""
    by_itself = all(isinstance(s, LRScheduler) for s, _ in schedulers)  # others set no rate before their first step
    samples: list[tuple[int, Rates]] = [(0, _rates(groups))] if by_itself else []
    lengths = sorted({length for s, _ in schedulers for length in _lengths(s)})
    most = max(2, min(FAR, WORK // max(1, len(groups))))
    step = 0
    while step < most:
        step += 1
        try:
            for _, advance in schedulers:
                advance(step)
        except Exception:
            if step == 1:
                raise
            return samples  # past its end
        samples.append((step, _rates(groups)))
        if step == NEAR and by_itself:
            leap = _leaping([s for s, _ in schedulers], samples, groups)
            if leap is not None:
                return samples + _beyond(leap, step, lengths)
    return samples


def _rates(groups: Sequence[dict[str, Any]]) -> Rates:
    return tuple(
        (None if g["lr"] is None else number(g["lr"], "the learning rate"), g.get("weight_decay")) for g in groups
    )


def _leaping(
    schedulers: Sequence[Any], samples: Sequence[tuple[int, Rates]], groups: Sequence[dict[str, Any]]
) -> Optional[Callable[[int], Optional[Rates]]]:
    """How to ask for the rates at any step; None where a schedule is no function of the step alone."""

    def leap(step: int) -> Optional[Rates]:
        try:
            for scheduler in schedulers:
                _put(scheduler, step)
        except Exception:
            return None
        return _rates(groups)

    seen = dict(samples)
    kept = [state for scheduler in schedulers for state in _states(scheduler)]
    before = [dict(group) for group in groups]
    if all(_alike(leap(step), seen[step]) for step in PROBES):
        return leap
    for held, state in kept:
        vars(held).clear()
        vars(held).update(state)
    for group, old in zip(groups, before, strict=True):
        group.update(old)
    return None


def _states(scheduler: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    yield scheduler, dict(vars(scheduler))
    for inner in getattr(scheduler, "_schedulers", ()):
        yield from _states(inner)


def _put(scheduler: Any, step: int) -> None:
    """Have a scheduler set the rates of a step."""
    inner, starts = getattr(scheduler, "_schedulers", None), getattr(scheduler, "_milestones", None)
    if inner and starts:
        index = bisect_right(starts, step)
        _put(inner[index], step - (starts[index - 1] if index else 0))
        return
    scheduler.step(step)


def _alike(found: Optional[Rates], seen: Rates) -> bool:
    return found is not None and all(
        a is not None and b is not None and abs(a - b) <= 1e-6 * max(abs(a), abs(b))
        for (a, _), (b, _) in zip(found, seen, strict=True)
    )


def _beyond(leap: Callable[[int], Optional[Rates]], near: int, lengths: Sequence[int]) -> list[tuple[int, Rates]]:
    """Samples after the step ``near``: ever further apart, denser around the peaks and lows of each group."""
    asked = {near + 1, *(x for length in lengths for x in (length - 1, length) if near < x <= END)}
    step = float(near)
    while step < END:
        step *= STRIDE
        asked.add(int(step))
    found: dict[int, Rates] = {}

    def at(step: int) -> Optional[Rates]:
        if step not in found and (rates := leap(step)) is not None:
            found[step] = rates
        return found.get(step)

    steps = [step for step in sorted(asked) if at(step) is not None]
    for index in range(len(found[steps[0]]) if steps else 0):
        for sign in (1, -1):
            values = [sign * (found[step][index][0] or 0.0) for step in steps]
            best = values.index(max(values))
            low, high = steps[max(best - 1, 0)], steps[min(best + 1, len(steps) - 1)]
            while high - low > 2:  # a single peak between them
                third = (high - low) // 3
                a, b = at(low + third), at(high - third)
                rising = a is not None and b is not None and sign * (a[index][0] or 0.0) < sign * (b[index][0] or 0.0)
                low, high = (low + third, high) if rising else (low, high - third)
    return sorted(found.items())


def _lengths(scheduler: Any) -> Iterator[int]:
    """Whole numbers that a scheduler or its functions hold: lengths of warm-ups and of the whole."""
    for inner in getattr(scheduler, "_schedulers", ()):
        yield from _lengths(inner)
    for value in vars(scheduler).values():
        for item in value if isinstance(value, (list, tuple, dict)) else (value,):
            if callable(item):
                yield from (x for x in _bound(item) if isinstance(x, int))
            elif isinstance(item, int):
                yield item


def _bound(function: Any) -> Iterator[Any]:
    """What a partial or a closure is bound to."""
    if isinstance(function, partial):
        yield from function.args
        yield from function.keywords.values()
        function = function.func
    yield from getattr(function, "__defaults__", None) or ()
    for cell in getattr(function, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:
            continue


__all__ = ["Course", "Scheduler", "Watch", "follow", "named"]
