"""Updates scaled to the size of the weight itself, ``u = -b``.

Yang et al. 2022 (TP5), Appendix B.3 (optimizers whose update is normalised by the norm of the weight).
"""

from __future__ import annotations

from tpcalc.optimizers.law import (
    AFTER_NORMALISING,
    BESIDE_GRADIENT,
    BESIDE_NORM,
    COUPLED,
    DECOUPLED,
    SCALED_WITH_THE_RATE,
    UpdateLaw,
    register,
)

_FLOOR = "; eps2, the floor under rms(W), scales as n^-b, and eps1 as n^g if it is not negligible"
ADAFACTOR = register(
    UpdateLaw(
        "adafactor",
        lambda w: -w.size,
        DECOUPLED,
        None,
        "Shazeer & Stern 2018, Section 8 (relative step size): the update is scaled by rms(W)" + _FLOOR,
    )
)
ADAFACTOR_TRANSFORMERS = register(
    UpdateLaw(
        "adafactor_transformers",
        lambda w: -w.size,
        SCALED_WITH_THE_RATE,
        None,
        "Shazeer & Stern 2018, Section 8, as in Hugging Face transformers (scale_parameter=True)" + _FLOOR,
    )
)
LAMB = register(
    UpdateLaw(
        "lamb",
        lambda w: -w.size,
        AFTER_NORMALISING,
        BESIDE_GRADIENT,
        "You et al. 2020, Algorithm 2: Adam's update, scaled to the norm of W",
    )
)
LARS = register(
    UpdateLaw(
        "lars",
        lambda w: -w.size,
        COUPLED,
        BESIDE_NORM,
        "You, Gitman & Ginsburg 2017, Algorithm 1: the gradient, scaled to the norm of W",
    )
)
