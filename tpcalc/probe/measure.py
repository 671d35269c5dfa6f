"""What a bench shows, as exponents: of the update, of the decay that it takes, of epsilon's place in it.

Every exponent is the slope between runs that differ in one thing by an exact power of 2, snapped to a simple fraction.
What does not snap is no power law, and is refused with the slope that was seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, Optional

import torch

from tpcalc.algebra.order import ONE, ZERO, Order
from tpcalc.probe.bench import Bench, Setting, Step
from tpcalc.probe.copy import Unprobable

#: Slopes are fractions with these denominators, to within NEAR; as the width changes halves to within ROUGH.
DENOMINATORS, NEAR, ROUGH = (1, 2, 3, 4), 0.02, 0.05
#: An update that is a power only in the limit (SOAP's, in a basis that lags behind) may be this far from a half.
LOOSE = 0.13
#: Steps after which an optimizer does what it goes on doing: RAdam adapts from its sixth on, a Shampoo waits for 25.
LATE = 32
#: How much larger the gradient of another weight is that fixes what all have in common.
COMPANY = 64.0
#: Entries of gradients and weights that are large.
LARGE = 4.0
#: Factor between two runs that differ in one number.
STEP = 4.0
#: Decays at and above every gradient, and epsilons below and above.
DECAY, DECAY_HIGH = 2.0**10, 2.0**14
EPS_LOW, EPS_HIGH = 2.0**-50, 2.0**10
#: An update is within this many powers of 2 of what the powers on both sides of a knee say there.
KNEE = 2.5
#: Rate under a large epsilon, where updates are small, and under a large decay, which must not wear the weight down.
FAST, SLOW = 2.0**-8, 2.0**-24
#: Two sizes that differ by less are the same.
SAME = 0.02
#: Halvings of the interval in which a knee lies.
HALVINGS = 12
#: Steps after which averages over the steps have mostly settled, and the longest of them have.
SOON, SETTLED = 64, 1024
#: Share of the weight that a step takes away for a rate of 1, from which on it is decay; in float32 more is rounding.
SHARE, SHARE_32 = 2.0**-24, 2.0**-14


class Powers(NamedTuple):
    """A quantity ~ gradient^gradient * weight^size * n^ray * lr^rate."""

    gradient: Order = ZERO
    size: Order = ZERO
    ray: Order = ZERO
    rate: Order = ZERO


class Eps(NamedTuple):
    """Epsilon's place, and by how much the update falls above and below it (see tpcalc.optimizers.Epsilon)."""

    place: Powers
    power: Order
    below: Order


class Decayed(NamedTuple):
    """``keeps``: the decay that keeps its share, as powers.  ``linear``: the share is proportional to the decay."""

    keeps: Powers
    linear: bool


@dataclass(frozen=True)
class Measured:
    """What was read off an optimizer for parameters of one kind.

    ``update``: aligned entries of one unit-lr update.  ``zero``: those of a weight of zeros; None: it is never moved,
    or made no number.  ``decay`` None: there is none.  ``eps`` None: there is none, or it does not matter, or (with an
    ``eps_key``) its place could not be read.  ``first``: other powers of the first steps.  ``strength``: the update
    itself, at the smallest size.  ``taken``: the share of a weight that a step takes away at no decay that its group
    names; then ``decay`` is about that.  ``shared``: a factor is common to all weights.  ``beyond``: what becomes of it
    under large gradients or weights, where that is another law.
    """

    update: Powers
    zero: Optional[Powers]
    decay: Optional[Decayed]
    eps: Optional[Eps]
    eps_key: Optional[str]
    first: Optional[Powers]
    strength: float
    taken: float
    shared: bool
    beyond: str
    runs: int


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
    return _one([_slope(values[low], values[high], high / low) for low, high in pairs], ROUGH, what)


def _one(slopes: Sequence[float], near: float, what: str) -> Order:
    """The power of the width that all of these are; raises Unprobable where there is none."""
    text = f"{what}, as the width changes,"
    powers = {snapped(slope, near, text) for slope in slopes}
    if len(powers) > 1:
        seen = " and ".join(f"{slope:.2f}" for slope in slopes)
        raise Unprobable(f"{text} goes with no one power ({seen} were measured)")
    return powers.pop()


