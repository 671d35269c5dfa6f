"""What slopes over a depth are before they settle: what branches add at init fades beside what streams start from.

At alpha = 1 each of L branches starts at 1/L, with signs of its own: together they are L^-1/2.  Where they are not
small at the base, the stream at init falls over the first depths, by a slope between -1/2 and 0 that flattens, and all
that is divided or multiplied by it is off by powers of that slope.  Which powers the laws say: the slope is measured at
the stream at init alone, and taken for the order of what the stream starts from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Optional

from tpcalc.algebra.order import HALF, Order
from tpcalc.check.predict import Prediction
from tpcalc.check.settings import Settings
from tpcalc.check.slopes import fit

#: Measured slopes are rounded to multiples of this.
GRAIN = 100


@dataclass(frozen=True)
class Fading:
    """``streams``: values whose size at init shows it.  ``predict(x)``: what follows where they fall as ``L^-x``."""

    streams: frozenset[int]
    predict: Callable[[Order], Prediction]

    def measured(self, runs: Mapping[Any, Any], settings: Settings) -> Optional[Order]:
        """x in "streams fall as L^-x", of the one that falls most; None where none does."""
        found = [
            slope.value
            for vid in self.streams
            if (slope := fit(settings.widths, _sizes(vid, runs, settings))) is not None
        ]
        fall = Fraction(round(-GRAIN * min(found, default=0.0)), GRAIN)
        return min(Order(fall), HALF) if fall > 0 else None


def _sizes(vid: int, runs: Mapping[Any, Any], settings: Settings) -> Sequence[Sequence[float]]:
    return [[runs[p, seed].sizes.get(("init", vid), 0.0) for p in settings.places] for seed in settings.seeds]


__all__ = ["Fading"]
