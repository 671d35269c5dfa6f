"""Epsilon's place in an update: that of a group's option, and of a small number in the code that no option names."""

from __future__ import annotations

import math
from typing import NamedTuple, Optional

import torch

from tpcalc.algebra.order import ONE, Order, fraction
from tpcalc.probe.bench import TINY_EPS, Setting
from tpcalc.probe.copy import Unprobable
from tpcalc.probe.slopes import NEAR, SAME, STEP, Powers, Prober, between, snapped, turn

#: Epsilons below and above every gradient.
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


def epsilon(prober: Prober, low: Powers) -> tuple[Optional[Eps], Optional[str]]:
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

    return turn(low, high, past)


def hidden(prober: Prober, update: Powers) -> Optional[Hidden]:
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
        return start.gradient * turn(below, 0.0, lambda fall: far - abs(off(setting, fall)))

    try:
        seen = prober.powers(knee, start, "the place of an epsilon in its code")
        place = Powers(ONE, -seen.size, -seen.ray)
    except Unprobable:
        place = None
    return Hidden(knee(start), place, end < 0)


__all__ = ["Eps", "Hidden", "epsilon", "hidden"]
