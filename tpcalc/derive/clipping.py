"""Clipping by the global norm: its order, which weights make it, and how a threshold must scale.

The norm is the root of the sum of all squared gradient entries: ``n^(g + entries/2)`` of one weight, the largest of all
weights together.  A plain threshold clips alike at all widths if it scales as that norm does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tpcalc.algebra.order import MINUS_INFINITY, Order


@dataclass(frozen=True)
class Clipping:
    """``norm``: x in "global gradient norm ~ n^x", which is how a threshold on it must scale.

    ``dominated_by``: the weights whose gradients have that order, in the order of the model.
    """

    norm: Order
    dominated_by: tuple[str, ...]


def clipping(norms: Iterable[tuple[str, Order]]) -> Clipping:
    """From (weight name, order of its gradient's Frobenius norm) of every trained weight."""
    norms = list(norms)
    largest = max((order for _, order in norms), default=MINUS_INFINITY)
    return Clipping(largest, tuple(name for name, order in norms if order == largest is not MINUS_INFINITY))
