"""Exponents: the slope between runs that differ in one thing by an exact power of 2, snapped to a simple fraction.

What does not snap is no power law, and is refused with the slope that was seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from tpcalc.algebra.order import ZERO, Order
from tpcalc.probe.bench import Bench, Setting, Step
from tpcalc.probe.copy import Unprobable

#: Slopes are fractions with these denominators, to within NEAR; as the width changes halves to within ROUGH.
DENOMINATORS, NEAR, ROUGH = (1, 2, 3, 4), 0.02, 0.05
#: An update that is a power only in the limit (SOAP's, in a basis that lags behind) may be this far from a half.
LOOSE = 0.13
#: Entries of gradients and weights that are large.
LARGE = 4.0
#: Two sizes that differ by less are the same.
SAME = 0.02
#: Halvings of the interval in which a knee lies, and how close to 0, in powers of 2, is there.
HALVINGS, CLOSE = 12, 2.0**-9
#: Factor between two runs that differ in one number.
STEP = 4.0


class Powers(NamedTuple):
    """A quantity ~ gradient^gradient * weight^size * n^ray * lr^rate."""

    gradient: Order = ZERO
    size: Order = ZERO
    ray: Order = ZERO
    rate: Order = ZERO


def snapped(slope: float, near: float, what: str) -> Order:
    """Raises Unprobable for a slope that is no simple fraction."""
    for denominator in DENOMINATORS:
        nearest = Fraction(round(slope * denominator), denominator) if math.isfinite(slope) else None
        if nearest is not None and abs(slope - nearest) <= (near if denominator < 3 else NEAR / 2):
            return Order(nearest)
    raise Unprobable(f"{what} goes with no simple power ({slope:.3f} was measured)")


def by_width(values: Mapping[int, float], what: str) -> Order:
    """The power of the width that strengths at several widths go with; those that differ by little are equal.

    Raises Unprobable where there is none.
    """
    (first, *_), widths = values.values(), sorted(values)
    if all(abs(value / first - 1) <= ROUGH for value in values.values()):
        return ZERO
    pairs = zip(widths, widths[1:])
    return _one([between(values[low], values[high], high / low) for low, high in pairs], ROUGH, what)


def _one(slopes: Sequence[float], near: float, what: str) -> Order:
    """The power of the width that all of these are; raises Unprobable where there is none."""
    text = f"{what}, as the width changes,"
    powers = {snapped(slope, near, text) for slope in slopes}
    if len(powers) > 1:
        seen = " and ".join(f"{slope:.2f}" for slope in slopes)
        raise Unprobable(f"{text} goes with no one power ({seen} were measured)")
    return powers.pop()


class Prober:
    """Asks a bench how the update, and what is taken from the weight, go with the numbers of a run."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.at = 1
        """Index of the step that is looked at."""

    def update(self, setting: Setting) -> float:
        return self.bench.run(setting._replace(steps=self.at + 1))[-1].aligned

    def removed(self, setting: Setting) -> float:
        """The share of the weight that decay takes: what changes sign with the weight."""
        return sum(step.removed for step in self.both_signs(setting)) / 2

    def taken(self, setting: Setting) -> float:
        """The same of the weight as it was at first, in which no step before has a share."""
        return sum(step.at_first for step in self.both_signs(setting)) / 2

    def both_signs(self, setting: Setting) -> list[Step]:
        """The step that is looked at, of the weight and of its negative."""
        setting = setting._replace(steps=self.at + 1)
        return [self.bench.run(setting, sign)[-1] for sign in (1, -1)]

    # -- slopes --

    def powers(self, of: Callable[[Setting], float], start: Setting, what: str, rated: bool = False) -> Powers:
        """Of a quantity that is not zero at ``start``."""
        here = of(start)

        def slope(there: Setting, by: float, name: str, near: float = NEAR) -> Order:
            value = of(there)
            return snapped(between(here, value, by), near, f"{what}, as {name} changes,")

        gradient = slope(start._replace(gradient=start.gradient / STEP), 1 / STEP, "the gradient")
        size = ZERO
        if start.size:
            size = slope(start._replace(size=start.size / STEP), 1 / STEP, "the weight")
        ray = self.ray(of, start, here, what)
        rate = slope(start._replace(lr=start.lr / STEP), 1 / STEP, "lr") if rated else ZERO
        return Powers(gradient, size, ray, rate)

    def ray(self, of: Callable[[Setting], float], start: Setting, here: float, what: str) -> Order:
        """The power of the width: the same between any two, or one that settles."""
        steps = self.bench.kind.steps
        if len(steps) == 1:
            return ZERO
        values = [here, *(of(start._replace(times=times)) for times in steps[1:])]
        found = [between(x, y, steps[1]) for x, y in zip(values, values[1:])]
        near = LOOSE if self.bench.generic else ROUGH
        if len(found) > 1 and abs(found[0] - found[1]) > 2 * near:  # it may have passed a threshold
            found = [found[1], between(values[-1], of(start._replace(times=steps[1] * steps[-1])), steps[1])]
        return _one(found, near, what)

    def steady(self, update: Powers) -> None:
        """Raises Unprobable where the powers are others between smaller gradients or weights."""
        start = Setting()
        for name, what, power in _pulls(update):
            here = start._replace(**{name: getattr(start, name) / STEP})
            there = start._replace(**{name: getattr(start, name) / STEP**2})
            slope = between(self.update(there), self.update(here), STEP)
            if not abs(slope - float(power)) <= NEAR:
                raise Unprobable(f"its update goes with no one power of the {what} ({power}, then {slope:.2f})")

    def beyond(self, update: Powers) -> str:
        """What becomes of it under gradients and weights that are large, where it clamps or clips them."""
        found, start = [], Setting()
        for name, what, power in _pulls(update):
            grown: list[dict[str, Any]] = [{name: LARGE}, {name: LARGE * STEP}]
            here, there = (start._replace(**entry) for entry in grown)
            slope = between(self.update(here), self.update(there), STEP)
            if math.isfinite(slope) and abs(slope - float(power)) > ROUGH:
                found.append(f"of a {what} with entries above {LARGE:g} it goes as {what}^{_rounded(slope)}")
        return " and ".join(found)


def _pulls(update: Powers) -> tuple[tuple[str, str, Order], ...]:
    """What an update may go with besides the width: its name in a setting, in words, and the power."""
    return ("gradient", "gradient", update.gradient), ("size", "weight", update.size)


def _rounded(slope: float) -> str:
    return f"{round(slope, 2) + 0.0:g}"


def between(here: float, there: float, by: float) -> float:
    """The slope from one size to another at what is ``by`` times as large; nan where one of them is 0."""
    return math.log(there / here) / math.log(by) if here > 0 and there > 0 else math.nan


def turn(low: float, high: float, past: Callable[[float], float]) -> float:
    """Where what goes from below 0 to above it along exponents of 2, about a line there, is 0; as a number."""
    (at, here), (end, there) = (low, past(low)), (high, past(high))
    fine, before, last = (high - low) / 2**HALVINGS, math.inf, math.inf
    while end - at > fine:
        # by a line, or in halves where that does not get on
        on = last <= before / 2 or math.isinf(before)
        middle = at + (end - at) * (here / (here - there) if on and here < 0 < there - here < math.inf else 0.5)
        found = past(middle)
        before, last = last, abs(found)
        if last <= CLOSE:
            return 2.0**middle
        if found < 0:
            at, here = middle, found
        else:
            end, there = middle, found
    return 2.0**at


__all__ = ["CLOSE", "NEAR", "ROUGH", "SAME", "STEP", "Powers", "Prober", "between", "by_width", "snapped", "turn"]
