"""Factors of a stated rule for batch size and length, from its powers.

Copied into files generated from formulas for such a rule (:mod:`tpcalc.scaling.standalone`).
"""

from __future__ import annotations

# --- copied into generated files from here on ---
import math
from collections.abc import Iterable, Mapping
from decimal import Decimal, localcontext

from tpcalc.scaling.assumed import Assumed
from tpcalc.scaling.weight import Weight

# Name of a ratio -> its power, as numerator and denominator.
Powers = Mapping[str, tuple[int, int]]


def assumed_between(
    powers: Mapping[str, Mapping[str, Powers]],
    base: Mapping[str, float],
    target: Mapping[str, float],
) -> dict[str, Assumed]:
    """By optimizer; ``base`` and ``target`` by the names of their ratios."""
    found = {}
    for law, own in powers.items():
        factors = {key: _factor(each, base, target) for key, each in own.items()}
        found[law] = Assumed(**factors)
    return found


def _factor(
    powers: Powers,
    base: Mapping[str, float],
    target: Mapping[str, float],
) -> float:
    """Of target over base, each to its power; rounded once, 1.0 of equal ends."""
    with localcontext() as context:
        context.prec = 60
        found = Decimal(1)
        for name, (top, bottom) in powers.items():
            ratio = _exact(target[name]) / _exact(base[name])
            found *= ratio ** (Decimal(top) / Decimal(bottom))
        factor = float(found)
    if not 1e-100 < factor < 1e100:
        raise ValueError(f"a factor of {factor!r} is none; give a nearer target")
    return factor


def _exact(number: float) -> Decimal:
    """0.3, and not the float that is nearest to it."""
    return Decimal(number if isinstance(number, int) else repr(float(number)))


def amount(name: str, given: float, base: float) -> float:
    """A batch size or a number of tokens; raises ValueError of what is none."""
    number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if not number or not 0 < given <= 1e30:
        unit = f"give it in the unit of the base, where it is {base:.6g}"
        raise ValueError(f"{name}={given!r} is none; {unit}")
    return given


def counted(weights: Iterable[Weight]) -> int:
    """How many numbers the parameters have, a tied one once."""
    return sum(len(weight.names()) * math.prod(weight.shape) for weight in weights)
