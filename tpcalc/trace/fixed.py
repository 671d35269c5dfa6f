"""Fixed numbers (buffers, constants, what follows from them): how large they are, and whether they add up like random
ones, as functions of the width.

The size is the root mean square, read as that of a parameter is: from the law of the draw that made the entries, else
from the entries themselves.  What can be neither read nor computed is said, never passed over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Optional

from tpcalc.algebra.exponents import SNAP, is_flat
from tpcalc.algebra.order import ZERO, Order
from tpcalc.algebra.scales import Place, magnitude
from tpcalc.algebra.size import Scalar, Size
from tpcalc.algebra.star import WIDTH, Fits, power_scalar, steepest
from tpcalc.errors import FitError
from tpcalc.program.raw import RawValue

__all__ = ["FLAT_SLOPE", "few_of", "signs_of", "size_of"]

#: A size that is no power of n still counts as one if its log-log slope stays within this of a multiple of 1/2.
FLAT_SLOPE = 0.02

#: Entries of a mean less than this, relative to their spread, have signs that cancel.
ZERO_MEAN = 1e-3

#: Sums of signs that cancel are within so many standard errors, and so much of what they would be with equal signs.
STANDARD_ERRORS, OF_ALIGNED = 4.0, 0.25

#: A norm is that of random numbers if it is less than this multiple, or grows with a slope less than this.
NORM, NORM_SLOPE = 1.5, 0.25

#: Relative precision of numbers: of those stored in half precision, of others.
_PRECISION = {"torch.bfloat16": 2**-8, "torch.float16": 2**-11}
_SINGLE = 2**-20

Widths = Sequence[Place]
Samples = tuple[tuple[Place, float], ...]


def size_of(
    widths: Widths, raws: Sequence[RawValue], name: Callable[[], str], fits: Fits = WIDTH
) -> tuple[Optional[Scalar], str]:
    """The size of the entries of a value, None where it is not known; and what must be said about it, or nothing.

    ``raws``: the value at each width.  What a node computes keeps its order by that node's rule, so a misfit there is
    dropped.  Example inputs count as order 0 by convention.  Raises FitError for anything else that fits no power.
    """
    kind, leaf = raws[0].kind, raws[0].kind in ("buffer", "constant")
    drawn = _drawn(widths, raws, fits) if leaf else None
    if drawn is not None:
        return drawn, ""
    rms = tuple((width, raw.rms) for width, raw in zip(widths, raws) if raw.rms is not None)
    top = tuple((width, raw.magnitude) for width, raw in zip(widths, raws) if raw.magnitude is not None)
    if len(rms) < len(raws) or len(top) < len(raws):
        return _in_part(widths, raws, rms, name(), fits) if leaf else (None, "")
    first = rms[0][1]
    if all(size == first or math.isclose(size, first, rel_tol=1e-5) for _, size in rms):
        return Scalar.of(first), ""
    rounding = _PRECISION.get(raws[0].dtype, 0.0)
    with suppress(FitError):
        return fits.scalar(rms, rounding=rounding or _SINGLE), ""
    if kind not in ("input", "seed") and (order := fits.half(rms, FLAT_SLOPE)) is not None:
        return power_scalar(order), ""
    if leaf and _errors(widths, raws) <= SNAP and (order := fits.half(rms, SNAP)) is not None:
        return power_scalar(order), f"the size of the entries of {name()} was measured, and grows as n^({order})"
    with suppress(FitError):
        return fits.scalar(top, rounding=rounding), ""
    if kind == "op":
        return None, ""
    if (
        kind in ("input", "seed")
        or fits.half(top, FLAT_SLOPE) == ZERO
        or all(is_flat(dict(along)) for along in fits.rays(rms))
    ):
        return None, f"order of {name()} is taken as 0: its entries do not grow with the width"
    return fits.scalar(rms, f"the size of the entries of {name()}"), ""


def _drawn(widths: Widths, raws: Sequence[RawValue], fits: Fits = WIDTH) -> Optional[Scalar]:
    """The size of entries drawn at random, by their law; None where they are not.

    Where numbers are known they must agree, to five standard errors: what was written since is not in the law.
    """
    samples = []
    for width, raw in zip(widths, raws):
        law = raw.law
        if law is None or not law.drawn or law.kind != "random":
            return None
        size = math.hypot(law.std, law.mean)
        error = 5 / math.sqrt(max(math.prod(raw.shape), 1))
        if raw.rms is not None and not math.isclose(raw.rms, size, rel_tol=max(error, 1e-3)):
            return None
        samples.append((width, size))
    with suppress(FitError):
        return fits.scalar(tuple(samples), rounding=_SINGLE)
    with suppress(FitError):
        return power_scalar(fits.initial(tuple(samples), "a draw"))
    return None


def _in_part(
    widths: Widths, raws: Sequence[RawValue], rms: Samples, name: str, fits: Fits = WIDTH
) -> tuple[Optional[Scalar], str]:
    """Entries too many to be computed at every width: measured at some of them, or by the law of what made them; else
    they count as order 0."""
    order = fits.half(rms, SNAP) if len(rms) > 1 else None
    if order is not None:
        which = ", ".join(str(width) for width, _ in rms)
        return power_scalar(order), f"the size of the entries of {name} was measured at widths {which} only"
    laws = [math.hypot(raw.law.std, raw.law.mean) for raw in raws if raw.law and raw.law.kind != "unknown"]
    if len(laws) == len(raws):
        with suppress(FitError):
            return fits.scalar(tuple(zip(widths, laws)), rounding=_SINGLE), ""
    if any(len(set(lengths)) > 1 for lengths in zip(*(raw.shape for raw in raws))):
        return None, (
            f"order of {name} is taken as 0: its entries are too many to be computed, or follow from weights, and how "
            "the code makes them is not known; choose smaller widths to have them measured"
        )
    return None, ""


def signs_of(widths: Widths, raws: Sequence[RawValue], fits: Fits = WIDTH) -> str:
    """Whether sums over the growing axes of a value are those of random numbers (:class:`tpcalc.program.ir.Value`)."""
    if raws[0].kind not in ("buffer", "constant", "op"):
        return ""
    growing = [axis for axis, lengths in enumerate(zip(*(raw.shape for raw in raws))) if lengths[0] < lengths[-1]]
    known = [(width, raw.shape, raw.sums) for width, raw in zip(widths, raws) if raw.sums is not None]
    norms = [[(width, sums.norms[axis]) for width, _, sums in known] for axis in growing]
    if not growing or any(_outgrows(samples, fits) for samples in norms):
        return ""
    laws = [raw.law for raw in raws if raw.law is not None and raw.law.drawn]
    if len(laws) == len(raws) and all(abs(law.mean) <= ZERO_MEAN * law.std for law in laws):
        return "drawn"
    if len(known) < 2:
        return ""
    _, shape, last = known[-1]
    if not all(_cancels(last.along[axis], shape[axis]) for axis in growing):
        return ""
    return "odd" if _cancels(last.total, math.prod(shape)) else "mixed"


def few_of(
    widths: Widths, raws: Sequence[RawValue], shape: Sequence[Size], name: Callable[[], str], fits: Fits = WIDTH
) -> tuple[tuple[Order, ...], str]:
    """For each axis, by how much less than the axis the number of entries along it grows that are not zero; and what
    must be said about it, or nothing."""
    counts = [raw.filled for raw in raws]
    growing = [axis for axis, size in enumerate(shape) if size.growth > 0]
    if not growing or None in counts:
        return (), ""
    found = [ZERO] * len(shape)
    said = ""
    for axis in growing:
        along = [tuple(zip(widths, both)) for both in zip(*(count[axis] for count in counts if count is not None))]
        growth, most = (fits.half(samples, SNAP) for samples in along)
        if growth is None:
            said = f"{name()} holds zeros, as many as no power of the width tells; taken as a constant share"
            return (), said if raws[0].magnitude is None else ""
        found[axis] = max(shape[axis].growth - growth, ZERO)
        if most is not None and most > growth and raws[0].magnitude is None:
            said = f"some rows of {name()} hold n^({most - growth}) times as many entries as most; rules are for most"
    return (tuple(found), said) if any(few > 0 for few in found) else ((), "")


def _cancels(found: float, length: int) -> bool:
    """Whether a sum over ``length`` entries, in units of the root of that, is one of signs that cancel."""
    return found <= min(STANDARD_ERRORS, max(OF_ALIGNED * math.sqrt(length), 1.0))


def _outgrows(norms: Sequence[tuple[Place, float]], fits: Fits) -> bool:
    """Whether an operator norm outgrows that of a random matrix."""
    if len(norms) < 2 or max(norm for _, norm in norms) <= NORM:
        return False
    return steepest(norms, fits) > NORM_SLOPE


def _errors(widths: Widths, raws: Sequence[RawValue]) -> float:
    """Four standard errors of the slope of sizes, were the entries random."""
    counts = [max(math.prod(raw.shape), 1) for raw in (raws[0], raws[-1])]
    return (
        4 * math.sqrt(sum(1 / (2 * count) for count in counts)) / math.log(magnitude(widths[-1]) / magnitude(widths[0]))
    )
