"""What a bench shows, as exponents: of the update, and of what :mod:`epsilon` and :mod:`decay` see in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Optional, TypeVar

from tpcalc.algebra.order import Order
from tpcalc.probe.bench import Bench, Setting
from tpcalc.probe.copy import Unprobable
from tpcalc.probe.decay import Decayed, by_itself, decay_of, taken
from tpcalc.probe.epsilon import Eps, Hidden, epsilon, hidden
from tpcalc.probe.late import SETTLED, SLOW, SOON, lasts, steady
from tpcalc.probe.slopes import NEAR, SAME, STEP, Powers, Prober, between, snapped

#: Steps after which an optimizer does what it goes on doing: RAdam adapts from its sixth on, a Shampoo waits for 25.
LATE = 32
#: How much larger the gradient of another weight is that fixes what all have in common.
COMPANY = 64.0
T = TypeVar("T")


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
    eps, key = epsilon(prober, update)
    if eps is not None and eps.below:  # an epsilon that sets the size: u is meant where it stands in its place
        update = Powers(*(u + eps.below * e for u, e in zip(update, eps.place, strict=True)))
    small = hidden(prober, update)
    zero = _zero(prober, update, eps)
    wanted = bench.decay_key is not None and (decay or bench.decays)
    share = 0.0 if bench.decays else taken(prober)
    found = by_itself(prober) if share else None
    share = share if found is not None else 0.0
    if found is None and wanted:
        found = decay_of(prober)
    strength = prober.update(start)
    return Measured(update, zero, found, eps, key, first, strength, share, shared, beyond, bench.runs, small)


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


__all__ = ["Measured", "measure", "settled"]