def settled(bench: Bench) -> float:
    """The strength of an update when the same gradient has come again and again, at the smallest size."""
    for steps in (SOON, SETTLED):
        run = bench.run(Setting(lr=SLOW, steps=steps, repeated=True))
        if abs(run[-1].aligned / run[steps // 2].aligned - 1) <= SAME / 2:
            break
    return run[-1].aligned


class _Prober:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.at = 1
        """Index of the step that is looked at."""

    def update(self, setting: Setting) -> float:
        return self.bench.run(setting._replace(steps=self.at + 1))[self.at].aligned

    def removed(self, setting: Setting) -> float:
        """The share of the weight that decay takes: what changes sign with the weight."""
        return sum(step.removed for step in self.both_signs(setting)) / 2

    def taken(self, setting: Setting) -> float:
        """The same of the weight as it was at first, in which no step before has a share."""
        return sum(step.at_first for step in self.both_signs(setting)) / 2

    def both_signs(self, setting: Setting) -> list[Step]:
        """The step that is looked at, of the weight and of its negative."""
        setting = setting._replace(steps=self.at + 1)
        return [self.bench.run(setting, sign)[self.at] for sign in (1, -1)]

    # -- slopes --

    def powers(self, of: Callable[[Setting], float], start: Setting, what: str, rated: bool = False) -> Powers:
        """Of a quantity that is not zero at ``start``."""
        here = of(start)

        def slope(there: Setting, by: float, name: str, near: float = NEAR) -> Order:
            value = of(there)
            return snapped(_slope(here, value, by), near, f"{what}, as {name} changes,")

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
        found = [_slope(x, y, steps[1]) for x, y in zip(values, values[1:])]
        near = LOOSE if self.bench.generic else ROUGH
        if len(found) > 1 and abs(found[0] - found[1]) > 2 * near:  # it may have passed a threshold
            found = [found[1], _slope(values[-1], of(start._replace(times=steps[1] * steps[-1])), steps[1])]
        return _one(found, near, what)

    def steady(self, update: Powers) -> None:
        """Raises Unprobable where the powers are others between smaller gradients or weights."""
        start = Setting()
        for name, what, power in _pulls(update):
            here = start._replace(**{name: getattr(start, name) / STEP})
            there = start._replace(**{name: getattr(start, name) / STEP**2})
            slope = _slope(self.update(there), self.update(here), STEP)
            if not abs(slope - float(power)) <= NEAR:
                raise Unprobable(f"its update goes with no one power of the {what} ({power}, then {slope:.2f})")

    def beyond(self, update: Powers) -> str:
        """What becomes of it under gradients and weights that are large, where it clamps or clips them."""
        found, start = [], Setting()
        for name, what, power in _pulls(update):
            grown: list[dict[str, Any]] = [{name: LARGE}, {name: LARGE * STEP}]
            here, there = (start._replace(**entry) for entry in grown)
            slope = _slope(self.update(here), self.update(there), STEP)
            if math.isfinite(slope) and abs(slope - float(power)) > ROUGH:
                found.append(f"of a {what} with entries above {LARGE:g} it goes as {what}^{_rounded(slope)}")
        return " and ".join(found)


def _pulls(update: Powers) -> tuple[tuple[str, str, Order], ...]:
    """What an update may go with besides the width: its name in a setting, in words, and the power."""
    return ("gradient", "gradient", update.gradient), ("size", "weight", update.size)


def _rounded(slope: float) -> str:
    return f"{round(slope, 2) + 0.0:g}"


def _slope(here: float, there: float, by: float) -> float:
    return math.log(there / here) / math.log(by) if here > 0 and there > 0 else math.nan


def measure(bench: Bench, decay: bool = True) -> Measured:
    """Read an optimizer; ``decay``: also where its decay is 0.

    Raises Unprobable where it does not step, or follows no power law.
    """
    try:
        return _measured(bench, decay)
    except Unprobable as error:
        if bench.generic or not bench.kind.grows:
            raise
        problem = error
    try:
        # repetition may be what one goes by that takes a gradient apart (SOAP, in the basis of the step before)
        return _measured(Bench(bench.subject, bench.kind, bench.dtype, bench.closure, True), decay)
    except Unprobable:
        raise problem from None


def _measured(bench: Bench, decay: bool) -> Measured:
    prober = _Prober(bench)
    first = _settle(prober)
    shared = _shared(prober)
    if shared:  # something that all weights have in common: held fast by another one that is larger
        prober = _Prober(Bench(bench.subject, bench.kind, bench.dtype, bench.closure, bench.generic, COMPANY))
        first, bench = _settle(prober), prober.bench
    start = Setting()
    if bench.group.get("lr") is not None:
        slope = _slope(prober.update(start._replace(lr=start.lr / STEP)), prober.update(start), STEP)
        if not abs(slope) <= NEAR:
            raise Unprobable(
                f"its update is not proportional to lr of its group (it goes as lr^{slope + 1:.2f}): its rate stands "
                f"elsewhere"
            )
    update = prober.powers(prober.update, start, "its update")
    prober.steady(update)
    beyond = prober.beyond(update)
    eps, key = _eps(prober, update)
    if eps is not None and eps.below:  # an epsilon that sets the size: u is meant where it stands in its place
        update = Powers(*(u + eps.below * e for u, e in zip(update, eps.place, strict=True)))
    zero = _zero(prober, update, eps)
    wanted = bench.decay_key is not None and (decay or bench.decays)
    found = _decay(prober) if wanted else None
    taken = 0.0 if bench.decays else _taken(prober)
    if taken:
        found = _by_itself(prober)
        taken = taken if found is not None else 0.0
    strength = prober.update(start)
    return Measured(update, zero, found, eps, key, first, strength, taken, shared, beyond, bench.runs)


def _shared(prober: _Prober) -> bool:
    """Whether the gradient of another weight has a say in the update (a global norm, an estimated step size)."""
    bench, setting = prober.bench, Setting(steps=prober.at + 1)
    sizes = []
    for company in (1.0, COMPANY):
        beside = Bench(bench.subject, bench.kind, bench.dtype, bench.closure, bench.generic, company)
        try:
            sizes.append(beside.run(setting)[prober.at].aligned)
        except Unprobable:  # there is no place for another one
            return False
    return min(sizes) > 0 and abs(sizes[0] / sizes[1] - 1) > SAME


def _settle(prober: _Prober) -> Optional[Powers]:
    """Choose the step to look at; the powers of the first one, where they are others."""
    start = Setting(steps=LATE)
    many, fewer = prober.bench.run(start), prober.bench.run(start._replace(gradient=start.gradient / STEP))
    slopes: dict[int, Order] = {}
    problem: Optional[Unprobable] = None
    for index, (large, small) in enumerate(zip(many, fewer, strict=True)):
        if large.aligned > 0 and small.aligned > 0:
            try:
                slope = _slope(small.aligned, large.aligned, STEP)
                slopes[index] = snapped(slope, NEAR, "its update, as the gradient changes,")
            except Unprobable as error:
                problem = problem or error
    if not slopes:
        raise problem or Unprobable("its step changes nothing")
    last = max(slopes)
    unsettled = {power for index, power in slopes.items() if index >= LATE * 3 // 4} - {slopes[last]}
    if unsettled:
        raise Unprobable(f"its update follows no one law: gradient^{unsettled.pop()}, then gradient^{slopes[last]}")
    same = [index for index in slopes if slopes[index] == slopes[last]]
    later = [index for index in same if index > 0] or same
    # the first step under a law may be the last of those before it, brought back to where they began (Lookahead)
    prober.at = later[min(1, len(later) - 1)] if later[0] > 1 else later[0]
    earlier = [index for index in slopes if index < prober.at and slopes[index] != slopes[last]]
    return Powers(slopes[earlier[0]]) if earlier else None


def _zero(prober: _Prober, update: Powers, eps: Optional[Eps]) -> Optional[Powers]:
    if update.size == 0:
        return update
    start = Setting(size=0.0)
    try:
        return None if prober.update(start) == 0 else prober.powers(prober.update, start, "its update of zeros")
    except Unprobable:
        return None


# -- epsilon -----------------------------------------------------------------------------------------


def _eps(prober: _Prober, low: Powers) -> tuple[Optional[Eps], Optional[str]]:
    bench = prober.bench
    if not bench.eps_keys:
        return None, None
    start, high = Setting(), Setting(lr=FAST, eps=EPS_HIGH)
    below = snapped(_eps_slope(prober, start._replace(eps=EPS_LOW)), NEAR, "its update under a small epsilon")
    small, large = prober.update(start), prober.update(high)
    steep = _eps_slope(prober, high)
    if below == 0 and abs(steep) < NEAR and abs(small / large - 1) < SAME:
        return None, None
    key = _which(prober, high, large)
    try:
        power = snapped(steep, NEAR, "its update under a large epsilon")
        if _one_knee(prober, float(below), float(power)):
            above = prober.powers(prober.update, high, "its update under a large epsilon")
            place = Powers(*((x - y) / (power - below) for x, y in zip(low, above, strict=True)))
            return Eps(place, -power, below), key
    except Unprobable:
        power = -ONE
    # it stands at several places (beside a gradient and beside a norm), or fades slowly: that of the first it reaches
    try:
        place = prober.powers(lambda s: _knee(prober, s, float(below)), start, "the place of epsilon")
    except Unprobable:
        return None, key
    return Eps(place, min(-power, ONE) if power < 0 else -power, below), key


def _eps_slope(prober: _Prober, setting: Setting) -> float:
    assert setting.eps is not None
    return _slope(prober.update(setting), prober.update(setting._replace(eps=setting.eps * STEP)), STEP)


def _one_knee(prober: _Prober, below: float, power: float) -> bool:
    """Whether the update, where the powers below and above meet, is about what they say."""
    if below == power:
        return False
    small, large = (math.log2(prober.update(s)) for s in (Setting(), Setting(lr=FAST, eps=EPS_HIGH)))
    low, high = math.log2(EPS_LOW), math.log2(EPS_HIGH)
    at = (large - small - power * high + below * low) / (below - power)
    return abs(math.log2(prober.update(Setting(eps=2.0**at))) - small - below * (at - low)) < KNEE


def _which(prober: _Prober, high: Setting, large: float) -> Optional[str]:
    """The key of the group that matters."""
    keys = prober.bench.eps_keys
    if len(keys) == 1:
        return keys[0]
    return next((k for k in keys if abs(prober.update(high._replace(scaled=k, by=2.0**-60)) / large - 1) > SAME), None)


def _knee(prober: _Prober, setting: Setting, below: float) -> float:
    """The epsilon from which on an update is another than under a small one: by half, or as it is under a large one."""
    low, high = math.log2(EPS_LOW), math.log2(EPS_HIGH)
    small = math.log2(prober.update(setting))
    large = math.log2(prober.update(setting._replace(lr=FAST, eps=EPS_HIGH)))
    most = small + below * (high - low)
    far = min(1.0, abs(large - most) / 2)

    def passed(at: float) -> bool:
        off = math.log2(prober.update(setting._replace(lr=FAST, eps=2.0**at))) - small
        return abs(off - below * (at - low)) > far

    return _turn(low, high, passed)


def _turn(low: float, high: float, passed: Callable[[float], bool]) -> float:
    """Where ``passed`` begins to hold of exponents of 2, as a number."""
    for _ in range(HALVINGS):
        half = (low + high) / 2
        low, high = (low, half) if passed(half) else (half, high)
    return 2.0**low


# -- decay -------------------------------------------------------------------------------------------


def _decay(prober: _Prober) -> Optional[Decayed]:
    start = Setting(lr=SLOW)
    high = start._replace(wd=DECAY_HIGH)
    most, more = prober.removed(high), prober.removed(high._replace(wd=DECAY_HIGH * STEP))
    if abs(most) < 2.0**-60:
        return None
    slope = _slope(most, more, STEP)
    if abs(slope - 1) <= NEAR:
        middle = start._replace(wd=DECAY)
        found = prober.powers(prober.removed, middle, "the share that decay takes", rated=True)
        # n^x keeps wd^1 * the rest constant
        return Decayed(Powers(*(-x for x in found)), True)
    if abs(slope) <= ROUGH:
        if prober.removed(start._replace(wd=2.0**-50)) > most / 2:
            return Decayed(Powers(), False)
        found = prober.powers(lambda s: _half(prober, s), start, "the place of weight decay", rated=True)
        return Decayed(found, False)
    snapped(slope, NEAR, "the share that decay takes, as the decay changes,")
    raise Unprobable(f"the share that decay takes goes as decay^{slope:.2f}")


def _taken(prober: _Prober) -> float:
    """The share that a step takes away though no decay is on."""
    start = Setting()
    share = prober.taken(start)
    single = prober.bench.dtype is torch.float32
    return share if share > start.lr * (SHARE_32 if single else SHARE) else 0.0


def _by_itself(prober: _Prober) -> Optional[Decayed]:
    """How that enters, if it is decay: a share that no gradient changes, of the rate or of nothing (a step along a
    sphere takes the rate's square)."""
    try:
        found = prober.powers(prober.taken, Setting(), "the share that it takes away", rated=True)
    except Unprobable:
        return None
    decays = found.gradient == 0 and found.size == 0 and found.rate in (ZERO, ONE)
    return Decayed(Powers(*(-x for x in found)), True) if decays else None


def _half(prober: _Prober, setting: Setting) -> float:
    """The decay that takes half of what the largest does."""
    most = prober.removed(setting._replace(wd=DECAY_HIGH))
    return _turn(-50.0, math.log2(DECAY_HIGH), lambda at: prober.removed(setting._replace(wd=2.0**at)) > most / 2)


__all__ = ["Decayed", "Eps", "Measured", "Powers", "by_width", "measure", "settled"]
