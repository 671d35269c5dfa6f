"""What a bench shows, as exponents: of the update, of the decay that it takes, of epsilon's place in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Optional, TypeVar

import torch

from tpcalc.algebra.order import ONE, ZERO, Order, fraction
from tpcalc.probe.bench import TINY_EPS, Bench, Setting
from tpcalc.probe.copy import Unprobable
from tpcalc.probe.late import SETTLED, SLOW, SOON, lasts, steady
from tpcalc.probe.slopes import NEAR, ROUGH, STEP, Powers, Prober, between, snapped

#: Steps after which an optimizer does what it goes on doing: RAdam adapts from its sixth on, a Shampoo waits for 25.
LATE = 32
#: How much larger the gradient of another weight is that fixes what all have in common.
COMPANY = 64.0
#: Decays at and above every gradient, and epsilons below and above.
DECAY, DECAY_HIGH = 2.0**10, 2.0**14
EPS_LOW, EPS_HIGH = 2.0**-50, 2.0**10
#: An update is within this many powers of 2 of what the powers on both sides of a knee say there.
KNEE = 2.5
#: How far gradients fall, as powers of 2, where an epsilon in the code is looked for (to 1e-10; in float32 to 1e-9),
#: and by how much an update that meets none may be off.
FALL, FALL_32, OFF = -24.0, -20.0, 0.5
#: How much further they fall where its place is read: a norm reaches it the later the larger the tensor.
FURTHER = 8.0
#: Rate under a large epsilon, where updates are small.
FAST = 2.0**-8
#: Two sizes that differ by less are the same.
SAME = 0.02
#: Halvings of the interval in which a knee lies, and how close to 0, in powers of 2, is there.
HALVINGS, CLOSE = 12, 2.0**-9
#: A quarter of the least shift, in powers of 2, of a place that goes with another power of what is changed by STEP.
SHIFT = 0.125
#: Share of the weight that a step takes away for a rate of 1, from which on it is decay; in float32 more is rounding.
SHARE, SHARE_32 = 2.0**-24, 2.0**-14
T = TypeVar("T")


class Eps(NamedTuple):
    """Epsilon's place, and by how much the update falls above and below it (see tpcalc.optimizers.Epsilon)."""

    place: Powers
    power: Order
    below: Order


class Hidden(NamedTuple):
    """A small number in its code, beside which the update becomes another: ``at``: where gradients have entries of
    this size, at the smallest width.  ``place`` as that of an epsilon beside the gradient; None: it could not be read.
    ``fades``: else it is larger than its law says."""

    at: float
    place: Optional[Powers]
    fades: bool


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
    under large gradients or weights, where that is another law.  ``hidden``: what becomes of it under small gradients.
    ``unhooked``: why it was read without its step hooks.
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
    hidden: Optional[Hidden] = None
    unhooked: str = ""


def settled(bench: Bench) -> float:
    """The strength of an update when the same gradient has come again and again, at the smallest size."""
    return _hooked_or_not(bench, _settled)[0]


def _hooked_or_not(bench: Bench, read: Callable[[Bench], T]) -> tuple[T, str]:
    """What is read with its step hooks, or without them where that fails, and why."""
    try:
        return read(bench), ""
    except Unprobable as why:
        if not bench.hooked:
            raise
        return read(bench.like(hooks=False)), str(why)


def _settled(bench: Bench) -> float:
    for steps in SOON:
        start = Setting(lr=SLOW, steps=steps, repeated=True)
        if steady(bench, start):
            return bench.run(start)[-1].aligned
    return bench.run(Setting(lr=SLOW, steps=SETTLED, repeated=True))[-1].aligned


def measure(bench: Bench, decay: bool = True) -> Measured:
    """Read an optimizer; ``decay``: also where its decay is 0.

    Raises Unprobable where it does not step, or follows no power law.
    """
    seen, why = _hooked_or_not(bench, lambda bench: _repeated_or_not(bench, decay))
    return replace(seen, unhooked=why)


