"""A search as text: what was found for each number, what it is worth, what it cost, and what to do with it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Optional

from tpcalc.algebra.scales import scales_text
from tpcalc.horizon import lowering
from tpcalc.horizon.words import HEADING, assumed_lines
from tpcalc.report.grid import fitted, itemized, within
from tpcalc.report.transfer import cost_text, counted, digits
from tpcalc.tune.result import Tuned

__all__ = ["tune_text"]

#: As part of a range, in its logarithm, how near an end a number is at it; by what factor a range is then moved.
AT_AN_END, BEYOND = 0.05, 16.0
#: A run at the target that is so many times longer than the one in which the numbers were found is another one.
LONGER = 2.0


def tune_text(result: Tuned, width: Optional[int] = None) -> str:
    """``width`` is that of a terminal, in which every number stays whole."""
    base, target = map(scales_text, result.ends)
    runs = result.search.runs
    longer = [job for job in result.jobs if job.steps != runs.short]
    ran = f"{counted(len(result.jobs) - len(longer), 'run')} of {counted(runs.short, 'step')}"
    ran += f" and {len(longer)} of {longer[0].steps}" if longer else ""
    lines = [
        f"Tuning of {result.name} with {result.optimizer} at {base} for {target}: {ran}",
        "",
        *fitted(("number", "range", "found", ""), list(_numbers(result)), width),
        "",
        *_losses(result, base),
        *itemized(
            ("remarks", list(_remarks(result))),
            ("next", list(_next(result, target))),
            (HEADING, assumed_lines(result.scaling.assumed or {})),
            ("notes", list(result.notes)),
        ),
        "",
        cost_text(result.cost, base, target),
    ]
    return "\n".join(within(lines, width)) + "\n"


def _numbers(result: Tuned) -> Iterator[tuple[str, ...]]:
    found, free = dict(result.best.numbers), result.search.space.free
    for name, (low, high) in result.search.space.ranges.items():
        ends = f"{low:.3g} to {high:.3g}" if name in free else "kept"
        yield name, ends, f"{found[name]:.3g}", _end(result, name)


def _end(result: Tuned, name: str) -> str:
    """At which end of its range a number is, if it is."""
    low, high = result.search.space.ranges[name]
    if low == high:
        return ""
    part = math.log(dict(result.best.numbers)[name] / low) / math.log(high / low)
    return "at its lower end" if part < AT_AN_END else "at its upper end" if part > 1 - AT_AN_END else ""


def _losses(result: Tuned, base: str) -> Iterator[str]:
    short = counted(result.search.runs.short, "step")
    before = "diverged at every learning rate" if result.before is None else digits(result.before)
    own = "as the model is" if result.as_it_is else "as near to the model as it is as the space allows"
    yield f"loss at {base}, {short}: {before} {own}, {digits(result.after)} tuned"
    if result.best.steps != result.search.runs.short:
        yield f"loss at {base}, {counted(result.best.steps, 'step')}: {digits(result.loss)} with what was found"


def _remarks(result: Tuned) -> Iterator[str]:
    for name in result.search.space.free:
        end = _end(result, name)
        if end:
            low, high = result.search.space.ranges[name]
            wider = (low / BEYOND, high) if "lower" in end else (low, high * BEYOND)
            yield (
                f"{name} is {end}, beyond which better ones may lie; search there too, with "
                f"{name}={wider[0]:.3g}:{wider[1]:.3g} in --space"
            )
    diverged = sum(not math.isfinite(result.done[job].loss) for job in result.jobs)
    if diverged:
        yield f"{diverged} of {counted(len(result.jobs), 'run')} diverged"
    had, has = result.best.steps, result.cost.steps
    if result.scaling.assumed is None and has >= LONGER * had:
        rules = lowering({weight.optimizer for weight in result.scaling.values()})
        rule = f"; --horizon {' or '.join(rules)} applies a published rule (docs/horizon.md, and its worth)"
        yield (
            f"the numbers were found in a run of {counted(had, 'step')}, and the target's has {has}, {has / had:.3g} "
            f"times as many: longer runs tend to want a smaller learning rate; have longer ones here (a larger "
            f"--share, fewer --trials){rule if rules else ''}"
        )
    if result.before is not None and result.after >= result.before:
        yield "none that was tried is better than that; more --trials or a larger --share may find better"


def _next(result: Tuned, target: str) -> Iterator[str]:
    given = ", ".join(f"{key}={x:g}" if isinstance(x, float) else f"{key}={x}" for key, x in result.given.items())
    yield (
        f"train once at {target}: init_(model), then an optimizer of param_groups(model, {given}), both of scaling.py "
        f"or of the multipliers here"
    )
    if result.cost.steps > result.best.steps:
        had = result.best.steps
        yield f"a schedule there has {result.cost.steps} steps, here it had {had}; let it end with the run"
