"""The best learning rate of a sweep: between the grid's points, with its uncertainty over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np

from tpcalc.errors import TpcalcError

__all__ = ["Optimum", "optimum_of"]

#: Resamples of the seeds.  Three seeds have ten different ones, which are all met.
RESAMPLES = 1000
#: Five points are taken where the outer two are at most this factor away from the best.
WIDEST = 3.0
#: Those that rise more than this times the parabola through the middle three are no part of it.
STEEPEST = 2.0


@dataclass(frozen=True)
class Optimum:
    """``rate``: the best learning rate.  ``error``: its standard error over seeds in log2 units; None where nothing can
    tell, of one seed or at an edge.  ``edge``: it is an end of the grid, beyond which better ones may lie."""

    rate: float
    error: Optional[float]
    edge: bool


def optimum_of(rates: Sequence[float], losses: Sequence[Sequence[float]]) -> Optimum:
    """``rates``: two different ones or more, ascending.  ``losses``: of each seed, at each rate; infinite: diverged.

    The loss is averaged over seeds, and a rate at which one of them diverged counts as diverged.  Near its least a
    smooth curve is a parabola in the logarithm of the rate, so:

    - A parabola goes through the best rate and its two neighbours.  Its vertex is never further than half a grid step
      from the best of the three.
    - Five points, by least squares, average the noise of a fine grid, where neighbours hardly differ.  They are taken
      only within a factor of three of the best: curves are flat below the optimum and soon a wall above it, so over
      the steps of a coarse grid five points miss the vertex of made curves by 0.2 to 0.6 in log2 where three miss it by
      0.05 to 0.15.  The outer two must be finite, and rise no more than twice as much as the three points say.  The
      vertex stays within the same half step, as the grid's best is evidence, too.
    - Beside a diverged neighbour there is nothing to fit.  The optimum lies between the other neighbour and that one,
      and the grid's rate stands for it.
    - At an end of the grid nothing tells where it lies: the grid's rate, ``edge``, and no error.  Of equal losses the
      smallest rate is taken, so a flat curve is at an edge.

    ``error`` is the standard deviation of all this over resamples of the seeds (the bootstrap of Efron 1979), times
    sqrt(n / (n-1)) for n seeds: that of a mean would be too small by this factor (Efron and Tibshirani 1993).
    A seed keeps its losses at all rates together, as it starts from the same weights at each.

    Raises TpcalcError where no rate has a finite loss.
    """
    table, grid = np.asarray(losses, dtype=float), np.log2(rates)
    seeds = len(table)
    best, position = _vertex(grid, table.mean(axis=0))
    rate = float(rates[best]) if position == grid[best] else float(2.0**position)
    edge = best in (0, len(grid) - 1)
    if seeds == 1 or edge:
        return Optimum(rate, None, edge)
    draws = np.random.default_rng(0).multinomial(seeds, [1 / seeds] * seeds, size=RESAMPLES)
    kinds, times = np.unique(draws, axis=0, return_counts=True)
    found = np.array([_vertex(grid, np.repeat(table, kind, axis=0).mean(axis=0))[1] for kind in kinds])
    variance = np.average((found - np.average(found, weights=times)) ** 2, weights=times)
    return Optimum(rate, math.sqrt(variance * seeds / (seeds - 1)), edge)


def _vertex(grid: np.ndarray, means: np.ndarray) -> tuple[int, float]:
    """Index of the best rate, and the logarithm of the optimum near it."""
    if not np.isfinite(means).any():
        raise TpcalcError("a run diverged at every learning rate; try smaller ones")
    best = int(np.argmin(np.where(np.isnan(means), np.inf, means)))
    here = float(grid[best])
    near = slice(best - 1, best + 2)
    if best in (0, len(grid) - 1) or not np.isfinite(means[near]).all():
        return best, here
    x, rise = grid - here, means - means[best]
    square, slope = _parabola(x[near], rise[near])
    if square <= 0:  # three equal losses
        return best, here
    wide = slice(best - 2, best + 3)
    if best >= 2 and best + 2 < len(grid) and np.isfinite(means[wide]).all():
        ends = [best - 2, best + 2]
        foreseen = (square * x[ends] ** 2 + slope * x[ends]).sum()
        wider = _parabola(x[wide], rise[wide])
        local = max(-x[best - 2], x[best + 2]) <= math.log2(WIDEST)
        if local and rise[ends].sum() <= STEEPEST * foreseen and wider[0] > 0:
            square, slope = wider
    return best, here + float(np.clip(-slope / (2 * square), x[best - 1] / 2, x[best + 1] / 2))


def _parabola(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Coefficients of the square and of x, by least squares."""
    square, slope, _ = np.polyfit(x, y, 2)
    return float(square), float(slope)