def _repeated_or_not(bench: Bench, decay: bool) -> Measured:
    try:
        return _measured(bench, decay)
    except Unprobable as error:
        if bench.generic or not bench.kind.grows:
            raise
        problem = error
    try:
        # repetition may be what one goes by that takes a gradient apart (SOAP, in the basis of the step before)
        return _measured(bench.like(generic=True), decay)
    except Unprobable:
        raise problem from None


def _measured(bench: Bench, decay: bool) -> Measured:
    prober = Prober(bench)
    first = _settle(prober)
    shared = _shared(prober)
    if shared:  # something that all weights have in common: held fast by another one that is larger
        prober = Prober(bench.like(company=COMPANY))
        first, bench = _settle(prober), prober.bench
    start = Setting()
    if bench.group.get("lr") is not None:
        slope = between(prober.update(start._replace(lr=start.lr / STEP)), prober.update(start), STEP)
        if not abs(slope) <= NEAR:
            if math.isnan(slope):
                raise Unprobable("its update is too small to be seen")
            why = "its rate stands elsewhere" if abs(slope + 1) <= NEAR else "a rate is taken to be a factor"
            raise Unprobable(
                f"its update is not proportional to lr of its group (it goes as lr^{slope + 1 + 0.0:.2f}): {why}"
            )
    update = prober.powers(prober.update, start, "its update")
    prober.steady(update)
    beyond = prober.beyond(update)
    if beyond and update.gradient:
        lasts(prober, update)
    eps, key = _eps(prober, update)
    if eps is not None and eps.below:  # an epsilon that sets the size: u is meant where it stands in its place
        update = Powers(*(u + eps.below * e for u, e in zip(update, eps.place, strict=True)))
    hidden = _hidden(prober, update)
    zero = _zero(prober, update, eps)
    wanted = bench.decay_key is not None and (decay or bench.decays)
    taken = 0.0 if bench.decays else _taken(prober)
    found = _by_itself(prober) if taken else None
    taken = taken if found is not None else 0.0
    if found is None and wanted:
        found = _decay(prober)
    strength = prober.update(start)
    return Measured(update, zero, found, eps, key, first, strength, taken, shared, beyond, bench.runs, hidden)


def _shared(prober: Prober) -> bool:
    """Whether the gradient of another weight has a say in the update (a global norm, an estimated step size)."""
    bench, setting = prober.bench, Setting(steps=prober.at + 1)
    sizes = []
    for company in (1.0, COMPANY):
        beside = bench.like(company=company)
        try:
            sizes.append(beside.run(setting)[-1].aligned)
        except Unprobable:  # there is no place for another one
            return False
    return min(sizes) > 0 and abs(sizes[0] / sizes[1] - 1) > SAME


def _settle(prober: Prober) -> Optional[Powers]:
    """Choose the step to look at; the powers of the first one, where they are others."""
    start = Setting(steps=LATE, every=True)
    many, fewer = prober.bench.run(start), prober.bench.run(start._replace(gradient=start.gradient / STEP))
    slopes: dict[int, Order] = {}
    problem: Optional[Unprobable] = None
    for index, (large, small) in enumerate(zip(many, fewer, strict=True)):
        if large.aligned > 0 and small.aligned > 0:
            try:
                slope = between(small.aligned, large.aligned, STEP)
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


def _zero(prober: Prober, update: Powers, eps: Optional[Eps]) -> Optional[Powers]:
    if update.size == 0:
        return update
    start = Setting(size=0.0)
    try:
        return None if prober.update(start) == 0 else prober.powers(prober.update, start, "its update of zeros")
    except Unprobable:
        return None


# -- epsilon -----------------------------------------------------------------------------------------


def _eps(prober: Prober, low: Powers) -> tuple[Optional[Eps], Optional[str]]:
    """Its place in the update, and its key in the group."""
    if not prober.bench.eps_keys:
        return None, None
    found, key = _eps_at(prober, low, Setting())
    if key is not None and (found is None or fraction(found.place.gradient).denominator > 2):
        # what clips gradients may begin to where these are: once more among smaller ones
        found, _ = _eps_at(prober, low, Setting(gradient=Setting().gradient / STEP**2))
    return found, key


