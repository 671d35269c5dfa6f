"""Exponents of numbers known at a few widths: hyperparameters, initial sizes, measurements.

:mod:`tpcalc.algebra.fit` finds the exact function of the width.  Here only its exponent is wanted, so more is
accepted: a power of the (rounded) axes of a weight, what settles only asymptotically, what was measured and is noisy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import product

from tpcalc.algebra.fit import fit_scalar, slopes
from tpcalc.algebra.order import HALF, MINUS_INFINITY, ONE, ZERO, Order
from tpcalc.algebra.size import Scalar, Size
from tpcalc.errors import FitError

#: Width -> number.
ByWidth = Mapping[int, float]

#: Measured standard deviations are noisy: their slope is snapped to a multiple of 1/2 that lies this near.
SNAP = 0.2
#: One that was read, but from plain data (a numpy draw), must lie this near.
NEAR = 0.08
#: An init that follows no power (a table such as log(arange)) counts as order 0 while its log-log slopes stay below
#: this: exponents of parametrizations are multiples of 1/2.
FLAT = 0.25
#: The slope of a hyperparameter between two widths may be this far from its exponent.
STRAY = 0.6


def power(samples: ByWidth, what: str, shape: Sequence[Size] = ()) -> Order:
    """The exponent of a hyperparameter, which may be a power of the axes of its weight (``lr / fan_in``).

    Raises FitError for one that follows no power: different rules gave it at different widths.
    """
    values = list(samples.values())
    if _same(values):
        return ZERO if values[0] else MINUS_INFINITY
    try:
        scalar = fit_scalar(tuple(sorted(samples.items())), what)
    except FitError:
        scalar = None
    if scalar is not None and (_passes(scalar, samples) or (scalar.order != 0 and _follows(scalar.order, samples))):
        return scalar.order
    for order in _powers_of_axes(samples, shape):
        return order
    listed = ", ".join(f"{value:.6g} at {width}" for width, value in sorted(samples.items()))
    raise FitError(
        f"{what} is {listed}, which is no power of n; check that the same rule applies to it at every width, or choose "
        f"other widths"
    )


def initial_size(samples: ByWidth, what: str, shape: Sequence[Size] = ()) -> Order:
    """The exponent of an initial size, which may settle only asymptotically (xavier's ``sqrt(2 / (n + V))``)."""
    values = list(samples.values())
    if _same(values):
        return ZERO if values[0] else MINUS_INFINITY
    try:
        return fit_scalar(tuple(sorted(samples.items())), what).order
    except FitError:
        for order in _powers_of_axes(samples, shape):
            return order
        raise


def snapped(samples: ByWidth, what: str, near: float = SNAP) -> Order:
    """The exponent of measured sizes, a multiple of 1/2.

    Raises FitError where their slope is not near one.
    """
    if all(value == 0 for value in samples.values()):
        return MINUS_INFINITY
    points = [(math.log(width), math.log(value)) for width, value in samples.items() if value > 0]
    middle = sum(x for x, _ in points) / len(points)
    spread = sum((x - middle) ** 2 for x, _ in points)
    slope = sum((x - middle) * y for x, y in points) / spread if len(points) == len(samples) else math.inf
    nearest = Fraction(round(2 * slope), 2) if math.isfinite(slope) else None
    if nearest is None or abs(slope - nearest) > near:
        raise FitError(
            f"{what}, measured on real instances, grows like n^{slope:.2f}, which is no clear power; initialise it "
            f"with torch.nn.init so that it can be read exactly"
        )
    return Order(nearest)


def is_flat(samples: ByWidth) -> bool:
    """Whether a size that follows no power changes so little that it counts as order 0."""
    found = slopes(sorted(samples.items()))
    return found is not None and all(abs(slope) < FLAT for slope in found)


def _passes(scalar: Scalar, samples: ByWidth) -> bool:
    return all(math.isclose(scalar.at(width), value, rel_tol=1e-6) for width, value in samples.items())


def _follows(order: Order, samples: ByWidth) -> bool:
    """Whether from each width to the next a number changes about as ``n^order``: one that a threshold leaves alone at
    some widths may look like a rounded power.
    """
    found = slopes(sorted(samples.items()))
    return found is not None and all(abs(slope - float(order)) < STRAY for slope in found)


def _same(values: Sequence[float]) -> bool:
    return all(math.isclose(value, values[0], rel_tol=1e-9) for value in values)


def _powers_of_axes(samples: ByWidth, shape: Sequence[Size]) -> Iterator[Order]:
    """Exponents under which the samples are a constant times powers of one or two axes (rounded to whole multiples)."""
    if any(value <= 0 for value in samples.values()):
        return
    axes = [size for size in shape if size.growth > 0]
    steps = (-ONE, -HALF, HALF, ONE)
    choices = [[(p, axis)] for axis in axes for p in steps]
    if len(axes) > 1:
        choices += [[(p, axes[0]), (q, axes[1])] for p, q in product(steps, steps)]
    for choice in choices:
        rest = [v / math.prod(size.at(w) ** float(p) for p, size in choice) for w, v in samples.items()]
        if all(math.isclose(value, rest[0], rel_tol=1e-6) for value in rest):
            yield sum((p * size.growth for p, size in choice), ZERO)


__all__ = ["NEAR", "ByWidth", "initial_size", "is_flat", "power", "snapped"]
