"""Log-log slopes with an error bar.  Nothing here imports torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, Optional

#: A slope counts as off where it would come out so by chance once in a hundred times, or less.
CONFIDENCE = 0.99


class Slope(NamedTuple):
    """``value``: exponent of the power law; ``error``: its standard error, from ``freedom`` degrees of freedom."""

    value: float
    error: float
    freedom: int

    @property
    def margin(self) -> float:
        """How far above (or below) the true slope may be: the one-sided confidence bound of Student's t."""
        return quantile(self.freedom) * self.error


@lru_cache(maxsize=None)
def quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """Student's t with ``freedom`` degrees of freedom is below this with probability ``confidence`` (above 1/2).

    By bisection in the angle ``atan(t / sqrt(freedom))``, in which the distribution is a finite sum (Abramowitz &
    Stegun 1964, 26.7.3 and 26.7.4).
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        low, high = (angle, high) if _within(angle, freedom) < 2 * confidence - 1 else (low, angle)
    return math.sqrt(freedom) * math.tan(low)


def _within(angle: float, freedom: int) -> float:
    """Probability that ``|t| <= sqrt(freedom) tan(angle)``."""
    cosine = math.cos(angle)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(freedom // 2):
        total += term
        term *= cosine**2 * (2 * k + 1 + odd) / (2 * k + 2 + odd)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def fit(widths: Sequence[int], sizes: Sequence[Sequence[float]]) -> Optional[Slope]:
    """The slope of ``log size`` against ``log width``; ``sizes[i][j]``: seed ``i`` at width ``j`` (three or more).

    One slope, and a level for each seed: widths share a seed's random classes, which make its gradients large or small
    at all of them.  The error is the larger of what all points say and what their mean over the seeds says: a
    curve, too, leaves residuals.  None where a size is zero or not finite.
    """
    if any(not (size > 0 and math.isfinite(size)) for row in sizes for size in row):
        return None
    xs = _centred([math.log(width) for width in widths])
    rows = [_centred([math.log(size) for size in row]) for row in sizes]
    mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    spread = sum(x * x for x in xs)
    slope = sum(x * y for x, y in zip(xs, mean, strict=True)) / spread

    def error(lines: Sequence[Sequence[float]], freedom: int) -> float:
        residual = sum((y - slope * x) ** 2 for line in lines for x, y in zip(xs, line, strict=True))
        return math.sqrt(residual / freedom / spread / len(lines))

    freedom = len(rows) * (len(widths) - 1) - 1
    return Slope(slope, max(error(rows, freedom), error([mean], len(widths) - 2)), freedom)


def _centred(values: Sequence[float]) -> list[float]:
    middle = sum(values) / len(values)
    return [value - middle for value in values]
