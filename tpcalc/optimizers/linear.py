"""Updates proportional to the gradient, ``u = g``."""

from __future__ import annotations

from tpcalc.optimizers.law import BESIDE_SQUARE, COUPLED, LINEAR, UpdateLaw, register

SGD = register(
    UpdateLaw(
        "sgd",
        lambda w: w.gradient,
        LINEAR,
        None,
        "Yang & Hu 2021 (TP4), Section 3; Yang et al. 2022 (TP5), Table 3; momentum (Polyak 1964, Nesterov 1983) is a "
        "weighted sum of gradients and changes no order",
    )
)
ASGD = register(
    UpdateLaw(
        "asgd",
        SGD.update,
        LINEAR,
        None,
        "Polyak & Juditsky 1992: SGD whose iterates are averaged; " + SGD.source,
        "lambd is a weight decay too (torch subtracts lr*lambd*W, 1e-4 by default): scale it as weight decay, or set "
        "it to 0",
    )
)
ADADELTA = register(
    UpdateLaw(
        # sqrt(mean of updates^2 + eps) / sqrt(mean of g^2 + eps) * g is homogeneous of degree 1 in (g, sqrt(eps)): with
        # eps ~ n^2g it is g times a function of what does not scale.  It is no law of degree 0: the numerator starts at
        # sqrt(eps).  Decay adds wd*W to the gradient alone, so it must stay in proportion to it, as under Adam.
        "adadelta",
        lambda w: w.gradient,
        COUPLED,
        BESIDE_SQUARE,
        "Zeiler 2012, Algorithm 1: homogeneous of degree 1 in the gradient and the root of epsilon together",
    )
)
