"""Gauges: one parametrization written in different representatives of its abc orbit.

Training sees only the effective orders ``A = a + b`` and ``C``; where along the orbit ``a`` stands is a choice.  A
gauge makes that choice for every weight:

* ``init``: ``a = 0``.  No multipliers in the forward pass: the model runs as it is.
* ``mup``: ``b`` is what the role has in TP5 Table 8 (K/2 for a hidden weight that contracts growth K, else 0), and a
  multiplier does the rest: the readout is multiplied by 1/n, queries by what attention lacks.
* ``symmetric``: TP5 Table 9 and TP4 Table 1.  ``b = 1/2`` for every weight with a growing axis.
* ``ntk``: ``b = 0``, all sizes are in the multipliers (Jacot, Gabriel & Hongler 2018).
* ``completep``: a multiplier L^-alpha behind the last weights of a residual branch, where the depth L is a scale; else
  as ``init``.  All weights of a branch then have one learning rate and one epsilon (Dey et al. 2025, table 1).
"""

from __future__ import annotations

from tpcalc.algebra.order import HALF, ZERO, Order
from tpcalc.errors import DeriveError

GAUGES = ("init", "mup", "symmetric", "ntk")
#: That of a depth; without one it is ``init``.
OF_DEPTH = "completep"
#: Parametrization (:mod:`tpcalc.derive.parametrizations`) -> the gauge in which it is written.
WRITTEN_IN = {"sp": "init", "ntp": "ntk", "mfp": "ntk", "mup": "symmetric"}
#: Inits of the last weights of experts (:mod:`tpcalc.derive.experts`); the first is what is derived.
EXPERTS = ("mup", "stein", "balanced")


def check_gauge(gauge: str) -> str:
    """``gauge`` if there is one of this name; raises DeriveError otherwise."""
    if gauge not in (*GAUGES, OF_DEPTH):
        raise DeriveError(f"gauge {gauge!r} is unknown; choose one of {', '.join((*GAUGES, OF_DEPTH))}")
    return gauge


def multiplier_exponent(gauge: str, A: Order, role: str, K: Order, grows: bool, depth: Order = ZERO) -> Order:
    """``a`` of a weight (its forward multiplier ~ n^-a) of effective init order ``A``.

    ``K``: growth that it contracts where its rule binds; ``grows``: whether any of its axes does; ``depth``: what a sum
    over the depth asks of it.
    """
    if gauge == "init" or role == "unused":
        return ZERO
    if gauge == OF_DEPTH:
        return depth
    if gauge == "mup":
        return A - (K / 2 if role == "hidden" else ZERO)
    if gauge == "symmetric":
        return A - HALF if grows else A
    return A
