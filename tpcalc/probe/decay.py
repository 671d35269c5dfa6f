"""The decay that an optimizer takes: which share of a weight, and what keeps it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Optional

import torch

from tpcalc.algebra.order import ONE, ZERO
from tpcalc.probe.bench import Setting
from tpcalc.probe.copy import Unprobable
from tpcalc.probe.late import SLOW
from tpcalc.probe.slopes import CLOSE, NEAR, ROUGH, STEP, Powers, Prober, between, snapped, turn

#: Decays at and above every gradient.
DECAY, DECAY_HIGH = 2.0**10, 2.0**14
#: A quarter of the least shift, in powers of 2, of a place that goes with another power of what is changed by STEP.
SHIFT = 0.125
#: Share of the weight that a step takes away for a rate of 1, from which on it is decay; in float32 more is rounding.
SHARE, SHARE_32 = 2.0**-24, 2.0**-14


class Decayed(NamedTuple):
    """``keeps``: the decay that keeps its share, as powers.  ``linear``: the share is proportional to the decay."""

    keeps: Powers
    linear: bool


def decay_of(prober: Prober) -> Optional[Decayed]:
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


def taken(prober: Prober) -> float:
    """The share that a step takes away though no decay is on."""
    start = Setting()
    share = prober.taken(start)
    single = prober.bench.dtype is torch.float32
    return share if share > start.lr * (SHARE_32 if single else SHARE) else 0.0


def by_itself(prober: Prober) -> Optional[Decayed]:
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
        return math.log2(turn(-50.0, math.log2(DECAY_HIGH), self.odds(setting)))


__all__ = ["Decayed", "by_itself", "decay_of", "taken"]
