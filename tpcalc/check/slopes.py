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

    One line through the points of all seeds; the error is the larger of what all points and what their mean over
    the seeds say (a curve, too, leaves residuals).  None where a size is zero or not finite.
    """
    if any(not (size > 0 and math.isfinite(size)) for row in sizes for size in row):
        return None
    xs = [math.log(width) for width in widths]
    logs = [[math.log(size) for size in row] for row in sizes]
    slope, error = _line(xs * len(logs), [y for row in logs for y in row])
    mean = [sum(column) / len(column) for column in zip(*logs, strict=True)]
    return Slope(slope, max(error, _line(xs, mean)[1]))
