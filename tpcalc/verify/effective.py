"""Effective exponents: what the code gives each weight, as exact powers of the width."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Optional

from tpcalc.errors import FitError
from tpcalc.given import Given
from tpcalc.optimizers import UpdateLaw
from tpcalc.order import MINUS_INFINITY, ZERO, Order
from tpcalc.program import InitLaw, Weight
from tpcalc.trace.fit import fit_scalar
from tpcalc.verify.gather import Gathered

#: Measured standard deviations are noisy: their slope is snapped to a multiple of 1/2 that lies this near.
SNAP = 0.2


@dataclass(frozen=True)
class Effective:
    """The exponents of one weight as the setup gives them: std ~ n^-b, lr ~ n^-c, weight_decay ~ n^weight_decay, eps ~ n^eps.

    ``b`` None: it starts at zero.  ``c`` None: it does not train (``why`` says why).  ``weight_decay`` or ``eps`` None: it is 0 or there
    is none.  ``law`` None: no optimizer holds it.  ``random``: zero-mean entries.
    """

    name: str
    b: Optional[Fraction]
    c: Optional[Fraction]
    weight_decay: Optional[Fraction]
    eps: Optional[Fraction]
    law: Optional[UpdateLaw]
    optimizer: str = ""
    place: str = ""
    random: bool = True
    why: str = ""

    @property
    def given(self) -> Given:
        return Given(ZERO, self.b, self.c, None, self.random)


def effective(gathered: Gathered) -> dict[str, Effective]:
    """Weight name -> its exponents.

    Raises FitError where a number is no power of the width, naming it.
    """
    return {weight.name: _of(weight, gathered) for weight in gathered.program.weights}


def _of(weight: Weight, gathered: Gathered) -> Effective:
    size, random = _initial(weight, weight.name in gathered.measured)
    b = None if size is MINUS_INFINITY else -size
    settings = {}
    for width, live in gathered.live.items():
        own = next((live.settings[name] for name in weight.names if name in live.settings), None)
        if own is None:
            why = "requires no gradient" if not weight.trainable else "no optimizer holds it"
            return Effective(weight.name, b, None, None, None, None, random=random, why=why)
        settings[width] = own
    first = next(iter(settings.values()))
    law = first.law_for(tuple(size.growth for size in weight.shape))
    lr = _power({w: s.lr for w, s in settings.items()}, f"the learning rate of {weight.name} ({first.place})")
    decay = _power({w: s.weight_decay for w, s in settings.items()}, f"the weight decay of {weight.name} ({first.place})")
    epsilons = {w: s.eps for w, s in settings.items()}
    eps: Order = MINUS_INFINITY
    if law.eps(ZERO) is not None and all(value is not None for value in epsilons.values()):
        eps = _power(epsilons, f"the epsilon of {weight.name} ({first.place})")
    frozen = lr is MINUS_INFINITY or not weight.trainable
    return Effective(
        weight.name, b, None if frozen else -lr, _finite(decay), _finite(eps), law, first.optimizer, first.place, random,
        "" if not frozen else "its learning rate is 0" if weight.trainable else "requires no gradient",
    )


def _finite(order: Order) -> Optional[Fraction]:
    return None if order is MINUS_INFINITY else order


def _power(samples: Mapping[int, float], what: str) -> Order:
    """The exponent of a hyperparameter.  One that follows no power was given by different rules at different widths."""
    values = list(samples.values())
    if _same(values):
        return ZERO if values[0] else MINUS_INFINITY
    scalar = fit_scalar(tuple(sorted(samples.items())), what)
    if scalar.order == 0 and not all(math.isclose(scalar.at(width), value, rel_tol=1e-6) for width, value in samples.items()):
        listed = ", ".join(f"{value:.6g} at {width}" for width, value in sorted(samples.items()))
        raise FitError(f"{what} is {listed}, which is no power of n; check that the same rule applies to it at every width")
    return scalar.order


def _same(values: list[float]) -> bool:
    return all(math.isclose(value, values[0], rel_tol=1e-9) for value in values)


def _initial(weight: Weight, measured: bool) -> tuple[Order, bool]:
    """Order of the rms entry at init, and whether entries are of zero mean to leading order."""
    laws = dict(weight.init)
    if not laws:
        return ZERO, len(weight.shape) > 1
    what = f"the init std of {weight.name}"
    if any(law.kind == "unknown" for law in laws.values()):
        raise FitError(f"{what} can't be read ({next(iter(laws.values())).call}); initialise it with torch.nn.init")
    if measured:
        return _snapped({width: math.hypot(law.std, law.mean) for width, law in laws.items()}, what), any(law.std for law in laws.values())
    std = _size({width: law.std for width, law in laws.items()}, what)
    mean = _size({width: abs(law.mean) for width, law in laws.items()}, f"the initial mean of {weight.name}") if _has_mean(laws) else MINUS_INFINITY
    return max(std, mean), std > mean or (std == mean and std is not MINUS_INFINITY and _mostly_random(laws))


def _has_mean(laws: Mapping[int, InitLaw]) -> bool:
    return any(law.mean for law in laws.values())


def _mostly_random(laws: Mapping[int, InitLaw]) -> bool:
    return all(law.std > abs(law.mean) for law in laws.values())


def _size(samples: Mapping[int, float], what: str) -> Order:
    """The exponent of an initial size, which may settle only asymptotically (xavier's sqrt(2 / (n + V)))."""
    values = list(samples.values())
    if _same(values):
        return ZERO if values[0] else MINUS_INFINITY
    return fit_scalar(tuple(sorted(samples.items())), what).order


def _snapped(samples: Mapping[int, float], what: str) -> Order:
    """The exponent of measured sizes, a multiple of 1/2."""
    if all(value == 0 for value in samples.values()):
        return MINUS_INFINITY
    points = [(math.log(width), math.log(value)) for width, value in samples.items() if value > 0]
    middle = sum(x for x, _ in points) / len(points)
    spread = sum((x - middle) ** 2 for x, _ in points)
    slope = sum((x - middle) * y for x, y in points) / spread if len(points) == len(samples) else math.inf
    snapped = Fraction(round(2 * slope), 2) if math.isfinite(slope) else None
    if snapped is None or abs(slope - snapped) > SNAP:
        raise FitError(
            f"{what}, measured on real instances, grows like n^{slope:.2f}, which is no clear power; initialise it with torch.nn.init so "
            f"that it can be read exactly"
        )
    return snapped


__all__ = ["Effective", "effective"]
