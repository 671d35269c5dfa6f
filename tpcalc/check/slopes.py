"""Log-log slopes with an error bar.  Nothing here imports torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Optional


class Slope(NamedTuple):
    """``value``: exponent of the power law; ``error``: its standard error."""

    value: float
    error: float


def _line(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """Least-squares slope and its standard error from the residuals."""
    n = len(xs)
    x0, y0 = sum(xs) / n, sum(ys) / n
    sxx = sum((x - x0) ** 2 for x in xs)
    slope = sum((x - x0) * (y - y0) for x, y in zip(xs, ys, strict=True)) / sxx
    residual = sum((y - y0 - slope * (x - x0)) ** 2 for x, y in zip(xs, ys, strict=True))
    return slope, math.sqrt(residual / (n - 2) / sxx) if n > 2 else 0.0


def fit(widths: Sequence[int], sizes: Sequence[Sequence[float]]) -> Optional[Slope]:
    """The slope of ``log size`` against ``log width``; ``sizes[i][j]``: seed ``i`` at width ``j``.

    Seeds are averaged in the logarithm.  The error is the larger of what the residuals and what the spread of
    the seeds say.  None where a size is zero or not finite.
    """
    if any(not (size > 0 and math.isfinite(size)) for row in sizes for size in row):
        return None
    xs = [math.log(width) for width in widths]
    logs = [[math.log(size) for size in row] for row in sizes]
    mean = [sum(column) / len(column) for column in zip(*logs, strict=True)]
    slope, error = _line(xs, mean)
    if len(logs) > 1:
        slopes = [_line(xs, row)[0] for row in logs]
        spread = sum((s - slope) ** 2 for s in slopes) / (len(slopes) - 1)
        error = max(error, math.sqrt(spread / len(slopes)))
    return Slope(slope, error)
