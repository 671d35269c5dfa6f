"""Entrywise updates of degree 0 in the gradient, ``u = 0``: divided by its own size, or only its sign is kept.

Yang & Littwin 2023 (TP4b), Section 2, takes any such function; Yang et al. 2022 (TP5), Appendix B.3 lists them.
"""

from __future__ import annotations

from typing import Optional

from tpcalc.algebra.order import ZERO, Order
from tpcalc.optimizers.law import (
    BESIDE_GRADIENT,
    COUPLED,
    DECOUPLED,
    Decay,
    Epsilon,
    UpdateLaw,
    WeightView,
    register,
)

_CLASS = "Yang & Littwin 2023 (TP4b), Section 2: an entrywise update of degree 0 in the gradient"
_TWO_REGIMES = (
    "radam takes its first steps (5 of them at beta2 = 0.999) as SGD with momentum: the learning rates here are for "
    "the adaptive steps after them; in the first ones updates are smaller by the order g of the gradient, and larger "
    "where g > 0"
)


def _law(name: str, source: str, decay: Decay, eps: Optional[Epsilon] = BESIDE_GRADIENT, note: str = "") -> UpdateLaw:
    return register(UpdateLaw(name, lambda w: ZERO, decay, eps, source, note))


_ADAM = "Kingma & Ba 2015; Yang & Littwin 2023 (TP4b), Table 1; Yang et al. 2022 (TP5), Table 3 and Appendix B.3"
_DECOUPLED = " with the decoupled decay of Loshchilov & Hutter 2019"
ADAM = _law("adam", _ADAM, COUPLED)
ADAMW = _law("adamw", _ADAM + "; decoupled decay: Loshchilov & Hutter 2019", DECOUPLED)
NADAM = _law("nadam", "Dozat 2016; " + _CLASS, COUPLED)
NADAMW = _law("nadamw", "Dozat 2016" + _DECOUPLED + "; " + _CLASS, DECOUPLED)
RADAM = _law("radam", "Liu et al. 2020; " + _CLASS, COUPLED, note=_TWO_REGIMES)
RADAMW = _law("radamw", "Liu et al. 2020" + _DECOUPLED + "; " + _CLASS, DECOUPLED, note=_TWO_REGIMES)
ADAMAX = _law("adamax", "Kingma & Ba 2015, Section 7.1; " + _CLASS, COUPLED)
RMSPROP = _law("rmsprop", "Tieleman & Hinton 2012; Yang et al. 2022 (TP5), Appendix B.3", COUPLED)
ADAGRAD = _law(
    "adagrad",
    "Duchi, Hazan & Singer 2011; Yang et al. 2022 (TP5), Appendix B.3; an initial accumulator scales as n^(2g)",
    COUPLED,
)
ADAM_ATAN2 = _law(
    "adam_atan2",
    "Everett et al. 2024, Section 5: atan2(m, sqrt(v)) in place of m / (sqrt(v) + eps), so that there is no epsilon",
    DECOUPLED,
    None,
)
RPROP = _law(
    "rprop",
    "Riedmiller & Braun 1993, only signs of the gradient; " + _CLASS,
    COUPLED,
    None,
    "step_sizes, the limits of a step, are learning rates too: scale them as n^-c",
)
SIGN = _law("sign", "Bernstein et al. 2018 (signSGD, Signum); " + _CLASS, DECOUPLED, None)
LION = _law("lion", "Chen et al. 2023, the sign of a momentum, decoupled decay; " + _CLASS, DECOUPLED, None)


def factored(w: WeightView) -> Order:
    """An entry over the root of its row's mean square times its column's, over that of all: its own size where rows or
    columns are full."""
    return (w.moved - w.full) / 2


ADAFACTOR_ABSOLUTE = register(
    UpdateLaw(
        "adafactor_absolute",
        factored,
        DECOUPLED,
        None,
        "Shazeer & Stern 2018, Sections 3 to 6, without the relative step size (transformers: scale_parameter=False); "
        "the factored second moment divides a gradient by its own size",
    )
)
