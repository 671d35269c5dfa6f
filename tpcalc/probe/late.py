"""What an optimizer does after many steps: averages settle, and some that start at a fixed size bring another law."""

from __future__ import annotations

from typing import Optional

from tpcalc.algebra.order import Order
from tpcalc.probe.bench import Bench, Setting
from tpcalc.probe.copy import Unprobable
from tpcalc.probe.slopes import NEAR, STEP, Powers, Prober, between, snapped

#: Steps after which averages over the steps have mostly settled, and after which the longest of them have.
SOON, SETTLED = (64, 256), 1024
#: Rate at which a weight is not worn down meanwhile, nor by a large decay.
SLOW = 2.0**-24
#: Two updates that differ by less are the same.
SAME = 0.01


def steady(bench: Bench, start: Setting) -> bool:
    """Whether the second half of the steps of a run changes nothing more."""
    whole, half = (bench.run(setting)[-1].aligned for setting in (start, start._replace(steps=start.steps // 2)))
    return half > 0 and abs(whole / half - 1) <= SAME


def lasts(prober: Prober, update: Powers) -> None:
    """Raises Unprobable where the update goes over to another law late: averages that start at a fixed size."""
    for steps in (*SOON, SETTLED):
        start = Setting(steps=steps, lr=SLOW, repeated=True)

        def late(low: int, start: Setting = start) -> Optional[Order]:
            """The power between gradients that are ``STEP^low`` and once more as small; None where it is none."""
            here, there = (start._replace(gradient=start.gradient / STEP**power) for power in (low, low + 1))
            slope = between(prober.bench.run(there)[-1].aligned, prober.bench.run(here)[-1].aligned, STEP)
            try:
                return snapped(slope, NEAR, "its update after many steps")
            except Unprobable:
                return None

        seen = late(0)
        if seen == update.gradient and steady(prober.bench, start):
            return
        if seen not in (None, update.gradient) and late(1) == seen:  # else it is on its way
            raise Unprobable(
                f"its update goes as gradient^{update.gradient}, and after {steps} steps as gradient^{seen}"
            )


__all__ = ["SETTLED", "SLOW", "SOON", "lasts", "steady"]
