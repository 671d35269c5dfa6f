"""Updates scaled to the size of the weight itself, ``u = -b``.

Yang et al. 2022 (TP5), Appendix B.3 (optimizers whose update is normalised by the norm of the weight).

A weight that starts at zero has no size to go by.  LAMB and LARS then take their update unscaled (a ratio of 1),
Adafactor one of the size of its floor eps2: order 0, of LARS the gradient's.  Later updates follow the size that this
one gave.  So the rules hold for a zero weight of ``b = 0`` (a bias, LoRA's B) except under LARS, and for no zero
readout.
"""

from __future__ import annotations

from tpcalc.algebra.order import ZERO, Order
from tpcalc.optimizers.entrywise import factored
from tpcalc.optimizers.law import (
    AFTER_NORMALISING,
    BESIDE_GRADIENT_RESCALED,
    BESIDE_NORM,
    COUPLED_IN_NORM,
    DECOUPLED,
    SCALED_WITH_THE_RATE,
    UpdateLaw,
    WeightView,
    register,
)

_ZERO = (
    "a weight that starts at zero has no size to go by, and its first update is of order 0 times the learning rate: as "
    "it should be for biases and others of b = 0, n^b too large for a readout; start that small and not at zero"
)
_FLOOR = "eps2 stands under rms(W): scale it as n^-b, or keep it below every weight; " + _ZERO
_ZERO_LARS = (
    "a weight that starts at zero has no norm to go by, and its first update is SGD's: n^g too small for a bias, too "
    "large for a readout; train such weights by sgd (lars+sgd), or start them small and not at zero"
)


def _relative(w: WeightView) -> Order:
    """By the norms of both: few entries that move share that of all."""
    return ZERO if w.zero else w.few / 2 - w.size


def _factored(w: WeightView) -> Order:
    """By the root mean square of W, which knows nothing of how many entries move."""
    return factored(w) - (ZERO if w.zero else w.size)


ADAFACTOR = register(
    UpdateLaw(
        "adafactor",
        _factored,
        DECOUPLED,
        None,
        "Shazeer & Stern 2018, Section 8 (relative step size): the update is scaled by rms(W)",
        _FLOOR,
    )
)
ADAFACTOR_TRANSFORMERS = register(
    UpdateLaw(
        "adafactor_transformers",
        _factored,
        SCALED_WITH_THE_RATE,
        None,
        "Shazeer & Stern 2018, Section 8, as in Hugging Face transformers (scale_parameter=True)",
        _FLOOR,
    )
)
LAMB = register(
    UpdateLaw(
        "lamb",
        _relative,
        AFTER_NORMALISING,
        BESIDE_GRADIENT_RESCALED,
        "You et al. 2020, Algorithm 2: Adam's update, scaled to the norm of W",
        _ZERO,
    )
)
LARS = register(
    UpdateLaw(
        "lars",
        lambda w: w.gradient if w.zero else _relative(w),
        COUPLED_IN_NORM,
        BESIDE_NORM,
        "You, Gitman & Ginsburg 2017, Algorithm 1: the gradient, scaled to the norm of W",
        _ZERO_LARS,
    )
)