def _eps_at(prober: Prober, low: Powers, start: Setting) -> tuple[Optional[Eps], Optional[str]]:
    """The same of gradients of one size."""
    bench, high = prober.bench, start._replace(lr=FAST, eps=EPS_HIGH)
    below = snapped(_eps_slope(prober, start._replace(eps=EPS_LOW)), NEAR, "its update under a small epsilon")
    small, large = prober.update(start), prober.update(high)
    if not large > 0:  # too small to be seen
        return None, bench.eps_keys[0]
    steep = _eps_slope(prober, high)
    if below == 0 and abs(steep) < NEAR and abs(small / large - 1) < SAME:
        return None, None
    key = _which(prober, high, large)
    try:
        power = snapped(steep, NEAR, "its update under a large epsilon")
        if _one_knee(prober, start, float(below), float(power)):
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


def _eps_slope(prober: Prober, setting: Setting) -> float:
    assert setting.eps is not None
    return between(prober.update(setting), prober.update(setting._replace(eps=setting.eps * STEP)), STEP)


def _one_knee(prober: Prober, start: Setting, below: float, power: float) -> bool:
    """Whether the update, where the powers below and above meet, is about what they say."""
    if below == power:
        return False
    small, large = (_log(prober, s) for s in (start, start._replace(lr=FAST, eps=EPS_HIGH)))
    low, high = math.log2(EPS_LOW), math.log2(EPS_HIGH)
    at = (large - small - power * high + below * low) / (below - power)
    return abs(_log(prober, start._replace(eps=2.0**at)) - small - below * (at - low)) < KNEE


def _log(prober: Prober, setting: Setting) -> float:
    """The update as a power of 2."""
    found = prober.update(setting)
    if not found > 0:
        raise Unprobable("its update is too small to be seen")
    return math.log2(found)


def _which(prober: Prober, high: Setting, large: float) -> Optional[str]:
    """The key of the group that matters."""
    keys = prober.bench.eps_keys
    if len(keys) == 1:
        return keys[0]
    return next((k for k in keys if abs(prober.update(high._replace(scaled=k, by=2.0**-60)) / large - 1) > SAME), None)


def _knee(prober: Prober, setting: Setting, below: float) -> float:
    """The epsilon from which on an update is another than under a small one: by half, or as it is under a large one."""
    low, high = math.log2(EPS_LOW), math.log2(EPS_HIGH)
    small, large = _log(prober, setting), _log(prober, setting._replace(lr=FAST, eps=EPS_HIGH))
    most = small + below * (high - low)
    far = min(1.0, abs(large - most) / 2)

    def past(at: float) -> float:
        off = _log(prober, setting._replace(lr=FAST, eps=2.0**at)) - small
        return abs(off - below * (at - low)) - far

    return _turn(low, high, past)


def _turn(low: float, high: float, past: Callable[[float], float]) -> float:
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


def _hidden(prober: Prober, update: Powers) -> Optional[Hidden]:
    """An epsilon that no option names: where the update, as gradients get smaller, leaves its law."""
    start, power = Setting(), float(update.gradient)
    if power >= 1:  # nothing is divided by a gradient
        return None

    def at(setting: Setting, fall: float) -> Setting:
        """Of gradients that are ``2^fall`` times as large; an epsilon that is an option falls below their squares."""
        size = 2.0**fall
        rate, eps = setting.lr / size**power, TINY_EPS * size * size
        return setting._replace(gradient=start.gradient * size, lr=rate, eps=eps)

    def off(setting: Setting, fall: float) -> float:
        """By how many powers of 2 it is larger than its law says."""
        small, large = prober.update(at(setting, fall)), prober.update(at(setting, 0.0))
        return math.log2(small / large) - power * fall if min(small, large) > 0 else -math.inf

    least = FALL_32 if prober.bench.dtype is torch.float32 else FALL
    end = off(start, least)
    if abs(end) < OFF:
        return None
    far = min(1.0, abs(end) / 2)

    def knee(setting: Setting) -> float:
        below = least - FURTHER
        if abs(off(setting, below)) <= far:
            raise Unprobable("the small number in its code lies too low")
        return start.gradient * _turn(below, 0.0, lambda fall: far - abs(off(setting, fall)))

    try:
        seen = prober.powers(knee, start, "the place of an epsilon in its code")
        place = Powers(ONE, -seen.size, -seen.ray)
    except Unprobable:
        place = None
    return Hidden(knee(start), place, end < 0)


