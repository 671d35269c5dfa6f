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
#: One that was read, but from plain data (a numpy draw), must lie this near.
NEAR = 0.08
#: An init that follows no power (a table such as log(arange)) counts as order 0 while its log-log slopes stay below this: exponents of
#: parametrizations are multiples of 1/2.
FLAT = 0.25


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
    assumption: str = ""

    @property
    def given(self) -> Given:
        return Given(ZERO, self.b, self.c, None, self.random)


def effective(gathered: Gathered) -> dict[str, Effective]:
    """Weight name -> its exponents.

    Raises FitError where a number is no power of the width, naming it.
    """
    return {weight.name: _of(weight, gathered) for weight in gathered.program.weights}


def _of(weight: Weight, gathered: Gathered) -> Effective:
    size, random, assumption = _initial(weight, weight.name in gathered.measured)
    b = None if size is MINUS_INFINITY else -size
    settings = {}
    for width, live in gathered.live.items():
        own = next((live.settings[name] for name in weight.names if name in live.settings), None)
        if own is None:
            why = "requires no gradient" if not weight.trainable else "no optimizer holds it"
            return Effective(weight.name, b, None, None, None, None, random=random, why=why, assumption=assumption)
        settings[width] = own
    first = next(iter(settings.values()))
    law = first.law_for(tuple(size.growth for size in weight.shape))
    lr = _power({w: s.lr for w, s in settings.items()}, f"the learning rate of {weight.name} ({first.place})")
    decay = _power(
        {w: s.weight_decay for w, s in settings.items()}, f"the weight decay of {weight.name} ({first.place})"
    )
    epsilons = {w: s.eps for w, s in settings.items()}
    eps: Order = MINUS_INFINITY
    if law.eps(ZERO) is not None and all(value is not None for value in epsilons.values()):
        eps = _power(epsilons, f"the epsilon of {weight.name} ({first.place})")
    frozen = lr is MINUS_INFINITY or not weight.trainable
    return Effective(
        weight.name,
        b,
        None if frozen else -lr,
        _finite(decay),
        _finite(eps),
        law,
        first.optimizer,
        first.place,
        random,
        "" if not frozen else "its learning rate is 0" if weight.trainable else "requires no gradient",
        assumption,
    )


def _finite(order: Order) -> Optional[Fraction]:
    return None if order is MINUS_INFINITY else order


def _power(samples: Mapping[int, float], what: str) -> Order:
    """The exponent of a hyperparameter.  One that follows no power was given by different rules at different widths."""
    values = list(samples.values())
    if _same(values):
        return ZERO if values[0] else MINUS_INFINITY
    scalar = fit_scalar(tuple(sorted(samples.items())), what)
    if scalar.order == 0 and not all(
        math.isclose(scalar.at(width), value, rel_tol=1e-6) for width, value in samples.items()
    ):
        listed = ", ".join(f"{value:.6g} at {width}" for width, value in sorted(samples.items()))
        raise FitError(
            f"{what} is {listed}, which is no power of n; check that the same rule applies to it at every width"
        )
    return scalar.order


def _same(values: list[float]) -> bool:
    return all(math.isclose(value, values[0], rel_tol=1e-9) for value in values)


def _initial(weight: Weight, measured: bool) -> tuple[Order, bool, str]:
    """Order of the rms entry at init, whether entries are of zero mean to leading order, and what had to be assumed."""
    laws = dict(weight.init)
    if not laws:
        return ZERO, len(weight.shape) > 1, f"the init of {weight.name} is unknown and taken as order 0"
    what = f"the init std of {weight.name}"
    if any(law.kind == "unknown" for law in laws.values()):
        raise FitError(f"{what} can't be read ({next(iter(laws.values())).call}); initialise it with torch.nn.init")
    rms = {width: math.hypot(law.std, law.mean) for width, law in laws.items()}
    if measured:
        return _snapped(rms, what), _mostly_random(laws), ""
    try:
        std = _size({width: law.std for width, law in laws.items()}, what)
        mean = _size({width: abs(law.mean) for width, law in laws.items()}, f"the initial mean of {weight.name}")
    except FitError:
        listed = ", ".join(f"{value:.4g}" for value in rms.values())
        try:
            snapped = _snapped(rms, what, NEAR)
            return (
                snapped,
                _mostly_random(laws),
                f"the initial size of {weight.name} ({listed}) is taken as order {snapped}",
            )
        except FitError:
            pass
        if not _is_flat(rms):
            raise
        return (
            ZERO,
            _mostly_random(laws),
            f"the initial size of {weight.name} ({listed}) follows no power of n and is taken as order 0",
        )
    return max(std, mean), std > mean or (std == mean and std is not MINUS_INFINITY and _mostly_random(laws)), ""


def _is_flat(samples: Mapping[int, float]) -> bool:
    points = sorted(samples.items())
    if any(value <= 0 for _, value in points):
        return False
    return all(abs(math.log(v1 / v0) / math.log(w1 / w0)) < FLAT for (w0, v0), (w1, v1) in zip(points, points[1:]))


def _mostly_random(laws: Mapping[int, InitLaw]) -> bool:
    return all(law.std > abs(law.mean) for law in laws.values())


def _size(samples: Mapping[int, float], what: str) -> Order:
    """The exponent of an initial size, which may settle only asymptotically (xavier's sqrt(2 / (n + V)))."""
    values = list(samples.values())
    if _same(values):
        return ZERO if values[0] else MINUS_INFINITY
    return fit_scalar(tuple(sorted(samples.items())), what).order


def _snapped(samples: Mapping[int, float], what: str, near: float = SNAP) -> Order:
    """The exponent of measured sizes, a multiple of 1/2."""
    if all(value == 0 for value in samples.values()):
        return MINUS_INFINITY
    points = [(math.log(width), math.log(value)) for width, value in samples.items() if value > 0]
    middle = sum(x for x, _ in points) / len(points)
    spread = sum((x - middle) ** 2 for x, _ in points)
    slope = sum((x - middle) * y for x, y in points) / spread if len(points) == len(samples) else math.inf
    snapped = Fraction(round(2 * slope), 2) if math.isfinite(slope) else None
    if snapped is None or abs(slope - snapped) > near:
        raise FitError(
            f"{what}, measured on real instances, grows like n^{slope:.2f}, which is no clear power; initialise it with torch.nn.init so "
            f"that it can be read exactly"
        )
    return snapped


__all__ = ["Effective", "effective"]
