"""Exact fits over widths: from samples at a few widths to a :class:`Size` or a :class:`Scalar` in ``n``.

A fit is claimed only where it is over-determined (fewer parameters than widths) and holds at *all*
widths: exactly, in rational arithmetic, for sizes; to round-off for floats.  What fits nothing is a
FitError, never a guess.  Three widths determine, in order of preference (``k``, ``d`` rational):

1. a constant;
2. ``k * n^p`` with any rational ``p`` of denominator at most 4 (sizes) or 12 (floats);
3. ``k * n^p + d`` with ``p`` from :data:`OFFSET_POWERS`, and ``k1 * n^p + k2 * n^q`` with ``(p, q)`` from
   :data:`POWER_PAIRS`: two parameters each;
4. from four widths on also ``k1 * n^2 + k2 * n + d``: three parameters.

A size rounded to a multiple (``make_divisible``, a feed-forward dimension rounded up to a multiple of
256, ``int(8 * n / 3)``) fits none of these.  It is accepted as *rounded* when its growth is unambiguous.

Every fit is memoised by its samples: a model has thousands of values and a few dozen distinct sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import combinations
from typing import Optional

from tpcalc.algebra.order import HALF, ONE, ZERO, Order
from tpcalc.algebra.size import Samples, Scalar, Size, rational_power
from tpcalc.errors import FitError

__all__ = ["fit_scalar", "fit_size", "half_power", "slope", "slopes", "solve"]

TWO, THREE = Order(2), Order(3)

#: Powers tried for ``k * n^p + d``.
OFFSET_POWERS = (ONE, TWO, HALF, -ONE, -HALF, THREE, Order("3/2"), -TWO)
#: Powers tried for ``k1 * n^p + k2 * n^q``: flattened products of a mixed size and a pure one.
POWER_PAIRS = ((TWO, ONE), (ONE, HALF), (THREE, TWO))
#: Growths a rounded size may have.
ROUNDED_POWERS = (ONE, TWO, HALF, THREE)
#: A rounded square root grows so slowly that these must be ruled out besides.
NEAR_HALF = tuple(map(Order, ("1/4", "3/10", "1/3", "2/5", "3/5", "2/3")))
#: Largest denominator of the exponent of a pure power: of a size, of a float.
SIZE_DENOMINATOR, SCALAR_DENOMINATOR = 4, 12
#: Relative tolerances for floats: double round-off first, then constants once rounded to float32.
TOLERANCES = (1e-9, 1e-6)

FloatSamples = tuple[tuple[int, float], ...]


def fit_size(samples: Sequence[tuple[int, int]], what: str = "size") -> Size:
    """The exact function of ``n`` through ``samples`` = ``((width, length), ...)``.

    ``what`` names the quantity in the error.  Raises FitError if no form of the module docstring fits.
    """
    key = tuple(samples)
    size = _fit_size(key)
    if size is None:
        raise FitError(_refusal(what, key))
    return size


def fit_scalar(samples: Sequence[tuple[int, float]], what: str = "constant", rounding: float = 0.0) -> Scalar:
    """The constant as a function of ``n``; its exponent is exact, its coefficients are floats.

    Besides the forms of the module docstring, ``v`` with ``1/v``, ``v^2`` or ``1/v^2`` of the form
    ``k * n^p + d`` is accepted (``1 / (n - 1)``, ``sqrt(n + 32)``), the same of a rounded size, and
    ``exp(k * n^p + d)`` with negative ``p``.  Those are returned as their leading term: equal to the
    constant asymptotically, with the exact order.

    ``rounding`` is the relative precision of the samples where it is coarse (2^-8 for a bfloat16 buffer):
    then powers in halves are recognised to that precision.
    Raises FitError if nothing fits at all widths.
    """
    key = tuple(samples)
    first = key[0][1]
    if all(value == first for _, value in key) or all(value != value for _, value in key):
        return Scalar.of(first)
    scalar = _fit_scalar(key)
    if scalar is None and rounding:
        scalar = _float_power(key, rounding, denominator=2)
    if scalar is None:
        raise FitError(_refusal(what, key))
    return scalar


def slope(first: tuple[int, float], last: tuple[int, float]) -> float:
    """Of ``log value`` against ``log width``, between two samples of one sign."""
    (n0, v0), (n1, v1) = first, last
    return math.log(v1 / v0) / math.log(n1 / n0)


def half_power(first: tuple[int, float], last: tuple[int, float]) -> Order:
    """The power between two samples of one sign, to the nearest half."""
    return Order(round(2 * slope(first, last))) * HALF


def slopes(samples: Sequence[tuple[int, float]]) -> Optional[list[float]]:
    """Between neighbouring samples; None where they are not all positive and finite."""
    if any(value <= 0 or not math.isfinite(value) for _, value in samples):
        return None
    return [slope(first, last) for first, last in zip(samples, samples[1:])]


def _refusal(what: str, samples: Sequence[tuple[int, float]]) -> str:
    values = ", ".join(f"{value:.9g}" if isinstance(value, float) else str(value) for _, value in samples)
    widths = ", ".join(str(width) for width, _ in samples)
    return (
        f"{what} is {values} at widths {widths}, which is no power of n; choose widths (larger, more, or all "
        f"multiples of one number) at which it is k*n^p + d, or make it one in the model"
    )


# -- sizes ---------------------------------------------------------------------------------------


@lru_cache(maxsize=65536)
def _fit_size(samples: Samples) -> Optional[Size]:
    first = samples[0][1]
    if all(value == first for _, value in samples):
        return Size.constant(first)
    if len(samples) < 3:
        return None
    return _pure_power(samples) or _exact_sum(samples) or _rounded(samples)


def _pure_power(samples: Samples) -> Optional[Size]:
    """``k * n^p``.  With an irrational ``k`` (``sqrt(2 n)``) the size is kept as *rounded*: known as sampled."""
    (n0, s0), (n1, s1) = samples[0], samples[-1]
    if s0 == 0 or s1 == 0 or (s0 < 0) != (s1 < 0):
        return None
    raw = slope((n0, s0), (n1, s1))
    p = Order(Fraction(raw).limit_denominator(SIZE_DENOMINATOR))
    if p == 0 or abs(float(p) - raw) > 1e-6:
        return None
    for width, value in samples[1:]:
        if Fraction(value, s0) ** p.denominator != Fraction(width, n0) ** p.numerator:
            return None
    root = rational_power(n0, p)
    if root is not None:
        return Size(((p, s0 / root),))
    approximate = Fraction(s0 / float(n0) ** float(p)).limit_denominator(1000)
    return Size(((p, approximate),), rounded=True, samples=samples)


def _exact_sum(samples: Samples) -> Optional[Size]:
    """A sum of two powers (three from four widths on), solved exactly and checked at the other widths."""
    for powers in _families(len(samples)):
        coefficients = solve(samples, powers)
        if coefficients is None or not all(coefficients):
            continue
        # The largest width must be on the branch the leading term leads to: a size stays positive.
        if powers[0] > 0 and (coefficients[0] > 0) != (samples[-1][1] > 0):
            continue
        return Size(tuple(sorted(zip(powers, coefficients), reverse=True)))
    return None


def _families(points: int) -> Iterator[tuple[Order, ...]]:
    for p in OFFSET_POWERS:
        yield (p, ZERO)
    yield from POWER_PAIRS
    if points > 3:
        yield (TWO, ONE, ZERO)


def solve(samples: Samples, powers: Sequence[Order]) -> Optional[list[Fraction]]:
    """Coefficients of ``sum k_i n^powers_i`` through all samples (of several scales: at points), or None."""
    rows: list[list[Fraction]] = []
    for width, value in samples:
        row = [power for p in powers if (power := rational_power(width, p)) is not None]
        if len(row) < len(powers):
            return None
        rows.append([*row, Fraction(value)])
    # of one scale any rows tell the coefficients apart; along a star some do
    coefficients = next((k for some in combinations(rows, len(powers)) if (k := _gauss(list(some))) is not None), None)
    if coefficients is None:
        return None
    for *row, wanted in rows:
        if sum((k * entry for k, entry in zip(coefficients, row)), Fraction(0)) != wanted:
            return None
    return coefficients


def _gauss(rows: list[list[Fraction]]) -> Optional[list[Fraction]]:
    """Solve a square system given as augmented rows; None if singular."""
    rows = [row[:] for row in rows]
    for i in range(len(rows)):
        pivot = next((j for j in range(i, len(rows)) if rows[j][i] != 0), None)
        if pivot is None:
            return None
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [entry / rows[i][i] for entry in rows[i]]
        for j in range(len(rows)):
            if j != i and rows[j][i] != 0:
                rows[j] = [x - rows[j][i] * y for x, y in zip(rows[j], rows[i])]
    return [row[-1] for row in rows]


def _rounded(samples: Samples) -> Optional[Size]:
    """A size rounded to a multiple ``m``: the growth for which some ``k * n^p`` rounds to every sample.

    ``m`` is a common divisor of the samples, the smallest that explains them: a wrong small one
    explains less.  Accepted only if exactly one growth does, a constant being one of those tried.
    """
    if min(value for _, value in samples) <= 0:
        return None
    for factor in (0, 1, 2):  # products of a rounded size with n or n^2, as flattened axes have
        reduced = [(width, Fraction(value, width**factor)) for width, value in samples]
        if any(value.denominator != 1 for _, value in reduced):
            return None
        integers = tuple((width, int(value)) for width, value in reduced)
        for multiple in _divisors(math.gcd(*(value for _, value in integers))):
            fits = {p: k for p in (ZERO, *ROUNDED_POWERS) if (k := _rounds_to(integers, p, multiple)) is not None}
            if len(fits) == 1 and ZERO not in fits:
                ((p, k),) = fits.items()
                if p == HALF and any(_rounds_to(integers, near, multiple) is not None for near in NEAR_HALF):
                    break
                return Size(((p + factor, k),), rounded=True, samples=samples)
            if fits:
                break
    return None


def _divisors(number: int) -> list[int]:
    small = [d for d in range(1, min(math.isqrt(number), 4096) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def _rounds_to(samples: Samples, p: Order, multiple: int) -> Optional[Fraction]:
    """Some simple ``k`` such that ``k * n^p`` rounded to ``multiple`` gives every sample, in one of the usual ways.

    The ways, as intervals around the sample in units of ``multiple``: up, down, nearest, and
    ``make_divisible`` (nearest, but up where that loses more than a tenth).
    """
    for below, above in ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (1.0, 0.5)):
        low = max((value - below * multiple) / float(width) ** float(p) for width, value in samples)
        high = min((value + above * multiple) / float(width) ** float(p) for width, value in samples)
        if low < high * (1 - 1e-12) and high > 0:
            return _simplest_between(low, high)
    return None


def _simplest_between(low: float, high: float) -> Fraction:
    """The fraction of smallest denominator inside the interval (its ends need not be exact)."""
    for denominator in range(1, 1000):
        numerator = math.floor(high * denominator)
        if numerator > 0 and numerator / denominator >= low:
            return Fraction(numerator, denominator)
    return Fraction((low + high) / 2)


# -- floats --------------------------------------------------------------------------------------


@lru_cache(maxsize=65536)
def _fit_scalar(samples: FloatSamples) -> Optional[Scalar]:
    if len(samples) < 3 or not all(math.isfinite(value) for _, value in samples):
        return None
    for tolerance in TOLERANCES:
        scalar = (
            _float_power(samples, tolerance)
            or _float_sum(samples, tolerance)
            or _float_transformed(samples, tolerance)
            or _float_settling(samples, tolerance)
        )
        if scalar is not None:
            return scalar
    return _float_of_rounded(samples)


def _float_power(samples: FloatSamples, tolerance: float, denominator: int = SCALAR_DENOMINATOR) -> Optional[Scalar]:
    """``k * n^p`` with a rational ``p`` of denominator at most ``denominator``."""
    (n0, v0), (n1, v1) = samples[0], samples[-1]
    if v0 == 0 or v1 == 0 or (v0 < 0) != (v1 < 0):
        return None
    p = Order(Fraction(slope((n0, v0), (n1, v1))).limit_denominator(denominator))
    k = v0 / float(n0) ** float(p)
    if p == 0 or any(abs(k * float(n) ** float(p) - v) > tolerance * abs(v) for n, v in samples):
        return None
    return Scalar(k, p)


def _float_sum(samples: FloatSamples, tolerance: float) -> Optional[Scalar]:
    """``k * n^p + d``; also ``k1 * n^2 + k2 * n``, returned as its leading term."""
    for p, q in [(p, ZERO) for p in OFFSET_POWERS] + [(TWO, ONE)]:
        coefficients = _float_solve(samples, p, q, tolerance)
        if coefficients is not None:
            return Scalar(coefficients[0], p, coefficients[1] if q == 0 else 0.0)
    return None


def _float_solve(samples: FloatSamples, p: Order, q: Order, tolerance: float) -> Optional[tuple[float, float]]:
    """``(k, d)`` of ``k n^p + d n^q`` through the outer samples if it passes through the inner ones too.

    The misfit is held against the values (round-off) *and* against their variation, so that a
    constant with a small irregular wobble is not taken for a power.
    """
    basis = [(float(n) ** float(p), float(n) ** float(q)) for n, _ in samples]
    (x0, y0), (x1, y1) = basis[0], basis[-1]
    v0, v1 = samples[0][1], samples[-1][1]
    determinant = x0 * y1 - x1 * y0
    k = (v0 * y1 - v1 * y0) / determinant
    d = (x0 * v1 - x1 * v0) / determinant
    largest = max(abs(v) for _, v in samples)
    variation = max(v for _, v in samples) - min(v for _, v in samples)
    allowed = min(tolerance * largest, 1e-3 * variation)
    if k == 0 or any(abs(k * x + d * y - v) > allowed for (x, y), (_, v) in zip(basis, samples)):
        return None
    return k, d


def _float_transformed(samples: FloatSamples, tolerance: float) -> Optional[Scalar]:
    """``v`` with ``v^e = k * n^p + d`` for ``e`` of -1, 2, -2: its leading term ``k^(1/e) n^(p/e)``."""
    if any(value == 0 for _, value in samples) or len({value > 0 for _, value in samples}) == 2:
        return None
    sign = 1.0 if samples[0][1] > 0 else -1.0
    for exponent in (-1, 2, -2):
        powered = tuple((n, abs(value) ** exponent) for n, value in samples)
        for p in (ONE, TWO):
            coefficients = _float_solve(powered, p, ZERO, tolerance)
            if coefficients is not None and coefficients[0] > 0:
                return Scalar(sign * coefficients[0] ** (1 / exponent), p / exponent)
    return None


def _float_settling(samples: FloatSamples, tolerance: float) -> Optional[Scalar]:
    """``exp(k * n^p + d)`` with ``p < 0`` (ALiBi's slope ``2^(-8 / heads)``): the constant ``exp(d)`` it tends to."""
    if any(value == 0 for _, value in samples) or len({value > 0 for _, value in samples}) == 2:
        return None
    logs = tuple((n, math.log(abs(value))) for n, value in samples)
    for p in (-ONE, -HALF, -TWO):
        coefficients = _float_solve(logs, p, ZERO, tolerance)
        if coefficients is not None:
            return Scalar.of(math.copysign(math.exp(coefficients[1]), samples[0][1]))
    return None


def _float_of_rounded(samples: FloatSamples) -> Optional[Scalar]:
    """``v^e`` a rounded size for ``e`` of 1, -1, 2, -2, such as ``1/sqrt(head_dim)``: its leading term."""
    if any(value == 0 for _, value in samples) or len({value > 0 for _, value in samples}) == 2:
        return None
    sign = 1.0 if samples[0][1] > 0 else -1.0
    for exponent in (1, -1, 2, -2):
        powered = [(n, abs(value) ** exponent) for n, value in samples]
        if any(value < 2 or value > 2**40 or abs(value - round(value)) > 1e-6 * value for _, value in powered):
            continue
        size = _fit_size(tuple((n, round(value)) for n, value in powered))
        if size is not None and size.growth > 0:
            p, k = size.terms[0]
            return Scalar(sign * float(k) ** (1 / exponent), p / exponent)
    return None