# -- decay -------------------------------------------------------------------------------------------


def _decay(prober: Prober) -> Optional[Decayed]:
    start = Setting(lr=SLOW)
    high = start._replace(wd=DECAY_HIGH)
    most, more = prober.removed(high), prober.removed(high._replace(wd=DECAY_HIGH * STEP))
    if most < 2.0**-60:  # nothing is taken away; in float32, rounding adds a little (Rprop, whatever its groups hold)
        return None
    slope = between(most, more, STEP)
    if abs(slope - 1) <= NEAR:
        middle = start._replace(wd=DECAY)
        found = prober.powers(prober.removed, middle, "the share that decay takes", rated=True)
        # n^x keeps wd^1 * the rest constant
        return Decayed(Powers(*(-x for x in found)), True)
    if abs(slope) <= ROUGH:
        if prober.removed(start._replace(wd=2.0**-50)) > most / 2:
            return Decayed(Powers(), False)
        return Decayed(prober.powers(Halves(prober, start), start, "the place of weight decay", rated=True), False)
    snapped(slope, NEAR, "the share that decay takes, as the decay changes,")
    raise Unprobable(f"the share that decay takes goes as decay^{slope:.2f}")


def _taken(prober: Prober) -> float:
    """The share that a step takes away though no decay is on."""
    start = Setting()
    share = prober.taken(start)
    single = prober.bench.dtype is torch.float32
    return share if share > start.lr * (SHARE_32 if single else SHARE) else 0.0


def _by_itself(prober: Prober) -> Optional[Decayed]:
    """How that enters, if it is decay: a share that no gradient changes, of the rate or of nothing (a step along a
    sphere takes the rate's square)."""
    try:
        found = prober.powers(prober.taken, Setting(), "the share that it takes away", rated=True)
    except Unprobable:
        return None
    decays = found.gradient == 0 and found.size == 0 and found.rate in (ZERO, ONE)
    return Decayed(Powers(*(-x for x in found)), True) if decays else None


class Halves:
    """The decay that takes half of what the largest does, by setting.

    At ``start`` it is looked for.  Elsewhere it is tried first where coupled decay has it, in proportion to the
    gradient over the weight: where it is steep, half is taken at no other power of those that count.
    """

    def __init__(self, prober: Prober, start: Setting) -> None:
        self.prober, self.start = prober, start
        self.here = self.searched(start)
        near = self.odds(start)
        sides = [near(self.here + by) for by in (-SHIFT, 0.0, SHIFT)]
        self.steep = sides[0] < -CLOSE <= sides[1] <= CLOSE < sides[2]

    def __call__(self, setting: Setting) -> float:
        """As a number; ``here`` and the like are powers of 2."""
        if setting == self.start:
            return 2.0**self.here
        start = self.start
        coupled = self.here + math.log2(setting.gradient / start.gradient) - math.log2(setting.size / start.size)
        if self.steep and abs(self.odds(setting)(coupled)) <= CLOSE:
            return 2.0**coupled
        return 2.0 ** self.searched(setting)

    def odds(self, setting: Setting) -> Callable[[float], float]:
        """Of the share that a decay of ``2^at`` takes of what the largest does: 0 at half of it."""
        most = self.prober.removed(setting._replace(wd=DECAY_HIGH))

        def past(at: float) -> float:
            share = min(max(self.prober.removed(setting._replace(wd=2.0**at)) / most, 2.0**-60), 1 - 2.0**-20)
            return math.log2(share / (1 - share))

        return past

    def searched(self, setting: Setting) -> float:
        return math.log2(_turn(-50.0, math.log2(DECAY_HIGH), self.odds(setting)))


__all__ = ["Decayed", "Eps", "Measured", "measure", "settled"]
